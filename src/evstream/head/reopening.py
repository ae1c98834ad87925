"""Taking work back: what is retried, reprocessed or withdrawn, and what hangs on it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace

from evstream.domain.dataset import Dataset
from evstream.domain.errors import ConflictError, NotFoundError
from evstream.domain.ledger import CANCELLED, ClosedInterval, Place
from evstream.domain.names import Lfn, TaskId, without_secrets
from evstream.domain.outputs import OutputName
from evstream.domain.states import RangeState
from evstream.domain.taking_back import Merges, hanging_on
from evstream.domain.task import TakeBack, Task, is_merge, merge_book, process_book
from evstream.head.books import merge_progress
from evstream.head.merging import Merging
from evstream.head.turns import Turns
from evstream.ports import Catalogue, Ledger

RETRIED, REPROCESSED, WITHDRAWN = "retried", "reprocessed", "withdrawn"
DAMAGED = "its output was damaged in the store"


class Reopening:
    """Opens tasks again, those that have ended too.

    Parameters
    ----------
    on_change : callable
        Told of every task that was opened again.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        ledger: Ledger,
        merging: Merging,
        turns: Turns,
        on_change: Callable[[TaskId], None],
    ) -> None:
        self._catalogue = catalogue
        self._ledger = ledger
        self._merging = merging
        self._turns = turns
        self._on_change = on_change

    async def retry(self, task_id: TaskId, key: str, *, failed_only: bool) -> Task:
        """Send out again what was set aside, and what was cancelled.

        Parameters
        ----------
        failed_only : bool
            What somebody cancelled stays so; what the task itself cancelled, when it gave
            up, goes out again.

        Raises
        ------
        ConflictError
            There is nothing of the kind.
        """

        def is_wanted(row: ClosedInterval) -> bool:
            if row.state is RangeState.CANCELLED:
                return not failed_only or row.error != CANCELLED
            return row.state is RangeState.FATAL

        async def change(task: Task) -> TakeBack:
            closed = await self._ledger.closed(process_book(task.id))
            places = [_place(row) for row in closed if is_wanted(row)]
            merges = [m.chunk for m in await self._closed_merges(task) if is_wanted(m)]
            if not places and not merges:
                raise ConflictError(
                    f"nothing of task {task.id} was set aside",
                    hint="to do a file again, use 'evstream task reprocess'",
                    task=task.id,
                )
            return TakeBack(key, RETRIED, redo=tuple(places), merges=tuple(merges))

        return await self._take_back(task_id, key, change)

    async def take_back_file(self, task_id: TaskId, file: str, key: str, *, withdraw: bool) -> Task:
        """Take back all that was made of a file; what hangs on it is no part of the result.

        Parameters
        ----------
        withdraw : bool
            The file leaves the task; else it is done again.

        Raises
        ------
        NotFoundError
            The task has no such file.
        """

        async def change(task: Task) -> TakeBack:
            places = await self._places_of(task, file)
            if withdraw:
                return TakeBack(key, WITHDRAWN, discard=places)
            return TakeBack(key, REPROCESSED, redo=places)

        return await self._take_back(task_id, key, change)

    async def redo_outputs(self, task_id: TaskId, names: Iterable[str], key: str) -> Task:
        """Do the ranges again whose outputs were found to be damaged or gone."""

        async def change(task: Task) -> TakeBack:
            groups = {group.number: group for group in await self._catalogue.merges(task.id)}
            places: list[Place] = []
            for name in names:
                made = OutputName.parse(name)
                if is_merge(made.book):
                    places += groups[made.chunk].covers
                else:
                    places.append((made.chunk, made.entry_start, made.entry_stop))
            return TakeBack(key, DAMAGED, redo=tuple(places))

        return await self._take_back(task_id, key, change)

    async def _take_back(
        self, task_id: TaskId, key: str, change: Callable[[Task], Awaitable[TakeBack]]
    ) -> Task:
        async with self._turns.of(task_id):
            task = await self._catalogue.task(task_id)
            if task.taken_back is not None and task.taken_back.key == key:
                return task  # The answer was lost, and this is its repeat.
            wanted = await self.with_merges(task, await change(task))
            try:
                task = await self._catalogue.take_back(task_id, wanted)
            finally:
                # It may have been done, and the answer lost.
                self._merging.forget(task_id)
        self._on_change(task_id)
        return task

    async def with_merges(self, task: Task, change: TakeBack) -> TakeBack:
        """Return a change with what was merged with the ranges in it, and hangs on them."""
        groups, _ = await self._merging.groups(task)
        if not groups:
            return change
        chunks = await self._ledger.chunks(process_book(task.id))
        merges = Merges(
            groups=groups,
            committed={c.chunk for c in await self._ledger.commits(merge_book(task.id))},
            rules={s.name: s.merging.by for s in task.spec.outputs if s.merging},
            files={chunk.number: chunk.lfn for chunk in chunks},
        )
        commits = await self._ledger.commits(process_book(task.id))
        hanging = hanging_on(change, merges, commits)
        return replace(change, merged_with=hanging.ranges, merges=hanging.merges)

    async def _closed_merges(self, task: Task) -> list[ClosedInterval]:
        if await merge_progress(self._ledger, task) is None:
            return []
        return await self._ledger.closed(merge_book(task.id))

    async def _places_of(self, task: Task, file: str) -> tuple[Place, ...]:
        dataset = await self._catalogue.dataset(task.dataset)
        lfn = _find(dataset, file)
        chunks = await self._ledger.chunks(process_book(task.id))
        return tuple((c.number, c.entry_start, c.entry_stop) for c in chunks if c.lfn == lfn)


def _place(row: ClosedInterval) -> Place:
    return row.chunk, row.entry_start, row.entry_stop


def _find(dataset: Dataset, name: str) -> Lfn:
    """Return the LFN of a file that is named by its LFN or by where it is."""
    for file in dataset.files:
        if name == file.lfn or name in file.pfns or name in map(without_secrets, file.pfns):
            return file.lfn
    raise NotFoundError(
        f"dataset {dataset.name} has no file {name}",
        hint=f"give one that 'evstream dataset show {dataset.name}' lists",
        dataset=dataset.name,
    )
