"""The access log of an edge: who asked for what, and whether it was there."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from evstream.ports import Clock
from evstream.wire.access_log import Access, line_of

_LOG = logging.getLogger(__name__)

FLUSH_S = 1.0
"""A kill loses no more than the lines of so long, and of a lull after them."""
RETRY_S = 60.0


class AccessLog:
    """Appends lines to a file; a full one is kept beside it as ``NAME.1``, over the one before.

    What cannot be written is left out and said once a minute: the edge goes on serving.

    Parameters
    ----------
    bytes_max : int
        Of one file; both together take twice of it.
    """

    def __init__(self, path: Path, bytes_max: int, clock: Clock) -> None:
        self._path = path
        self._bytes_max = bytes_max
        self._clock = clock
        self._lines: list[bytes] = []
        self._bytes = -1
        self._flushed = clock.monotonic()
        self._not_before = self._flushed

    def note(self, key: str, size: int, cost: float, site: str, hit: bool) -> None:
        """Write down a request for a product."""
        now = self._clock.now().timestamp()
        self._lines.append(line_of(Access(now, key, max(size, 1), cost, site, hit)))
        if self._clock.monotonic() - self._flushed >= FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Give what was noted to the operating system."""
        now = self._flushed = self._clock.monotonic()
        data, self._lines = b"".join(self._lines), []
        if not data or now < self._not_before:
            return
        try:
            self._append(data)
        except OSError as error:
            self._bytes = -1
            self._not_before = now + RETRY_S
            _LOG.warning("evstream: the access log %s cannot be written: %s", self._path, error)

    def _append(self, data: bytes) -> None:
        if self._bytes < 0:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._bytes = self._path.stat().st_size if self._path.exists() else 0
        if self._bytes and self._bytes + len(data) > self._bytes_max:
            self._path.replace(self._path.with_name(f"{self._path.name}.1"))
            self._bytes = 0
        # Keys of products are no secrets, but who reads what is nobody else's matter.
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
        with os.fdopen(descriptor, "ab") as file:
            file.write(data)
        self._bytes += len(data)
