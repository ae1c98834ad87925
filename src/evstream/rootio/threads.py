"""Codec work on all cores: compiled decoders and encoders leave the interpreter alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self, TypeVar

_T = TypeVar("_T")
_R = TypeVar("_R")

THREADS_MAX = 4
# Below this many bytes, starting threads takes longer than they save.
WORTH_BYTES = 1 << 20
# Of smaller items the interpreter's part is the larger one, and threads only wait for it.
WORTH_ITEM_BYTES = 1 << 13
# Shares are smaller than a thread's part, so that all end at about the same time.
_SHARES_PER_THREAD = 4


def usable_cores() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Crew:
    """Threads that work on what they are given while their owner goes on.

    Use it as a context manager; leaving it drops what was not begun.

    Parameters
    ----------
    total_bytes : int
        How much work there will be; little of it is done in the owner's thread.
    threads : int, optional
        As many as there are cores, but at most `THREADS_MAX`.
    """

    def __init__(self, total_bytes: int, threads: int | None = None) -> None:
        if threads is None:
            threads = min(THREADS_MAX, usable_cores())
        self.threads = threads if total_bytes >= WORTH_BYTES else 1
        # A pool of its own each time: one that is kept would not survive a fork.
        self._pool = (
            ThreadPoolExecutor(threads, thread_name_prefix="rootio") if self.threads > 1 else None
        )

    def begin(self, work: Callable[[_T], _R], item: _T) -> Callable[[], _R]:
        """Have a function applied to an item; what is returned waits for the outcome."""
        if self._pool is None:
            done = work(item)
            return lambda: done
        return self._pool.submit(work, item).result

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def map_in_threads(
    work: Callable[[_T], _R], items: Sequence[_T], total_bytes: int, threads: int | None = None
) -> list[_R]:
    """Apply a function to all items and return what it gave, in their order.

    Parameters
    ----------
    work : callable
        Must not depend on which thread runs it, nor on the order.
    total_bytes, threads : int
        As for `Crew`; items that are small on average stay in the owner's thread too.
    """
    worth = len(items) > 1 and total_bytes >= WORTH_ITEM_BYTES * len(items)
    with Crew(total_bytes if worth else 0, threads) as crew:
        step = max(1, -(-len(items) // (crew.threads * _SHARES_PER_THREAD)))
        shares = [items[at : at + step] for at in range(0, len(items), step)]
        waits = [crew.begin(lambda share: [work(item) for item in share], s) for s in shares]
        return [result for wait in waits for result in wait()]
