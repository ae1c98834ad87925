"""Transitions of intervals: statements that touch only the rows they change.

`evstream.domain.ledger_model.LedgerModel` says what each means; the schema's first
step draws where an interval lives. Each function runs within a transaction of the `Owner`; the
rules of cutting intervals into units are the domain's.
"""

# ruff: noqa: S608 - only this module's own lists of columns are put into statements

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple
from datetime import timedelta
from typing import Any

from msgspec import structs

from evstream.adapters.catalogue.database import Database, to_microseconds
from evstream.adapters.catalogue.desk import (
    CLOSED_COLUMNS,
    FAILED_COLUMNS,
    FREE_COLUMNS,
    FRESH,
    LEASE_COLUMNS,
    PART,
    RETURNED,
    SUSPECT,
    Desk,
    to_interval,
)
from evstream.domain.errors import ConflictError, NotFoundError
from evstream.domain.ledger import (
    BookPlace,
    BookRules,
    Failure,
    LeasedInterval,
    RangeReport,
    RunningUnit,
    Success,
    Within,
)
from evstream.domain.names import LeaseId, WorkerId
from evstream.domain.splitting import Chunk, count_units
from evstream.domain.states import Answer, RangeState

EXPIRED_AT_ONCE = 20_000
"""Intervals that are taken back in one transaction: others wait for it."""
_CHUNK_COLUMNS = "book, chunk, lfn, entry_start, entry_stop, high_water"


def insert_book(db: Database, book: int, rules: BookRules, chunks: Sequence[Chunk]) -> None:
    """Add a book and its chunks; one that is there stays as it is."""
    added = db.execute(
        "INSERT INTO book"
        " (book, events_per_range, failures_max, losses_max, bisections_max, entries, ranges)"
        " VALUES (?, ?, ?, ?, ?, 0, 0) ON CONFLICT (book) DO NOTHING RETURNING book",
        (book, *astuple(rules)),
    ).fetchall()
    if added:
        add_chunks(db, book, chunks)


def drop_book(db: Database, book: int) -> None:
    """Forget a book with its whole history; leases on it end."""
    # The book goes first: there are no sums to be kept then.
    for table in ("book", "chunk", "free", "lease", "done", "failed", "closed"):
        db.execute(f"DELETE FROM {table} WHERE book = ?", (book,))


def add_chunks(db: Database, book: int, chunks: Iterable[Chunk], bisections: int = 0) -> None:
    """Give a book more to do, and so many bisections for each range of it.

    A chunk whose number it has stays as it is.
    """
    step = require_book(db, book).events_per_range
    new = _new_chunks(db, book, chunks)
    db.insert(
        "chunk",
        _CHUNK_COLUMNS,
        [(book, c.number, c.lfn, c.entry_start, c.entry_stop, c.entry_start) for c in new],
    )
    entries = sum(chunk.entries for chunk in new)
    ranges = sum(count_units((c.entry_start, c.entry_stop), c.entry_start, step) for c in new)
    db.execute(
        "UPDATE book SET entries = entries + ?, ranges = ranges + ?,"
        " bisections_max = bisections_max + ? WHERE book = ?",
        (entries, ranges, bisections * ranges, book),
    )


def _new_chunks(db: Database, book: int, chunks: Iterable[Chunk]) -> list[Chunk]:
    """Return the chunks whose numbers a book does not have; of those alike, the first."""
    by_number: dict[int, Chunk] = {}
    for chunk in chunks:
        by_number.setdefault(chunk.number, chunk)
    if by_number:
        known = db.execute(
            "SELECT chunk FROM chunk WHERE book = ? AND chunk BETWEEN ? AND ?",
            (book, min(by_number), max(by_number)),
        )
        for (number,) in known:
            by_number.pop(number, None)
    return list(by_number.values())


def in_entry_order(rows: Iterable[tuple[Any, ...]]) -> list[LeasedInterval]:
    """Return rows of the table of leases as intervals, in order."""
    return sorted(
        map(to_interval, rows), key=lambda held: (held.book, held.chunk, held.entry_start)
    )


def require_book(db: Database, book: int) -> BookRules:
    """Return a book's rules, or raise `NotFoundError`."""
    row: tuple[int, int, int, int] | None = db.execute(
        "SELECT events_per_range, failures_max, losses_max, bisections_max"
        " FROM book WHERE book = ?",
        (book,),
    ).fetchone()
    if row is None:
        raise NotFoundError(f"there is no book {book}", book=book)
    return BookRules(*row)


def claim(
    desk: Desk,
    lease: LeaseId,
    worker: WorkerId,
    units: int,
    duration: timedelta,
    books: Sequence[int],
    within: Within | None = None,
) -> list[LeasedInterval]:
    """Lease up to so many units: a suspect, returned ones, fresh ones, then bisected ones."""
    held = desk.held(lease)
    if held:
        if held[0].worker != worker:
            raise ConflictError(f"lease {lease} is another worker's", lease=lease)
        return held
    if within is not None or desk.within:
        books = desk.look_within(within, books)
    taken: list[LeasedInterval] = []
    times = duration, desk.now + duration
    for kind in (SUSPECT, RETURNED, FRESH, PART) if units > 0 else ():
        for book in desk.has(kind, books):
            if kind == SUSPECT and desk.holds_suspect(worker):
                break
            while units > 0 and desk.next_ready(kind, book) is not None:
                row, end = desk.take(kind, book, 1 if kind == SUSPECT else units)
                place = row.book, row.chunk, row.entry_start, end
                counts = row.attempt, row.failures, row.losses
                piece = LeasedInterval(
                    lease, worker, *place, *counts, *times, bisected=bool(row.bisected)
                )
                desk.put(piece)
                taken.append(piece)
                units -= count_units((row.entry_start, end), row.grid_start, row.events_per_range)
                if kind == SUSPECT:
                    break
    return taken


def renew(
    desk: Desk,
    lease: LeaseId,
    worker: WorkerId,
    duration: timedelta,
    running: Sequence[RunningUnit],
) -> list[LeasedInterval]:
    """Extend a lease, note which units have begun; return what it holds."""
    for unit in running:
        place = unit.book, unit.chunk, unit.entry_start, unit.entry_stop
        row = desk.carve(lease, worker, place, 0)
        if row is not None:
            desk.put(structs.replace(row, running=True, cpu_s=unit.cpu_s))
    expires = desk.now + duration
    held = [
        structs.replace(row, duration=duration, expires=expires)
        for row in desk.held(lease)
        if row.worker == worker
    ]
    for row in held:
        desk.put(row)
    return held


def report(desk: Desk, word: RangeReport) -> Answer:
    """Take a worker's word; only the deletion of its lease makes it count."""
    place = word.book, word.chunk, word.entry_start, word.entry_stop
    row = desk.carve(word.lease, word.worker, place, word.attempt)
    if row is None:
        return Answer.ALREADY_ACCEPTED if desk.was_accepted(word) else Answer.SUPERSEDED
    if isinstance(word.outcome, Success):
        desk.commit(row, word.outcome)
    else:
        # Whoever reports has begun it, whether or not a renewal ever said so.
        desk.fail(structs.replace(row, running=True), word.outcome)
    desk.account(word.accounts)
    return Answer.ACCEPTED


def give_back(
    desk: Desk, lease: LeaseId, worker: WorkerId, places: Sequence[BookPlace] | None
) -> list[LeasedInterval]:
    """Take back what a worker does not want: all that a lease holds, or some intervals."""
    if places is None:
        held = [row for row in desk.held(lease) if row.worker == worker]
        places = [(row.book, row.chunk, row.entry_start, row.entry_stop) for row in held]
    carved = [desk.carve(lease, worker, place, 0) for place in places]
    given = sorted(
        (row for row in carved if row is not None),
        key=lambda row: (row.book, row.chunk, row.entry_start),
    )
    for row in given:
        desk.fail(row, Failure("lost", "given back by its worker", cpu_s=row.cpu_s))
    return given


# What never began goes out again as it was, whatever the book's rules: thousands of intervals by
# a few statements. Parts of a range are judged one by one, and so is what had begun.
_NEVER_BEGAN = "running = 0 AND bisected = 0"
_GO_OUT_AGAIN = f"""
    INSERT INTO free ({FREE_COLUMNS})
    SELECT book, chunk, entry_start, entry_stop, attempt + 1, failures, losses, bisected
    FROM lease WHERE {_NEVER_BEGAN} AND {{condition}}"""
_ARE_HISTORY = f"""
    INSERT INTO failed ({FAILED_COLUMNS})
    SELECT book, chunk, entry_start, entry_stop, attempt, lease, worker, running, 'lost', ?, '',
        cpu_s, 0.0
    FROM lease WHERE {{condition}} ORDER BY book, chunk, entry_start"""


def lose(desk: Desk, reason: str, condition: str, *values: object) -> list[LeasedInterval]:
    """Take back the leased intervals that meet a condition."""
    db = desk.database
    db.execute(_GO_OUT_AGAIN.format(condition=condition), values)
    db.execute(_ARE_HISTORY.format(condition=condition), (reason, *values))
    lost = in_entry_order(
        db.execute(f"DELETE FROM lease WHERE {condition} RETURNING {LEASE_COLUMNS}", values)
    )
    for row in lost:
        if row.running or row.bisected:
            desk.settle(row, Failure("lost", reason))
    return lost


_EXPIRED = """
    SELECT max(expires) FROM (
        SELECT expires FROM lease WHERE expires <= ? ORDER BY expires LIMIT ?
    ) AS first"""


def expire(desk: Desk) -> list[LeasedInterval]:
    """Take back leases whose time is over, about `EXPIRED_AT_ONCE` of those that ended first."""
    values = (to_microseconds(desk.now), EXPIRED_AT_ONCE)
    (until,) = desk.written_to().execute(_EXPIRED, values).fetchone()
    return [] if until is None else lose(desk, "lease expired", "expires <= ?", until)


_RESUME = """
    UPDATE lease SET expires = CASE WHEN expires > :now + duration THEN expires
        ELSE :now + duration END"""


def resume(db: Database) -> None:
    """Give every lease its whole time again."""
    db.execute(_RESUME, {"now": to_microseconds(db.now())})


def cancel(db: Database, book: int, reason: str) -> None:
    """Close all of a book that is not finished."""
    require_book(db, book)
    taken = (
        "DELETE FROM free WHERE book = ? RETURNING chunk, entry_start, entry_stop, attempt - 1",
        "SELECT chunk, high_water, entry_stop, 0 FROM chunk INDEXED BY chunk_fresh"
        " WHERE book = ? AND high_water < entry_stop",
        "DELETE FROM lease WHERE book = ? RETURNING chunk, entry_start, entry_stop, attempt",
    )
    intervals = sorted(row for statement in taken for row in db.execute(statement, (book,)))
    db.execute(
        "UPDATE chunk INDEXED BY chunk_fresh SET high_water = entry_stop"
        " WHERE book = ? AND high_water < entry_stop",
        (book,),
    )
    cancelled = int(RangeState.CANCELLED)
    rows = [(book, *place, cancelled, reason, attempt) for *place, attempt in intervals]
    db.insert("closed", CLOSED_COLUMNS, rows)


def leases(db: Database, book: int | None = None) -> list[LeasedInterval]:
    """Return every leased interval, or those of one book."""
    if book is None:
        return in_entry_order(db.execute(f"SELECT {LEASE_COLUMNS} FROM lease"))
    return in_entry_order(db.execute(f"SELECT {LEASE_COLUMNS} FROM lease WHERE book = ?", (book,)))
