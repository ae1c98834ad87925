"""Forget products past their life, of removed edges, and what nobody wants any more."""

from __future__ import annotations

from evstream.daemons.loop import in_batches, repeat
from evstream.ports import Clock, Meter, ProductCatalogue


async def expire_products(
    products: ProductCatalogue, clock: Clock, meter: Meter, every_s: float
) -> None:
    """Forget them now and then; two that do it at once share what there is."""

    async def once() -> int:
        return await in_batches(products.expire_products)

    await repeat("expire_products", once, clock, meter, every_s)
