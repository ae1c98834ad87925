"""Routes of the event index."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from evstream.web.replies import read, reply
from evstream.web.services import Services
from evstream.wire.event_messages import EventQuestion


def event_routes(services: Services) -> list[Route]:
    """Return the routes under /v1/event-lookups."""

    async def look_up(request: Request) -> Response:
        return reply(await services.events.find(await read(request, EventQuestion)))

    return [Route("/v1/event-lookups", look_up, methods=["POST"])]
