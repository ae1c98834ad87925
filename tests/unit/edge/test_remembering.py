"""Small parts of sources are read once, whoever asks for them, and however many at once."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from evstream.domain.errors import TransientError
from evstream.edge.remembering import PART_BYTES_MAX, Remembering

CONTENT = random.Random(1).randbytes(1 << 20)


class Source:
    """Counts what is asked of it, and waits at a gate."""

    def __init__(self) -> None:
        self.size = len(CONTENT)
        self.asked: list[tuple[int, int]] = []
        self.fails = False
        self.reading = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    def read_ranges(self, ranges: Sequence[tuple[int, int]]) -> Sequence[bytes | memoryview]:
        self.reading.set()
        assert self.gate.wait(30)
        if self.fails:
            raise TransientError("away")
        self.asked += ranges
        view = memoryview(CONTENT)
        return [view[offset : offset + size] for offset, size in ranges]


def test_any_reads_give_what_the_source_has(rng: random.Random) -> None:
    source = Source()
    remembering = Remembering(source, bytes_max=100_000)
    assert remembering.size == len(CONTENT)
    known = [(rng.randrange(500_000), rng.randrange(500_000)) for _ in range(20)]
    known += [(rng.randrange(500_000), rng.randrange(1_000)) for _ in range(200)]
    for _ in range(200):
        ranges = rng.choices(known, k=rng.randrange(6))
        found = remembering.read_ranges(ranges)
        assert [bytes(one) for one in found] == [CONTENT[a : a + n] for a, n in ranges]
        assert remembering._bytes <= 100_000
        assert remembering._bytes == sum(size for _, size in remembering._parts)


def test_a_small_part_is_read_once_and_a_large_one_each_time() -> None:
    source = Source()
    remembering = Remembering(source)
    large = (0, PART_BYTES_MAX + 1)
    for _ in range(3):
        remembering.read_ranges([(5, 10), large, (5, 10)])
    assert source.asked == [(5, 10), large, large, large]


def test_who_asks_meanwhile_waits_for_the_same() -> None:
    source = Source()
    remembering = Remembering(source)
    source.gate.clear()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(remembering.read_ranges, [(0, 10)])
        assert source.reading.wait(30)
        second = pool.submit(remembering.read_ranges, [(0, 10)])
        source.gate.set()
        assert first.result()[0] == second.result()[0] == CONTENT[:10]
    assert source.asked == [(0, 10)]


def test_what_failed_is_read_anew() -> None:
    source = Source()
    remembering = Remembering(source)
    source.fails = True
    for _ in range(2):
        with pytest.raises(TransientError):
            remembering.read_ranges([(0, 10)])
    source.fails = False
    assert bytes(remembering.read_ranges([(0, 10)])[0]) == CONTENT[:10]
    assert remembering._bytes == 10
