"""Routes of the whiteboard."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from evstream.web.operations import Operation, Served
from evstream.web.replies import query_of, read, reply
from evstream.web.services import Services
from evstream.wire import whiteboard_messages as m
from evstream.wire.pages import NamedPage, NamesQuery, names_page

KEYS = Operation(
    "GET", "/v1/whiteboard/keys", "what may be noted", gives=NamedPage[m.KeyView], query=NamesQuery
)
DEFINE = Operation(
    "PUT",
    "/v1/whiteboard/keys/{key}",
    "define a key",
    takes=m.NewKey,
    gives=m.KeyView,
    errors=(409,),
)
PUT = Operation(
    "POST",
    "/v1/whiteboard/notes",
    "make or change a note",
    takes=m.NewNote,
    gives=m.NoteView,
    errors=(404, 409),
)
REMOVE = Operation(
    "POST",
    "/v1/whiteboard/removals",
    "remove a note",
    takes=m.Removal,
    gives=m.NoteView,
    errors=(404, 409),
)
READ_NOTE = Operation(
    "POST",
    "/v1/whiteboard/reads",
    "a note as it is, or as it was",
    takes=m.NoteRequest,
    gives=m.NoteView,
    errors=(404,),
)
HISTORY = Operation(
    "POST",
    "/v1/whiteboard/histories",
    "all versions of a note",
    takes=m.HistoryRequest,
    gives=m.NotesAnswer,
    errors=(404,),
)
FIND = Operation(
    "POST",
    "/v1/whiteboard/searches",
    "find notes",
    takes=m.NoteSearch,
    gives=m.NotesAnswer,
    errors=(404,),
)
ON_EVENTS = Operation(
    "POST",
    "/v1/whiteboard/events",
    "the notes on some events",
    takes=m.EventNotes,
    gives=m.NotesAnswer,
    errors=(404,),
)


def whiteboard_routes(services: Services) -> list[Served]:
    """Return the routes under /v1/whiteboard."""

    async def define(request: Request) -> Response:
        new = await read(request, m.NewKey)
        return reply(await services.notes.define(request.path_params["key"], new))

    async def keys(request: Request) -> Response:
        query = query_of(request, NamesQuery)
        return reply(names_page(await services.notes.keys(), lambda key: key.name, query))

    def change_id_of(request: Request) -> str:
        return request.headers.get("Idempotency-Key") or services.ids.new("req")

    async def put(request: Request) -> Response:
        new = await read(request, m.NewNote)
        return reply(await services.notes.put(new, change_id_of(request)))

    async def remove(request: Request) -> Response:
        gone = await read(request, m.Removal)
        return reply(await services.notes.remove(gone, change_id_of(request)))

    async def read_note(request: Request) -> Response:
        return reply(await services.notes.read(await read(request, m.NoteRequest)))

    async def history(request: Request) -> Response:
        return reply(await services.notes.history(await read(request, m.HistoryRequest)))

    async def find(request: Request) -> Response:
        return reply(await services.notes.find(await read(request, m.NoteSearch)))

    async def on_events(request: Request) -> Response:
        return reply(await services.notes.on_events(await read(request, m.EventNotes)))

    return [
        KEYS.by(keys),
        DEFINE.by(define),
        PUT.by(put),
        REMOVE.by(remove),
        READ_NOTE.by(read_note),
        HISTORY.by(history),
        FIND.by(find),
        ON_EVENTS.by(on_events),
    ]
