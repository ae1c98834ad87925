"""Archiving: the books of tasks that ended long ago leave the database."""

from __future__ import annotations

import logging
from datetime import timedelta

import msgspec

from evstream.domain.errors import ConflictError, NotFoundError
from evstream.domain.names import TaskId
from evstream.domain.task import Task, task_of
from evstream.head.books import books_of
from evstream.head.turns import Turns
from evstream.ports import Catalogue, Ledger
from evstream.ports.archive import Archive, BookRecord

log = logging.getLogger(__name__)


class Archiving:
    """Puts away the books of ended tasks; outputs, failures and receipts are there as before.

    Parameters
    ----------
    after : timedelta
        How long after its end a task is archived by `archive_old`; zero for never.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        ledger: Ledger,
        archive: Archive | None,
        turns: Turns,
        after: timedelta,
    ) -> None:
        self._catalogue = catalogue
        self._ledger = ledger
        self._archive = archive
        self._turns = turns
        self._after = after

    async def archive(self, task_id: TaskId) -> int:
        """Put a task's books into the archive and drop them; return how many rows that were.

        A kill in between leaves the books where they were. Again is no error.

        Raises
        ------
        ConflictError
            There is no archive; the task has not ended, was opened again meanwhile, or one that
            takes its outputs has not ended.
        """
        if self._archive is None:
            raise ConflictError(
                "this service has no archive", hint="leave the task's books where they are"
            )
        async with self._turns.of(task_id):
            task = await self._catalogue.task(task_id)
            await self._refuse_active(task)
            there = set(await self._ledger.books())
            books = [book for book in await books_of(self._ledger, task) if book in there]
            rows = 0
            for book in books:
                record = await self._record(book)
                await self._archive.put(book, record)
                rows += record.rows
            if books:
                await self._archive.put_task(task_id, await self._document(task), books)
                await self._catalogue.drop_books(task)
            return rows

    async def archive_old(self) -> int:
        """Archive the tasks that ended long enough ago; return how many."""
        if not self._after or self._archive is None:
            return 0
        before = await self._catalogue.now() - self._after
        count = 0
        # What has books is little beside what has ended in years.
        for number in sorted({task_of(book) for book in await self._ledger.books()}):
            task = await self._catalogue.task(number)
            if task.ended is None or task.ended > before:
                continue
            try:
                # Another head may have been quicker.
                count += bool(await self.archive(task.id))
            except ConflictError as error:
                log.info("task %s is not archived: %s", task.id, error, extra={"task": task.id})
        return count

    async def _refuse_active(self, task: Task) -> None:
        if not task.state.final:
            raise ConflictError(
                f"task {task.id} is {task.state.value}", hint="wait for its end, or cancel it"
            )
        for taker in await self._catalogue.takers(task.id):
            if not (await self._catalogue.task(taker)).state.final:
                raise ConflictError(
                    f"task {taker} takes outputs of task {task.id}", hint="wait for its end"
                )

    async def _record(self, book: int) -> BookRecord:
        return BookRecord(
            await self._ledger.progress(book),
            await self._ledger.chunks(book),
            await self._ledger.commits(book),
            await self._ledger.closed(book),
            await self._ledger.failed_attempts(book),
        )

    async def _document(self, task: Task) -> dict[str, object]:
        try:
            receipt = await self._catalogue.receipt(task.id)
        except NotFoundError:
            receipt = None
        return {"task": msgspec.to_builtins(task), "receipt": receipt}
