"""What is known for good: datasets, files, tasks, receipts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from evstream.domain.accounts import Spent
from evstream.domain.dataset import Dataset, Fingerprint, SourceFile
from evstream.domain.ledger import BookRules
from evstream.domain.merging import MergeGroup
from evstream.domain.names import DatasetName, Lfn, TaskId
from evstream.domain.scheduling import Scheduling
from evstream.domain.splitting import Chunk
from evstream.domain.states import TaskState
from evstream.domain.task import TakeBack, Task, TaskSpec

EVERY = 1 << 62
"""More than there can be: a list without a limit."""


@dataclass(frozen=True, slots=True)
class ActiveTasks:
    """The tasks that had not ended when they were read, by number.

    Attributes
    ----------
    is_current : callable
        Whether they are so still, as far as is known here without asking: what another
        service has changed is noticed with the ledger's next operation.
    """

    tasks: Sequence[Task]
    is_current: Callable[[], bool]


class Catalogue(Protocol):
    """Datasets and tasks. Every call is one transaction and durable when it returns."""

    async def add_dataset(self, dataset: Dataset, indexes: dict[str, bytes]) -> None:
        """Register a dataset; the same one again changes nothing.

        Parameters
        ----------
        indexes : dict of str to bytes
            Source index of each file, by its fingerprint's digest.

        Raises
        ------
        ConflictError
            The name is taken by other content.
        """
        ...

    async def dataset(self, name: DatasetName) -> Dataset:
        """Return a dataset with its files in order.

        Raises
        ------
        NotFoundError
        """
        ...

    async def datasets(
        self, after: str = "", limit: int = EVERY
    ) -> list[tuple[DatasetName, int, int]]:
        """Return name, number of files and bytes of datasets behind a name, by name."""
        ...

    async def file(self, fingerprint: Fingerprint) -> SourceFile:
        """Return a file with this content that is in a dataset.

        Raises
        ------
        NotFoundError
        """
        ...

    async def files_named(
        self, lfns: Sequence[Lfn]
    ) -> dict[Lfn, list[tuple[DatasetName, SourceFile]]]:
        """Return the files of some names, with their datasets, the latest registered first.

        A name that no dataset has gets an empty list; what was retracted is not found.
        """
        ...

    async def source_index(self, digest: str) -> bytes | None:
        """Return the source index of a file, if it is kept; it is safe to lose."""
        ...

    async def add_task(
        self,
        spec: TaskSpec,
        request_id: str,
        book: BookRules,
        chunks: Sequence[Chunk],
        submitter: str = "",
    ) -> Task:
        """Create a task and open its book; a known request id gives its task.

        A chained task gets an empty dataset of its own.
        """
        ...

    async def forget_request_ids(self, life: timedelta, limit: int) -> int:
        """Forget the request ids of tasks that ended so long ago: they are free for others.

        The tasks keep them, to be shown. Those of a task that is opened again meanwhile stay
        known.

        Returns
        -------
        int
            How many, ``limit`` at most; 0 once there are none left to forget.
        """
        ...

    async def take_outputs(
        self, task: TaskId, files: Sequence[SourceFile], indexes: dict[str, bytes]
    ) -> None:
        """Give a chained task more files: they are put into its dataset, and into its book.

        The same file again changes nothing.

        Parameters
        ----------
        files : sequence of SourceFile
            Each with its `Origin`.
        indexes : dict of str to bytes
            Source index of each file, by its fingerprint's digest.

        Raises
        ------
        ConflictError
            The task has ended, or the number of a file is that of another output.
        """
        ...

    async def takers(self, task: TaskId) -> list[TaskId]:
        """Return the tasks that take outputs of a task, by number."""
        ...

    async def task(self, task: TaskId) -> Task:
        """Return a task.

        Raises
        ------
        NotFoundError
        """
        ...

    async def tasks(
        self, states: Sequence[TaskState] | None = None, *, after: int = 0, limit: int = EVERY
    ) -> list[Task]:
        """Return tasks behind a number, all or those in the given states, by number."""
        ...

    async def active_tasks(self) -> ActiveTasks:
        """Return the tasks that have not ended."""
        ...

    async def spent(self) -> list[Spent]:
        """Return what the work of each submitter's tasks took, by their names."""
        ...

    async def start_merging(self, task: TaskId, rules: BookRules, chunks: Sequence[Chunk]) -> Task:
        """Move a running task to merging and open its merge book; again is no error."""
        ...

    async def add_merges(
        self, task: TaskId, rules: BookRules, groups: Sequence[MergeGroup]
    ) -> None:
        """Give a task more to merge: each group is a chunk of its merge book.

        The book is opened if it is not there. The same group again changes nothing.

        Raises
        ------
        NotFoundError
            There is no such task.
        ConflictError
            It has ended, or another group has the number of one: others plan beside.
        """
        ...

    async def merges(self, task: TaskId) -> list[MergeGroup]:
        """Return a task's merge groups by number."""
        ...

    async def merge(self, task: TaskId, number: int) -> MergeGroup:
        """Return one merge group.

        Raises
        ------
        NotFoundError
        """
        ...

    async def pause_task(self, task: TaskId, reason: str = "") -> Task:
        """Move an active task to paused; again is no error, and leaves the first reason.

        Raises
        ------
        ConflictError
            It has ended.
        """
        ...

    async def resume_task(self, task: TaskId) -> Task:
        """Move a paused task to running; one that is not paused stays as it is.

        Raises
        ------
        ConflictError
            It has ended.
        """
        ...

    async def reschedule(self, task: TaskId, scheduling: Scheduling) -> Task:
        """Give a task another place among others.

        Raises
        ------
        ConflictError
            It has ended.
        """
        ...

    async def take_back(self, task: TaskId, change: TakeBack) -> Task:
        """Send work of a task out again, withdraw or drop it, and open the task again.

        Files that are retracted leave the dataset with their chunks. An ended task runs
        again, and has no receipt any more; a paused one stays paused, with its reason.
        A change whose key was the last one changes nothing.
        """
        ...

    async def end_task(
        self,
        task: TaskId,
        state: TaskState,
        reason: str,
        receipt: dict[str, Any] | None,
    ) -> Task:
        """Move a task to a final state with its receipt; the first end stays."""
        ...

    async def drop_books(self, task: Task) -> None:
        """Forget the books of an ended task, which are archived; it cannot be opened again.

        Raises
        ------
        ConflictError
            It is not as it was given: it was opened again meanwhile.
        """
        ...

    async def output_store(self, identity: str = "") -> str:
        """Return the id of the store that outputs are in; empty if there is none.

        Where none is known yet and one is given, it is this one from now on.
        """
        ...

    async def receipt(self, task: TaskId) -> dict[str, Any]:
        """Return the receipt of an ended task.

        Raises
        ------
        NotFoundError
            No such task, or it has not ended with a receipt.
        """
        ...

    async def now(self) -> datetime:
        """Return the database's time, aware, in UTC."""
        ...
