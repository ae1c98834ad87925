"""Where blocking work runs: in a bounded pool of threads, or in place."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class Threads:
    """The `Offload` port on a pool of threads.

    A thread cannot be stopped. Whoever is cancelled while its work runs is told so
    when the work has ended, so that files and buffers it uses can be closed safely;
    work that has not begun is dropped.

    Parameters
    ----------
    threads_max : int
        Work that runs at once; more waits its turn.
    """

    def __init__(self, threads_max: int) -> None:
        self._pool = ThreadPoolExecutor(threads_max, thread_name_prefix="evstream-offload")

    async def __call__(self, work: Callable[[], T]) -> T:
        """Run ``work`` in a thread and return what it returns, or raise what it raises."""
        running = self._pool.submit(contextvars.copy_context().run, work)
        future = asyncio.wrap_future(running)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            if not running.cancel():
                await _until_done(future)
            raise

    def close(self) -> None:
        """Wait for work that runs, drop what waits, and end the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)


async def _until_done(future: asyncio.Future[T]) -> None:
    """Wait for a future's end, however often the waiting task is cancelled."""
    while not future.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([future])
    if not future.cancelled():
        # Its error has nobody to go to; reading it says that this is known.
        future.exception()


class InPlace:
    """The `Offload` port without threads: for tests and the simulator."""

    async def __call__(self, work: Callable[[], T]) -> T:
        """Run ``work`` at once."""
        return work()
