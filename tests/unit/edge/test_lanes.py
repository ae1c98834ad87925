"""The gate before makers: waiting, going away, being sent away."""

from __future__ import annotations

import asyncio

import pytest

from evstream.domain.errors import OverloadError
from evstream.domain.lanes import Ask, Lane, LaneRules
from evstream.edge.lanes import MakingLanes
from evstream.testing.virtual_time import VirtualClock, run_virtual


def test_refusals_are_at_once_and_makers_are_bounded() -> None:
    async def main() -> None:
        lanes = MakingLanes(LaneRules(2, 1, 3), VirtualClock())
        busy = most = 0

        async def make() -> str:
            nonlocal busy, most
            try:
                async with lanes.admit(Ask()):
                    busy += 1
                    most = max(most, busy)
                    await asyncio.sleep(1.0)
                    busy -= 1
            except OverloadError:
                assert asyncio.get_running_loop().time() == 0.0
                return "refused"
            return "made"

        answers = await asyncio.gather(*(make() for _ in range(10)))
        assert (answers.count("made"), answers.count("refused"), most) == (5, 5, 2)
        assert lanes.states()[0].make_s == pytest.approx(1.0)

    run_virtual(main)


def test_overload_leaves_prepared_work_what_is_not_reserved() -> None:
    async def main() -> None:
        lanes = MakingLanes(LaneRules(4, 1, 8), VirtualClock())
        made = dict.fromkeys(Lane, 0)

        async def prepare() -> None:
            while True:
                async with lanes.admit(Ask(Lane.PREPARED)):
                    await asyncio.sleep(1.0)
                made[Lane.PREPARED] += 1

        async def ask() -> None:
            try:
                async with lanes.admit(Ask()):
                    await asyncio.sleep(0.5)
                made[Lane.ON_DEMAND] += 1
            except OverloadError:
                pass

        async def overload() -> None:
            async with asyncio.TaskGroup() as group:
                while True:
                    await asyncio.sleep(0.05)  # Ten times what the reserve makes.
                    group.create_task(ask())

        tasks = [asyncio.create_task(prepare()) for _ in range(8)]
        tasks.append(asyncio.create_task(overload()))
        await asyncio.sleep(100.0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert made[Lane.PREPARED] >= 0.95 * 3 * 100
        assert made[Lane.ON_DEMAND] >= 0.95 * 2 * 100

    run_virtual(main)


def test_who_goes_away_gives_the_place_back() -> None:
    async def main() -> None:
        lanes = MakingLanes(LaneRules(1, 1, 1), VirtualClock())

        async def make(seconds: float) -> None:
            async with lanes.admit(Ask()):
                await asyncio.sleep(seconds)

        first, second = asyncio.create_task(make(10)), asyncio.create_task(make(10))
        await asyncio.sleep(1)
        second.cancel()
        await asyncio.sleep(1)
        third = asyncio.create_task(make(1))
        await asyncio.sleep(0)
        first.cancel()
        await third
        assert asyncio.get_running_loop().time() == 3.0
        assert all(not (one.waiting or one.making) for one in lanes.states())
        await asyncio.gather(first, second, return_exceptions=True)

    run_virtual(main)


def test_what_waits_is_hastened_by_its_key() -> None:
    async def main() -> None:
        lanes = MakingLanes(LaneRules(1, 1, 1), VirtualClock())
        began: list[str] = []

        async def make(lane: Lane, key: str) -> None:
            async with lanes.admit(Ask(lane), key):
                began.append(key)
                await asyncio.sleep(5)

        tasks = [asyncio.create_task(make(Lane.BACKGROUND, key)) for key in ("a", "b", "c")]
        await asyncio.sleep(1)
        lanes.hasten("c", Ask())
        lanes.hasten("unknown", Ask())
        await asyncio.gather(*tasks)
        assert began == ["a", "c", "b"]

    run_virtual(main)


def test_who_is_displaced_is_told() -> None:
    async def main() -> None:
        lanes = MakingLanes(LaneRules(1, 1, 1), VirtualClock())

        async def make(ask: Ask) -> None:
            async with lanes.admit(ask):
                await asyncio.sleep(1)

        first = asyncio.create_task(make(Ask()))
        second = asyncio.create_task(make(Ask()))
        await asyncio.sleep(0)
        tail = asyncio.create_task(make(Ask(tail=True)))
        with pytest.raises(OverloadError):
            await second
        await asyncio.gather(first, tail)

    run_virtual(main)
