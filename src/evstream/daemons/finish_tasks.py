"""Move tasks on: to merging, and to their end with a receipt."""

from __future__ import annotations

from evstream.daemons.loop import log_error, repeat
from evstream.domain.errors import NotFoundError
from evstream.head import Finishing
from evstream.ports import Clock

RETRY_S = 1.0


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
            except NotFoundError:
                continue  # A report named a task that there never was.
            except Exception as error:  # noqa: BLE001 - one task must not hold up the others
                log_error(f"finish_tasks: task {task}", error)
                finishing.nudge(task)
                await clock.sleep(RETRY_S)

    await repeat("finish_tasks", once, clock, every_s)
