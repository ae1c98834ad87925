"""Move tasks on: to merging, and to their end with a receipt."""

from __future__ import annotations

import logging

from evstream.daemons.loop import repeat
from evstream.domain.errors import EvstreamError
from evstream.head import Finishing
from evstream.ports import Clock

RETRY_S = 1.0

log = logging.getLogger(__name__)


async def finish_tasks(finishing: Finishing, clock: Clock, every_s: float) -> None:
    """Advance tasks when they are nudged, after looking at all of them once.

    What a crash left half-way is found by that first look.
    """
    looked = False

    async def once() -> None:
        nonlocal looked
        if not looked:
            await finishing.nudge_all()
            looked = True
        for task in await finishing.wait():
            try:
                await finishing.advance(task)
            except EvstreamError as error:
                log.warning("finish_tasks: task %s: %s", task, error)
                finishing.nudge(task)
                await clock.sleep(RETRY_S)

    await repeat("finish_tasks", once, clock, every_s)
