"""Transitions of intervals: statements that touch only the rows they change.

`evstream.domain.ledger_model.LedgerModel` says what each means; sqlite_schema.sql draws where an
interval lives. Each function runs within a transaction of the `Owner`; the rules of
cutting intervals into units are the domain's.
"""

# ruff: noqa: S608 - only this module's own lists of columns are put into statements

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple
from datetime import timedelta
from typing import Any

import msgspec

from evstream.adapters.catalogue.database import (
    MICROSECOND,
    Database,
    from_microseconds,
    to_microseconds,
)
from evstream.domain.errors import ConflictError, NotFoundError
from evstream.domain.ledger import (
    SUSPECT_LOSSES,
    BookRules,
    Failure,
    LeasedInterval,
    RangeReport,
    RunningUnit,
    Success,
    aftermath,
)
from evstream.domain.names import LeaseId, WorkerId
from evstream.domain.splitting import Chunk, count_units, units_end
from evstream.domain.states import Answer, RangeState

_LEASE_COLUMNS = (
    "lease, worker, book, chunk, entry_start, entry_stop, attempt, failures, losses,"
    " bisected, duration, expires, running, cpu_s"
)
_INSERT_LEASE = f"INSERT INTO lease ({_LEASE_COLUMNS}) VALUES ({', '.join('?' * 14)})"
_CARVE = f"""
    DELETE FROM lease
    WHERE lease = :lease AND book = :book AND chunk = :chunk AND entry_start = (
        SELECT max(entry_start) FROM lease
        WHERE lease = :lease AND book = :book AND chunk = :chunk AND entry_start <= :start)
      AND entry_stop >= :stop AND worker = :worker
      AND attempt = coalesce(CAST(:attempt AS INTEGER), attempt)
    RETURNING {_LEASE_COLUMNS}"""
_FREE_COLUMNS = "book, chunk, entry_start, entry_stop, attempt, failures, losses, bisected"
_FREE_SELECT = (
    "SELECT free.book, free.chunk, free.entry_start, free.entry_stop, attempt, failures,"
    " losses, bisected, chunk.entry_start, events_per_range"
    " FROM free INDEXED BY {index} CROSS JOIN chunk USING (book, chunk)"
    " CROSS JOIN book USING (book)"
)
# The planner may take the primary key for as good, and then walk over finished chunks.
_FRESH_SELECT = (
    "SELECT chunk.book, chunk, high_water, entry_stop, 1, 0, 0, 0, entry_start, events_per_range"
    " FROM chunk INDEXED BY chunk_fresh CROSS JOIN book USING (book)"
)
_FRESH, _RETURNED, _SUSPECT, _PART = 0, 1, 2, 3
_IS_SUSPECT = f"losses >= {SUSPECT_LOSSES}"
_IS_RETURNED = f"losses < {SUSPECT_LOSSES} AND bisected = 0"
_IS_PART = f"losses < {SUSPECT_LOSSES} AND bisected = 1"
_RETURNED_SELECT = _FREE_SELECT.format(index="free_returned")
_SUSPECT_SELECT = _FREE_SELECT.format(index="free_suspect")
_PART_SELECT = _FREE_SELECT.format(index="free_part")
# What is ready in a book, in the order of claims.
_FREE_ORDER = "ORDER BY free.chunk, free.entry_start LIMIT :units"
_READY = (
    f"{_FRESH_SELECT} WHERE chunk.book = :book AND high_water < entry_stop"
    " ORDER BY chunk LIMIT :units",
    f"{_RETURNED_SELECT} WHERE free.book = :book AND {_IS_RETURNED} {_FREE_ORDER}",
    f"{_SUSPECT_SELECT} WHERE free.book = :book AND {_IS_SUSPECT} {_FREE_ORDER}",
    f"{_PART_SELECT} WHERE free.book = :book AND {_IS_PART} {_FREE_ORDER}",
)
_READY_BOOKS = f"""
    WITH wanted (value) AS (VALUES {{}})
    SELECT value,
        EXISTS (SELECT 1 FROM chunk INDEXED BY chunk_fresh
                WHERE chunk.book = value AND high_water < entry_stop),
        EXISTS (SELECT 1 FROM free INDEXED BY free_returned
                WHERE free.book = value AND {_IS_RETURNED}),
        EXISTS (SELECT 1 FROM free INDEXED BY free_suspect
                WHERE free.book = value AND {_IS_SUSPECT}),
        EXISTS (SELECT 1 FROM free INDEXED BY free_part
                WHERE free.book = value AND {_IS_PART})
    FROM wanted"""
_HOLDS_SUSPECT = f"SELECT 1 FROM lease WHERE worker = ? AND {_IS_SUSPECT} LIMIT 1"
INSERT_FREE = f"INSERT INTO free ({_FREE_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_INSERT_CHUNK = """
    INSERT INTO chunk (book, chunk, lfn, entry_start, entry_stop, high_water)
    VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (book, chunk) DO NOTHING"""
_INSERT_DONE = """
    INSERT INTO done (book, chunk, entry_start, entry_stop, attempt, lease, worker,
        outputs, cpu_s, wall_s, bytes_in)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
INSERT_FAILED = """
    INSERT INTO failed (book, chunk, entry_start, entry_stop, attempt, lease, worker,
        running, kind, error, log, cpu_s, wall_s)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
INSERT_CLOSED = """
    INSERT INTO closed (book, chunk, entry_start, entry_stop, state, error, attempt)
    VALUES (?, ?, ?, ?, ?, ?, ?)"""
_WAS_DONE = """
    SELECT 1 FROM done
    WHERE book = :book AND chunk = :chunk AND entry_start = :start AND entry_stop = :stop
      AND attempt = :attempt AND lease = :lease"""
_WAS_FAILED = """
    SELECT 1 FROM failed
    WHERE book = :book AND chunk = :chunk AND entry_start = :start AND entry_stop = :stop
      AND attempt = :attempt AND lease = :lease AND kind NOT IN ('lost', 'retracted')"""


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


def add_chunks(db: Database, book: int, chunks: Iterable[Chunk], bisections: int = 0) -> None:
    """Give a book more to do, and so many bisections for each range of it.

    A chunk whose number it has stays as it is.
    """
    step = require_book(db, book).events_per_range
    entries = ranges = 0
    for chunk in chunks:
        start, stop = chunk.entry_start, chunk.entry_stop
        row = (book, chunk.number, chunk.lfn, start, stop, start)
        if db.execute(_INSERT_CHUNK, row).rowcount:
            entries += chunk.entries
            ranges += count_units((start, stop), start, step)
    db.execute(
        "UPDATE book SET entries = entries + ?, ranges = ranges + ?,"
        " bisections_max = bisections_max + ? WHERE book = ?",
        (entries, ranges, bisections * ranges, book),
    )


def _to_interval(row: tuple[Any, ...]) -> LeasedInterval:
    *_, bisected, duration, expires, running, cpu_s = row
    times = duration * MICROSECOND, from_microseconds(expires)
    fields = (*row[:9], *times, bool(running), cpu_s, bool(bisected))
    return LeasedInterval(*fields)


def _to_row(interval: LeasedInterval, duration: int, expires: int) -> tuple[Any, ...]:
    return (
        interval.lease,
        interval.worker,
        interval.book,
        interval.chunk,
        interval.entry_start,
        interval.entry_stop,
        interval.attempt,
        interval.failures,
        interval.losses,
        interval.bisected,
        duration,
        expires,
        interval.running,
        interval.cpu_s,
    )


def _in_entry_order(rows: Iterable[tuple[Any, ...]]) -> list[LeasedInterval]:
    intervals = map(_to_interval, rows)
    return sorted(intervals, key=lambda held: (held.book, held.chunk, held.entry_start))


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
    db: Database,
    lease: LeaseId,
    worker: WorkerId,
    units: int,
    duration: timedelta,
    books: Sequence[int],
) -> list[LeasedInterval]:
    """Lease up to so many units: a suspect, returned ones, fresh ones, then bisected ones."""
    held = _in_entry_order(
        db.execute(f"SELECT {_LEASE_COLUMNS} FROM lease WHERE lease = ?", (lease,))
    )
    if held:
        if held[0].worker != worker:
            raise ConflictError(f"lease {lease} is another worker's", lease=lease)
        return held
    taken: list[LeasedInterval] = []
    now = db.now()
    if units <= 0:
        return taken
    suspects = 0 if db.execute(_HOLDS_SUSPECT, (worker,)).fetchone() else 1
    for kind, book in _places(db, books):
        wanted = min(units, suspects) if kind == _SUSPECT else units
        for row in db.execute(_READY[kind], {"book": book, "units": wanted}).fetchall():
            end = _cut(db, row, wanted, fresh=kind == _FRESH)
            _, chunk, start, _, attempt, failures, losses, bisected, *grid = row
            place, counts = (book, chunk, start, end), (attempt, failures, losses)
            times = (duration, now + duration)
            piece = LeasedInterval(lease, worker, *place, *counts, *times, bisected=bool(bisected))
            taken_units = count_units((start, end), *grid)
            units, wanted = units - taken_units, wanted - taken_units
            suspects -= kind == _SUSPECT
            taken.append(piece)
            if wanted <= 0:
                break
        if units <= 0:
            break
    expires = to_microseconds(now + duration)
    db.executemany(
        _INSERT_LEASE, [_to_row(piece, duration // MICROSECOND, expires) for piece in taken]
    )
    return taken


def _places(db: Database, books: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield where to look for ready work, in order: (what kind, which book)."""
    kinds = (_SUSPECT, _RETURNED, _FRESH, _PART)
    if len(books) == 1:
        yield from ((kind, books[0]) for kind in kinds)
    else:
        # A head lists every running task: ask once which of them have anything at all.
        wanted = ", ".join(["(CAST(? AS INTEGER))"] * len(books))
        found = db.execute(_READY_BOOKS.format(wanted), tuple(books)).fetchall() if books else []
        yield from ((kind, book) for kind in kinds for book, *has in found if has[kind])


def _cut(db: Database, row: tuple[Any, ...], units: int, fresh: bool) -> int:
    """Take the first units of a ready interval, and return their end; the rest stays ready."""
    book, chunk, start, stop, *counts, grid_start, step = row
    end = units_end((start, stop), grid_start, step, units)
    if fresh:
        db.execute(
            "UPDATE chunk SET high_water = ? WHERE book = ? AND chunk = ?", (end, book, chunk)
        )
    else:
        db.execute(
            "DELETE FROM free WHERE book = ? AND chunk = ? AND entry_start = ?",
            (book, chunk, start),
        )
        if end < stop:
            db.execute(INSERT_FREE, (book, chunk, end, stop, *counts))
    return end


def _carve(
    db: Database,
    lease: LeaseId,
    worker: WorkerId,
    unit: RunningUnit | RangeReport,
    attempt: int | None,
) -> tuple[Any, ...] | None:
    """Take a unit out of the lease row that holds it, leaving the rest leased.

    CPU seconds go with the piece that is taken, so that none is counted twice; so does
    the word that it has begun.
    """
    start, stop = unit.entry_start, unit.entry_stop
    if start >= stop:
        return None
    rows = db.execute(
        _CARVE,
        {
            "lease": lease,
            "worker": worker,
            "book": unit.book,
            "chunk": unit.chunk,
            "start": start,
            "stop": stop,
            "attempt": attempt,
        },
    ).fetchall()
    if not rows:
        return None
    row: tuple[Any, ...] = rows[0]
    head, (row_start, row_stop), tail = row[:4], row[4:6], row[6:]
    if row_start < start:
        db.execute(_INSERT_LEASE, (*head, row_start, start, *tail[:-2], False, 0.0))
    if stop < row_stop:
        db.execute(_INSERT_LEASE, (*head, stop, row_stop, *tail[:-2], False, 0.0))
    return (*head, start, stop, *tail)


def renew(
    db: Database,
    lease: LeaseId,
    worker: WorkerId,
    duration: timedelta,
    running: Sequence[RunningUnit],
) -> list[LeasedInterval]:
    """Extend a lease, note which units have begun; return what it holds."""
    for unit in running:
        row = _carve(db, lease, worker, unit, None)
        if row is not None:
            db.execute(_INSERT_LEASE, (*row[:-2], True, unit.cpu_s))
    return _in_entry_order(
        db.execute(
            f"UPDATE lease SET duration = ?, expires = ? WHERE lease = ? AND worker = ?"
            f" RETURNING {_LEASE_COLUMNS}",
            (duration // MICROSECOND, to_microseconds(db.now() + duration), lease, worker),
        ).fetchall()
    )


def report(db: Database, word: RangeReport) -> Answer:
    """Take a worker's word; only the deletion of its lease makes it count."""
    row = _carve(db, word.lease, word.worker, word, word.attempt)
    outcome = word.outcome
    if row is None:
        return _answer_late(db, word)
    if isinstance(outcome, Success):
        db.execute(
            _INSERT_DONE,
            (
                word.book,
                word.chunk,
                word.entry_start,
                word.entry_stop,
                word.attempt,
                word.lease,
                word.worker,
                msgspec.json.encode(outcome.outputs).decode(),
                outcome.cpu_s,
                outcome.wall_s,
                outcome.bytes_in,
            ),
        )
    else:
        # Whoever reports has begun it, whether or not a renewal ever said so.
        _fail(db, [(_to_interval((*row[:-2], True, row[-1])), outcome)])
    return Answer.ACCEPTED


def _answer_late(db: Database, word: RangeReport) -> Answer:
    """Tell a repeat of what was accepted from what came too late."""
    accepted = db.execute(
        _WAS_DONE if isinstance(word.outcome, Success) else _WAS_FAILED,
        {
            "book": word.book,
            "chunk": word.chunk,
            "start": word.entry_start,
            "stop": word.entry_stop,
            "attempt": word.attempt,
            "lease": word.lease,
        },
    ).fetchone()
    return Answer.ALREADY_ACCEPTED if accepted else Answer.SUPERSEDED


def _fail(db: Database, ended: Sequence[tuple[LeasedInterval, Failure]]) -> None:
    """Write down attempts that ended, and what becomes of their entries."""
    books = {row.book for row, _ in ended}
    rules = {book: require_book(db, book) for book in books}
    bisections = {book: _bisections(db, book) for book in books}
    free: list[tuple[Any, ...]] = []
    closed: list[tuple[Any, ...]] = []
    for row, failure in ended:
        after = aftermath(row, failure, rules[row.book], bisections[row.book])
        bisections[row.book] += after.split_at is not None
        for start, stop in after.pieces(row):
            place = (row.book, row.chunk, start, stop)
            if after.error:
                closed.append((*place, int(RangeState.FATAL), after.error, row.attempt))
            else:
                counts = (after.failures, after.losses, after.bisected)
                free.append((*place, row.attempt + 1, *counts))
    db.executemany(INSERT_FAILED, (_to_failed_row(row, failure) for row, failure in ended))
    db.executemany(INSERT_CLOSED, closed)
    db.executemany(INSERT_FREE, free)
    db.executemany(
        "UPDATE book SET bisections = ? WHERE book = ?",
        ((made, book) for book, made in bisections.items()),
    )


def _bisections(db: Database, book: int) -> int:
    made: int
    (made,) = db.execute("SELECT bisections FROM book WHERE book = ?", (book,)).fetchone()
    return made


def _to_failed_row(row: LeasedInterval, failure: Failure) -> tuple[Any, ...]:
    return (
        row.book,
        row.chunk,
        row.entry_start,
        row.entry_stop,
        row.attempt,
        row.lease,
        row.worker,
        row.running,
        failure.kind,
        failure.error,
        failure.log,
        failure.cpu_s,
        failure.wall_s,
    )


def lose(db: Database, reason: str, condition: str, *values: object) -> list[LeasedInterval]:
    """Take back the leased intervals that meet a condition."""
    rows = db.execute(
        f"DELETE FROM lease WHERE {condition} RETURNING {_LEASE_COLUMNS}", values
    ).fetchall()
    lost = _in_entry_order(rows)
    _fail(db, [(row, Failure("lost", reason, cpu_s=row.cpu_s)) for row in lost])
    return lost


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
    db.executemany(
        INSERT_CLOSED,
        (
            (book, *place, int(RangeState.CANCELLED), reason, attempt)
            for *place, attempt in intervals
        ),
    )


def leases(db: Database) -> list[LeasedInterval]:
    """Return every leased interval."""
    return _in_entry_order(db.execute(f"SELECT {_LEASE_COLUMNS} FROM lease"))
