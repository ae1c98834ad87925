"""Claims: which work a pilot gets, and all that it needs to do it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from evstream.domain.dataset import SourceFile
from evstream.domain.descriptor import Descriptor, slice_of
from evstream.domain.errors import RequestError
from evstream.domain.granularity import cells_per_range
from evstream.domain.intervals import Interval
from evstream.domain.lanes import Asker
from evstream.domain.ledger import NUMBER_MAX, LeasedInterval, Within
from evstream.domain.names import LeaseId, TaskId, WorkerId
from evstream.domain.outputs import LOG_STREAM, OutputName
from evstream.domain.splitting import Chunk, in_runs, units_of
from evstream.domain.states import TaskState
from evstream.domain.streams import OutputStream
from evstream.domain.task import (
    Task,
    is_merge,
    merge_book,
    process_book,
    task_of,
)
from evstream.head.holdings import Holdings
from evstream.head.merging import Merging
from evstream.head.plans import Planner
from evstream.head.poisoned import Poisoned
from evstream.head.scheduler import Scheduler
from evstream.head.secondary import SecondaryPlans
from evstream.head.task_files import TaskFiles
from evstream.ports import ActiveTasks, Catalogue, Ledger, ProductCatalogue
from evstream.wire import messages as m
from evstream.wire import work_messages as w
from evstream.wire.range_id import range_id

POLL_S = 0.5
SHARED_BYTES = 1 << 20
"""Units share a product of about this size at most, by the file's bytes per entry."""

_Offer = tuple[list[int], int, Within | None]
"""Books that are asked together, for how many of the ledger's units, within which chunks."""


@dataclass(frozen=True, slots=True)
class _Leased:
    """What a claim got, and of which tasks."""

    rows: list[LeasedInterval]
    by_id: dict[TaskId, Task]
    running: list[TaskId]
    cells: dict[TaskId, int]


class Claims:
    """Leases work and renews leases."""

    def __init__(
        self,
        catalogue: Catalogue,
        ledger: Ledger,
        planner: Planner,
        merging: Merging,
        scheduler: Scheduler,
        products: ProductCatalogue,
        poisoned: Poisoned,
    ) -> None:
        self._catalogue = catalogue
        self._poisoned = poisoned
        self._ledger = ledger
        self._planner = planner
        self._merging = merging
        self._scheduler = scheduler
        self._secondary = SecondaryPlans(catalogue, planner)
        self._files = TaskFiles(catalogue, ledger)
        self._holdings = Holdings(ledger, products, self._files)
        self._active: ActiveTasks | None = None

    async def claim(self, request: w.ClaimRequest, lease: LeaseId) -> w.ClaimAnswer:
        """Lease units of work; merges come first, since they end tasks.

        Raises
        ------
        RequestError, NotFoundError
            Work near an edge is asked for, and none is named; or there is no such edge, or task.
        ConflictError
            All that this worker computes fails, and others succeed.
        """
        self._poisoned.check(WorkerId(request.worker))
        if request.near_only and request.near is None:
            raise RequestError("near_only is set, and no edge is named", hint="name it as near")
        active, remembered = self._active, True
        if active is None or not active.is_current():
            active, remembered = await self._look(), False
        leased = await self._lease(request, lease, active.tasks)
        if remembered and not (leased.rows and active.is_current()):
            # Whether another head has changed a task meanwhile, is known by now.
            before, active = active, await self._look()
            if _states(active) != _states(before):
                if leased.rows:
                    await self._ledger.release_lease(lease, WorkerId(request.worker))
                leased = await self._lease(request, lease, active.tasks)
        rows, by_id, running, cells = leased.rows, leased.by_id, leased.running, leased.cells
        if request.task is not None and request.task not in by_id:
            # It has ended, or is none at all: for that nobody should wait.
            await self._catalogue.task(TaskId(request.task))
        self._scheduler.note(rows)
        await self._planner.look()
        if self._planner.names_edges and rows:
            # They are told, so that the last units of a task do not wait behind others'.
            await self._scheduler.look([by_id[task] for task in running])
        units: list[w.RangeUnit | w.MergeUnit] = []
        for row in rows:
            # When it was leased, by the ledger's own clock.
            now = row.expires - row.duration
            # A repeated claim may find leases of a task that has ended since.
            if (task := by_id.get(task_of(row.book))) is not None:
                units += await self._units(task, row, cells.get(task.id, 1), request, now)
        return w.ClaimAnswer(
            lease=lease,
            lease_s=request.lease_s,
            units=units,
            active_tasks=len(by_id),
            poll_s=POLL_S,
        )

    async def _look(self) -> ActiveTasks:
        """Read which tasks are active, and remember them."""
        self._active = await self._catalogue.active_tasks()
        self._forget_ended({task.id for task in self._active.tasks})
        return self._active

    async def _lease(
        self, request: w.ClaimRequest, lease: LeaseId, active: Sequence[Task]
    ) -> _Leased:
        """Lease ranges of the books of some tasks."""
        # On requests only edges work.
        asked = [
            task
            for task in active
            if task.spec.preparation is None and request.task in (None, task.id)
        ]
        by_id = {task.id: task for task in await self._scheduler.in_turn(asked)}
        running = [t.id for t in by_id.values() if t.state is TaskState.RUNNING]
        cells = {task: await self._cells(by_id[task]) for task in running if by_id[task].spec.spans}
        rows: list[LeasedInterval] = []
        offers = await self._offers(request, by_id, running, cells)
        for books, wanted, within in await self._by_place(request, by_id, running, offers):
            if books and not rows:
                rows = await self._ledger.claim_ranges(
                    lease,
                    WorkerId(request.worker),
                    wanted,
                    timedelta(seconds=request.lease_s),
                    books,
                    within,
                )
        return _Leased(rows, by_id, running, cells)

    async def _offers(
        self,
        request: w.ClaimRequest,
        by_id: Mapping[TaskId, Task],
        running: Sequence[TaskId],
        cells: Mapping[TaskId, int],
    ) -> list[tuple[list[int], int]]:
        """Return books that are asked together, and for how many of the ledger's units.

        Merges come first, since they end tasks; then tasks in their turn.
        """
        merges = [
            merge_book(t.id)
            for t in by_id.values()
            if t.spec.merges and t.state is not TaskState.PAUSED
        ]
        single = [task for task in running if task not in cells]
        wanted = await self._scheduler.units(
            WorkerId(request.worker), request.units, request.lease_s, [by_id[t] for t in single]
        )
        offers = [(merges, wanted)]
        for task in running:
            if task in cells:
                # A unit of such a task is several of the ledger's, so it is asked apart.
                offers += [([process_book(task)], request.units * cells[task]), ([], wanted)]
            else:
                offers[-1][0].append(process_book(task))
        return offers

    async def _by_place(
        self,
        request: w.ClaimRequest,
        by_id: Mapping[TaskId, Task],
        running: Sequence[TaskId],
        offers: Sequence[tuple[list[int], int]],
    ) -> list[_Offer]:
        """Return offers of what an edge holds before all others, or instead of them.

        Merges are offered with both: they read outputs, which no edge holds.
        """
        anywhere: list[_Offer] = [(*offer, None) for offer in offers]
        if request.near is None:
            return anywhere
        held = await self._holdings.chunks_at(request.near, [by_id[task] for task in running])
        if not held and not request.near_only:
            return anywhere
        near: list[_Offer] = []
        for books, wanted in offers:
            some = [book for book in books if is_merge(book) or book in held]
            near.append((some, wanted, {book: held.get(book) for book in some} if held else None))
        return near if request.near_only else near + anywhere

    async def renew(self, lease: LeaseId, request: w.RenewRequest) -> list[LeasedInterval]:
        """Extend a lease; return what it still holds.

        Raises
        ------
        RequestError
            CPU seconds that would falsify the sums.
        """
        if not all(0 <= unit.cpu_s <= NUMBER_MAX for unit in request.running):
            raise RequestError(f"CPU seconds lie outside 0 to {NUMBER_MAX}", lease=lease)
        return await self._ledger.renew_lease(
            lease,
            WorkerId(request.worker),
            timedelta(seconds=request.lease_s),
            request.running,
        )

    async def release(self, lease: LeaseId, worker: WorkerId) -> list[LeasedInterval]:
        """Give back what a lease still holds."""
        return await self._ledger.release_lease(lease, worker)

    async def forget_worker(self, worker: WorkerId) -> list[LeasedInterval]:
        """Take back what a lost worker holds."""
        return await self._ledger.forget_worker(worker)

    def _forget_ended(self, active: set[TaskId]) -> None:
        self._files.forget_ended(active)
        self._holdings.forget_ended(active)
        self._secondary.forget_ended(active)
        self._poisoned.forget_ended(active)

    async def _cells(self, task: Task) -> int:
        """Return how many of the ledger's units make one of a task whose units are several."""
        if task.spec.granularity.seconds is None:
            return task.spec.payload.ranges_per_file
        progress = await self._ledger.progress(process_book(task.id))
        leases = await self._ledger.leases()
        workers = len({row.worker for row in leases if task_of(row.book) == task.id})
        return cells_per_range(
            task.spec.granularity.seconds, task.spec.events_per_range, progress, workers
        )

    async def _units(
        self,
        task: Task,
        row: LeasedInterval,
        cells: int,
        request: w.ClaimRequest,
        now: datetime,
    ) -> list[w.RangeUnit | w.MergeUnit]:
        if is_merge(row.book):
            merge = await self._merging.unit(task, row, now)
            return [] if merge is None else [merge]
        chunk = await self._files.chunk(row.book, row.chunk)
        file = None if chunk is None else await self._files.file(task, chunk.lfn)
        if chunk is None or file is None:
            return []  # Its output was taken back in the task that made it; so is the lease.
        await self._secondary.load(task, self._files.chunks(row.book))
        step = task.spec.events_per_range
        grid_start = row.entry_start if cells > 1 else chunk.entry_start
        units = list(units_of((row.entry_start, row.entry_stop), grid_start, cells * step))
        several = task.spec.payload.ranges_per_file > 1
        ranges = {
            unit: list(units_of(unit, chunk.entry_start, step)) if several else [unit]
            for unit in units
        }
        every = [each for unit in units for each in ranges[unit]]
        runs = list(in_runs(every, _entries_together(file, task.spec.tree, request.cuts)))
        products = [_product(task, file, run) for run in runs]
        cuts = {each: self._secondary.cuts(task, chunk, file, each) for each in every}
        beside = [pair for taken in cuts.values() for pairs in taken for pair in pairs]
        known = await self._planner.known([*((one, file) for one in products), *beside])
        scheduling = task.spec.scheduling
        tail = self._scheduler.at_its_end(task.id)
        asker = Asker(scheduling.queue, scheduling.priority, tail, request.site or "")
        parts: dict[Interval, w.RangePart] = {}
        for run, product in zip(runs, products, strict=True):
            made = known.get(product.key)
            plan = self._planner.deliver(product, now, file, asker, made)
            secondary = [self._secondary.plan(task, cuts[each], known, now, asker) for each in run]
            parts |= _parts(run, plan, secondary)
        return [
            self._range_unit(task, row, chunk, unit, [parts[each] for each in ranges[unit]], now)
            for unit in units
        ]

    def _range_unit(
        self,
        task: Task,
        row: LeasedInterval,
        chunk: Chunk,
        interval: Interval,
        parts: list[w.RangePart],
        now: datetime,
    ) -> w.RangeUnit:
        spec = task.spec
        log = _output_name(task, row, interval, LOG_STREAM, ".txt")
        return w.RangeUnit(
            ref=w.UnitRef(row.book, row.chunk, *interval, row.attempt),
            task=task.id,
            range_id=range_id(row.book, row.chunk, *interval, row.attempt),
            lfn=chunk.lfn,
            parts=parts,
            payload=spec.payload,
            outputs=[self._slot(task, row, interval, stream, now) for stream in spec.outputs],
            log=log,
            log_url=self._planner.store_output(log, now),
            sandbox_url=self._planner.fetch_sandbox(spec.payload.sandbox, now),
            bundle_bytes=spec.bundle_bytes,
        )

    def _slot(
        self,
        task: Task,
        row: LeasedInterval,
        interval: Interval,
        stream: OutputStream,
        now: datetime,
    ) -> w.OutputSlot:
        name = _output_name(task, row, interval, stream.name, stream.suffix)
        url = self._planner.store_output(name, now)
        return w.OutputSlot(
            stream.name,
            stream.suffix,
            name,
            url,
            stream.pattern,
            stream.optional,
            stream.complete,
            self._planner.places(name),
        )


def _states(active: ActiveTasks) -> list[tuple[TaskId, TaskState]]:
    return [(task.id, task.state) for task in active.tasks]


def _parts(
    run: list[Interval], plan: m.DeliveryPlan, beside: list[list[w.SecondaryInput]]
) -> dict[Interval, w.RangePart]:
    """Return what is told of ranges that have one product."""
    shared = (run[0][0], run[-1][1]) if len(run) > 1 else None
    return {
        each: w.RangePart(*each, plan, shared, more) for each, more in zip(run, beside, strict=True)
    }


def _product(task: Task, file: SourceFile, run: list[Interval]) -> Descriptor:
    """Return what ranges that follow each other have as one product."""
    spec, span = task.spec, (run[0][0], run[-1][1])
    return slice_of(file.fingerprint, spec.tree, span, spec.branches, file.format)


def _entries_together(file: SourceFile, tree: str, cuts: list[str]) -> int:
    """Return how many entries a product may hold, so that a few short units share it."""
    if file.format not in cuts:
        return 0
    return SHARED_BYTES * file.trees[tree] // file.fingerprint.size


def _output_name(
    task: Task, row: LeasedInterval, interval: Interval, stream: str, suffix: str
) -> str:
    return str(
        OutputName(
            task=task.id,
            stream=stream,
            book=row.book,
            chunk=row.chunk,
            entry_start=interval[0],
            entry_stop=interval[1],
            attempt=row.attempt,
            lease=row.lease,
            suffix=suffix,
        )
    )
