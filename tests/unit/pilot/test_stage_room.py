"""Outputs on their way are bounded in number and in bytes, first come, first served."""

from __future__ import annotations

import asyncio

import pytest

from evstream.pilot.stage_room import Room, StageRoom


def taken(room: StageRoom, *sizes: int) -> list[asyncio.Task[Room]]:
    return [asyncio.ensure_future(room.take(size)) for size in sizes]


def done(tasks: list[asyncio.Task[Room]]) -> list[bool]:
    return [task.done() for task in tasks]


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_outputs_wait_for_room_in_order() -> None:
    async def main() -> None:
        room = StageRoom(3, 100)
        tasks = taken(room, 60, 60, 10)
        await settle()
        # The last would fit, but is not first.
        assert done(tasks) == [True, False, False]
        (await tasks[0]).free()
        await settle()
        assert done(tasks) == [True, True, True]
        assert (room.number, room.bytes) == (2, 70)

    asyncio.run(main())


def test_number_is_bounded_too() -> None:
    async def main() -> None:
        room = StageRoom(2, 100)
        tasks = taken(room, 1, 1, 1)
        await settle()
        assert done(tasks) == [True, True, False]
        first = await tasks[0]
        first.free()
        first.free()
        await settle()
        assert done(tasks) == [True, True, True]
        assert room.number == 2

    asyncio.run(main())


def test_one_may_always_go_however_large() -> None:
    async def main() -> None:
        room = StageRoom(2, 100)
        tasks = taken(room, 1000, 1)
        await settle()
        assert done(tasks) == [True, False]
        (await tasks[0]).free()
        await settle()
        assert done(tasks) == [True, True]

    asyncio.run(main())


def test_who_gives_up_waiting_leaves_room_to_the_next() -> None:
    async def main() -> None:
        room = StageRoom(2, 100)
        tasks = taken(room, 100, 100, 1)
        await settle()
        tasks[1].cancel()
        with pytest.raises(asyncio.CancelledError):
            await tasks[1]
        (await tasks[0]).free()
        await settle()
        assert done(tasks) == [True, True, True]
        assert (room.number, room.bytes) == (1, 1)

    asyncio.run(main())
