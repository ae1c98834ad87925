"""Requests to prepare: accepted, watched, waited for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from evstream.domain.dataset import Dataset
from evstream.domain.errors import ConflictError, NotFoundError, RequestError
from evstream.domain.granularity import Granularity, choose_grid
from evstream.domain.intervals import Interval
from evstream.domain.ledger import Progress
from evstream.domain.names import DatasetName, Lfn, TaskId
from evstream.domain.payload import Payload
from evstream.domain.preparation import Preparation, first_events, whole_ranges
from evstream.domain.splitting import EVENTS_PER_RANGE_MAX, plan_chunks
from evstream.domain.states import TaskState
from evstream.domain.task import Limits, Task, TaskSpec, process_book
from evstream.head.planning import TaskPlanner, wanted_of
from evstream.head.slices import choose_branches, choose_tree
from evstream.ports import Catalogue, Clock, Formats, Ledger, ProductCatalogue
from evstream.wire import request_messages as m
from evstream.wire.pages import NumberedPage, NumbersQuery

LOOK_EVERY_S = 0.5
"""Whoever waits for a request: any head's edges may have worked on it."""
_NO_PAYLOAD = Payload(command="")


class Requests:
    """Accepts requests and answers for them.

    A request is a task on whose ranges no payload runs: its book is worked off by edges,
    and everything that holds for tasks holds for it.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        ledger: Ledger,
        products: ProductCatalogue,
        formats: Formats,
        clock: Clock,
    ) -> None:
        self._catalogue = catalogue
        self._products = products
        self._ledger = ledger
        self._formats = formats
        self._planner = TaskPlanner(catalogue, ledger, formats)
        self._clock = clock

    async def submit(self, new: m.NewRequest, request_id: str, submitter: str = "") -> Task:
        """Check what is to be prepared, split it and open its book.

        Raises
        ------
        NotFoundError, RequestError
            Something in it cannot work; it names what, and what would.
        """
        spec, dataset = await self._spec(new)
        if new.precache == "only":
            spec = _of_whole_files(spec, dataset, new)
        spec.check()
        wanted = _asked(dataset, spec, new)
        if new.events_max is not None:
            wanted = [
                (lfn, _to_grid(dataset, spec, lfn, intervals))
                for lfn, intervals in first_events(wanted, new.events_max)
            ]
        chunks = plan_chunks(wanted, spec.events_per_range)
        rules = spec.range_rules(chunks)
        task = await self._catalogue.add_task(spec, request_id, rules, chunks, submitter)
        if task.spec != spec:
            raise ConflictError(
                f"this Idempotency-Key has made task {task.id}, which is another one",
                hint="send a new key with a new request",
                task=task.id,
            )
        return task

    async def _spec(self, new: m.NewRequest) -> tuple[TaskSpec, Dataset]:
        preparation = Preparation(new.task, new.site, new.life_s, new.user, new.precache)
        # A product that cannot be made as it was asked for is told, not cut into others.
        limits = Limits(bisections_max=0)
        if new.task is not None:
            return await self._spec_of_task(new, preparation, limits)
        if not new.dataset:
            raise RequestError("no input", hint="give a dataset, or a task", field="dataset")
        new.granularity.check()
        if new.granularity.seconds is not None:
            raise RequestError(
                "nobody knows how long products will be worked on",
                hint="give events or bytes per product",
                field="granularity.seconds",
            )
        dataset = await self._catalogue.dataset(DatasetName(new.dataset))
        tree = choose_tree(dataset, new.tree)
        branches = None
        for file in dataset.files:
            chosen = await choose_branches(self._catalogue, self._formats, file, tree, new.branches)
            branches = chosen if file is dataset.files[0] else branches
        extents = await self._planner.extents(new.granularity, dataset, tree)
        spec = TaskSpec(
            name=new.name or f"prepare {dataset.name}",
            dataset=dataset.name,
            tree=tree,
            payload=_NO_PAYLOAD,
            branches=branches,
            granularity=new.granularity,
            events_per_range=choose_grid(new.granularity, extents).events_per_range,
            outputs=(),
            limits=limits,
            scheduling=new.scheduling,
            preparation=preparation,
        )
        return spec, dataset

    async def _spec_of_task(
        self, new: m.NewRequest, preparation: Preparation, limits: Limits
    ) -> tuple[TaskSpec, Dataset]:
        given = [name for name in ("dataset", "tree", "branches") if getattr(new, name)]
        if given or new.granularity != type(new.granularity)():
            raise RequestError(
                f"the request is for task {new.task}, and gives what the task has",
                hint="leave out dataset, tree, branches and granularity",
                field=given[0] if given else "granularity",
            )
        known = (await self._catalogue.task(TaskId(new.task or 0))).spec
        if known.preparation is not None or known.takes:
            what = "a request itself" if known.preparation else "fed by others as they go"
            raise RequestError(
                f"task {new.task} is {what}: there is nothing to prepare", field="task"
            )
        if known.granularity.seconds is not None:
            raise RequestError(
                f"ranges of task {new.task} go by time: nobody knows them before they are claimed",
                hint="prepare the dataset, at a granularity of your own",
                field="task",
            )
        spec = TaskSpec(
            name=new.name or f"prepare task {new.task}",
            dataset=known.dataset,
            tree=known.tree,
            payload=_NO_PAYLOAD,
            branches=known.branches,
            granularity=known.granularity,
            events_per_range=known.events_per_range,
            outputs=(),
            limits=limits,
            scheduling=new.scheduling,
            preparation=preparation,
        )
        return spec, await self._catalogue.dataset(known.dataset)

    async def request(self, number: TaskId) -> Task:
        """Return a request.

        Raises
        ------
        NotFoundError
            There is none, or that is a task.
        """
        try:
            task = await self._catalogue.task(number)
        except NotFoundError as error:
            raise NotFoundError(
                f"there is no request {number}", hint="see 'evstream request list'", task=number
            ) from error
        if task.spec.preparation is None:
            raise NotFoundError(
                f"{number} is a task, not a request", hint=f"evstream task show {number}"
            )
        return task

    async def page(self, query: NumbersQuery) -> NumberedPage[m.RequestView]:
        """Return requests, the newest first; a page begins behind the last one's number."""
        found = [
            task
            for task in reversed(await self._catalogue.tasks())
            if task.spec.preparation is not None and (not query.after or task.id < query.after)
        ]
        views = [await self.view(task) for task in found[: query.limit]]
        return NumberedPage(views, views[-1].id if len(found) > len(views) else None)

    async def view(self, task: Task) -> m.RequestView:
        """Return a request with its progress."""
        spec, asked = task.spec, task.spec.preparation
        assert asked is not None
        book = process_book(task.id)
        progress = await self._ledger.progress(book)
        leases = [] if task.state.final else await self._ledger.leases(book)
        waits = task.state is TaskState.RUNNING and not leases
        return m.RequestView(
            id=task.id,
            request_id=task.request_id,
            name=spec.name,
            dataset=task.dataset,
            tree=spec.tree,
            branches=None if spec.branches is None else list(spec.branches),
            events_per_product=spec.events_per_range,
            scheduling=spec.scheduling,
            site=asked.site,
            life_s=asked.life_s,
            user=asked.user,
            precache=asked.precache,
            task=asked.task,
            state=task.state,
            created=task.created,
            progress=progress,
            ready=_ready(progress),
            ended=task.ended,
            reason=task.reason or (await self._why_it_waits(asked.site) if waits else ""),
            edges=len({row.worker for row in leases}),
        )

    async def _why_it_waits(self, site: str) -> str:
        """Say that nobody is there to work on it, if that is so."""
        now = await self._catalogue.now()
        there = [one for one in await self._products.edges() if one.beats(now) and one.takes_work]
        if any(site in ("", one.site) for one in there):
            return ""
        sites = ", ".join(sorted({one.site for one in there}))
        where = f" of the site {site}" if site else ""
        return f"it waits: no edge{where} takes work" + (f"; there are {sites}" if sites else "")

    async def wait(self, number: TaskId, seconds: float, ready: float) -> m.RequestView:
        """Return a request once enough of it is ready, it has ended, or the time is over.

        Parameters
        ----------
        ready : float
            The part of its events that is enough.
        """
        until = self._clock.monotonic() + seconds
        while True:
            task = await self.request(number)
            enough = _ready(await self._ledger.progress(process_book(number))) >= ready
            left = until - self._clock.monotonic()
            if task.state.final or (enough and ready < 1.0) or left <= 0:
                return await self.view(task)
            await self._clock.sleep(min(left, LOOK_EVERY_S))

    async def change(self, number: TaskId, known: m.RequestView, seconds: float) -> m.RequestView:
        """Return a request once it differs from what is known of it, or the time is over."""
        until = self._clock.monotonic() + seconds
        while True:
            view = await self.view(await self.request(number))
            left = until - self._clock.monotonic()
            if view != known or left <= 0:
                return view
            await self._clock.sleep(min(left, LOOK_EVERY_S))


def _ready(progress: Progress) -> float:
    return progress.finished / progress.entries if progress.entries else 1.0


def _of_whole_files(spec: TaskSpec, dataset: Dataset, new: m.NewRequest) -> TaskSpec:
    """Return a request whose products are copies of files: each is one range.

    Raises
    ------
    RequestError
        It says how files are to be cut.
    """
    if new.branches or new.granularity != Granularity():
        raise RequestError(
            "whole files have all their branches and events",
            hint="leave out branches and granularity, or give precache 'first'",
            field="branches" if new.branches else "granularity",
        )
    longest = max((file.trees.get(spec.tree, 0) for file in dataset.files), default=0)
    step = max(1, min(longest, EVENTS_PER_RANGE_MAX))
    return replace(spec, branches=None, granularity=Granularity(), events_per_range=step)


def _wanted(dataset: Dataset, spec: TaskSpec) -> Iterable[tuple[Lfn, list[Interval]]]:
    """Yield what is wanted of each file; of one that is copied, all of it if it is anything."""
    is_whole = spec.preparation is not None and spec.preparation.precache == "only"
    entries = {file.lfn: file.trees.get(spec.tree, 0) for file in dataset.files}
    for lfn, intervals in wanted_of(dataset, spec.tree):
        wanted = list(intervals)
        yield lfn, [(0, entries[lfn])] if is_whole and wanted else wanted


def _asked(dataset: Dataset, spec: TaskSpec, new: m.NewRequest) -> list[tuple[Lfn, list[Interval]]]:
    """Return what a request asks of each file, in whole ranges.

    Raises
    ------
    RequestError
        It names a file that is not there.
    """
    lfns = {file.lfn for file in dataset.files}
    for name in new.files:
        if not any(fnmatchcase(lfn, name) for lfn in lfns):
            raise _no_file(dataset, name, "files")
    for name in new.entries:
        if name not in lfns:
            raise _no_file(dataset, name, "entries")
    return [
        (lfn, _in_ranges(wanted, new.entries.get(lfn), spec.events_per_range))
        for lfn, wanted in _wanted(dataset, spec)
        if not new.files or any(fnmatchcase(lfn, name) for name in new.files)
    ]


def _to_grid(
    dataset: Dataset, spec: TaskSpec, lfn: Lfn, intervals: Sequence[Interval]
) -> list[Interval]:
    wanted = next(parts for name, parts in _wanted(dataset, spec) if name == lfn)
    return _in_ranges(wanted, intervals, spec.events_per_range)


def _in_ranges(
    wanted: Iterable[Interval], asked: Sequence[Interval] | None, step: int
) -> list[Interval]:
    if asked is None:
        return list(wanted)
    return [part for each in wanted for part in whole_ranges(each, asked, step)]


def _no_file(dataset: Dataset, name: str, field: str) -> RequestError:
    return RequestError(
        f"{dataset.name} has no file {name!r}",
        hint=f"see 'evstream dataset show {dataset.name}'",
        field=field,
    )
