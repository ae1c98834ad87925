"""Pages that are made anew for a product: encoded at once, compressed on all cores."""

from __future__ import annotations

from dataclasses import dataclass

from evstream.rootio.compression import Setting, compress
from evstream.rootio.rntuple.elements import Elements, empty, encode
from evstream.rootio.rntuple.envelope import checksum
from evstream.rootio.rntuple.schema import Column
from evstream.rootio.threads import map_in_threads

# So much waits to be compressed at a time.
_PENDING_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class MadePage:
    """A page made anew: its bytes with their checksum, and how many elements it has."""

    data: bytes
    elements: int


class MadePages:
    """All pages that were made for a product; equal zeros are made once."""

    def __init__(self) -> None:
        self._pages: list[MadePage] = []
        self._pending: list[tuple[bytes, int, int]] = []
        self._pending_bytes = 0
        self._zeros: dict[tuple[int, tuple[int, int, bytes], int], int] = {}

    @property
    def pages(self) -> list[MadePage]:
        """All of them, by number."""
        self._settle()
        return self._pages

    def add(self, elements: Elements, column: Column, setting: int) -> int:
        """Encode elements as a page; return its number."""
        data = encode(elements, column)
        self._pending.append((data, len(elements), setting))
        number = len(self._pages) + len(self._pending) - 1
        self._pending_bytes += len(data)
        if self._pending_bytes >= _PENDING_BYTES:
            self._settle()
        return number

    def zeros(self, count: int, column: Column, setting: int) -> int:
        """Make a page of zeros; return its number."""
        key = (count, column.kind, setting)
        if key not in self._zeros:
            self._zeros[key] = self.add(empty(column, count), column, setting)
        return self._zeros[key]

    def _settle(self) -> None:
        pending, nbytes = self._pending, self._pending_bytes
        self._pending, self._pending_bytes = [], 0
        self._pages += map_in_threads(_made, pending, nbytes)


def _made(one: tuple[bytes, int, int]) -> MadePage:
    data, elements, setting = one
    stored = compress(data, Setting.from_root(setting))
    return MadePage(bytes(stored) + checksum(stored), elements)
