"""Notes on collections of events."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

from evstream.domain.dataset import Fingerprint
from evstream.domain.intervals import Interval
from evstream.domain.names import DatasetName
from evstream.domain.whiteboard import Change, Collection, KeyDefinition, Note, NoteQuery


class Whiteboard(Protocol):
    """Keeps every version of every note. Changes are durable when they return.

    Who somebody is, is what they say; the whiteboard compares names, and proves none.
    """

    async def define_key(self, definition: KeyDefinition) -> KeyDefinition:
        """Define a key; its owner may do so again with another description.

        Raises
        ------
        ConflictError
            It is defined with another type.
        AccessError
            It is somebody else's, and described otherwise.
        """
        ...

    async def keys(self) -> list[KeyDefinition]:
        """Return all keys, by name."""
        ...

    async def put(self, change: Change) -> Note:
        """Make or change a note; its first author owns it. No new version if nothing changes.

        A change that comes again under the same id is answered as the first was.

        Raises
        ------
        NotFoundError
            The key is not defined.
        RequestError
            The value is not of the key's type.
        AccessError
            The author may not write it.
        ConflictError
            Another version is there than was expected; or the id is of another change.
        """
        ...

    async def remove(self, change: Change) -> Note:
        """Remove a note; its versions stay, and it may be put again.

        Raises
        ------
        NotFoundError
            There is none.
        AccessError, ConflictError
            As for `put`.
        """
        ...

    async def forget_change_ids(self, life: timedelta, limit: int) -> int:
        """Forget the ids of changes that were made so long ago; the versions stay.

        Returns
        -------
        int
            How many, ``limit`` at most; 0 once there are none left to forget.
        """
        ...

    async def note(self, collection: Collection, key: str, version: int | None = None) -> Note:
        """Return a note as it is, or as it was.

        Raises
        ------
        NotFoundError
            There is none, it is removed, or there was no such version.
        """
        ...

    async def history(self, collection: Collection, key: str) -> list[Note]:
        """Return all versions of a note, the first first; none if it never was."""
        ...

    async def find(self, query: NoteQuery) -> list[Note]:
        """Return notes by number, as they are now.

        Raises
        ------
        NotFoundError, RequestError
            The key is not defined, or its type is not that of a value.
        """
        ...

    async def touching(
        self,
        file: Fingerprint,
        tree: str,
        interval: Interval,
        datasets: Sequence[DatasetName] = (),
        *,
        whole: bool = False,
        after: int = 0,
        limit: int = 1000,
    ) -> list[Note]:
        """Return the notes on any, or on all, of some entries of a file, by number.

        Those on the file as a whole are among them, and those on the datasets given. At most
        ``limit``, with numbers above ``after``.
        """
        ...
