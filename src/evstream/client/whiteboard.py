"""The whiteboard as clients see it: a method per route."""

from __future__ import annotations

from urllib.parse import quote

from evstream.client.connection import Connection
from evstream.wire import whiteboard_messages as m


class Whiteboard:
    """Notes on collections of events.

    Parameters
    ----------
    connection : Connection
        The service's, which closes it.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def define(self, name: str, key: m.NewKey) -> m.KeyView:
        """Define a key; its owner may do so again with another description."""
        path = f"/v1/whiteboard/keys/{quote(name, '')}"
        return await self._connection.call("PUT", path, m.KeyView, key)

    async def keys(self) -> list[m.KeyView]:
        """Return all keys."""
        return await self._connection.pages("/v1/whiteboard/keys", m.KeyView)

    async def put(self, note: m.NewNote) -> m.NoteView:
        """Make or change a note."""
        return await self._connection.call("POST", "/v1/whiteboard/notes", m.NoteView, note)

    async def remove(self, removal: m.Removal) -> m.NoteView:
        """Remove a note; its versions stay."""
        return await self._connection.call("POST", "/v1/whiteboard/removals", m.NoteView, removal)

    async def read(self, asked: m.NoteRequest) -> m.NoteView:
        """Return a note as it is, or as it was."""
        return await self._connection.call("POST", "/v1/whiteboard/reads", m.NoteView, asked)

    async def history(self, collection: m.CollectionRef, key: str) -> list[m.NoteView]:
        """Return all versions of a note, the first first."""
        path, found, after = "/v1/whiteboard/histories", list[m.NoteView](), 0
        while True:
            asked = m.HistoryRequest(collection, key, after)
            page = await self._connection.call("POST", path, m.NotesAnswer, asked)
            found += page.notes
            if page.next is None:
                return found
            after = page.next

    async def find(self, search: m.NoteSearch) -> m.NotesAnswer:
        """Return the notes that fit, a page of them."""
        path = "/v1/whiteboard/searches"
        return await self._connection.call("POST", path, m.NotesAnswer, search)

    async def on_events(self, asked: m.EventNotes) -> m.NotesAnswer:
        """Return the notes on some events, a page of them."""
        return await self._connection.call("POST", "/v1/whiteboard/events", m.NotesAnswer, asked)
