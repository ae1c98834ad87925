"""Routes that pilots live on: claims, leases, reports."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from evstream.domain.errors import RequestError
from evstream.domain.ledger import LeasedInterval
from evstream.domain.names import LeaseId, WorkerId
from evstream.domain.task import task_of
from evstream.web.replies import read, reply
from evstream.web.services import Services
from evstream.wire import messages as m

LEASE_ID_MAX = 64


def work_routes(services: Services) -> list[Route]:
    """Return the routes of claims, leases, workers and reports."""

    async def claim(request: Request) -> Response:
        message = await read(request, m.ClaimRequest)
        lease = request.headers.get("Idempotency-Key") or services.ids.new("lease")
        return reply(await services.claims.claim(message, check_lease_id(lease)))

    async def renew(request: Request) -> Response:
        message = await read(request, m.RenewRequest)
        lease = check_lease_id(request.path_params["lease"])
        return reply(m.HeldAnswer(await services.claims.renew(lease, message)))

    async def release(request: Request) -> Response:
        message = await read(request, m.ReleaseRequest)
        lease = check_lease_id(request.path_params["lease"])
        released = await services.claims.release(lease, WorkerId(message.worker))
        return _taken_back(services, released)

    async def worker_lost(request: Request) -> Response:
        worker = WorkerId(request.path_params["worker"])
        return _taken_back(services, await services.claims.forget_worker(worker))

    async def report(request: Request) -> Response:
        message = await read(request, m.ReportRequest)
        return reply(m.ReportAnswer(await services.reports.report(message.reports)))

    return [
        Route("/v1/claims", claim, methods=["POST"]),
        Route("/v1/leases/{lease}/renew", renew, methods=["POST"]),
        Route("/v1/leases/{lease}/release", release, methods=["POST"]),
        Route("/v1/workers/{worker}/lost", worker_lost, methods=["POST"]),
        Route("/v1/reports", report, methods=["POST"]),
    ]


def _taken_back(services: Services, rows: list[LeasedInterval]) -> Response:
    # A range that has been lost too often is set aside, which may end its task.
    for row in rows:
        services.finishing.nudge(task_of(row.book))
    return reply(m.HeldAnswer(rows))


def check_lease_id(text: str) -> LeaseId:
    """Return a lease id that can be part of an output's name.

    Raises
    ------
    RequestError
    """
    plain = text.replace("-", "").replace("_", "")
    if not (plain.isascii() and plain.isalnum() and len(text) <= LEASE_ID_MAX):
        raise RequestError(
            f"{text[:LEASE_ID_MAX]!r} cannot be a lease's id",
            hint=f"send an Idempotency-Key of at most {LEASE_ID_MAX} letters, digits, - and _",
        )
    return LeaseId(text)
