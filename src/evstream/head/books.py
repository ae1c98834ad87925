"""Which books of the ledger a task has."""

from __future__ import annotations

from evstream.domain.errors import NotFoundError
from evstream.domain.ledger import Progress
from evstream.domain.merging import Merged
from evstream.domain.task import Task, merge_book, process_book
from evstream.ports import Catalogue, Ledger


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


async def merges_of(catalogue: Catalogue, ledger: Ledger, task: Task) -> list[Merged]:
    """Return the merges that are committed, those first that were made of others."""
    if await merge_progress(ledger, task) is None:
        return []
    commits = {commit.chunk: commit for commit in await ledger.commits(merge_book(task.id))}
    groups = [g for g in await catalogue.merges(task.id) if g.number in commits]
    groups.sort(key=lambda group: (-group.level, group.covers))
    return [Merged(group, commits[group.number].success.outputs[0]) for group in groups]


async def books_of(ledger: Ledger, task: Task) -> list[int]:
    """Return the books that a task has: its ranges', and its merges' if there are any."""
    books = [process_book(task.id)]
    if await merge_progress(ledger, task) is not None:
        books.append(merge_book(task.id))
    return books
