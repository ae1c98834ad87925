"""``evstream prepare`` and ``evstream request``: have products made ahead."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from evstream.cli.printing import print_json, print_table
from evstream.cli.service import DEFAULT_DOOR, Door
from evstream.client import Service
from evstream.domain.errors import DataError, RequestError
from evstream.domain.granularity import Granularity
from evstream.domain.preparation import LIFE_S_DEFAULT, Precaching
from evstream.domain.scheduling import DEFAULT_QUEUE, Scheduling
from evstream.domain.states import TaskState
from evstream.wire.request_messages import NewRequest, RequestView

LINE_EVERY_S = 5.0

Number = Annotated[int, Parameter(help="Number of the request.")]


@Parameter(name="*")
@dataclass(frozen=True)
class Wanted:
    """Flags that say what is to be prepared."""

    task: Annotated[int | None, Parameter(help="Prepare the ranges of this task.")] = None
    tree: Annotated[str, Parameter(help="Tree, where there are several.")] = ""
    branches: Annotated[
        tuple[str, ...],
        Parameter(consume_multiple=True, negative="", help="Globs of branches; default all."),
    ] = ()
    files: Annotated[
        tuple[str, ...],
        Parameter(consume_multiple=True, negative="", help="Files, or globs; default all."),
    ] = ()
    events: Annotated[int | None, Parameter(help="Only the first so many events.")] = None
    events_per_range: Annotated[
        int | None, Parameter(help="Events per product; 10 000 if nothing else is said.")
    ] = None
    bytes_per_range: Annotated[
        int | None, Parameter(help="Instead: bytes of the source per product, about.")
    ] = None
    site: Annotated[str, Parameter(help="Only at edges of this site.")] = ""
    queue: Annotated[str, Parameter(help="Queue; queues share the edges.")] = DEFAULT_QUEUE
    priority: Annotated[int, Parameter(help="Within its queue, higher goes first.")] = 0
    life_s: Annotated[float, Parameter(help="How long each product is kept at least.")] = (
        LIFE_S_DEFAULT
    )
    user: Annotated[str, Parameter(help="For whom; users share makers fairly.")] = ""
    precache: Annotated[
        Precaching, Parameter(help="Copy files whole: first, or only that and no products.")
    ] = "no"

    def request(self, dataset: str) -> NewRequest:
        """Return the request that the flags make."""
        if self.events is not None and self.events < 1:
            raise RequestError(f"{self.events} events cannot be prepared", hint="give 1 or more")
        return NewRequest(
            dataset=dataset,
            task=self.task,
            tree=self.tree,
            branches=list(self.branches),
            granularity=Granularity(self.events_per_range, self.bytes_per_range),
            files=list(self.files),
            events_max=self.events,
            site=self.site,
            scheduling=Scheduling(self.queue, self.priority),
            life_s=self.life_s,
            user=self.user,
            precache=self.precache,
        )


EVERYTHING = Wanted()


def prepare(
    dataset: Annotated[str, Parameter(help="Dataset; none where --task is given.")] = "",
    *,
    wanted: Wanted = EVERYTHING,
    wait: Annotated[bool, Parameter(negative="", help="Wait until it has ended.")] = False,
    door: Door = DEFAULT_DOOR,
) -> None:
    """Have edges make products of a dataset, or of a task's ranges, before they are asked for.

    For example:

        evstream prepare user:zmumu --branches "Muon_*" --events 100000 --wait
    """
    new = wanted.request(dataset)

    async def work(service: Service) -> RequestView:
        view = await service.requests.submit(new)
        return await _until_ended(service, view) if wait else view

    _show(door.ask(work), door)


def list_all(
    *,
    limit: Annotated[int, Parameter(help="The last so many.")] = 100,
    door: Door = DEFAULT_DOOR,
) -> None:
    """List requests, the newest first.

    For example:

        evstream request list
    """
    if not 1 <= limit <= 1000:
        raise RequestError(f"{limit} requests cannot be listed", hint="give a number up to 1000")
    page = door.ask(lambda service: service.requests.page(limit))
    if door.json:
        print_json(page.items)
        return
    rows = [
        (
            view.id,
            view.name,
            view.state.value,
            f"{view.progress.finished}/{view.progress.entries}",
            f"{view.progress.ranges_finished}/{view.progress.ranges}",
            view.progress.failed_attempts,
            view.edges,
        )
        for view in page.items
    ]
    print_table(["request", "name", "state", "events", "products", "failed", "edges"], rows)


def show(
    request: Number,
    *,
    wait: Annotated[bool, Parameter(negative="", help="Wait until it has ended.")] = False,
    door: Door = DEFAULT_DOOR,
) -> None:
    """Show how a request is coming along.

    For example:

        evstream request show 3 --wait
    """

    async def work(service: Service) -> RequestView:
        view = await service.requests.request(request)
        return await _until_ended(service, view) if wait else view

    _show(door.ask(work), door)


def cancel(request: Number, *, door: Door = DEFAULT_DOOR) -> None:
    """Have no more made; what was made is kept for its time.

    For example:

        evstream request cancel 3
    """
    _show(door.ask(lambda service: service.requests.cancel(request)), door, ended_well=True)


async def _until_ended(service: Service, view: RequestView) -> RequestView:
    told, last = "", 0.0
    while not view.state.final:
        line = _line(view)
        if line != told and time.monotonic() - last >= LINE_EVERY_S:
            print(line, file=sys.stderr, flush=True)
            told, last = line, time.monotonic()
        view = await service.requests.wait(view.id, wait_s=LINE_EVERY_S)
    return view


def _line(view: RequestView) -> str:
    p = view.progress
    parts = [
        f"request {view.id} {view.state.value}",
        f"{p.finished}/{p.entries} events",
        f"{p.ranges_finished}/{p.ranges} {'files' if view.precache == 'only' else 'products'}",
    ]
    if view.edges:
        parts.append(f"{view.edges} edges at work")
    if p.fatal:
        parts.append(f"{p.fatal} events set aside")
    return ", ".join(parts) + (f" ({view.reason})" if view.reason else "")


def _show(view: RequestView, door: Door, *, ended_well: bool = False) -> None:
    if door.json:
        print_json(view)
    else:
        print(_line(view))
    if view.state is TaskState.FAILED or (
        view.state in (TaskState.FINISHED, TaskState.ABORTED) and not ended_well
    ):
        raise DataError(
            f"request {view.id} is {view.state.value}: {view.reason or 'not all of it is ready'}",
            hint=f"see 'evstream task set-aside {view.id}'",
        )
