"""Finding events for a service: one index, kept open until its builder has gone on."""

from __future__ import annotations

import threading
from pathlib import Path

from evstream.eventindex.answers import answer
from evstream.eventindex.index import EventIndex
from evstream.eventindex.manifest import MANIFEST_NAME
from evstream.ports import Offload
from evstream.wire.event_messages import EventAnswer, EventQuestion

FOLDER = "event-index"
"""Of a service's index, in its data directory."""
_Sign = tuple[int, int, int]


class EventFinder:
    """Answers questions about the events of one index, which may not be there yet.

    Parameters
    ----------
    folder : Path
        Of the index. Whoever builds it needs nobody's leave: it is opened again then.
    """

    def __init__(self, folder: Path, offload: Offload) -> None:
        self._folder = folder
        self._offload = offload
        self._lock = threading.Lock()
        self._open: tuple[_Sign, EventIndex] | None = None

    async def find(self, question: EventQuestion) -> EventAnswer:
        """Look events up.

        Raises
        ------
        NotFoundError
            There is no index, or nothing of what the question is narrowed to.
        RequestError
            The question cannot be answered as it stands.
        DataError
            The index is damaged.
        """
        return await self._offload(lambda: answer(self._index(), question))

    def _index(self) -> EventIndex:
        with self._lock:
            sign = self._sign()
            if self._open is None or self._open[0] != sign or sign == _ABSENT:
                # Signed before it is opened: what changes meanwhile is seen next time.
                self._open = sign, EventIndex(self._folder)
            return self._open[1]

    def _sign(self) -> _Sign:
        """Return what differs once the manifest has been replaced."""
        try:
            found = (self._folder / MANIFEST_NAME).stat()
        except OSError:
            return _ABSENT
        return found.st_ino, found.st_mtime_ns, found.st_size


_ABSENT = (0, 0, 0)
