"""Claims, renewals and reports of a group: read once, worked on in memory, written together.

A statement takes longer than what is done with its rows, and dozens of workers ask at once.
So operations share a `Desk`: leases are read by their ids, ready work in order, and
all that changes is written by a few statements before the commit. While its transaction is
open nobody else writes, so what was read stays true; it stays true for the next group as well,
if nobody else had a turn between. Whatever else happens, the desk is cleared: another head's
turn, an operation that is given the database itself, an error.

`evstream.domain.ledger_model.LedgerModel` says what each transition means.
"""

# ruff: noqa: S608 - only this module's own lists of columns are put into statements

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import msgspec
from msgspec import Struct, structs

from evstream.adapters.catalogue.database import (
    EPOCH,
    MICROSECOND,
    Database,
    Turn,
    from_microseconds,
    to_microseconds,
)
from evstream.adapters.catalogue.value_lists import value_lists
from evstream.domain.accounts import SUMS, Account, add_to
from evstream.domain.errors import NotFoundError
from evstream.domain.ledger import (
    SUSPECT_LOSSES,
    BookRules,
    Failure,
    LeasedInterval,
    RangeReport,
    Success,
    Within,
    aftermath,
)
from evstream.domain.names import LeaseId, WorkerId
from evstream.domain.splitting import units_end
from evstream.domain.states import RangeState

LEASE_COLUMNS = (
    "lease, worker, book, chunk, entry_start, entry_stop, attempt, failures, losses,"
    " bisected, duration, expires, running, cpu_s"
)
_LEASE_KEY = "lease, book, chunk, entry_start"
FREE_COLUMNS = "book, chunk, entry_start, entry_stop, attempt, failures, losses, bisected"
_FREE_KEY = "book, chunk, entry_start"
_ACCOUNT_KEY = "book, site, bin"
_ACCOUNT_SUMS = ", ".join(SUMS)
_DONE_COLUMNS = (
    "book, chunk, entry_start, entry_stop, attempt, lease, worker, outputs, cpu_s, wall_s, bytes_in"
)
FAILED_COLUMNS = (
    "book, chunk, entry_start, entry_stop, attempt, lease, worker, running, kind, error, log,"
    " cpu_s, wall_s"
)
CLOSED_COLUMNS = "book, chunk, entry_start, entry_stop, state, error, attempt"
FRESH, RETURNED, SUSPECT, PART = 0, 1, 2, 3
_FREE_SELECT = (
    "SELECT free.book, free.chunk, free.entry_start, free.entry_stop, attempt, failures,"
    " losses, bisected, chunk.entry_start, events_per_range"
    " FROM free INDEXED BY {index} CROSS JOIN chunk USING (book, chunk)"
    " CROSS JOIN book USING (book) WHERE free.book = ? AND {which}"
    " ORDER BY free.chunk, free.entry_start LIMIT ?"
)
_IS = {
    RETURNED: f"losses < {SUSPECT_LOSSES} AND bisected = 0",
    SUSPECT: f"losses >= {SUSPECT_LOSSES}",
    PART: f"losses < {SUSPECT_LOSSES} AND bisected = 1",
}
_INDEX = {RETURNED: "free_returned", SUSPECT: "free_suspect", PART: "free_part"}
# What is ready in a book, in the order of claims. SQLite's planner may take the primary key
# for as good as the index of what is fresh, and then walk over finished chunks.
_READY = {
    FRESH: "SELECT chunk.book, chunk, high_water, entry_stop, 1, 0, 0, 0, entry_start,"
    " events_per_range FROM chunk INDEXED BY chunk_fresh CROSS JOIN book USING (book)"
    " WHERE chunk.book = ? AND high_water < entry_stop ORDER BY chunk LIMIT ?",
    **{k: _FREE_SELECT.format(index=_INDEX[k], which=_IS[k]) for k in _IS},
}
# The same in some chunks. PostgreSQL would walk over all the others, were the order the index's.
_AMONG = {
    FRESH: _READY[FRESH].replace("ORDER BY chunk", "AND chunk.chunk IN ({}) ORDER BY chunk + 0"),
    **{
        kind: _READY[kind].replace(
            "ORDER BY free.chunk", "AND free.chunk IN ({}) ORDER BY free.chunk + 0"
        )
        for kind in _IS
    },
}
_EXISTS_FREE = ", ".join(
    f"EXISTS (SELECT 1 FROM free INDEXED BY {_INDEX[k]} WHERE free.book = value AND {_IS[k]})"
    for k in (RETURNED, SUSPECT, PART)
)
_READY_BOOKS = f"""
    WITH wanted (value) AS (VALUES {{}})
    SELECT value, EXISTS (SELECT 1 FROM chunk INDEXED BY chunk_fresh
        WHERE chunk.book = value AND high_water < entry_stop), {_EXISTS_FREE}
    FROM wanted"""
_SUSPECTS = f"SELECT {LEASE_COLUMNS} FROM lease WHERE {_IS[SUSPECT]}"
ROWS_AHEAD, ROWS_AHEAD_MAX = 8, 512
"""So many ready intervals are read ahead, at first and at most."""
CHUNKS_AT_FIRST = 64
"""Of the chunks that a claim names, the first so many are likely to be enough."""
WINDOWS_KEPT_MAX = 400
LEASES_KEPT_MAX = 20_000
"""So much a desk knows between groups, at most."""
LEASES_AT_ONCE = 1000

_Place = tuple[int, int, int]
_Key = tuple[LeaseId, int, int, int]


class Ready(Struct):
    """An interval that waits to be claimed.

    ``attempt`` is the number that its next claim gets; the grid's cells begin at ``grid_start``.
    """

    book: int
    chunk: int
    entry_start: int
    entry_stop: int
    attempt: int
    failures: int
    losses: int
    bisected: int
    grid_start: int
    events_per_range: int

    def row(self) -> tuple[int, ...]:
        """Return it as the table of returned work holds it."""
        place = self.book, self.chunk, self.entry_start, self.entry_stop
        return (*place, self.attempt, self.failures, self.losses, self.bisected)


@dataclass(slots=True)
class _Book:
    rules: BookRules
    bisections: int
    changed: bool = False


@dataclass(slots=True)
class _Window:
    """The next intervals of a kind in a book, of which so many were asked for."""

    rows: deque[Ready]
    asked: int
    whole: bool
    """There are no others."""


@dataclass(slots=True)
class _Written:
    """Rows to be inserted."""

    done: list[tuple[Any, ...]] = field(default_factory=list)
    failed: list[tuple[Any, ...]] = field(default_factory=list)
    closed: list[tuple[Any, ...]] = field(default_factory=list)


def key_of(row: LeasedInterval) -> _Key:
    """Return what tells a leased interval from all others."""
    return row.lease, row.book, row.chunk, row.entry_start


def to_interval(row: tuple[Any, ...]) -> LeasedInterval:
    """Return a row of `LEASE_COLUMNS` as an interval."""
    *_, bisected, duration, expires, running, cpu_s = row
    times = duration * MICROSECOND, from_microseconds(expires)
    fields = (*row[:9], *times, bool(running), cpu_s, bool(bisected))
    return LeasedInterval(*fields)


def _is_renewed(before: LeasedInterval, now: LeasedInterval) -> bool:
    """Whether nothing but an interval's times has changed."""
    return structs.replace(now, duration=before.duration, expires=before.expires) == before


def question(leases: Sequence[LeaseId]) -> tuple[str, Sequence[LeaseId]]:
    """Return the question what some leases hold, and its values."""
    marks = ", ".join("?" * len(leases))
    return f"SELECT {LEASE_COLUMNS} FROM lease WHERE lease IN ({marks})", leases


def _to_row(held: LeasedInterval) -> tuple[Any, ...]:
    place = held.book, held.chunk, held.entry_start, held.entry_stop
    counts = held.attempt, held.failures, held.losses, int(held.bisected)
    times = held.duration // MICROSECOND, to_microseconds(held.expires)
    return (held.lease, held.worker, *place, *counts, *times, int(held.running), held.cpu_s)


class Desk:
    """The rows that operations work on.

    Parameters
    ----------
    db : Database
        Within a transaction beside which nobody writes, whenever the desk is used.

    Attributes
    ----------
    now : datetime
        The database's time, when the group's turn began.
    within : dict
        The chunks that are looked at, in books where these are not all.
    clearings : int
        How often all was forgotten: while it stays, nobody has changed what was read, beside
        what was done here.
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        self.now = EPOCH
        self.clearings = 0
        self.clear()

    def clear(self) -> None:
        """Forget all that is known, and all that is not written yet."""
        self.clearings += 1
        self._leases: dict[LeaseId, dict[_Place, LeasedInterval]] = {}
        self._suspects: dict[_Key, WorkerId] | None = None
        self._books: dict[int, _Book] = {}
        self._ready: dict[int, list[bool]] = {}
        self._windows: dict[tuple[int, int], _Window] = {}
        self.within: dict[int, list[int]] = {}
        self._forget_changes()

    def _forget_changes(self) -> None:
        # What leases that have changed were in the database; None if they are new.
        self._before: dict[_Key, LeasedInterval | None] = {}
        self._high_water: dict[tuple[int, int], int] = {}
        self._freed: dict[_Place, Ready] = {}
        self._taken: list[_Place] = []
        self._written = _Written()
        self._accounts: dict[tuple[int, str, int], Account] = {}

    def begin(self, turn: Turn) -> None:
        """Go on in a transaction that has begun."""
        if not turn.alone:
            self.clear()
        self.now = turn.now

    def limit(self) -> None:
        """Forget some of what is known and written, if there is too much of it."""
        if len(self._leases) > LEASES_KEPT_MAX:
            held = [(lease, rows) for lease, rows in self._leases.items() if rows]
            self._leases = dict(held[-LEASES_KEPT_MAX // 2 :])
        if len(self._windows) > WINDOWS_KEPT_MAX:
            self._windows.clear()
            self._ready.clear()

    @property
    def database(self) -> Database:
        """The database, with all that was done here in it; the desk knows nothing of it after."""
        self.flush()
        self.clear()
        return self._db

    def written_to(self) -> Database:
        """Return the database with all that was done here in it, to be read."""
        self.flush()
        return self._db

    # --- leases ---------------------------------------------------------------

    def unknown(self, leases: Iterable[LeaseId]) -> list[LeaseId]:
        """Return which of some leases would have to be read."""
        return [lease for lease in dict.fromkeys(leases) if lease not in self._leases]

    def read(self, leases: Iterable[LeaseId]) -> None:
        """Read leases that will be worked on."""
        wanted = self.unknown(leases)
        for start in range(0, len(wanted), LEASES_AT_ONCE):
            some = wanted[start : start + LEASES_AT_ONCE]
            self.take_in(some, self._db.execute(*question(some)).fetchall())

    def take_in(self, leases: Sequence[LeaseId], rows: Iterable[tuple[Any, ...]]) -> None:
        """Know leases by the answer to their `question`."""
        for lease in leases:
            self._leases[lease] = {}
        for held in map(to_interval, rows):
            self._leases[held.lease][held.book, held.chunk, held.entry_start] = held

    def held(self, lease: LeaseId) -> list[LeasedInterval]:
        """Return what a lease holds, in entry order."""
        self.read([lease])
        rows = self._leases[lease]
        return [rows[place] for place in sorted(rows)]

    def put(self, row: LeasedInterval) -> None:
        """Lease an interval, or change one that is leased."""
        self.read([row.lease])
        rows, place = self._leases[row.lease], (row.book, row.chunk, row.entry_start)
        key = (row.lease, *place)
        self._before.setdefault(key, rows.get(place))
        rows[place] = row
        if row.losses >= SUSPECT_LOSSES and self._suspects is not None:
            self._suspects[key] = row.worker

    def _remove(self, row: LeasedInterval) -> None:
        key = key_of(row)
        self._before.setdefault(key, row)
        del self._leases[row.lease][key[1:]]
        if self._suspects is not None:
            self._suspects.pop(key, None)

    def carve(
        self, lease: LeaseId, worker: WorkerId, place: tuple[int, int, int, int], attempt: int
    ) -> LeasedInterval | None:
        """Take a unit out of the interval that holds it, leaving the rest leased.

        CPU seconds go with the piece that is taken, so that none is counted twice; so does
        the word that it has begun.

        Parameters
        ----------
        place : (book, chunk, entry_start, entry_stop)
        attempt : int
            0 for any.
        """
        book, chunk, start, stop = place
        row = self._around(lease, book, chunk, start)
        if row is None or row.worker != worker or start >= stop or stop > row.entry_stop:
            return None
        if attempt not in (0, row.attempt):
            return None
        self._remove(row)
        if row.entry_start < start:
            self.put(structs.replace(row, entry_stop=start, running=False, cpu_s=0.0))
        if stop < row.entry_stop:
            self.put(structs.replace(row, entry_start=stop, running=False, cpu_s=0.0))
        if (start, stop) == (row.entry_start, row.entry_stop):
            return row
        return structs.replace(row, entry_start=start, entry_stop=stop)

    def _around(self, lease: LeaseId, book: int, chunk: int, start: int) -> LeasedInterval | None:
        self.read([lease])
        rows = self._leases[lease]
        exact = rows.get((book, chunk, start))
        if exact is not None:
            return exact
        before = [at for at in rows if at[:2] == (book, chunk) and at[2] <= start]
        return rows[max(before)] if before else None

    # --- ready work -------------------------------------------------------------

    def has(self, kind: int, books: Sequence[int]) -> list[int]:
        """Return which of some books have ready work of a kind, in the order given."""
        unknown = [book for book in dict.fromkeys(books) if book not in self._ready]
        if unknown:
            self._settle_ready()
            unknown = [book for book in dict.fromkeys(books) if book not in self._ready]
            marks = ", ".join(["(CAST(? AS BIGINT))"] * len(unknown))
            for book, *kinds in self._db.execute(_READY_BOOKS.format(marks), unknown).fetchall():
                self._ready[book] = [bool(one) for one in kinds]
        return [book for book in books if self._ready[book][kind]]

    def next_ready(self, kind: int, book: int) -> Ready | None:
        """Return the first ready interval of a kind in a book."""
        window = self._windows.get((kind, book))
        if window is None or not (window.rows or window.whole):
            self._settle_ready()
            # More each time: whoever used up the ones before will need them.
            ahead = ROWS_AHEAD if window is None else min(4 * window.asked, ROWS_AHEAD_MAX)
            rows = self._next_rows(kind, book, ahead)
            window = _Window(deque(Ready(*row) for row in rows), ahead, len(rows) < ahead)
            self._windows[kind, book] = window
        if window.rows:
            return window.rows[0]
        if book in self._ready:
            self._ready[book][kind] = False
        return None

    def _next_rows(self, kind: int, book: int, limit: int) -> list[tuple[Any, ...]]:
        chunks = self.within.get(book)
        if chunks is None:
            return self._db.execute(_READY[kind], (book, limit)).fetchall()
        rows: list[tuple[Any, ...]] = []
        first, others = chunks[:CHUNKS_AT_FIRST], chunks[CHUNKS_AT_FIRST:]
        for marks, some in chain(value_lists(first), value_lists(others)):
            values = (book, *some, limit - len(rows))
            rows += self._db.execute(_AMONG[kind].format(marks), values).fetchall()
            if len(rows) >= limit:
                break
        return rows

    def look_within(self, within: Within | None, books: Sequence[int]) -> list[int]:
        """Have nothing but some chunks be ready; return the books that have any.

        It stays so until it is said otherwise: who asks next may well name the same.
        """
        named = [book for book in books if within is None or book in within]
        for book in named:
            some = None if within is None else within[book]
            chunks = None if some is None else sorted(set(some))
            if chunks != self.within.get(book):
                self._forget_ready(book)
                self.within.pop(book, None)
                if chunks is not None:
                    self.within[book] = chunks
        return named

    def take(self, kind: int, book: int, units: int) -> tuple[Ready, int]:
        """Take the first units of the first ready interval; return it, and where they end."""
        rows = self._windows[kind, book].rows
        row = rows.popleft()
        place = row.book, row.chunk, row.entry_start
        interval = row.entry_start, row.entry_stop
        end = units_end(interval, row.grid_start, row.events_per_range, units)
        rest = structs.replace(row, entry_start=end) if end < row.entry_stop else None
        if rest is not None:
            rows.appendleft(rest)
        if kind == FRESH:
            self._high_water[row.book, row.chunk] = end
            return row, end
        if self._freed.pop(place, None) is None:
            self._taken.append(place)
        if rest is not None:
            self._freed[row.book, row.chunk, end] = rest
        return row, end

    def holds_suspect(self, worker: WorkerId) -> bool:
        """Whether a worker holds a suspect."""
        if self._suspects is None:
            # Leases that are worked on here may be others by now.
            found = {key_of(row): row for row in map(to_interval, self._stored_suspects())}
            for rows in self._leases.values():
                found.update({key_of(row): row for row in rows.values()})
            self._suspects = {
                key: row.worker
                for key, row in found.items()
                if row.losses >= SUSPECT_LOSSES and self._is_current(key)
            }
        return worker in self._suspects.values()

    def _stored_suspects(self) -> list[tuple[Any, ...]]:
        return self._db.execute(_SUSPECTS).fetchall()

    def _is_current(self, key: _Key) -> bool:
        lease, *place = key
        return lease not in self._leases or tuple(place) in self._leases[lease]

    # --- ends of attempts -------------------------------------------------------

    def commit(self, row: LeasedInterval, success: Success) -> None:
        """Write down a unit that is done."""
        place = row.book, row.chunk, row.entry_start, row.entry_stop
        outputs = msgspec.json.encode(success.outputs).decode()
        sums = success.cpu_s, success.wall_s, success.bytes_in
        self._written.done.append((*place, row.attempt, row.lease, row.worker, outputs, *sums))

    def fail(self, row: LeasedInterval, failure: Failure) -> None:
        """Write down an attempt that ended, and what becomes of its entries."""
        self.settle(row, failure)
        place = row.book, row.chunk, row.entry_start, row.entry_stop
        holder = row.attempt, row.lease, row.worker, int(row.running)
        said = failure.kind, failure.error, failure.log, failure.cpu_s, failure.wall_s
        self._written.failed.append((*place, *holder, *said))

    def account(self, accounts: Iterable[Account]) -> None:
        """Write down what a unit took."""
        add_to(self._accounts, accounts)

    def settle(self, row: LeasedInterval, failure: Failure) -> None:
        """Write down what becomes of the entries of an attempt that ended."""
        self._forget_ready(row.book)
        book = self._book(row.book)
        after = aftermath(row, failure, book.rules, book.bisections)
        if after.split_at is not None:
            book.bisections += 1
            book.changed = True
        for start, stop in after.pieces(row):
            place = row.book, row.chunk, start, stop
            if after.error:
                fatal = int(RangeState.FATAL)
                self._written.closed.append((*place, fatal, after.error, row.attempt))
            else:
                counts = after.failures, after.losses, int(after.bisected)
                freed = Ready(*place, row.attempt + 1, *counts, 0, 0)
                self._freed[row.book, row.chunk, start] = freed

    def _forget_ready(self, book: int) -> None:
        """Have what is ready read again, where something comes in among it."""
        self._ready.pop(book, None)
        for kind in _READY:
            self._windows.pop((kind, book), None)

    def _settle_ready(self) -> None:
        """Have the database know what is ready before it is asked."""
        if self._freed or self._taken or self._high_water:
            self.flush()

    def _book(self, number: int) -> _Book:
        book = self._books.get(number)
        if book is None:
            row = self._db.execute(
                "SELECT events_per_range, failures_max, losses_max, bisections_max, bisections"
                " FROM book WHERE book = ?",
                (number,),
            ).fetchone()
            if row is None:
                raise NotFoundError(f"there is no book {number}", book=number)
            book = self._books[number] = _Book(BookRules(*row[:4]), row[4])
        return book

    # --- writing ------------------------------------------------------------------

    def flush(self) -> None:
        """Write all that has changed."""
        gone, renewed, new = self._lease_changes()
        written, db = self._written, self._db
        places = [(*chunk, high) for chunk, high in self._high_water.items()]
        freed = [ready.row() for ready in self._freed.values()]
        made = [(number, b.bisections) for number, b in self._books.items() if b.changed]
        for table, key, keys in (("lease", _LEASE_KEY, gone), ("free", _FREE_KEY, self._taken)):
            if keys:
                db.delete(table, key, keys)
        for table, columns, rows in (
            ("lease", LEASE_COLUMNS, new),
            ("done", _DONE_COLUMNS, written.done),
            ("failed", FAILED_COLUMNS, written.failed),
            ("closed", CLOSED_COLUMNS, written.closed),
            ("free", FREE_COLUMNS, freed),
        ):
            if rows:
                db.insert(table, columns, rows)
        for table, key, columns, rows in (
            ("lease", _LEASE_KEY, "duration, expires", renewed),
            ("chunk", "book, chunk", "high_water", places),
            ("book", "book", "bisections", made),
        ):
            if rows:
                db.update(table, key, columns, rows)
        if self._accounts:
            sums = [structs.astuple(one) for one in self._accounts.values()]
            db.add("account", _ACCOUNT_KEY, _ACCOUNT_SUMS, sums)
        for book in self._books.values():
            book.changed = False
        self._forget_changes()

    def _lease_changes(self) -> tuple[list[_Key], list[tuple[Any, ...]], list[tuple[Any, ...]]]:
        gone: list[_Key] = []
        renewed: list[tuple[Any, ...]] = []
        new: list[tuple[Any, ...]] = []
        for key, before in self._before.items():
            lease, *place = key
            now = self._leases[lease].get((place[0], place[1], place[2]))
            if now is before:
                continue
            if now is not None and before is not None and _is_renewed(before, now):
                times = now.duration // MICROSECOND, to_microseconds(now.expires)
                renewed.append((*key, *times))
                continue
            if before is not None:
                gone.append(key)
            if now is not None:
                new.append(_to_row(now))
        return gone, renewed, new

    def was_accepted(self, word: RangeReport) -> bool:
        """Whether a report was taken before."""
        kind = "done" if isinstance(word.outcome, Success) else "failed"
        told = "" if kind == "done" else " AND kind NOT IN ('lost', 'retracted')"
        place = word.book, word.chunk, word.entry_start, word.entry_stop
        statement = (
            f"SELECT 1 FROM {kind} WHERE book = ? AND chunk = ? AND entry_start = ?"
            f" AND entry_stop = ? AND attempt = ? AND lease = ?{told}"
        )
        self.flush()
        found = self._db.execute(statement, (*place, word.attempt, word.lease)).fetchone()
        return found is not None
