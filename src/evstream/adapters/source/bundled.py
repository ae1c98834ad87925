"""Source files that lie in bundles of outputs: chained tasks take them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from evstream.adapters.source.ranges import ByteRange, check_ranges
from evstream.domain.names import without_secrets
from evstream.domain.outputs import Inside, place_of
from evstream.ports.source import ByteSource, SourceOpener


class PartSource:
    """The `ByteSource` port on a part of a file."""

    def __init__(self, pfn: str, whole: ByteSource, inside: Inside) -> None:
        self._pfn = pfn
        self._whole = whole
        self._inside = inside

    @property
    def size(self) -> int:
        """Bytes in the part, as far as they are there."""
        return min(self._inside.size, max(0, self._whole.size - self._inside.offset))

    def read_ranges(self, ranges: Sequence[ByteRange]) -> Sequence[bytes | memoryview]:
        """Return the bytes of each ``(offset, size)``, in the order asked."""
        check_ranges(self._pfn, self.size, ranges)
        start = self._inside.offset
        return self._whole.read_ranges([(start + offset, size) for offset, size in ranges])


class BundledOpener:
    """The `SourceOpener` port on another opener, for names that `BundledStore` gives too."""

    def __init__(self, opener: SourceOpener) -> None:
        self._opener = opener

    def open(self, pfn: str) -> AbstractContextManager[ByteSource]:
        """Open a file, or a part of a bundle, for reading."""
        holder, inside = place_of(pfn)
        return self._opener.open(pfn) if inside is None else self._part(pfn, holder, inside)

    @contextmanager
    def _part(self, pfn: str, holder: str, inside: Inside) -> Iterator[ByteSource]:
        with self._opener.open(holder) as whole:
            yield PartSource(without_secrets(pfn), whole, inside)

    def signature(self, pfn: str) -> str:
        """Return a sign that changes when the file does."""
        return self._opener.signature(place_of(pfn)[0])
