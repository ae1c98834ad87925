"""Forget products past their life, of removed edges, and what nobody wants any more."""

from __future__ import annotations

from evstream.daemons.loop import repeat
from evstream.ports import Clock, Meter, ProductCatalogue

BATCH = 1_000
"""A transaction's worth: others get their turn between two."""


async def expire_products(
    products: ProductCatalogue, clock: Clock, meter: Meter, every_s: float
) -> None:
    """Forget them now and then; two that do it at once share what there is."""

    async def once() -> int:
        total = count = await products.expire_products(BATCH)
        while count == BATCH:
            count = await products.expire_products(BATCH)
            total += count
        return total

    await repeat("expire_products", once, clock, meter, every_s)
