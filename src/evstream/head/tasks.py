"""Tasks: accepted, watched; their outputs and failures."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from evstream.domain.accounts import bin_of, unreported
from evstream.domain.errors import ConflictError, NotFoundError, RequestError
from evstream.domain.intervals import Interval, IntervalSet
from evstream.domain.names import Lfn, TaskId
from evstream.domain.outputs import OutputRecord
from evstream.domain.payload import sandbox_name
from evstream.domain.scheduling import Scheduling
from evstream.domain.states import RangeState, TaskState
from evstream.domain.task import Task, is_merge, merge_book, process_book, task_of
from evstream.head.books import books_of, merge_progress, merges_of
from evstream.head.chains import Chains
from evstream.head.planning import TaskPlanner
from evstream.head.plans import Planner
from evstream.ports import Catalogue, Formats, Ledger, OutputStore
from evstream.wire import messages as m


class Tasks:
    """Accepts tasks and answers for them."""

    def __init__(
        self,
        catalogue: Catalogue,
        ledger: Ledger,
        planner: Planner,
        formats: Formats,
        store: OutputStore,
        chains: Chains,
    ) -> None:
        self._chains = chains
        self._store = store
        self._task_planner = TaskPlanner(catalogue, ledger, formats)
        self._catalogue = catalogue
        self._ledger = ledger
        self._planner = planner

    async def submit(self, new: m.NewTask, request_id: str, submitter: str = "") -> Task:
        """Check a task against its dataset, split it and open its book.

        Raises
        ------
        RequestError
            Something in it cannot work; it names what, and what would.
        """
        planned = await self._task_planner.plan(new)
        spec = planned.spec
        await self._check_sandbox(spec.payload.sandbox)
        rules = spec.range_rules(planned.chunks)
        chunks = planned.chunks
        task = await self._catalogue.add_task(spec, request_id, rules, chunks, submitter)
        if task.spec != spec:
            raise ConflictError(
                f"this Idempotency-Key has made task {task.id}, which is another one",
                hint="send a new key with a new task",
                task=task.id,
            )
        return task

    async def _check_sandbox(self, sha256: str) -> None:
        try:
            if sha256:
                await self._store.stat(sandbox_name(sha256))
        except NotFoundError as error:
            raise RequestError(
                f"there is no sandbox {sha256} here",
                hint=f"send it to /v1/sandboxes/{sha256} first",
            ) from error

    async def preview(self, new: m.NewTask) -> m.TaskPreview:
        """Tell what a request would come to; nothing is begun.

        Raises
        ------
        RequestError
            Something in it cannot work; it names what, and what would.
        """
        if not new.takes:
            return await self._task_planner.preview(new)
        planned = await self._task_planner.plan(new)
        outlook = await self._chains.look(planned.spec)
        return await self._task_planner.preview_chained(
            planned, outlook.outputs, outlook.going, outlook.refused
        )

    async def view(self, task: Task) -> m.TaskView:
        """Return a task with its progress."""
        process = await self._ledger.progress(process_book(task.id))
        return m.TaskView(
            id=task.id,
            request_id=task.request_id,
            dataset=task.dataset,
            spec=task.spec,
            state=task.state,
            created=task.created,
            process=process,
            ended=task.ended,
            reason=task.reason or await self._held_up(task),
            taken_back=task.taken_back,
            merge=await merge_progress(self._ledger, task),
            workers=0 if task.state.final else await self._workers(task.id),
            takers=await self._catalogue.takers(task.id),
            submitter=task.submitter,
        )

    async def schedule(self, task_id: TaskId, wanted: m.ScheduleRequest) -> Task:
        """Give a task another place among others; what is not said stays."""
        known = (await self._catalogue.task(task_id)).spec.scheduling
        scheduling = Scheduling(
            known.queue if wanted.queue is None else wanted.queue,
            known.priority if wanted.priority is None else wanted.priority,
        )
        scheduling.check()
        return await self._catalogue.reschedule(task_id, scheduling)

    async def _held_up(self, task: Task) -> str:
        """Say why a task gets nothing more to do: a task before it has paused by itself."""
        for taken in () if task.state.final else task.spec.takes:
            parent = await self._catalogue.task(TaskId(taken.task))
            if parent.state is TaskState.PAUSED and parent.reason:
                return f"it waits for task {parent.id}, which has paused: {parent.reason}"
            if why := await self._held_up(parent):
                return why
        return ""

    async def _workers(self, task: TaskId) -> int:
        leases = await self._ledger.leases()
        return len({lease.worker for lease in leases if task_of(lease.book) == task})

    async def entries(self, task_id: TaskId) -> list[m.FileEntries]:
        """Return what became of the entries of each file, in the dataset's order."""
        task = await self._catalogue.task(task_id)
        book = process_book(task_id)
        chunks = await self._ledger.chunks(book)
        lfns = {chunk.number: chunk.lfn for chunk in chunks}
        wanted = _by_file((c.lfn, c.entry_start, c.entry_stop) for c in chunks)
        committed = _by_file(
            (lfns[c.chunk], c.entry_start, c.entry_stop) for c in await self._ledger.commits(book)
        )
        closed = await self._ledger.closed(book)
        by_state = {
            state: _by_file(
                (lfns[c.chunk], c.entry_start, c.entry_stop) for c in closed if c.state is state
            )
            for state in (RangeState.CANCELLED, RangeState.DISCARDED)
        }
        aside: dict[str, list[tuple[int, int, str]]] = {}
        for row in closed:
            if row.state is RangeState.FATAL:
                told = (row.entry_start, row.entry_stop, row.error)
                aside.setdefault(lfns[row.chunk], []).append(told)
        dataset = await self._catalogue.dataset(task.dataset)
        return [
            m.FileEntries(
                lfn=file.lfn,
                wanted=wanted.get(file.lfn, []),
                committed=committed.get(file.lfn, []),
                set_aside=aside.get(file.lfn, []),
                cancelled=by_state[RangeState.CANCELLED].get(file.lfn, []),
                withdrawn=by_state[RangeState.DISCARDED].get(file.lfn, []),
            )
            for file in dataset.files
        ]

    async def report(self, task_id: TaskId) -> m.TaskReport:
        """Return what work on a task took."""
        task = await self._catalogue.task(task_id)
        now = bin_of((await self._catalogue.now() - task.created).total_seconds())
        ranges = await self._ledger.accounts(process_book(task_id))
        progress = await self._ledger.progress(process_book(task_id))
        ranges += unreported(process_book(task_id), ranges, progress, now)
        merges = await self._ledger.accounts(merge_book(task_id))
        if (of_merges := await merge_progress(self._ledger, task)) is not None:
            merges += unreported(merge_book(task_id), merges, of_merges, now)
        return m.TaskReport(task.id, task.spec.name, task.state, task.created, ranges, merges)

    async def failures(self, task_id: TaskId) -> list[m.FailureView]:
        """Return the attempts that came to nothing, in the order they ended."""
        task = await self._catalogue.task(task_id)
        views: list[m.FailureView] = []
        for book in await books_of(self._ledger, task):
            lfns = await self._lfns(task, book)
            views += [
                m.FailureView(
                    lfn=lfns[item.chunk],
                    entry_start=item.entry_start,
                    entry_stop=item.entry_stop,
                    attempt=item.attempt,
                    worker=item.worker,
                    kind=item.failure.kind,
                    error=item.failure.error,
                    log=item.failure.log,
                    merge=is_merge(book),
                )
                for item in await self._ledger.failed_attempts(book)
                if item.running
            ]
        return views

    async def _lfns(self, task: Task, book: int) -> dict[int, Lfn]:
        """Return the files of a book's chunks, those that have left it too."""
        lfns = {chunk.number: chunk.lfn for chunk in await self._ledger.chunks(book)}
        if task.spec.takes and not is_merge(book):
            retracted = (await self._catalogue.dataset(task.dataset)).retracted
            lfns |= {file.origin.number: file.lfn for file in retracted if file.origin}
        return lfns

    async def outputs(self, task_id: TaskId) -> list[m.OutputView]:
        """Return committed outputs in entry order: merged ones if the task has them."""
        task = await self._catalogue.task(task_id)
        now = await self._catalogue.now()
        commits = await self._ledger.commits(process_book(task_id))
        lfns = await self._lfns(task, process_book(task_id))
        merges = await merges_of(self._catalogue, self._ledger, task)
        replaced = {record.name for merged in merges for record in merged.group.inputs}
        found = [(merged.output, merged.group.covers, True) for merged in merges]
        found += [
            (output, ((c.chunk, c.entry_start, c.entry_stop),), False)
            for c in commits
            for output in c.success.outputs
        ]
        streams = [stream.name for stream in task.spec.outputs]
        left = [one for one in found if one[0].name not in replaced]
        # Of one range's files, the order is kept.
        left.sort(key=lambda one: (streams.index(one[0].stream), one[1][0]))
        return [
            self._output(output, [(lfns[c], start, stop) for c, start, stop in covers], merged, now)
            for output, covers, merged in left
        ]

    def _output(
        self,
        output: OutputRecord,
        covers: list[tuple[str, int, int]],
        merged: bool,
        now: datetime,
    ) -> m.OutputView:
        return m.OutputView(
            stream=output.stream,
            name=output.name,
            size=output.size,
            sha256=output.sha256,
            adler32=output.adler32,
            entries=output.entries,
            covers=covers,
            merged=merged,
            url=self._planner.fetch_output(output.name, now),
        )


def _by_file(pieces: Iterable[tuple[Lfn, int, int]]) -> dict[str, list[Interval]]:
    """Return intervals by file, adjoining ones as one."""
    by_lfn: dict[str, list[Interval]] = {}
    for lfn, start, stop in pieces:
        by_lfn.setdefault(lfn, []).append((start, stop))
    return {lfn: list(IntervalSet.of(intervals)) for lfn, intervals in by_lfn.items()}
