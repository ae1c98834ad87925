"""Clocks, identifiers and places to run work keep their contracts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from evstream.adapters.clock import SystemClock
from evstream.adapters.ids import RandomIds
from evstream.adapters.offload import InPlace, Threads
from evstream.ports.clock import Clock
from evstream.ports.ids import Ids
from evstream.ports.offload import Offload
from evstream.testing.contracts import ClockContract, IdsContract, OffloadContract
from evstream.testing.manual_clock import ManualClock
from evstream.testing.seeded_ids import SeededIds


class TestSystemClock(ClockContract):
    @pytest.fixture
    def clock(self) -> Clock:
        return SystemClock()


class TestManualClock(ClockContract):
    @pytest.fixture
    def clock(self) -> Clock:
        return ManualClock()


class TestRandomIds(IdsContract):
    @pytest.fixture
    def ids(self) -> Ids:
        return RandomIds()


class TestSeededIds(IdsContract):
    @pytest.fixture
    def ids(self) -> Ids:
        return SeededIds(7)

    def test_a_seed_gives_the_same_again(self) -> None:
        first, second = SeededIds(1), SeededIds(1)
        assert [first.new("x"), first.jitter()] == [second.new("x"), second.jitter()]
        assert SeededIds(2).new("x") != SeededIds(1).new("x")


class TestInPlace(OffloadContract):
    @pytest.fixture
    def offload(self) -> Offload:
        return InPlace()


class TestThreads(OffloadContract):
    @pytest.fixture
    def offload(self) -> Iterator[Offload]:
        threads = Threads(3)
        yield threads
        threads.close()
