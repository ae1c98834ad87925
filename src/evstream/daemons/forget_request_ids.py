"""Forget the Idempotency-Keys of tasks that ended, and of notes that were changed, long ago."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

from evstream.daemons.loop import repeat
from evstream.ports import Catalogue, Clock, Meter, Whiteboard

BATCH = 1_000
"""A transaction's worth: others get their turn between two."""


async def forget_request_ids(
    catalogue: Catalogue,
    whiteboard: Whiteboard,
    life: timedelta,
    clock: Clock,
    meter: Meter,
    every_s: float,
) -> None:
    """Forget them now and then; two that do it at once share what there is."""

    async def once() -> int:
        tasks = await _all(lambda: catalogue.forget_request_ids(life, BATCH))
        return tasks + await _all(lambda: whiteboard.forget_change_ids(life, BATCH))

    await repeat("forget_request_ids", once, clock, meter, every_s)


async def _all(forget_some: Callable[[], Awaitable[int]]) -> int:
    total = count = await forget_some()
    while count == BATCH:
        count = await forget_some()
        total += count
    return total
