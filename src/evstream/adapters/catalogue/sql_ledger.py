"""The ledger on a database: each operation is one transaction of the owner."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import msgspec

from evstream.adapters.catalogue.database import (
    Database,
    from_microseconds,
    to_microseconds,
)
from evstream.adapters.catalogue.desk import Desk
from evstream.adapters.catalogue.owner import Owner
from evstream.adapters.catalogue.reopening import discard, drop_chunks, redo
from evstream.adapters.catalogue.transitions import (
    EXPIRED_AT_ONCE,
    add_chunks,
    cancel,
    claim,
    drop_book,
    expire,
    give_back,
    insert_book,
    leases,
    lose,
    renew,
    report,
    require_book,
    resume,
)
from evstream.domain.accounts import Account
from evstream.domain.errors import NotFoundError
from evstream.domain.ledger import (
    CANCELLED,
    NODE,
    BookPlace,
    BookRules,
    ClosedInterval,
    Commit,
    FailedAttempt,
    Failure,
    LeasedInterval,
    Place,
    Progress,
    RangeReport,
    RunningUnit,
    Success,
    Within,
)
from evstream.domain.names import LeaseId, Lfn, WorkerId
from evstream.domain.outputs import OutputRecord
from evstream.domain.splitting import Chunk
from evstream.domain.states import Answer, RangeState
from evstream.domain.task import process_book, task_of
from evstream.ports.archive import Archive

T = TypeVar("T")

_BOOKS_AT_ONCE = 500
_PROGRESS_SELECT = (
    "SELECT book, entries, sent, running, finished, fatal, cancelled, ranges, ranges_finished,"
    " attempts, failed_attempts, cpu_s, lost_cpu_s, wall_s, bytes_in, own_failures,"
    " bisections, withdrawn FROM book"
)


def _progress(db: Database, book: int) -> Progress:
    found = _progress_of(db, [book])
    if book not in found:
        raise NotFoundError(f"there is no book {book}", book=book)
    return found[book]


def _progress_of(db: Database, books: Sequence[int]) -> dict[int, Progress]:
    found: dict[int, Progress] = {}
    for start in range(0, len(books), _BOOKS_AT_ONCE):
        some = list(books[start : start + _BOOKS_AT_ONCE])
        marks = ", ".join("?" * len(some))
        rows = db.execute(f"{_PROGRESS_SELECT} WHERE book IN ({marks})", some)
        found.update({book: Progress(*sums) for book, *sums in rows})
    return found


def _chunks(db: Database, book: int) -> list[Chunk]:
    rows = db.execute(
        "SELECT chunk, lfn, entry_start, entry_stop FROM chunk WHERE book = ? ORDER BY chunk",
        (book,),
    )
    return [Chunk(number, Lfn(lfn), start, stop) for number, lfn, start, stop in rows]


# A chunk that was claimed to its end may have returned work; most have one of both.
_READY_CHUNKS = (
    "SELECT chunk FROM chunk INDEXED BY chunk_fresh"
    " WHERE book = ? AND chunk >= ? AND high_water < entry_stop ORDER BY chunk LIMIT ?",
    "SELECT DISTINCT chunk FROM free WHERE book = ? AND chunk >= ? ORDER BY chunk LIMIT ?",
)


def _ready_chunks(db: Database, book: int, first: int, limit: int) -> list[int]:
    found = {
        int(chunk)
        for statement in _READY_CHUNKS
        for (chunk,) in db.execute(statement, (book, first, limit)).fetchall()
    }
    return sorted(found)[:limit]


_COMMIT_SELECT = (
    "SELECT chunk, entry_start, entry_stop, attempt, lease, worker,"
    " outputs, cpu_s, wall_s, bytes_in FROM done"
)
_CLOSED_SELECT = "SELECT chunk, entry_start, entry_stop, state, error, attempt FROM closed"
_IN_ORDER = "WHERE book = ? ORDER BY chunk, entry_start"


_COMMITS_AT_ONCE = 2000
"""Others have a turn before more are read."""
_FROM = "WHERE book = ? AND (chunk, entry_start) >= (?, ?) ORDER BY chunk, entry_start LIMIT ?"


def _commits(db: Database, book: int, place: tuple[int, int], limit: int) -> list[Commit]:
    rows = db.execute(f"{_COMMIT_SELECT} {_FROM}", (book, *place, limit))
    return _to_commits(book, rows)


def _commits_of(db: Database, book: int, place: tuple[int, int]) -> list[Commit]:
    require_book(db, book)
    return _commits(db, book, place, _COMMITS_AT_ONCE)


def _to_commits(book: int, rows: Iterable[tuple[Any, ...]]) -> list[Commit]:
    decoder = msgspec.json.Decoder(tuple[OutputRecord, ...])
    return [
        Commit(
            book,
            chunk,
            start,
            stop,
            attempt,
            lease,
            worker,
            Success(decoder.decode(outputs), *sums),
        )
        for chunk, start, stop, attempt, lease, worker, outputs, *sums in rows
    ]


def _closed(db: Database, book: int) -> list[ClosedInterval]:
    return _to_closed(book, db.execute(f"{_CLOSED_SELECT} {_IN_ORDER}", (book,)))


def _to_closed(book: int, rows: Iterable[tuple[Any, ...]]) -> list[ClosedInterval]:
    return [
        ClosedInterval(book, chunk, start, stop, RangeState(state), error, attempt)
        for chunk, start, stop, state, error, attempt in rows
    ]


def _finished(
    db: Database, book: int, chunk: int, entry_start: int, limit: int
) -> list[Commit | ClosedInterval]:
    values = (book, chunk, entry_start, limit)
    rows: list[Commit | ClosedInterval] = [
        *_commits(db, book, (chunk, entry_start), limit),
        *_to_closed(book, db.execute(f"{_CLOSED_SELECT} {_FROM}", values)),
    ]
    return sorted(rows, key=lambda row: (row.chunk, row.entry_start))[:limit]


def _failed(db: Database, book: int) -> list[FailedAttempt]:
    rows = db.execute(
        "SELECT chunk, entry_start, entry_stop, attempt, lease, worker, running,"
        " kind, error, log, cpu_s, wall_s"
        " FROM failed WHERE book = ? ORDER BY seq",
        (book,),
    )
    return [
        FailedAttempt(
            book, chunk, start, stop, attempt, lease, worker, bool(running), Failure(*failure)
        )
        for chunk, start, stop, attempt, lease, worker, running, *failure in rows
    ]


# ruff: noqa: S608 - names of a struct of ours
_ACCOUNTS = (
    f"SELECT {', '.join(Account.__struct_fields__)} FROM account WHERE book = ? ORDER BY site, bin"
)


def _accounts(db: Database, book: int) -> list[Account]:
    return [Account(*row) for row in db.execute(_ACCOUNTS, (book,))]


def _failed_by_nodes(db: Database, place: tuple[int, int, int, int]) -> list[WorkerId]:
    rows = db.execute(
        "SELECT worker FROM failed WHERE book = ? AND chunk = ? AND entry_start = ?"
        " AND attempt <= ? AND kind = ? ORDER BY attempt",
        (*place, NODE),
    )
    return [WorkerId(worker) for (worker,) in rows]


def _expire_and_note(desk: Desk) -> list[LeasedInterval]:
    lost = expire(desk)
    desk.written_to().execute("UPDATE expiry SET last = ?", (to_microseconds(desk.now),))
    return lost


def _resume(db: Database, unless: timedelta) -> None:
    (last,) = db.execute("SELECT last FROM expiry").fetchone()
    if from_microseconds(last) + unless <= db.now():
        resume(db)


class SqlLedger:
    """The `Ledger` port on the owner's database, whose time is the only one.

    Parameters
    ----------
    archive : Archive, optional
        Where books are read that the database has no more.
    shared : bool
        Whether other heads may be at the database: they are told when leases were last expired.
    """

    def __init__(
        self, owner: Owner, archive: Archive | None = None, *, shared: bool = False
    ) -> None:
        self._owner = owner
        self._expire = _expire_and_note if shared else expire
        self._archive = archive

    async def open_book(self, book: int, rules: BookRules, chunks: Sequence[Chunk]) -> None:
        """Add a book of work; opening the same one again changes nothing."""
        await self._owner.run(lambda db: insert_book(db, book, rules, chunks))

    async def drop_book(self, book: int) -> None:
        """Forget a book with its whole history; leases on it end."""
        await self._owner.run(lambda db: drop_book(db, book))

    async def books(self) -> list[int]:
        """Return the numbers of all books, in order."""
        return await self._owner.read(
            lambda db: [number for (number,) in db.execute("SELECT book FROM book ORDER BY book")]
        )

    async def add_chunks(self, book: int, chunks: Sequence[Chunk], bisections: int = 0) -> None:
        """Give a book more to do; a chunk whose number it has stays as it is."""
        await self._owner.run(lambda db: add_chunks(db, book, chunks, bisections))

    async def drop_chunks(self, book: int, chunks: Sequence[int], reason: str) -> int:
        """Take chunks out of a book, whatever became of them; return their entries."""
        return await self._owner.run(lambda db: drop_chunks(db, book, chunks, reason))

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
        return await self._owner.work(
            lambda desk: claim(desk, lease, worker, units, duration, books, within),
            [lease],
            new=True,
        )

    async def renew_lease(
        self,
        lease: LeaseId,
        worker: WorkerId,
        duration: timedelta,
        running: Sequence[RunningUnit] = (),
    ) -> list[LeasedInterval]:
        """Extend a lease and note which units have begun; return what it still holds."""
        return await self._owner.work(
            lambda desk: renew(desk, lease, worker, duration, running), [lease]
        )

    async def report_ranges(self, reports: Sequence[RangeReport]) -> list[Answer]:
        """Take reports in order; each counts only by deleting its lease."""
        return await self._owner.work(
            lambda desk: [report(desk, word) for word in reports], [word.lease for word in reports]
        )

    async def release_lease(
        self, lease: LeaseId, worker: WorkerId, places: Sequence[BookPlace] | None = None
    ) -> list[LeasedInterval]:
        """Give back what a lease still holds, all of it or some intervals."""
        return await self._owner.work(lambda desk: give_back(desk, lease, worker, places), [lease])

    async def resume_leases(self, unless: timedelta = timedelta()) -> None:
        """Give every lease its whole time again, unless a head has just expired some."""
        await self._owner.run(lambda db: _resume(db, unless))

    async def expire_leases(self) -> list[LeasedInterval]:
        """Take back the leases whose time is over, so many at a time as hold nobody up."""
        lost: list[LeasedInterval] = []
        while some := await self._owner.work(self._expire, []):
            lost += some
            if len(some) < EXPIRED_AT_ONCE:
                break
        return sorted(lost, key=lambda row: (row.book, row.chunk, row.entry_start))

    async def forget_worker(self, worker: WorkerId) -> list[LeasedInterval]:
        """Take back the leases of a worker that is known to be gone."""
        return await self._owner.work(
            lambda desk: lose(desk, "worker lost", "worker = ?", worker), []
        )

    async def cancel_book(self, book: int, reason: str = CANCELLED) -> None:
        """Close all that is not finished, with a reason; leases on it end."""
        await self._owner.run(lambda db: cancel(db, book, reason))

    async def redo(self, book: int, places: Sequence[Place], reason: str) -> int:
        """Send out again, with fresh counts, what lies wholly within intervals."""
        return await self._owner.run(lambda db: redo(db, book, places, reason))

    async def discard(self, book: int, places: Sequence[Place], reason: str) -> int:
        """Close as withdrawn what lies wholly within intervals."""
        return await self._owner.run(lambda db: discard(db, book, places, reason))

    async def progress(self, book: int) -> Progress:
        """Return entries by state, and sums over attempts."""
        found = await self._read(book, _progress)
        if found is None:
            assert self._archive is not None
            return await self._archive.progress(book)
        return found

    async def progress_of(self, books: Sequence[int]) -> dict[int, Progress]:
        """Return the progress of those of some books that there are."""
        return await self._owner.read(lambda db: _progress_of(db, books))

    async def chunks(self, book: int) -> list[Chunk]:
        """Return a book's chunks by number."""
        return await self._list(book, _chunks, lambda archive: archive.chunks(book))

    async def ready_chunks(self, book: int, first: int, limit: int) -> list[int]:
        """Return the numbers of chunks that a claim would find work in, in order."""
        return await self._owner.read(lambda db: _ready_chunks(db, book, first, limit))

    async def commits(self, book: int) -> list[Commit]:
        """Return what is done, in entry order."""
        found: list[Commit] = []
        # In pieces: of a hundred thousand rows others would wait for seconds.
        while True:
            place = (found[-1].chunk, found[-1].entry_start + 1) if found else (0, 0)
            some = await self._read(book, partial(_commits_of, place=place))
            if some is None:
                assert self._archive is not None
                return await self._archive.commits(book)
            found += some
            if len(some) < _COMMITS_AT_ONCE:
                return found

    async def finished(
        self, book: int, chunk: int, entry_start: int, limit: int
    ) -> list[Commit | ClosedInterval]:
        """Return what is done or closed from a place on, in entry order, at most so many."""

        async def archived(archive: Archive) -> list[Any]:
            rows: list[Commit | ClosedInterval] = [
                *await archive.commits(book),
                *await archive.closed(book),
            ]
            rows = [row for row in rows if (row.chunk, row.entry_start) >= (chunk, entry_start)]
            return sorted(rows, key=lambda row: (row.chunk, row.entry_start))[:limit]

        return await self._list(
            book, lambda db, number: _finished(db, number, chunk, entry_start, limit), archived
        )

    async def closed(self, book: int) -> list[ClosedInterval]:
        """Return what was set aside or cancelled, in entry order."""
        return await self._list(book, _closed, lambda archive: archive.closed(book))

    async def failed_attempts(self, book: int) -> list[FailedAttempt]:
        """Return attempts that came to nothing, in the order they ended."""
        return await self._list(book, _failed, lambda archive: archive.failed_attempts(book))

    async def accounts(self, book: int) -> list[Account]:
        """Return the sums of a book, by site and bin."""
        return await self._owner.read(lambda db: _accounts(db, book))

    async def failed_by_nodes(
        self, book: int, chunk: int, entry_start: int, attempt: int
    ) -> list[WorkerId]:
        """Return whose nodes failed the attempts on an interval, up to one of them, in order."""
        place = (book, chunk, entry_start, attempt)
        return await self._owner.read(lambda db: _failed_by_nodes(db, place))

    async def leases(self, book: int | None = None) -> list[LeasedInterval]:
        """Return every leased interval, or those of one book."""
        return await self._owner.read(lambda db: leases(db, book))

    async def _list(
        self,
        book: int,
        read: Callable[[Database, int], list[Any]],
        archived: Callable[[Archive], Awaitable[list[Any]]],
    ) -> list[Any]:
        """Read from a book, or from the archive if the database has it no more."""

        def operation(db: Database, number: int) -> list[Any]:
            require_book(db, number)
            return read(db, number)

        found = await self._read(book, operation)
        if found is None:
            assert self._archive is not None
            return await archived(self._archive)
        return found

    async def _read(self, book: int, read: Callable[[Database, int], T]) -> T | None:
        """Read from a book; None if it is one for the archive to tell of.

        That is so where the database has none of a task's books. An archive may be newer than a
        database that was restored, and tell of another task of the same number.
        """

        def operation(db: Database) -> T | None:
            try:
                return read(db, book)
            except NotFoundError:
                ranges = process_book(task_of(book))
                if self._archive is None or _progress_of(db, [ranges]):
                    raise
                return None

        return await self._owner.read(operation)
