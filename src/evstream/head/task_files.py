"""The chunks and files of active tasks, read once."""

from __future__ import annotations

from collections.abc import Collection

from evstream.domain.dataset import SourceFile
from evstream.domain.names import Lfn, TaskId
from evstream.domain.splitting import Chunk
from evstream.domain.task import Task, task_of
from evstream.ports import Catalogue, Ledger


class TaskFiles:
    """Remembers what never changes once it is written, by task and by book.

    Chained tasks get more of both: what is not known is read again.
    """

    def __init__(self, catalogue: Catalogue, ledger: Ledger) -> None:
        self._catalogue = catalogue
        self._ledger = ledger
        self._files: dict[TaskId, dict[Lfn, SourceFile]] = {}
        self._chunks: dict[int, dict[int, Chunk]] = {}

    async def chunk(self, book: int, number: int) -> Chunk | None:
        """Return a chunk of a book; None if it was taken out."""
        if number not in self._chunks.get(book, {}):
            chunks = await self._ledger.chunks(book)
            self._chunks[book] = {chunk.number: chunk for chunk in chunks}
        return self._chunks[book].get(number)

    def chunks(self, book: int) -> list[Chunk]:
        """Return the chunks of a book that are known since one of them was asked for."""
        return list(self._chunks[book].values())

    async def file(self, task: Task, lfn: Lfn) -> SourceFile | None:
        """Return a file of a task's dataset; None if it was taken back."""
        if lfn not in self._files.get(task.id, {}):
            dataset = await self._catalogue.dataset(task.dataset)
            self._files[task.id] = {file.lfn: file for file in dataset.files}
        return self._files[task.id].get(lfn)

    def forget_ended(self, active: Collection[TaskId]) -> None:
        """Forget all tasks but some."""
        for task in [task for task in self._files if task not in active]:
            del self._files[task]
        for book in [book for book in self._chunks if task_of(book) not in active]:
            del self._chunks[book]
