"""Routes that pilots live on: claims, leases, reports."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from evstream.domain.errors import RequestError
from evstream.domain.ledger import LeasedInterval
from evstream.domain.names import LeaseId, WorkerId
from evstream.domain.task import task_of
from evstream.web.operations import Operation, Served, matches
from evstream.web.replies import read, reply
from evstream.web.services import Services
from evstream.wire import work_messages as w

LEASE_ID_MAX = 64
LEASE_ID = rf"^[A-Za-z0-9_-]{{1,{LEASE_ID_MAX}}}$"


CLAIM = Operation(
    "POST",
    "/v1/claims",
    "lease units of work",
    takes=w.ClaimRequest,
    gives=w.ClaimAnswer,
    errors=(404, 409),
    key=LEASE_ID,
)
RENEW = Operation(
    "POST",
    "/v1/leases/{lease}/renew",
    "keep a lease, and say what has begun",
    takes=w.RenewRequest,
    gives=w.HeldAnswer,
    errors=(409,),
)
RELEASE = Operation(
    "POST",
    "/v1/leases/{lease}/release",
    "give back what a lease still holds",
    takes=w.ReleaseRequest,
    gives=w.HeldAnswer,
    errors=(409,),
)
WORKER_LOST = Operation(
    "POST", "/v1/workers/{worker}/lost", "take back what a lost worker holds", gives=w.HeldAnswer
)
REPORT = Operation(
    "POST", "/v1/reports", "say what became of units", takes=w.ReportRequest, gives=w.ReportAnswer
)


def work_routes(services: Services) -> list[Served]:
    """Return the routes of claims, leases, workers and reports."""

    async def claim(request: Request) -> Response:
        message = await read(request, w.ClaimRequest)
        lease = request.headers.get("Idempotency-Key") or services.ids.new("lease")
        return reply(await services.claims.claim(message, check_lease_id(lease)))

    async def renew(request: Request) -> Response:
        message = await read(request, w.RenewRequest)
        lease = check_lease_id(request.path_params["lease"])
        return reply(w.HeldAnswer(await services.claims.renew(lease, message)))

    async def release(request: Request) -> Response:
        message = await read(request, w.ReleaseRequest)
        lease = check_lease_id(request.path_params["lease"])
        released = await services.claims.release(lease, WorkerId(message.worker))
        return _taken_back(services, released)

    async def worker_lost(request: Request) -> Response:
        worker = WorkerId(request.path_params["worker"])
        return _taken_back(services, await services.claims.forget_worker(worker))

    async def report(request: Request) -> Response:
        message = await read(request, w.ReportRequest)
        return reply(w.ReportAnswer(await services.reports.report(message.reports)))

    return [
        CLAIM.by(claim),
        RENEW.by(renew),
        RELEASE.by(release),
        WORKER_LOST.by(worker_lost),
        REPORT.by(report),
    ]


def _taken_back(services: Services, rows: list[LeasedInterval]) -> Response:
    # A range that has been lost too often is set aside, which may end its task.
    for row in rows:
        services.finishing.nudge(task_of(row.book))
    return reply(w.HeldAnswer(rows))


def check_lease_id(text: str) -> LeaseId:
    """Return a lease id that can be part of an output's name.

    Raises
    ------
    RequestError
    """
    if not matches(LEASE_ID, text):
        raise RequestError(
            f"{text[:LEASE_ID_MAX]!r} cannot be a lease's id",
            hint=f"send an Idempotency-Key of at most {LEASE_ID_MAX} letters, digits, - and _",
        )
    return LeaseId(text)
