"""Taking back what was done: intervals that go out again, or leave the task.

`evstream.domain.ledger_model.LedgerModel` says what each means.
"""

# ruff: noqa: S608 - only this module's own lists of columns are put into statements

from __future__ import annotations

from collections.abc import Iterable

from evstream.adapters.catalogue.database import Database
from evstream.adapters.catalogue.desk import CLOSED_COLUMNS, FAILED_COLUMNS, FREE_COLUMNS
from evstream.adapters.catalogue.transitions import require_book
from evstream.domain.ledger import RETRACTED, Place, joined
from evstream.domain.splitting import count_units
from evstream.domain.states import RangeState

_WITHIN = "WHERE book = :book AND chunk = :chunk AND entry_start >= :start AND entry_stop <= :stop"
_TAKE_DONE = (
    f"DELETE FROM done {_WITHIN} RETURNING entry_start, entry_stop, attempt, lease, worker,"
    " 1, cpu_s, wall_s"
)
_TAKE_LEASED = (
    f"DELETE FROM lease {_WITHIN} RETURNING entry_start, entry_stop, attempt, lease, worker,"
    " running, cpu_s, 0.0"
)
_TAKE_CLOSED = f"DELETE FROM closed {_WITHIN} RETURNING entry_start, entry_stop, attempt"
_TAKE_FREE = f"DELETE FROM free {_WITHIN} RETURNING entry_start, entry_stop, attempt - 1"
_TAKE_FRESH = """
    UPDATE chunk SET high_water = entry_stop
    WHERE book = :book AND chunk = :chunk AND high_water < entry_stop
      AND :start <= high_water AND entry_stop <= :stop"""


def redo(db: Database, book: int, places: Iterable[Place], reason: str) -> int:
    """Send out again, with fresh counts, what lies wholly within intervals."""
    require_book(db, book)
    pieces = [piece for place in places for piece in _take_out(db, book, place, reason)]
    again = [(book, *place, attempt + 1, 0, 0, 0) for place, attempt in joined(pieces)]
    db.insert("free", FREE_COLUMNS, again)
    db.execute("UPDATE book SET bisections = 0, own_failures = 0 WHERE book = ?", (book,))
    return sum(stop - start for (_, start, stop), _ in pieces)


def discard(db: Database, book: int, places: Iterable[Place], reason: str) -> int:
    """Close as withdrawn what lies wholly within intervals, whatever has become of it."""
    require_book(db, book)
    before = _withdrawn(db, book)
    pieces: list[tuple[Place, int]] = []
    for place in places:
        pieces += _take_out(db, book, place, reason)
        pieces += _take_fresh(db, book, place)
    state = int(RangeState.DISCARDED)
    rows = [(book, *place, state, reason, attempt) for place, attempt in joined(pieces)]
    db.insert("closed", CLOSED_COLUMNS, rows)
    return _withdrawn(db, book) - before


def drop_chunks(db: Database, book: int, numbers: Iterable[int], reason: str) -> int:
    """Take chunks out of a book, whatever has become of them; return their entries."""
    step = require_book(db, book).events_per_range
    entries = ranges = 0
    for number in sorted(set(numbers)):
        values = (book, number)
        found = db.execute(
            "SELECT entry_start, entry_stop FROM chunk WHERE book = ? AND chunk = ?", values
        ).fetchone()
        if found is None:
            continue
        start, stop = found
        _take_out(db, book, (number, start, stop), reason)
        db.execute("DELETE FROM chunk WHERE book = ? AND chunk = ?", values)
        entries += stop - start
        ranges += count_units((start, stop), start, step)
    db.execute(
        "UPDATE book SET entries = entries - ?, ranges = ranges - ? WHERE book = ?",
        (entries, ranges, book),
    )
    return entries


def _withdrawn(db: Database, book: int) -> int:
    withdrawn: int
    (withdrawn,) = db.execute("SELECT withdrawn FROM book WHERE book = ?", (book,)).fetchone()
    return withdrawn


def _take_out(db: Database, book: int, place: Place, reason: str) -> list[tuple[Place, int]]:
    """Take all but fresh entries out of an interval; return them with their last attempts."""
    chunk, start, stop = place
    values = {"book": book, "chunk": chunk, "start": start, "stop": stop}
    pieces: list[tuple[Place, int]] = []
    for statement, kind in ((_TAKE_DONE, RETRACTED), (_TAKE_LEASED, "lost")):
        for row in sorted(db.execute(statement, values).fetchall()):
            *interval, attempt, lease, worker, running, cpu_s, wall_s = row
            held = (book, chunk, *interval, attempt, lease, worker, running)
            db.insert("failed", FAILED_COLUMNS, [(*held, kind, reason, "", cpu_s, wall_s)])
            pieces.append(((chunk, *interval), attempt))
    for statement in (_TAKE_CLOSED, _TAKE_FREE):
        rows = db.execute(statement, values).fetchall()
        pieces += [((chunk, first, last), attempt) for first, last, attempt in rows]
    return pieces


def _take_fresh(db: Database, book: int, place: Place) -> list[tuple[Place, int]]:
    """Take the entries that nobody has claimed yet, if the interval holds all of them."""
    chunk, start, stop = place
    values = {"book": book, "chunk": chunk, "start": start, "stop": stop}
    found = db.execute(
        "SELECT high_water, entry_stop FROM chunk WHERE book = :book AND chunk = :chunk", values
    ).fetchone()
    taken = db.execute(_TAKE_FRESH, values).rowcount
    return [((chunk, *found), 0)] if taken else []
