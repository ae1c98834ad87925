"""Clocks, identifiers and places to run work keep their contracts."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextvars import ContextVar

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
        threads = Threads(1)
        yield threads
        threads.close()

    async def test_work_is_done_elsewhere_in_its_callers_context(self, offload: Offload) -> None:
        name: ContextVar[str] = ContextVar("name")
        name.set("caller")
        where, told = await offload(lambda: (threading.current_thread(), name.get()))
        assert where is not threading.current_thread()
        assert told == "caller"

    async def test_who_is_cancelled_waits_for_what_runs(self, offload: Offload) -> None:
        begun, go_on = threading.Event(), threading.Event()
        ended: list[str] = []

        def work() -> None:
            begun.set()
            assert go_on.wait(30)
            ended.append("work")

        async def caller() -> None:
            try:
                await offload(work)
            finally:
                ended.append("caller")

        task = asyncio.ensure_future(caller())
        assert await asyncio.to_thread(begun.wait, 30)
        for _ in range(3):
            # However often it is asked.
            task.cancel()
            await asyncio.sleep(0)
        assert not task.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended == ["work", "caller"]

    async def test_errors_of_abandoned_work_trouble_nobody(self, offload: Offload) -> None:
        begun, go_on = threading.Event(), threading.Event()

        def work() -> None:
            begun.set()
            assert go_on.wait(30)
            raise ValueError

        task = asyncio.ensure_future(offload(work))
        assert await asyncio.to_thread(begun.wait, 30)
        task.cancel()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def test_work_that_has_not_begun_is_dropped(self, offload: Offload) -> None:
        begun, go_on = threading.Event(), threading.Event()
        done: list[str] = []

        def work() -> None:
            begun.set()
            assert go_on.wait(30)

        running = asyncio.ensure_future(offload(work))
        assert await asyncio.to_thread(begun.wait, 30)
        waiting = asyncio.ensure_future(offload(lambda: done.append("waiting")))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        go_on.set()
        await running
        assert done == []
