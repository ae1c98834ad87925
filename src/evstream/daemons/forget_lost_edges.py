"""Take back at once what edges hold whose beats have stopped."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime

from evstream.daemons.expire_leases import PAUSE_S_MIN
from evstream.daemons.loop import repeat
from evstream.domain.names import TaskId
from evstream.domain.preparation import edge_worker
from evstream.domain.task import task_of
from evstream.ports import Clock, Ledger, Meter, ProductCatalogue


async def forget_lost_edges(
    products: ProductCatalogue,
    ledger: Ledger,
    on_change: Callable[[TaskId], None],
    clock: Clock,
    meter: Meter,
    every_s: float,
) -> None:
    """Give others what lost edges were to prepare, and say which tasks that touches.

    An edge is lost that was heard at the last look and has gone silent since. Where nobody
    could be heard in between (before a start, while the machine slept or the database was
    away) silence says nothing: leases run out in their time. Of two heads that see it, one
    finds leases.
    """
    heard: set[str] = set()
    last: tuple[float, datetime] | None = None

    async def once() -> int:
        nonlocal heard, last
        now = clock.monotonic(), clock.now()
        passed_s = max(now[0] - last[0], (now[1] - last[1]).total_seconds()) if last else math.inf
        known = heard if passed_s <= every_s + PAUSE_S_MIN else set()
        moment = await products.now()
        alive = {edge.name for edge in await products.edges() if edge.beats(moment)}
        taken = [
            lease
            for name in known - alive
            for lease in await ledger.forget_worker(edge_worker(name))
        ]
        heard, last = alive, now
        for lease in taken:
            on_change(task_of(lease.book))
        return len(taken)

    await repeat("forget_lost_edges", once, clock, meter, every_s)
