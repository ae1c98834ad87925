"""``evstream status``: how tasks are coming along."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated

from cyclopts import Parameter

from evstream.cli.printing import print_json, print_table
from evstream.cli.progress import ProgressDisplay
from evstream.cli.service import DEFAULT_DOOR, Door
from evstream.client import Service
from evstream.domain.scheduling import Scheduling
from evstream.domain.states import TaskState
from evstream.wire.messages import TaskView

WATCH_EVERY_S = 0.5
WHY_EVERY_S = 15.0


def status(
    task: Annotated[int | None, Parameter(help="Number of the task; default all.")] = None,
    *,
    watch: Annotated[
        bool, Parameter(negative="", help="Go on showing until the task has ended or paused.")
    ] = False,
    door: Door = DEFAULT_DOOR,
) -> None:
    """Show how one task or all tasks are coming along.

    For example:

        evstream status 1 --watch
    """

    async def work(service: Service) -> list[TaskView]:
        views = await service.tasks() if task is None else [await service.task(task)]
        if watch and views:
            views[-1] = await watch_task(service, views[-1].id)
        return views

    views = door.ask(work)
    if door.json:
        print_json(views if task is None else views[0])
        return
    chained = any(view.spec.takes for view in views)
    ranked = any(view.spec.scheduling != Scheduling() for view in views)
    several = len({view.submitter for view in views}) > 1
    rows = [
        (
            view.id,
            view.spec.name,
            view.state.value,
            f"{view.process.finished}/{view.process.entries}",
            f"{view.process.ranges_finished}/{view.process.ranges}",
            view.process.failed_attempts,
            view.process.fatal,
            view.workers,
            *([", ".join(str(t.task) for t in view.spec.takes)] if chained else []),
            *([view.spec.scheduling.queue, view.spec.scheduling.priority] if ranked else []),
            *([view.submitter or "-"] if several else []),
            view.reason,
        )
        for view in views
    ]
    columns = [
        "task",
        "name",
        "state",
        "events",
        "ranges",
        "failed",
        "set-aside",
        "workers",
        *(["takes"] if chained else []),
        *(["queue", "priority"] if ranked else []),
        *(["submitted-by"] if several else []),
        "reason",
    ]
    print_table([column.replace("-", " ") for column in columns], rows)


async def watch_task(service: Service, task: int) -> TaskView:
    """Show a task live, with why attempts fail, until it has ended or somebody has to look.

    Returns
    -------
    TaskView
        Its last state.
    """
    failed, looked = 0, -WHY_EVERY_S
    with ProgressDisplay() as display:
        while True:
            view = await service.task(task)
            display.show(view)
            if view.state.final or _stands(view):
                return view
            now = time.monotonic()
            if view.process.failed_attempts > failed and now - looked >= WHY_EVERY_S:
                failed, looked = view.process.failed_attempts, now
                last = (await service.failures(task))[-1]
                display.note(f"evstream: the last failure: {last.kind}: {last.error}")
            await asyncio.sleep(WATCH_EVERY_S)


def _stands(view: TaskView) -> bool:
    """Whether a task has paused by itself, or has done all it can before a parent goes on."""
    if not view.reason:
        return False
    books = [view.process] if view.merge is None else [view.process, view.merge]
    return view.state is TaskState.PAUSED or all(book.complete for book in books)
