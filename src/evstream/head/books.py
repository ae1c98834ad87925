"""Which books of the ledger a task has."""

from __future__ import annotations

from evstream.domain.errors import NotFoundError
from evstream.domain.ledger import Progress
from evstream.domain.task import Task, merge_book, process_book
from evstream.ports import Ledger


async def merge_progress(ledger: Ledger, task: Task) -> Progress | None:
    """Return how far a task's merges are; None if it has begun none.

    A task that is cancelled before its ranges are done never gets a merge book.
    """
    if not task.spec.merges:
        return None
    try:
        return await ledger.progress(merge_book(task.id))
    except NotFoundError:
        return None


async def books_of(ledger: Ledger, task: Task) -> list[int]:
    """Return the books that a task has: its ranges', and its merges' if there are any."""
    books = [process_book(task.id)]
    if await merge_progress(ledger, task) is not None:
        books.append(merge_book(task.id))
    return books
