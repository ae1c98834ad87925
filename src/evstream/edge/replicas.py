"""Which replica of a file to ask first, and how many threads one origin may take."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from evstream.domain.errors import EvstreamError, TransientError
from evstream.domain.names import Pfn

BACKOFF_S = 1.0
BACKOFF_S_MAX = 300.0
BACKOFF_FACTOR = 4.0
"""After its first failure a replica goes last for a second, then for four times as long."""
REMEMBERED_MAX = 10_000


def origin_of(pfn: str) -> str:
    """Return scheme, host and port of where a file is; empty for this machine's own disks."""
    if pfn.startswith("file:") or "://" not in pfn:
        return ""
    try:
        parts = urlsplit(pfn)
    except ValueError:
        return pfn
    # Names and passwords make no other server of it.
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2].lower()}"


class Replicas:
    """Remembers which replicas have failed, so that others are asked first for a while.

    None is ever left out: where all have failed, the one that failed longest ago is asked.
    Thread-safe.

    Parameters
    ----------
    now : callable
        Seconds that never go back.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._failed: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def in_order(self, pfns: Iterable[Pfn]) -> list[Pfn]:
        """Return replicas as they were given, but those that failed lately last."""
        now = self._now()
        with self._lock:
            return sorted(dict.fromkeys(pfns), key=lambda pfn: self._until(pfn, now))

    def is_passed_over(self, pfn: Pfn) -> bool:
        """Tell whether a replica has failed lately."""
        now = self._now()
        with self._lock:
            return self._until(pfn, now) > 0

    def _until(self, pfn: Pfn, now: float) -> float:
        times = [self._failed[key][1] for key in (pfn, origin_of(pfn)) if key in self._failed]
        until = max(times, default=0.0)
        return until if until > now else 0.0

    def failed(self, pfn: Pfn, error: EvstreamError) -> None:
        """Pass a replica over; a server that does not answer, with all its files."""
        transient = isinstance(error, TransientError)
        key = (transient and origin_of(pfn)) or pfn
        now = self._now()
        with self._lock:
            times, until = self._failed.pop(key, (0, 0.0))
            # Several readers that were underway fail at once: that is one failure.
            times = times if until > now else min(times + 1, 20)
            wait_s = min(BACKOFF_S * BACKOFF_FACTOR ** (times - 1), BACKOFF_S_MAX)
            self._failed[key] = times, now + wait_s
            while len(self._failed) > REMEMBERED_MAX:
                self._failed.popitem(last=False)

    def worked(self, pfn: Pfn) -> None:
        """Forget a replica's failures."""
        if not self._failed:
            return
        with self._lock:
            self._failed.pop(pfn, None)
            self._failed.pop(origin_of(pfn), None)


class OriginTurns:
    """Lets one origin block a part of the threads alone, so that others go on.

    A read that stalls holds its thread until its time-out. An origin may have half of the
    threads that the other origins leave, and one in any case: whoever comes next waits
    without a thread. One event loop's.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._busy: Counter[str] = Counter()
        self._waiting: deque[asyncio.Future[None]] = deque()

    @asynccontextmanager
    async def turn(self, origin: str) -> AsyncIterator[None]:
        """Wait for a turn of an origin, and hold it; this machine's disks need none."""
        if not origin:
            yield
            return
        while self._busy[origin] >= self._share(origin):
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            await waiter
        self._busy[origin] += 1
        try:
            yield
        finally:
            self._busy[origin] -= 1
            if not self._busy[origin]:
                del self._busy[origin]
            self._wake()

    def _share(self, origin: str) -> int:
        others = self._busy.total() - self._busy[origin]
        return max(1, (self._threads - others) // 2)

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, deque()
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)
