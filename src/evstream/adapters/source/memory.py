"""Source files in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from evstream.adapters.source.ranges import ByteRange, check_ranges
from evstream.domain.errors import NotFoundError


class MemorySource:
    """The `ByteSource` port on bytes."""

    def __init__(self, pfn: str, content: bytes) -> None:
        self._pfn = pfn
        self._content = memoryview(content)

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return len(self._content)

    def read_ranges(self, ranges: Sequence[ByteRange]) -> list[memoryview]:
        """Return views of each ``(offset, size)``, in the order asked."""
        check_ranges(self._pfn, self.size, ranges)
        return [self._content[offset : offset + size] for offset, size in ranges]


class MemoryOpener:
    """The `SourceOpener` port on a mapping from physical name to content.

    The mapping is not copied: change it, and files change.
    """

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files

    def _content(self, pfn: str) -> bytes:
        if pfn not in self._files:
            raise NotFoundError(f"there is no file {pfn}", pfn=pfn)
        return self._files[pfn]

    @contextmanager
    def open(self, pfn: str) -> Iterator[MemorySource]:
        """Open a file for reading."""
        yield MemorySource(pfn, self._content(pfn))

    def signature(self, pfn: str) -> str:
        """Return a sign that changes when the file does."""
        content = self._content(pfn)
        return f"{len(content)}-{hashlib.sha256(content).hexdigest()[:16]}"
