"""Forget the Idempotency-Keys of tasks that ended, and of notes that were changed, long ago."""

from __future__ import annotations

from datetime import timedelta

from evstream.daemons.loop import in_batches, repeat
from evstream.ports import Catalogue, Clock, Meter, Whiteboard


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
        tasks = await in_batches(lambda some: catalogue.forget_request_ids(life, some))
        return tasks + await in_batches(lambda some: whiteboard.forget_change_ids(life, some))

    await repeat("forget_request_ids", once, clock, meter, every_s)
