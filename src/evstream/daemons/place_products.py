"""Work out what edges should hold."""

from __future__ import annotations

from evstream.daemons.loop import repeat
from evstream.head.placing import Placing
from evstream.ports import Clock, Meter


async def place_products(placing: Placing, clock: Clock, meter: Meter, every_s: float) -> None:
    """Work it out now and then; several heads come to the same."""
    await repeat("place_products", placing.plan, clock, meter, every_s)
