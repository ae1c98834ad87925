"""Which bytes are asked of an XRootD server: those that are wanted, and small gaps between."""

from __future__ import annotations

import pytest

from evstream.domain.names import Pfn

pytest.importorskip("XRootD", reason="XRootD's client is not installed")


def test_places_apart_are_parts_of_one_vector_read() -> None:
    from evstream.adapters.source.xrootd import XrootdSource

    asked: list[list[tuple[int, int]]] = []

    class Answered(XrootdSource):
        def __init__(self, size: int) -> None:
            self._pfn, self._size = Pfn("root://origin//file"), size

        def _fetch(self, spans: list[tuple[int, int]]) -> list[memoryview]:
            asked.append(spans)
            return [memoryview(bytes(size)) for _, size in spans]

    wanted = [(0, 1000), (2000, 1000), (20_000, 1000)]
    found = Answered(100_000).read_ranges(wanted)
    assert [len(one) for one in found] == [1000] * 3
    assert asked == [[(0, 3000), (20_000, 1000)]]
