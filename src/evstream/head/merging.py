"""Merging while tasks run: groups of outputs become work as soon as they are whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from msgspec import structs

from evstream.domain.errors import NotFoundError
from evstream.domain.ledger import LeasedInterval
from evstream.domain.merging import Frontier, MergeGroup, StreamPlan
from evstream.domain.names import Lfn, TaskId
from evstream.domain.outputs import LOG_STREAM, OutputName, OutputRecord
from evstream.domain.payload import Payload
from evstream.domain.splitting import Chunk
from evstream.domain.states import RangeState
from evstream.domain.task import Task, merge_book, process_book
from evstream.head.books import merge_progress
from evstream.head.passing import move
from evstream.head.plans import Planner
from evstream.ports import Catalogue, Ledger
from evstream.wire import work_messages as w
from evstream.wire.range_id import range_id


@dataclass(slots=True)
class _Plan:
    """How far a task's merges are planned; what the database says, as far as it was read.

    Attributes
    ----------
    seen : tuple of int
        What another head changes where it plans, feeds or takes back: how often work of the
        task was taken back, the entries of its ranges, and its merges.
    """

    seen: tuple[int, int, int]
    frontier: Frontier
    streams: list[StreamPlan]
    next_number: int
    new_chunks: list[Chunk] = field(default_factory=list)


class Merging:
    """Plans merges, and describes them to pilots."""

    def __init__(
        self, catalogue: Catalogue, ledger: Ledger, planner: Planner, inputs_max: int
    ) -> None:
        self._inputs_max = inputs_max
        self._catalogue = catalogue
        self._ledger = ledger
        self._planner = planner
        self._plans: dict[TaskId, _Plan] = {}

    async def plan(self, task: Task, bound: int | None = None) -> bool:
        """Make work of the groups that are whole by now; safe to call at any time.

        Parameters
        ----------
        bound : int or None
            Where the task still grows: the number of the next chunk.

        Returns
        -------
        bool
            Whether every group has been made that there will ever be.
        """
        # Dropped for as long as it is being changed: what fails half-way is read anew.
        plan, seen = self._plans.pop(task.id, None), await self._look(task)
        if plan is None or plan.seen != seen:
            plan = await self._read(task, seen)
        plan.frontier.grow(plan.new_chunks, bound)
        plan.new_chunks = []
        async for _ in move(self._ledger, process_book(task.id), plan.frontier):
            await self._store(task, plan)
        await self._join_merged(task, plan)
        times, entries, _ = plan.seen
        plan.seen = (times, entries, plan.next_number)
        self._plans[task.id] = plan
        return plan.frontier.ended and all(stream.complete for stream in plan.streams)

    def grow(self, task: TaskId, chunks: Iterable[Chunk]) -> None:
        """Note that a task has got more to do."""
        if plan := self._plans.get(task):
            new = list(chunks)
            plan.new_chunks += new
            times, entries, merges = plan.seen
            plan.seen = (times, entries + sum(chunk.entries for chunk in new), merges)

    def forget(self, task: TaskId) -> None:
        """Forget what was planned: the task has ended, or work of it was taken back."""
        self._plans.pop(task, None)

    async def _look(self, task: Task) -> tuple[int, int, int]:
        ranges = await self._ledger.progress(process_book(task.id))
        merges = await merge_progress(self._ledger, task)
        return task.times_taken_back, ranges.entries, merges.entries if merges else 0

    async def _read(self, task: Task, seen: tuple[int, int, int]) -> _Plan:
        groups, next_number = await self.groups(task)
        streams = [
            StreamPlan(
                stream,
                task.spec.tree,
                self._inputs_max,
                [g for g in groups if g.stream == stream.name],
            )
            for stream in task.spec.outputs
            if stream.merging
        ]
        chunks = await self._ledger.chunks(process_book(task.id))
        # It stays at its first chunk until `plan` says how far it may go.
        return _Plan(seen, Frontier(chunks, streams, bound=0), streams, next_number)

    async def groups(self, task: Task) -> tuple[list[MergeGroup], int]:
        """Return the groups that count, and the next number: none is used again."""
        if await merge_progress(self._ledger, task) is None:
            return [], 0
        book = merge_book(task.id)
        closed = await self._ledger.closed(book)
        gone = {row.chunk for row in closed if row.state is RangeState.DISCARDED}
        groups = [g for g in await self._catalogue.merges(task.id) if g.number not in gone]
        return groups, len(await self._ledger.chunks(book))

    async def _join_merged(self, task: Task, plan: _Plan) -> None:
        while not all(stream.complete for stream in plan.streams):
            commits = await self._ledger.commits(merge_book(task.id))
            merged = {commit.chunk: commit.success.outputs[0] for commit in commits}
            for stream in plan.streams:
                stream.pass_merged(merged)
            if not await self._store(task, plan):
                return

    async def _store(self, task: Task, plan: _Plan) -> bool:
        """Make the new groups work; return whether there were any."""
        groups: list[MergeGroup] = []
        for stream in plan.streams:
            made = [
                replace(group, number=plan.next_number + len(groups) + place)
                for place, group in enumerate(stream.new)
            ]
            groups += made
            stream.numbered(made)
        if groups:
            plan.next_number += len(groups)
            await self._catalogue.add_merges(task.id, task.spec.merge_rules(), groups)
        return bool(groups)

    async def unit(self, task: Task, row: LeasedInterval, now: datetime) -> w.MergeUnit | None:
        """Describe a merge that was leased; None if it is no longer wanted."""
        try:
            group = await self._catalogue.merge(task.id, row.chunk)
        except NotFoundError:
            return None
        chunks = await self._ledger.chunks(process_book(task.id))
        lfns = {chunk.number: chunk.lfn for chunk in chunks}
        stream = next(each for each in task.spec.outputs if each.name == group.stream)
        assert stream.merging is not None
        name = OutputName(
            task=task.id,
            stream=group.stream,
            book=row.book,
            chunk=row.chunk,
            entry_start=row.entry_start,
            entry_stop=row.entry_stop,
            attempt=row.attempt,
            lease=row.lease,
            suffix=stream.suffix,
        )
        log = str(replace(name, stream=LOG_STREAM, suffix=".txt"))
        url = self._planner.store_output(str(name), now)
        ref = w.UnitRef(row.book, row.chunk, row.entry_start, row.entry_stop, row.attempt)
        command = stream.merging.command
        return w.MergeUnit(
            ref=ref,
            task=task.id,
            range_id=range_id(*structs.astuple(ref)),
            inputs=[self._input(record, lfns, now) for record in group.inputs],
            output=w.OutputSlot(
                stream.name, stream.suffix, str(name), url, places=self._planner.places(str(name))
            ),
            log=log,
            log_url=self._planner.store_output(log, now),
            payload=_merge_payload(task.spec.payload, command) if command else None,
            sandbox_url=self._planner.fetch_sandbox(task.spec.payload.sandbox, now),
        )

    def _input(self, record: OutputRecord, lfns: Mapping[int, Lfn], now: datetime) -> w.MergeInput:
        url = self._planner.fetch_output(record.name, now)
        made = made_from(record.name, lfns)
        return w.MergeInput(record.name, url, record.size, record.sha256, made)


def _merge_payload(payload: Payload, command: str) -> Payload:
    """Return the payload that joins: a command where the task's own payload runs."""
    return structs.replace(payload, command=command, kind="command", arrays=False)


def made_from(output: str, lfns: Mapping[int, Lfn]) -> str:
    """Return what left an output, as people call it."""
    made = OutputName.parse(output)
    if made.book == merge_book(made.task):
        return f"merge {made.chunk}"
    return f"entries {made.entry_start}:{made.entry_stop} of {lfns[made.chunk]}"
