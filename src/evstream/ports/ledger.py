"""The ledger as a database keeps it. `evstream.domain.ledger` defines the meaning."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

from evstream.domain.accounts import Account
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
from evstream.domain.names import LeaseId, WorkerId
from evstream.domain.splitting import Chunk
from evstream.domain.states import Answer


class Leasing(Protocol):
    """What workers ask of a ledger: work that is leased, reported and taken back.

    Every call is one transaction; when it returns, its effect survives a kill. Time
    is the database's.
    """

    async def claim_ranges(
        self,
        lease: LeaseId,
        worker: WorkerId,
        units: int,
        duration: timedelta,
        books: Sequence[int],
        within: Within | None = None,
    ) -> list[LeasedInterval]:
        """Lease up to ``units`` units of work, returned work first.

        Books are looked at in the order given; one that is not open holds nothing. With
        ``within``, nothing but the chunks that it names is looked at, in the same order. A
        repeated lease id gives what it gave. An empty answer does not mean that
        the work is done: others may lose theirs.

        Raises
        ------
        ConflictError
            The lease id is another worker's.
        """
        ...

    async def renew_lease(
        self,
        lease: LeaseId,
        worker: WorkerId,
        duration: timedelta,
        running: Sequence[RunningUnit] = (),
    ) -> list[LeasedInterval]:
        """Extend a lease and note which units have begun; return what it still holds."""
        ...

    async def report_ranges(self, reports: Sequence[RangeReport]) -> list[Answer]:
        """Take reports in order; each counts only by deleting its lease."""
        ...

    async def release_lease(
        self, lease: LeaseId, worker: WorkerId, places: Sequence[BookPlace] | None = None
    ) -> list[LeasedInterval]:
        """Give back what a lease still holds: all of it, or what lies within some intervals."""
        ...

    async def resume_leases(self, unless: timedelta = timedelta()) -> None:
        """Give every lease its whole time again: nobody could renew while the head was away.

        Parameters
        ----------
        unless : timedelta
            Not if another head has expired leases within this time: with that one they could.
        """
        ...

    async def expire_leases(self) -> list[LeasedInterval]:
        """Take back the leases whose time is over."""
        ...

    async def forget_worker(self, worker: WorkerId) -> list[LeasedInterval]:
        """Take back the leases of a worker that is known to be gone."""
        ...

    async def leases(self, book: int | None = None) -> list[LeasedInterval]:
        """Return every leased interval, or those of one book."""
        ...


class Ledger(Leasing, Protocol):
    """Books of chunks, and claims and reports on them."""

    async def open_book(self, book: int, rules: BookRules, chunks: Sequence[Chunk]) -> None:
        """Add a book of work; opening the same one again changes nothing."""
        ...

    async def add_chunks(self, book: int, chunks: Sequence[Chunk], bisections: int = 0) -> None:
        """Give a book more to do, and so many bisections for each range of it.

        A chunk whose number it has stays as it is.

        Raises
        ------
        NotFoundError
        """
        ...

    async def drop_chunks(self, book: int, chunks: Sequence[int], reason: str) -> int:
        """Take chunks out of a book, whatever became of them; return their entries.

        What was committed there is no part of the result any more; leases end, and their
        late reports are superseded. The numbers must not be used again.
        """
        ...

    async def drop_book(self, book: int) -> None:
        """Forget a book with its whole history; leases on it end. Again is no error."""
        ...

    async def books(self) -> list[int]:
        """Return the numbers of all books, in order."""
        ...

    async def cancel_book(self, book: int, reason: str = CANCELLED) -> None:
        """Close all that is not finished, with a reason; leases on it end."""
        ...

    async def redo(self, book: int, places: Sequence[Place], reason: str) -> int:
        """Send out again, with fresh counts, what lies wholly within intervals.

        What was committed there is no part of the result any more; leases end, and their
        late reports are superseded. Returns the number of entries that go out again;
        those that nobody has claimed yet go out anyway, and do not count.
        """
        ...

    async def discard(self, book: int, places: Sequence[Place], reason: str) -> int:
        """Close as withdrawn what lies wholly within intervals, whatever became of it.

        Returns the number of entries that were not withdrawn before. Fresh entries are
        withdrawn where an interval holds all of a chunk's.
        """
        ...

    async def progress(self, book: int) -> Progress:
        """Return entries by state, and sums over attempts.

        Raises
        ------
        NotFoundError
        """
        ...

    async def progress_of(self, books: Sequence[int]) -> dict[int, Progress]:
        """Return the progress of those of some books that there are."""
        ...

    async def chunks(self, book: int) -> list[Chunk]:
        """Return a book's chunks by number."""
        ...

    async def ready_chunks(self, book: int, first: int, limit: int) -> list[int]:
        """Return the numbers of chunks that a claim would find work in, in order.

        From ``first`` on, and at most so many. A book that is not open has none.
        """
        ...

    async def commits(self, book: int) -> list[Commit]:
        """Return what is done, in entry order.

        What is committed or taken back while it is read may be there or not.
        """
        ...

    async def finished(
        self, book: int, chunk: int, entry_start: int, limit: int
    ) -> list[Commit | ClosedInterval]:
        """Return what is done or closed from a place on, in entry order, at most so many."""
        ...

    async def closed(self, book: int) -> list[ClosedInterval]:
        """Return what was set aside or cancelled, in entry order."""
        ...

    async def failed_attempts(self, book: int) -> list[FailedAttempt]:
        """Return attempts that came to nothing, in the order they ended."""
        ...

    async def accounts(self, book: int) -> list[Account]:
        """Return what work on a book took, by site and bin of time, in this order.

        What was accepted is counted once, for good: it stays when the work is taken back, and
        when the book is archived. None for a book that there never was.
        """
        ...

    async def failed_by_nodes(
        self, book: int, chunk: int, entry_start: int, attempt: int
    ) -> list[WorkerId]:
        """Return whose nodes failed the attempts on an interval, up to one of them, in order."""
        ...
