"""A byte source as the file object that libraries ask for."""

from __future__ import annotations

import io
from typing import Any

from evstream.ports import ByteSource


class SourceFile(io.RawIOBase):
    """Reads a source from the place that it was sought to; one thread at a time."""

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self._at = 0

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that it can be read from anywhere."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to a place; one behind the end has nothing to read."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._source.size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        """Return the place."""
        return self._at

    def read(self, size: int | None = -1, /) -> bytes:
        """Return so many bytes, fewer at the end."""
        rest = max(0, self._source.size - self._at)
        wanted = rest if size is None or size < 0 else min(size, rest)
        if not wanted:
            return b""
        (found,) = self._source.read_ranges([(self._at, wanted)])
        self._at += len(found)
        return bytes(found)

    def readinto(self, buffer: Any, /) -> int:
        """Fill a buffer as far as the file goes."""
        view = memoryview(buffer).cast("B")
        found = self.read(len(view))
        view[: len(found)] = found
        return len(found)
