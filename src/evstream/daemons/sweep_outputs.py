"""Remove what can never become part of a result from the output store."""

from __future__ import annotations

from evstream.daemons.loop import repeat
from evstream.head import Sweeping
from evstream.ports import Clock, Meter


async def sweep_outputs(sweeping: Sweeping, clock: Clock, meter: Meter, every_s: float) -> None:
    """Sweep now and then."""
    await repeat("sweep_outputs", sweeping.sweep, clock, meter, every_s)
