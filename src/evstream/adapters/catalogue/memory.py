"""Ledger and catalogue in memory: the model and dictionaries behind the same ports."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from msgspec import structs

from evstream.adapters.catalogue.memory_access_keys import MemoryAccessKeys
from evstream.adapters.catalogue.memory_links import MemoryLinks
from evstream.adapters.catalogue.memory_products import MemoryProducts
from evstream.adapters.catalogue.memory_whiteboard import MemoryWhiteboard
from evstream.domain.accounts import Account, Spent, add_to
from evstream.domain.chains import chunks_of
from evstream.domain.dataset import Dataset, Fingerprint, SourceFile
from evstream.domain.errors import ConflictError, NotFoundError, RequestError
from evstream.domain.ledger import (
    CANCELLED,
    BookPlace,
    BookRules,
    ClosedInterval,
    Commit,
    FailedAttempt,
    LeasedInterval,
    Place,
    Progress,
    RangeReport,
    RunningUnit,
    Within,
)
from evstream.domain.ledger_model import LedgerModel
from evstream.domain.merging import MergeGroup, merge_chunks
from evstream.domain.names import DatasetName, LeaseId, Lfn, TaskId, WorkerId
from evstream.domain.scheduling import Scheduling
from evstream.domain.splitting import Chunk
from evstream.domain.states import ACTIVE, Answer, TaskState
from evstream.domain.task import (
    TakeBack,
    TakenBack,
    Task,
    TaskSpec,
    archived,
    ended,
    merge_book,
    process_book,
)
from evstream.ports.catalogue import EVERY, ActiveTasks
from evstream.ports.clock import Clock


class MemoryLedger:
    """The `Ledger` port on a `LedgerModel`; gone with the process."""

    def __init__(self, clock: Clock, model: LedgerModel | None = None) -> None:
        self._clock = clock
        self._model = LedgerModel() if model is None else model

    async def open_book(self, book: int, rules: BookRules, chunks: Sequence[Chunk]) -> None:
        """Add a book of work; opening the same one again changes nothing."""
        self._model.open_book(book, rules, chunks)

    async def drop_book(self, book: int) -> None:
        """Forget a book with its whole history; leases on it end."""
        self._model.drop_book(book)

    async def books(self) -> list[int]:
        """Return the numbers of all books, in order."""
        return self._model.books()

    async def add_chunks(self, book: int, chunks: Sequence[Chunk], bisections: int = 0) -> None:
        """Give a book more to do; a chunk whose number it has stays as it is."""
        self._model.add_chunks(book, chunks, bisections)

    async def drop_chunks(self, book: int, chunks: Sequence[int], reason: str) -> int:
        """Take chunks out of a book, whatever became of them; return their entries."""
        return self._model.drop_chunks(book, chunks, reason)

    async def claim_ranges(
        self,
        lease: LeaseId,
        worker: WorkerId,
        units: int,
        duration: timedelta,
        books: Sequence[int],
        within: Within | None = None,
    ) -> list[LeasedInterval]:
        """Lease up to ``units`` units of work, returned work first."""
        now = self._clock.now()
        return self._model.claim(lease, worker, units, duration, now, books, within)

    async def renew_lease(
        self,
        lease: LeaseId,
        worker: WorkerId,
        duration: timedelta,
        running: Sequence[RunningUnit] = (),
    ) -> list[LeasedInterval]:
        """Extend a lease and note which units have begun; return what it still holds."""
        return self._model.renew(lease, worker, duration, self._clock.now(), running)

    async def report_ranges(self, reports: Sequence[RangeReport]) -> list[Answer]:
        """Take reports in order; each counts only by deleting its lease."""
        return [self._model.report(report) for report in reports]

    async def release_lease(
        self, lease: LeaseId, worker: WorkerId, places: Sequence[BookPlace] | None = None
    ) -> list[LeasedInterval]:
        """Give back what a lease still holds, all of it or some intervals."""
        return self._model.release(lease, worker, places)

    async def resume_leases(self, unless: timedelta = timedelta()) -> None:
        """Give every lease its whole time again; there is no other head."""
        del unless
        self._model.resume(self._clock.now())

    async def expire_leases(self) -> list[LeasedInterval]:
        """Take back the leases whose time is over."""
        return self._model.expire(self._clock.now())

    async def forget_worker(self, worker: WorkerId) -> list[LeasedInterval]:
        """Take back the leases of a worker that is known to be gone."""
        return self._model.forget_worker(worker)

    async def cancel_book(self, book: int, reason: str = CANCELLED) -> None:
        """Close all that is not finished, with a reason; leases on it end."""
        self._model.cancel_book(book, reason)

    async def redo(self, book: int, places: Sequence[Place], reason: str) -> int:
        """Send out again, with fresh counts, what lies wholly within intervals."""
        return self._model.redo(book, places, reason)

    async def discard(self, book: int, places: Sequence[Place], reason: str) -> int:
        """Close as withdrawn what lies wholly within intervals."""
        return self._model.discard(book, places, reason)

    async def progress(self, book: int) -> Progress:
        """Return entries by state, and sums over attempts."""
        return self._model.progress(book)

    async def progress_of(self, books: Sequence[int]) -> dict[int, Progress]:
        """Return the progress of those of some books that there are."""
        there = set(self._model.books())
        return {book: self._model.progress(book) for book in books if book in there}

    async def chunks(self, book: int) -> list[Chunk]:
        """Return a book's chunks by number."""
        return self._model.chunks(book)

    async def ready_chunks(self, book: int, first: int, limit: int) -> list[int]:
        """Return the numbers of chunks that a claim would find work in, in order."""
        return self._model.ready_chunks(book, first, limit)

    async def commits(self, book: int) -> list[Commit]:
        """Return what is done, in entry order."""
        return self._model.commits(book)

    async def finished(
        self, book: int, chunk: int, entry_start: int, limit: int
    ) -> list[Commit | ClosedInterval]:
        """Return what is done or closed from a place on, in entry order, at most so many."""
        return self._model.finished(book, chunk, entry_start, limit)

    async def closed(self, book: int) -> list[ClosedInterval]:
        """Return what was set aside or cancelled, in entry order."""
        return self._model.closed(book)

    async def failed_attempts(self, book: int) -> list[FailedAttempt]:
        """Return attempts that came to nothing, in the order they ended."""
        return self._model.failed_attempts(book)

    async def accounts(self, book: int) -> list[Account]:
        """Return the sums of a book, by site and bin."""
        return self._model.accounts(book)

    async def failed_by_nodes(
        self, book: int, chunk: int, entry_start: int, attempt: int
    ) -> list[WorkerId]:
        """Return whose nodes failed the attempts on an interval, up to one of them, in order."""
        return self._model.failed_by_nodes(book, chunk, entry_start, attempt)

    async def leases(self, book: int | None = None) -> list[LeasedInterval]:
        """Return every leased interval, or those of one book."""
        return self._model.leases(book)


class MemoryCatalogue:
    """The `Catalogue` port on dictionaries; opens its books in the ledger given."""

    def __init__(self, clock: Clock, ledger: MemoryLedger) -> None:
        self._clock = clock
        self._ledger = ledger
        self._datasets: dict[DatasetName, Dataset] = {}
        self._indexes: dict[str, bytes] = {}
        self._tasks: dict[TaskId, Task] = {}
        self._forgotten: set[TaskId] = set()
        self._receipts: dict[TaskId, str] = {}
        self._output_store = ""
        self._merges: dict[TaskId, dict[int, MergeGroup]] = {}

    async def add_dataset(self, dataset: Dataset, indexes: dict[str, bytes]) -> None:
        """Register a dataset; the same one again changes nothing."""
        if not dataset.files:
            raise RequestError(f"dataset {dataset.name} has no files", hint="give at least one")
        known = self._datasets.setdefault(dataset.name, dataset)
        if known != dataset:
            raise ConflictError(
                f"dataset {dataset.name} exists with other content",
                hint="choose another name",
                dataset=dataset.name,
            )
        files = zip(known.files, dataset.files, strict=True)
        learnt = tuple(file.learns(again) for file, again in files)
        self._datasets[dataset.name] = replace(known, files=learnt)
        self._indexes.update(indexes)

    async def dataset(self, name: DatasetName) -> Dataset:
        """Return a dataset with its files in order."""
        if name not in self._datasets:
            raise NotFoundError(
                f"there is no dataset {name}", hint="see 'evstream dataset list'", dataset=name
            )
        return self._datasets[name]

    async def datasets(
        self, after: str = "", limit: int = EVERY
    ) -> list[tuple[DatasetName, int, int]]:
        """Return name, number of files and bytes of datasets behind a name, by name."""
        return [
            (name, len(dataset.files), sum(file.fingerprint.size for file in dataset.files))
            for name, dataset in sorted(self._datasets.items())
            if name > after
        ][:limit]

    async def file(self, fingerprint: Fingerprint) -> SourceFile:
        """Return a file with this content: the latest registered, whose PFNs are freshest."""
        for dataset in reversed(self._datasets.values()):
            for file in reversed(dataset.files):
                if file.fingerprint == fingerprint:
                    return file
        raise NotFoundError(
            f"no file with digest {fingerprint.digest[:12]} is registered",
            hint="register it with 'evstream dataset add'",
            digest=fingerprint.digest,
        )

    async def files_named(
        self, lfns: Sequence[Lfn]
    ) -> dict[Lfn, list[tuple[DatasetName, SourceFile]]]:
        """Return the files of some names, with their datasets, the latest registered first."""
        found: dict[Lfn, list[tuple[DatasetName, SourceFile]]] = {lfn: [] for lfn in lfns}
        for dataset in reversed(self._datasets.values()):
            for file in reversed(dataset.files):
                if file.lfn in found:
                    found[file.lfn].append((dataset.name, file))
        return found

    async def source_index(self, digest: str) -> bytes | None:
        """Return the source index of a file, if it is kept."""
        return self._indexes.get(digest)

    async def add_task(
        self,
        spec: TaskSpec,
        request_id: str,
        book: BookRules,
        chunks: Sequence[Chunk],
        submitter: str = "",
    ) -> Task:
        """Create a task and open its book; a known request id gives its task."""
        for known in self._tasks.values():
            if known.request_id == request_id and known.id not in self._forgotten:
                return known
        number = TaskId(len(self._tasks) + 1)
        now = self._clock.now()
        task = Task(number, spec, TaskState.RUNNING, request_id, now, submitter=submitter)
        await self._ledger.open_book(process_book(number), book, chunks)
        self._tasks[number] = task
        if spec.takes:
            self._datasets[task.dataset] = Dataset(task.dataset, ())
        return task

    async def forget_request_ids(self, life: timedelta, limit: int) -> int:
        """Forget the request ids of tasks that ended so long ago; return of how many."""
        before = self._clock.now() - life
        old = [
            task.id
            for task in self._tasks.values()
            if task.ended and task.ended <= before and task.id not in self._forgotten
        ][:limit]
        self._forgotten.update(old)
        return len(old)

    async def take_outputs(
        self, task: TaskId, files: Sequence[SourceFile], indexes: dict[str, bytes]
    ) -> None:
        """Give a chained task more files."""
        known = await self._active(task)
        dataset = self._datasets[known.dataset]
        held = {_number(file): file for file in (*dataset.files, *dataset.retracted)}
        for file in files:
            if held.get(_number(file), file).origin != file.origin:
                raise ConflictError(f"task {task} has another file {_number(file)}", task=task)
        fresh = [file for file in files if _number(file) not in held]
        grown = tuple(sorted((*dataset.files, *fresh), key=_number))
        self._datasets[known.dataset] = replace(dataset, files=grown)
        self._indexes.update(indexes)
        await self._ledger.add_chunks(
            process_book(task), chunks_of(fresh, known.spec.tree), known.spec.bisections_per_range
        )

    async def takers(self, task: TaskId) -> list[TaskId]:
        """Return the tasks that take outputs of a task, by number."""
        return [
            each.id
            for each in self._tasks.values()
            if any(taken.task == task for taken in each.spec.takes)
        ]

    async def task(self, task: TaskId) -> Task:
        """Return a task."""
        if task not in self._tasks:
            raise NotFoundError(f"there is no task {task}", hint="see 'evstream status'", task=task)
        return self._tasks[task]

    async def tasks(
        self, states: Sequence[TaskState] | None = None, *, after: int = 0, limit: int = EVERY
    ) -> list[Task]:
        """Return tasks behind a number, all or those in the given states, by number."""
        found = [t for t in self._tasks.values() if states is None or t.state in states]
        return [t for t in found if t.id > after][:limit]

    async def active_tasks(self) -> ActiveTasks:
        """Return the tasks that have not ended."""
        # They are read at once, so nobody needs to remember them.
        return ActiveTasks(await self.tasks(ACTIVE), lambda: False)

    async def spent(self) -> list[Spent]:
        """Return what the work of each submitter's tasks took, by their names."""
        found: dict[str, list[Task]] = {}
        for task in self._tasks.values():
            found.setdefault(task.submitter, []).append(task)
        return [
            Spent(
                *(submitter, len(tasks)),
                await self._by_site([process_book(task.id) for task in tasks]),
                await self._by_site([merge_book(task.id) for task in tasks]),
            )
            for submitter, tasks in sorted(found.items())
        ]

    async def _by_site(self, books: Sequence[int]) -> list[Account]:
        sums: dict[tuple[int, str, int], Account] = {}
        for book in books:
            accounts = await self._ledger.accounts(book)
            add_to(sums, (structs.replace(one, book=book % 2, bin=0) for one in accounts))
        return [sums[place] for place in sorted(sums)]

    async def start_merging(self, task: TaskId, rules: BookRules, chunks: Sequence[Chunk]) -> Task:
        """Move a running task to merging and open its merge book; again is no error."""
        known = await self.task(task)
        if known.state.final:
            raise ConflictError(
                f"task {task} is {known.state.value}", hint="submit a task of its own", task=task
            )
        if known.state is TaskState.RUNNING:
            await self._ledger.open_book(merge_book(task), rules, [])
            await self._ledger.add_chunks(merge_book(task), chunks)
            self._tasks[task] = replace(known, state=TaskState.MERGING)
        return self._tasks[task]

    async def add_merges(
        self, task: TaskId, rules: BookRules, groups: Sequence[MergeGroup]
    ) -> None:
        """Give a task more to merge: each group is a chunk of its merge book."""
        known = await self.task(task)
        if known.state.final:
            raise ConflictError(f"task {task} is {known.state.value}", task=task)
        held = self._merges.setdefault(task, {})
        for group in groups:
            if held.get(group.number, group) != group:
                raise ConflictError(f"task {task} has another merge {group.number}", task=task)
        await self._ledger.open_book(merge_book(task), rules, [])
        await self._ledger.add_chunks(merge_book(task), merge_chunks(groups))
        held.update({group.number: group for group in groups})

    async def merges(self, task: TaskId) -> list[MergeGroup]:
        """Return a task's merge groups by number."""
        return [group for _, group in sorted(self._merges.get(task, {}).items())]

    async def merge(self, task: TaskId, number: int) -> MergeGroup:
        """Return one merge group."""
        try:
            return self._merges[task][number]
        except KeyError:
            raise NotFoundError(f"task {task} has no merge {number}", task=task) from None

    async def pause_task(self, task: TaskId, reason: str = "") -> Task:
        """Move an active task to paused; again is no error."""
        known = await self._active(task)
        reason = known.reason or reason
        self._tasks[task] = replace(known, state=TaskState.PAUSED, reason=reason)
        return self._tasks[task]

    async def resume_task(self, task: TaskId) -> Task:
        """Move a paused task to running; one that is not paused stays as it is."""
        known = await self._active(task)
        if known.state is TaskState.PAUSED:
            self._tasks[task] = replace(known, state=TaskState.RUNNING, reason="")
        return self._tasks[task]

    async def reschedule(self, task: TaskId, scheduling: Scheduling) -> Task:
        """Give a task another place among others."""
        known = await self._active(task)
        self._tasks[task] = replace(known, spec=replace(known.spec, scheduling=scheduling))
        return self._tasks[task]

    async def _active(self, task: TaskId) -> Task:
        known = await self.task(task)
        if known.state.final:
            raise ended(known)
        return known

    async def take_back(self, task: TaskId, change: TakeBack) -> Task:
        """Send work of a task out again, or withdraw it, and open the task again."""
        known = await self.task(task)
        if known.taken_back is not None and known.taken_back.key == change.key:
            return known
        book, ledger = process_book(task), self._ledger
        if book not in await ledger.books():
            raise archived(known)
        taken = TakenBack(
            change.key,
            await ledger.redo(book, change.redo, change.reason),
            await ledger.discard(book, change.discard, change.reason),
            await ledger.redo(book, change.merged_with, change.reason),
            known.times_taken_back + 1,
        )
        if change.retracted:
            await ledger.drop_chunks(book, change.retracted, change.reason)
            self._retract(known.dataset, change.retracted)
        if change.merges:
            places = [(number, 0, 1) for number in change.merges]
            await ledger.discard(merge_book(task), places, change.reason)
        self._receipts.pop(task, None)
        paused = known.state is TaskState.PAUSED
        state, reason = (known.state, known.reason) if paused else (TaskState.RUNNING, "")
        self._tasks[task] = replace(known, state=state, reason=reason, ended=None, taken_back=taken)
        return self._tasks[task]

    def _retract(self, name: DatasetName, numbers: Sequence[int]) -> None:
        dataset = self._datasets[name]
        stay = tuple(file for file in dataset.files if _number(file) not in numbers)
        gone = [file for file in dataset.files if _number(file) in numbers]
        retracted = tuple(sorted((*dataset.retracted, *gone), key=_number))
        self._datasets[name] = Dataset(name, stay, retracted)

    async def end_task(
        self, task: TaskId, state: TaskState, reason: str, receipt: dict[str, Any] | None
    ) -> Task:
        """Move a task to a final state with its receipt; the first end stays."""
        if not state.final:
            raise RequestError(f"a task cannot end as {state.value}", hint="give a final state")
        known = await self.task(task)
        if not known.state.final:
            if receipt is not None:
                # As text, so that nobody can change what was signed.
                self._receipts[task] = json.dumps(receipt)
            self._tasks[task] = replace(known, state=state, reason=reason, ended=self._clock.now())
        return self._tasks[task]

    async def drop_books(self, task: Task) -> None:
        """Forget the books of an ended task."""
        if await self.task(task.id) != task:
            raise ConflictError(f"task {task.id} was opened again", task=task.id)
        for book in (process_book(task.id), merge_book(task.id)):
            await self._ledger.drop_book(book)

    async def output_store(self, identity: str = "") -> str:
        """Return the id of the store that outputs are in; this one, if there was none."""
        self._output_store = self._output_store or identity
        return self._output_store

    async def receipt(self, task: TaskId) -> dict[str, Any]:
        """Return the receipt of an ended task."""
        if task not in self._receipts:
            raise NotFoundError(
                f"there is no receipt of task {task}",
                hint="see 'evstream status'; a receipt is written when the task ends",
                task=task,
            )
        receipt: dict[str, Any] = json.loads(self._receipts[task])
        return receipt

    async def now(self) -> datetime:
        """Return the database's time, aware, in UTC."""
        return self._clock.now()


def _number(file: SourceFile) -> int:
    assert file.origin is not None
    return file.origin.number


class MemoryDatabase:
    """Ledger and catalogue in memory, in the shape of the one on SQLite.

    Attributes
    ----------
    ledger : MemoryLedger
    catalogue : MemoryCatalogue
    products : MemoryProducts
    whiteboard : MemoryWhiteboard
    links : MemoryLinks
    access_keys : MemoryAccessKeys
    """

    def __init__(self, clock: Clock) -> None:
        self.ledger = MemoryLedger(clock)
        self.catalogue = MemoryCatalogue(clock, self.ledger)
        self.products = MemoryProducts(clock)
        self.whiteboard = MemoryWhiteboard(clock)
        self.links = MemoryLinks(clock)
        self.access_keys = MemoryAccessKeys(clock)

    async def close(self) -> None:
        """Do nothing; there is nothing to close."""
