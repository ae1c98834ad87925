"""Where the books of tasks go that ended long ago."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from evstream.domain.ledger import ClosedInterval, Commit, FailedAttempt, Progress
from evstream.domain.names import TaskId
from evstream.domain.splitting import Chunk


@dataclass(frozen=True, slots=True)
class BookRecord:
    """All that a ledger knows of a book on which nothing is leased."""

    progress: Progress
    chunks: Sequence[Chunk]
    commits: Sequence[Commit]
    closed: Sequence[ClosedInterval]
    failed: Sequence[FailedAttempt]

    @property
    def rows(self) -> int:
        """How many rows it has in all."""
        return sum(map(len, (self.chunks, self.commits, self.closed, self.failed)))


class Archive(Protocol):
    """Books that were put away whole, and are read as from the ledger.

    What is read of a book that is not there raises `NotFoundError`.
    """

    async def put(self, book: int, record: BookRecord) -> None:
        """Keep a book for good; again replaces it."""
        ...

    async def put_task(self, task: TaskId, document: dict[str, Any], books: Sequence[int]) -> None:
        """Keep what is known of a task beside its books, for people and programs.

        A book of its number that is none of its books is forgotten: another task left it, before
        the ledger was restored.
        """
        ...

    async def progress(self, book: int) -> Progress:
        """Return entries by state, and sums over attempts."""
        ...

    async def chunks(self, book: int) -> list[Chunk]:
        """Return a book's chunks by number."""
        ...

    async def commits(self, book: int) -> list[Commit]:
        """Return what was done, in entry order."""
        ...

    async def closed(self, book: int) -> list[ClosedInterval]:
        """Return what was set aside, cancelled or withdrawn, in entry order."""
        ...

    async def failed_attempts(self, book: int) -> list[FailedAttempt]:
        """Return attempts that came to nothing, in the order they ended."""
        ...
