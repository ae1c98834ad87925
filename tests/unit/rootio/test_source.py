"""How ranges are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evstream.rootio.errors import CorruptFileError
from evstream.rootio.source import (
    GAP_BYTES_MAX,
    RANGES_MAX,
    BytesSource,
    FileSource,
    Range,
    direct,
    drive,
    fetch,
)

DATA = bytes(i * 7 % 251 for i in range(100_000))


class Recording(BytesSource):
    """Remembers each request."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.requests: list[list[Range]] = []

    def read_ranges(self, ranges: Sequence[Range]) -> Sequence[bytes | memoryview]:
        self.requests.append(list(ranges))
        return super().read_ranges(ranges)


@given(st.lists(st.tuples(st.integers(0, 99_000), st.integers(0, 1000)), max_size=40))
def test_every_range_gets_its_bytes(ranges: list[Range]) -> None:
    source = Recording(DATA)
    views = drive(fetch(ranges, source.size), source)
    assert [bytes(v) for v in views] == [DATA[o : o + n] for o, n in ranges]
    asked = [r for request in source.requests for r in request]
    edges = [(o, o + n) for o, n in asked]
    assert edges == sorted(edges)
    assert all(b[0] - a[1] > GAP_BYTES_MAX for a, b in pairwise(edges))


def test_requests_stay_within_what_servers_take() -> None:
    step = GAP_BYTES_MAX + 10
    data = bytes(step * (RANGES_MAX + 5))
    source = Recording(data)
    drive(fetch([(i * step, 4) for i in range(RANGES_MAX + 5)], source.size), source)
    assert [len(r) for r in source.requests] == [RANGES_MAX, 5]


@pytest.mark.parametrize("wrong", [(-1, 5), (99_999, 2), (5, -1), (200_000, 0)])
def test_ranges_outside_the_file_are_refused(wrong: Range) -> None:
    with pytest.raises(CorruptFileError):
        drive(fetch([wrong], len(DATA)), BytesSource(DATA))


def test_short_answers_are_told() -> None:
    with pytest.raises(CorruptFileError, match="got"):
        drive(fetch([(0, 50_000)], len(DATA)), BytesSource(DATA[:100]))


def test_direct_sources_fill_buffers_or_say_that_they_cannot(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(DATA)
    with FileSource(path) as file:
        for source in (BytesSource(DATA), file):
            assert direct(source) is source
            buffer = bytearray(100)
            source.read_into(500, memoryview(buffer))
            assert bytes(buffer) == DATA[500:600]
            with pytest.raises(CorruptFileError, match="got 50"):
                source.read_into(len(DATA) - 50, memoryview(buffer))
