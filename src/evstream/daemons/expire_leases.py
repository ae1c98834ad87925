"""Take back the leases whose time is over."""

from __future__ import annotations

from collections.abc import Callable

from evstream.daemons.loop import repeat
from evstream.domain.names import TaskId
from evstream.domain.task import task_of
from evstream.ports import Clock, Ledger


async def expire_leases(
    ledger: Ledger, on_change: Callable[[TaskId], None], clock: Clock, every_s: float
) -> None:
    """Return expired ranges to the free list, and say which tasks that touches.

    Leases that ran out while nobody was there to renew them at get their time again.
    """
    resumed = False

    async def once() -> None:
        nonlocal resumed
        if not resumed:
            await ledger.resume_leases()
            resumed = True
        for lease in await ledger.expire_leases():
            on_change(task_of(lease.book))

    await repeat("expire_leases", once, clock, every_s)
