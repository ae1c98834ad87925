"""Codec work on all cores: compiled decoders and encoders leave the interpreter alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_T = TypeVar("_T")
_R = TypeVar("_R")

THREADS_MAX = 4
# Below this many bytes, starting threads takes longer than they save.
WORTH_BYTES = 1 << 20
# Shares are smaller than a thread's part, so that all end at about the same time.
_SHARES_PER_THREAD = 4


def usable_cores() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def map_in_threads(
    work: Callable[[_T], _R], items: Sequence[_T], total_bytes: int, threads: int | None = None
) -> list[_R]:
    """Apply a function to all items and return what it gave, in their order.

    Parameters
    ----------
    work : callable
        Must not depend on which thread runs it, nor on the order.
    total_bytes : int
        How many bytes the items stand for; few of them are done in this thread.
    threads : int, optional
        As many as there are cores, but at most `THREADS_MAX`.
    """
    if threads is None:
        threads = min(THREADS_MAX, usable_cores())
    if threads < 2 or len(items) < 2 or total_bytes < WORTH_BYTES:
        return [work(item) for item in items]
    step = -(-len(items) // (threads * _SHARES_PER_THREAD))
    shares = [items[at : at + step] for at in range(0, len(items), step)]
    # A pool of its own each time: one that is kept would not survive a fork.
    with ThreadPoolExecutor(threads, thread_name_prefix="rootio") as pool:
        done = pool.map(lambda share: [work(item) for item in share], shares)
        return [result for part in done for result in part]
