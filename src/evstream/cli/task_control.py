"""``evstream task pause`` and others: changes of a task's course."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from evstream.cli.printing import print_json
from evstream.cli.progress import describe
from evstream.cli.service import DEFAULT_DOOR, Door
from evstream.client import Service
from evstream.domain.words import counted
from evstream.wire.messages import Archived, TaskView

Number = Annotated[int, Parameter(help="Number of the task.")]
File = Annotated[str, Parameter(help="LFN of an input file of the task, or its path.")]


def pause(task: Number, *, door: Door = DEFAULT_DOOR) -> None:
    """Hand out nothing more of a task; what runs is finished and accepted.

    For example:

        evstream task pause 1
    """
    _tell(door.ask(lambda service: service.pause(task)), door)


def resume(task: Number, *, door: Door = DEFAULT_DOOR) -> None:
    """Let a paused task go on.

    For example:

        evstream task resume 1
    """
    _tell(door.ask(lambda service: service.resume(task)), door)


def schedule(
    task: Number,
    *,
    queue: Annotated[str | None, Parameter(help="Queue whose share it works on.")] = None,
    priority: Annotated[
        int | None, Parameter(help="Priority within its queue; higher ones come first.")
    ] = None,
    door: Door = DEFAULT_DOOR,
) -> None:
    """Give a task another place among the others; what is leased stays so.

    For example:

        evstream task schedule 1 --priority 10
    """
    view = door.ask(lambda service: service.schedule(task, queue=queue, priority=priority))
    _tell(view, door)
    if not door.json:
        print(f"queue {view.spec.scheduling.queue}, priority {view.spec.scheduling.priority}")


def archive(
    *tasks: Annotated[int, Parameter(help="Numbers of the tasks.")], door: Door = DEFAULT_DOOR
) -> None:
    """Put the ranges and attempts of ended tasks into Parquet files, out of the database.

    What a task has made, its failures and its receipt are there as before; it cannot be
    retried, reprocessed or withdrawn any more.

    For example:

        evstream task archive 1 2 3
    """

    async def work(service: Service) -> list[Archived]:
        return [await service.archive(task) for task in tasks]

    archived = door.ask(work)
    if door.json:
        print_json(archived)
        return
    for one in archived:
        print(f"task {one.task}: {counted(one.rows, 'row has', 'rows have')} left the database")


def retry(
    task: Number,
    *,
    failed: Annotated[
        bool,
        Parameter(negative="", help="Leave cancelled what somebody cancelled."),
    ] = False,
    door: Door = DEFAULT_DOOR,
) -> None:
    """Send out again what was set aside or cancelled; an ended task runs again.

    For example:

        evstream task retry 1 --failed
    """
    view = door.ask(lambda service: service.retry(task, failed_only=failed))
    _tell(view, door, redone=True)


def reprocess(task: Number, file: File, *, door: Door = DEFAULT_DOOR) -> None:
    """Do a file again from its first event; what was made from it counts no more.

    For example:

        evstream task reprocess 1 a.root
    """
    view = door.ask(lambda service: service.reprocess(task, _named(file)))
    _tell(view, door, redone=True)


def withdraw(task: Number, file: File, *, door: Door = DEFAULT_DOOR) -> None:
    """Take a bad file out of a task, with everything made from it.

    For example:

        evstream task withdraw 1 a.root
    """
    view = door.ask(lambda service: service.withdraw(task, _named(file)))
    _tell(view, door, redone=True)


def _named(file: str) -> str:
    """Return a path as the service knows it; an LFN or a URL as it is."""
    path = Path(file)
    return str(path.resolve()) if "://" not in file and path.exists() else file


def _tell(view: TaskView, door: Door, *, redone: bool = False) -> None:
    if door.json:
        print_json(view)
        return
    taken = view.taken_back
    if redone and taken is not None:
        if taken.withdrawn:
            print(counted(taken.withdrawn, "event is withdrawn", "events are withdrawn"))
        if taken.redone:
            print(counted(taken.redone, "event goes out again", "events go out again"))
        if taken.merged_with:
            again = ("more event goes out again", "more events go out again")
            print(f"{counted(taken.merged_with, *again)}, since merged with these")
    print(describe(view))
