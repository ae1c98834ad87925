"""Which edge prepares what: claims of edges on the books of requests."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import timedelta

from evstream.domain.brokering import Preference
from evstream.domain.dataset import SourceFile
from evstream.domain.descriptor import Descriptor, copy_of, slice_of
from evstream.domain.errors import NotFoundError
from evstream.domain.intervals import Interval
from evstream.domain.ledger import LeasedInterval
from evstream.domain.names import LeaseId, TaskId
from evstream.domain.preparation import chunks_for, edge_worker
from evstream.domain.products import Edge
from evstream.domain.splitting import units_of
from evstream.domain.states import ACTIVE, TaskState
from evstream.domain.task import Task, process_book, task_of
from evstream.head.scheduler import Scheduler
from evstream.head.task_files import TaskFiles
from evstream.ports import Catalogue, Ledger, ProductCatalogue
from evstream.wire import request_messages as m
from evstream.wire import work_messages

POLL_S = 1.0
LOOK_EVERY_S = 1.0
"""Edges, and which chunks have ready work, are looked at so often at most."""
CHUNKS_LOOKED_AT_MAX = 2_000
"""Of a request; when these are used up, the next look finds more."""


@dataclass(slots=True)
class _Look:
    """The chunks of a request that had ready work, and the digests of their files."""

    chunks: dict[int, str] = field(default_factory=dict)
    due: float = float("-inf")


class Assigner:
    """Leases the ranges of requests to edges, as claims lease those of tasks to pilots.

    The products of a file meet at one edge, found by rendezvous among those that are there:
    it is offered them first. Whoever has nothing of its own left gets others', so that an
    edge that is silent or slow holds nothing up. Leases that run out go out again.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        ledger: Ledger,
        scheduler: Scheduler,
        products: ProductCatalogue,
    ) -> None:
        self._catalogue = catalogue
        self._ledger = ledger
        self._scheduler = scheduler
        self._products = products
        self._files = TaskFiles(catalogue, ledger)
        self._looks: dict[TaskId, _Look] = {}
        self._edges: dict[str, Edge] = {}
        self._edges_due = float("-inf")

    async def claim(self, edge: str, request: m.EdgeClaim, lease: LeaseId) -> m.EdgeClaimAnswer:
        """Lease ranges to an edge, each with the product to make of it.

        Raises
        ------
        NotFoundError
            No edge of this name beats.
        """
        edges = await self._living()
        if edge not in edges:
            # It may have beaten for the first time since we looked.
            self._edges_due = float("-inf")
            edges = await self._living()
        if edge not in edges:
            raise NotFoundError(f"no edge {edge} beats", hint="let it beat first", edge=edge)
        active = [
            task
            for task in await self._catalogue.tasks(ACTIVE)
            if task.spec.preparation is not None
        ]
        self._forget_ended({task.id for task in active})
        rows: list[LeasedInterval] = []
        running = [task for task in active if task.state is TaskState.RUNNING]
        in_turn = await self._scheduler.in_turn(running)
        if edges[edge].takes_work:
            for task in in_turn:
                if rows := await self._claim(edge, edges, task, request, lease):
                    break
        self._scheduler.note(rows)
        by_id = {task.id: task for task in active}
        units: list[m.PrepareUnit] = []
        for row in rows:
            # A repeated claim may find leases of a request that has ended since.
            if (task_there := by_id.get(task_of(row.book))) is not None:
                units += await self._units(task_there, row)
        worker = edge_worker(edge)
        return m.EdgeClaimAnswer(lease, request.lease_s, worker, units, POLL_S)

    async def _claim(
        self,
        edge: str,
        edges: dict[str, Edge],
        task: Task,
        request: m.EdgeClaim,
        lease: LeaseId,
    ) -> list[LeasedInterval]:
        """Claim of one request: chunks that meet at the edge, else others'."""
        asked = task.spec.preparation
        assert asked is not None
        able = [
            one.name for one in edges.values() if one.takes_work and asked.site in ("", one.site)
        ]
        if edge not in able:
            return []
        book = process_book(task.id)
        ready = await self._ready(task)
        preference = Preference(dict.fromkeys(able, 1.0))
        owners = {chunk: preference.first(digest) for chunk, digest in ready.items()}
        leases = {row.worker for row in await self._ledger.leases(book)}
        working = {name for name in able if edge_worker(name) in leases}
        for chunks in chunks_for(edge, owners, working):
            if not chunks:
                continue
            rows = await self._ledger.claim_ranges(
                lease,
                edge_worker(edge),
                request.units,
                timedelta(seconds=request.lease_s),
                [book],
                {book: chunks},
            )
            if rows:
                return rows
        if ready:
            # Nothing was left in any of them: there may be others.
            self._looks.pop(task.id, None)
        return []

    async def _ready(self, task: Task) -> dict[int, str]:
        """Return the chunks that had ready work a moment ago, with their files' digests."""
        look = self._looks.setdefault(task.id, _Look())
        now = asyncio.get_running_loop().time()
        if now >= look.due:
            book = process_book(task.id)
            numbers = await self._ledger.ready_chunks(book, 0, CHUNKS_LOOKED_AT_MAX)
            look.chunks = {}
            for number in numbers:
                chunk = await self._files.chunk(book, number)
                file = None if chunk is None else await self._files.file(task, chunk.lfn)
                if file is not None:
                    look.chunks[number] = file.fingerprint.digest
            look.due = now + LOOK_EVERY_S
        return look.chunks

    async def _living(self) -> dict[str, Edge]:
        now = asyncio.get_running_loop().time()
        if now >= self._edges_due:
            time = await self._catalogue.now()
            edges = await self._products.edges()
            self._edges = {one.name: one for one in edges if one.beats(time)}
            self._edges_due = now + LOOK_EVERY_S
        return self._edges

    async def _units(self, task: Task, row: LeasedInterval) -> list[m.PrepareUnit]:
        chunk = await self._files.chunk(row.book, row.chunk)
        file = None if chunk is None else await self._files.file(task, chunk.lfn)
        spec, asked = task.spec, task.spec.preparation
        if chunk is None or file is None or asked is None:
            return []
        interval = row.entry_start, row.entry_stop
        return [
            m.PrepareUnit(
                ref=work_messages.UnitRef(row.book, row.chunk, *each, row.attempt),
                request=task.id,
                descriptor=_product(task, file, each).to_wire(),
                life_s=asked.life_s,
                user=asked.user,
                priority=spec.scheduling.priority,
                precache=asked.precache == "first",
            )
            for each in units_of(interval, chunk.entry_start, spec.events_per_range)
        ]

    def _forget_ended(self, active: Collection[TaskId]) -> None:
        self._files.forget_ended(active)
        for task in [task for task in self._looks if task not in active]:
            del self._looks[task]


def _product(task: Task, file: SourceFile, interval: Interval) -> Descriptor:
    """Return what is made of a unit of a request."""
    spec = task.spec
    if spec.preparation is not None and spec.preparation.precache == "only":
        return copy_of(file.fingerprint, file.format)
    return slice_of(file.fingerprint, spec.tree, interval, spec.branches, file.format)
