"""Small parts of a source that were read lately: neighbouring cuts share baskets."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future

from evstream.ports import ByteSource

BYTES_MAX = 16 << 20
PART_BYTES_MAX = 256 << 10
"""Larger parts are of the middle of a cut, which nobody else asks for."""

Range = tuple[int, int]
Data = bytes | memoryview


class Remembering:
    """A `ByteSource` that reads no small part twice, not even for two who ask at once."""

    def __init__(self, source: ByteSource, bytes_max: int = BYTES_MAX) -> None:
        self._source = source
        self._bytes_max = bytes_max
        self._lock = threading.Lock()
        self._parts: OrderedDict[Range, Future[Data]] = OrderedDict()
        self._bytes = 0
        self.size = source.size

    def read_ranges(self, ranges: Sequence[Range]) -> Sequence[Data]:
        """Return the bytes of each ``(offset, size)``, in the order asked."""
        mine, found = self._divide(ranges)
        if mine:
            self._read(mine, found)
        return [found[one].result() for one in ranges]

    def _divide(self, ranges: Sequence[Range]) -> tuple[list[Range], dict[Range, Future[Data]]]:
        """Return what is to be read here, and where all is that was asked for."""
        mine: list[Range] = []
        found: dict[Range, Future[Data]] = {}
        with self._lock:
            for one in dict.fromkeys(ranges):
                known = self._parts.get(one)
                if known is None:
                    known = Future()
                    mine.append(one)
                    if one[1] <= PART_BYTES_MAX:
                        self._parts[one] = known
                        self._bytes += one[1]
                else:
                    self._parts.move_to_end(one)
                found[one] = known
            while self._bytes > self._bytes_max:
                (_, size), _ = self._parts.popitem(last=False)
                self._bytes -= size
        return mine, found

    def _read(self, mine: list[Range], found: dict[Range, Future[Data]]) -> None:
        try:
            contents = self._source.read_ranges(mine)
        except BaseException as error:
            with self._lock:
                for one in mine:
                    if self._parts.get(one) is found[one]:
                        del self._parts[one]
                        self._bytes -= one[1]
            for one in mine:
                found[one].set_exception(error)
            raise
        for one, content in zip(mine, contents, strict=True):
            # A view would keep all that was read together with it.
            small = one in self._parts
            found[one].set_result(bytes(content) if small else content)
