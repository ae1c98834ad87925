"""Routes of the whiteboard."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from evstream.domain.errors import RequestError
from evstream.web.replies import read, reply
from evstream.web.services import Services
from evstream.wire import whiteboard_messages as m

CHANGE_ID_MAX = 200


def whiteboard_routes(services: Services) -> list[Route]:
    """Return the routes under /v1/whiteboard."""

    async def define(request: Request) -> Response:
        new = await read(request, m.NewKey)
        return reply(await services.notes.define(request.path_params["key"], new))

    async def keys(request: Request) -> Response:
        return reply(await services.notes.keys())

    def change_id_of(request: Request) -> str:
        change_id = request.headers.get("Idempotency-Key") or services.ids.new("req")
        if len(change_id) > CHANGE_ID_MAX:
            raise RequestError(
                "the Idempotency-Key is too long", hint=f"send {CHANGE_ID_MAX} characters at most"
            )
        return change_id

    async def put(request: Request) -> Response:
        new = await read(request, m.NewNote)
        return reply(await services.notes.put(new, change_id_of(request)))

    async def remove(request: Request) -> Response:
        gone = await read(request, m.Removal)
        return reply(await services.notes.remove(gone, change_id_of(request)))

    async def read_note(request: Request) -> Response:
        return reply(await services.notes.read(await read(request, m.NoteRequest)))

    async def history(request: Request) -> Response:
        return reply(await services.notes.history(await read(request, m.NoteRequest)))

    async def find(request: Request) -> Response:
        return reply(await services.notes.find(await read(request, m.NoteSearch)))

    async def on_events(request: Request) -> Response:
        return reply(await services.notes.on_events(await read(request, m.EventNotes)))

    return [
        Route("/v1/whiteboard/keys", keys, methods=["GET"]),
        Route("/v1/whiteboard/keys/{key}", define, methods=["PUT"]),
        Route("/v1/whiteboard/notes", put, methods=["POST"]),
        Route("/v1/whiteboard/removals", remove, methods=["POST"]),
        Route("/v1/whiteboard/reads", read_note, methods=["POST"]),
        Route("/v1/whiteboard/histories", history, methods=["POST"]),
        Route("/v1/whiteboard/searches", find, methods=["POST"]),
        Route("/v1/whiteboard/events", on_events, methods=["POST"]),
    ]
