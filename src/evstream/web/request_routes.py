"""Routes of requests to prepare, and of the edges that work on them."""

from __future__ import annotations

from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from evstream.domain.names import TaskId
from evstream.web.doors import caller_of
from evstream.web.operations import EVENT_STREAM, Operation, Served
from evstream.web.product_routes import edge_of
from evstream.web.replies import query_of, read, reply
from evstream.web.services import Services
from evstream.web.task_routes import task_id_of
from evstream.web.work_routes import LEASE_ID, check_lease_id
from evstream.wire import request_messages as m
from evstream.wire.messages import encode
from evstream.wire.pages import NumberedPage, NumbersQuery

EVENTS_S = 15.0
"""A stream of events says something at least so often: who listens knows that it is alive."""

SUBMIT = Operation(
    "POST",
    "/v1/requests",
    "have products made ahead",
    takes=m.NewRequest,
    gives=m.RequestView,
    status=201,
    errors=(404, 409),
)
LIST = Operation(
    "GET",
    "/v1/requests",
    "requests, the newest first",
    gives=NumberedPage[m.RequestView],
    query=NumbersQuery,
)
SHOW = Operation(
    "GET",
    "/v1/requests/{task}",
    "one request; once enough of it is ready, if that is asked for",
    gives=m.RequestView,
    query=m.WaitQuery,
    errors=(404,),
)
EVENTS = Operation(
    "GET",
    "/v1/requests/{task}/events",
    "server-sent events as it gets on",
    gives=m.RequestView,
    events=("progress", "ended"),
    errors=(404,),
)
CANCEL = Operation(
    "POST",
    "/v1/requests/{task}/cancel",
    "have no more made",
    gives=m.RequestView,
    errors=(404, 409),
)
CLAIM = Operation(
    "POST",
    "/v1/edges/{edge}/claims",
    "lease products to be made, as an edge",
    takes=m.EdgeClaim,
    gives=m.EdgeClaimAnswer,
    errors=(404, 409),
    key=LEASE_ID,
)


def request_routes(services: Services) -> list[Served]:
    """Return the routes under /v1/requests, and the claims of edges."""

    async def submit(request: Request) -> Response:
        new = await read(request, m.NewRequest)
        request_id = request.headers.get("Idempotency-Key") or services.ids.new("req")
        made = await services.requests.submit(new, request_id, caller_of(request.scope).name)
        return reply(await services.requests.view(made), 201)

    async def list_requests(request: Request) -> Response:
        query = query_of(request, NumbersQuery)
        return reply(await services.requests.page(query))

    async def show(request: Request) -> Response:
        query = query_of(request, m.WaitQuery)
        number = task_id_of(request)
        return reply(await services.requests.wait(number, query.wait_s, query.ready))

    async def events(request: Request) -> Response:
        # Whatever is wrong is told while there still is a status to tell it.
        first = await services.requests.view(await services.requests.request(task_id_of(request)))
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        body = _events(services, first)
        return StreamingResponse(body, headers=headers, media_type=EVENT_STREAM)

    async def cancel(request: Request) -> Response:
        known = await services.requests.request(task_id_of(request))
        ended = await services.finishing.cancel(known.id)
        return reply(await services.requests.view(ended))

    async def claim(request: Request) -> Response:
        message = await read(request, m.EdgeClaim)
        lease = request.headers.get("Idempotency-Key") or services.ids.new("lease")
        edge = edge_of(request)
        return reply(await services.assigner.claim(edge, message, check_lease_id(lease)))

    return [
        SUBMIT.by(submit),
        LIST.by(list_requests),
        SHOW.by(show),
        EVENTS.by(events),
        CANCEL.by(cancel),
        CLAIM.by(claim),
    ]


async def _events(services: Services, view: m.RequestView) -> AsyncIterator[bytes]:
    """Yield a request as server-sent events whenever it has got on, until it has ended."""
    while True:
        name = "ended" if view.state.final else "progress"
        yield b"event: " + name.encode() + b"\ndata: " + encode(view) + b"\n\n"
        if view.state.final:
            return
        view = await services.requests.change(TaskId(view.id), view, EVENTS_S)
