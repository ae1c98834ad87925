"""Who waits in vain is told so, and nobody else is cancelled for it."""

from __future__ import annotations

import asyncio

import pytest

from evstream.client.watch import STALE_S, Watch
from evstream.client.ways import Way
from evstream.domain.errors import TransientError
from evstream.testing.virtual_time import VirtualClock, run_virtual


def test_silence_ends_a_wait_and_leaves_the_task_as_it_was() -> None:
    async def main() -> None:
        watch = Watch(VirtualClock())
        with pytest.raises(TransientError, match="nothing came for"), watch.over(Way(), 2.0):
            await asyncio.sleep(100.0)
        assert asyncio.get_running_loop().time() < 3.0
        task = asyncio.current_task()
        assert task is not None
        assert not task.cancelling()

    run_virtual(main)


def test_what_comes_now_and_then_is_waited_for() -> None:
    async def main() -> None:
        clock = VirtualClock()
        with Watch(clock).over(Way(), 2.0) as line:
            for _ in range(20):
                await asyncio.sleep(1.9)
                line.last = clock.monotonic()

    run_virtual(main)


def test_whoever_finds_a_way_whole_has_others_ask_anew_and_goes_on_itself() -> None:
    async def main() -> None:
        watch, way, elsewhere = Watch(VirtualClock()), Way(), Way()
        ended: list[str] = []

        async def wait(which: Way, name: str) -> None:
            try:
                with watch.over(which, 60.0):
                    await asyncio.sleep(30.0)
            except TransientError:
                ended.append(name)

        others = [
            asyncio.ensure_future(wait(way, "same")),
            asyncio.ensure_future(wait(elsewhere, "elsewhere")),
        ]
        with watch.over(way, 60.0):
            await asyncio.sleep(2 * STALE_S)
            way.broke(1.0)
            watch.renew(way)
        # Nothing was waited for between that and the end: no cancellation is left over.
        await asyncio.sleep(0)
        await asyncio.gather(*others)
        assert ended == ["same"]
        assert not way.is_avoided(1.0)

    run_virtual(main)


def test_a_task_that_is_cancelled_is_cancelled() -> None:
    async def main() -> None:
        watch = Watch(VirtualClock())

        async def wait() -> None:
            with watch.over(Way(), 60.0):
                await asyncio.sleep(30.0)

        task = asyncio.ensure_future(wait())
        await asyncio.sleep(1.0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run_virtual(main)
