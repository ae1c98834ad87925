"""Put the books of tasks that ended long ago into the archive."""

from __future__ import annotations

from evstream.daemons.loop import repeat
from evstream.head import Archiving
from evstream.ports import Clock, Meter


async def archive_tasks(archiving: Archiving, clock: Clock, meter: Meter, every_s: float) -> None:
    """Look for tasks that ended long enough ago, now and then."""
    await repeat("archive_tasks", archiving.archive_old, clock, meter, every_s)
