"""Forget the Idempotency-Keys of tasks that ended long ago."""

from __future__ import annotations

from datetime import timedelta

from evstream.daemons.loop import repeat
from evstream.ports import Catalogue, Clock, Meter

BATCH = 1_000
"""A transaction's worth: others get their turn between two."""


async def forget_request_ids(
    catalogue: Catalogue, life: timedelta, clock: Clock, meter: Meter, every_s: float
) -> None:
    """Forget them now and then; two that do it at once share what there is."""

    async def once() -> int:
        total = count = await catalogue.forget_request_ids(life, BATCH)
        while count == BATCH:
            count = await catalogue.forget_request_ids(life, BATCH)
            total += count
        return total

    await repeat("forget_request_ids", once, clock, meter, every_s)
