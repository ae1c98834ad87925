"""Take back the leases whose time is over."""

from __future__ import annotations

import math
from collections.abc import Callable

from evstream.daemons.loop import repeat
from evstream.domain.names import TaskId
from evstream.domain.task import task_of
from evstream.ports import Clock, Ledger

PAUSE_S_MIN = 2.0
"""A round that comes so much later than it should: the service was paused or held up."""


async def expire_leases(
    ledger: Ledger, on_change: Callable[[TaskId], None], clock: Clock, every_s: float
) -> None:
    """Return expired ranges to the free list, and say which tasks that touches.

    Leases that ran out while nobody could be renewed with get their time again: before a
    start, and while the machine was paused.
    """
    last = -math.inf

    async def once() -> None:
        nonlocal last
        now = clock.monotonic()
        if now - last > every_s + PAUSE_S_MIN:
            await ledger.resume_leases()
        last = now
        for lease in await ledger.expire_leases():
            on_change(task_of(lease.book))

    await repeat("expire_leases", once, clock, every_s)
