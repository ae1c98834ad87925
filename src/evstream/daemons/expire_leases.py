"""Take back the leases whose time is over."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime, timedelta

from evstream.daemons.loop import repeat
from evstream.domain.names import TaskId
from evstream.domain.task import task_of
from evstream.ports import Clock, Ledger, Meter

PAUSE_S_MIN = 2.0
"""A round that comes so much later than it should: the service was paused or held up."""


async def expire_leases(
    ledger: Ledger,
    on_change: Callable[[TaskId], None],
    clock: Clock,
    meter: Meter,
    every_s: float,
) -> None:
    """Return expired ranges to the free list, and say which tasks that touches.

    Leases that ran out while nobody could be renewed with get their time again: before a
    start, while the machine was paused or asleep, and while the ledger's database was away.
    They do not where another head was there all the time.
    """
    last: tuple[float, datetime] | None = None

    async def once() -> int:
        nonlocal last
        now = clock.monotonic(), clock.now()
        # Some systems' monotonic clock stands still while the machine sleeps; leases do not.
        passed_s = max(now[0] - last[0], (now[1] - last[1]).total_seconds()) if last else math.inf
        if passed_s > every_s + PAUSE_S_MIN:
            await ledger.resume_leases(timedelta(seconds=every_s + PAUSE_S_MIN))
        expired = await ledger.expire_leases()
        # Not before: where that failed, renewals did too.
        last = now
        for lease in expired:
            on_change(task_of(lease.book))
        return len(expired)

    await repeat("expire_leases", once, clock, meter, every_s)
