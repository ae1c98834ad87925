"""Routes of the event index."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from evstream.web.operations import Operation, Served
from evstream.web.replies import read, reply
from evstream.web.services import Services
from evstream.wire.event_messages import EventAnswer, EventQuestion

LOOK_UP = Operation(
    "POST",
    "/v1/event-lookups",
    "where events are, by their numbers",
    takes=EventQuestion,
    gives=EventAnswer,
    errors=(404,),
)


def event_routes(services: Services) -> list[Served]:
    """Return the routes under /v1/event-lookups."""

    async def look_up(request: Request) -> Response:
        return reply(await services.events.find(await read(request, EventQuestion)))

    return [
        LOOK_UP.by(look_up),
    ]
