"""Move tasks on: to merging, and to their end with a receipt."""

from __future__ import annotations

from functools import partial

from evstream.daemons.loop import run_once
from evstream.domain.errors import NotFoundError
from evstream.domain.names import TaskId
from evstream.head import Finishing
from evstream.ports import Clock, Meter

NAME = "finish_tasks"
REST = 9
"""So many times as long as it works, the loop waits: looking takes a tenth of a head."""
REST_S_MAX = 1.0


async def finish_tasks(finishing: Finishing, clock: Clock, meter: Meter) -> None:
    """Advance tasks when they are nudged, after looking at all of them once.

    What a crash left half-way is found by that first look.
    """

    async def look() -> int:
        await finishing.nudge_all()
        return 0

    async def advance(task: TaskId) -> int:
        try:
            await finishing.advance(task)
        except NotFoundError:
            return 0  # A report named a task that there never was.
        return 1

    while not await run_once(NAME, look, clock, meter):
        continue
    while True:
        nudged = await finishing.wait()
        began = clock.monotonic()
        for task in nudged:
            # One task must not hold up the others.
            if not await run_once(NAME, partial(advance, task), clock, meter, f"task {task}"):
                finishing.nudge(task)
        # What is reported meanwhile is looked at once, however many reports it were.
        await clock.sleep(min(REST * (clock.monotonic() - began), REST_S_MAX))
