"""The meaning of the ledger, in the plainest form.

`LedgerModel` is the oracle that every database adapter is tested against: same
messages, same answers, same order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from msgspec import structs

from evstream.domain.accounts import Account, add_to
from evstream.domain.errors import ConflictError, NotFoundError
from evstream.domain.ledger import (
    CANCELLED,
    COUNTED_KINDS,
    NODE,
    NOT_REPORTED,
    RETRACTED,
    SUSPECT_LOSSES,
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
    aftermath,
    joined,
)
from evstream.domain.names import LeaseId, WorkerId
from evstream.domain.splitting import Chunk, count_units, units_end
from evstream.domain.states import Answer, RangeState

_WITHDRAWN = RangeState.DISCARDED


@dataclass(slots=True)
class _Free:
    entry_start: int
    entry_stop: int
    attempt: int = 1
    failures: int = 0
    losses: int = 0
    bisected: bool = False


@dataclass(slots=True)
class _ChunkState:
    chunk: Chunk
    high_water: int
    free: list[_Free] = field(default_factory=list)


@dataclass(slots=True)
class _Book:
    rules: BookRules
    chunks: dict[int, _ChunkState]
    commits: list[Commit] = field(default_factory=list)
    failed: list[FailedAttempt] = field(default_factory=list)
    closed: list[ClosedInterval] = field(default_factory=list)
    bisections: int = 0
    forgiven: int = 0


class LedgerModel:
    """The meaning of the ledger, in the plainest form: lists in memory.

    Not for production: every operation scans. Deterministic: claims take a suspect first,
    then other returned intervals, then fresh ones, then parts of bisected ranges, each by
    book, chunk and entry.
    """

    def __init__(self) -> None:
        self._books: dict[int, _Book] = {}
        self._accounts: dict[tuple[int, str, int], Account] = {}
        self._leases: list[LeasedInterval] = []

    def open_book(self, book: int, rules: BookRules, chunks: Iterable[Chunk]) -> None:
        """Add a book; opening the same one again changes nothing."""
        if book not in self._books:
            in_order = sorted(chunks, key=lambda chunk: chunk.number)
            states = {c.number: _ChunkState(c, c.entry_start) for c in in_order}
            self._books[book] = _Book(rules, states)

    def drop_book(self, number: int) -> None:
        """Forget a book with its whole history; leases on it end."""
        self._books.pop(number, None)
        self._leases = [row for row in self._leases if row.book != number]

    def books(self) -> list[int]:
        """Return the numbers of all books, in order."""
        return sorted(self._books)

    def add_chunks(self, number: int, chunks: Iterable[Chunk], bisections: int = 0) -> None:
        """Give a book more to do, and so many bisections for each range of it.

        A chunk whose number it has stays as it is.
        """
        book = self._book(number)
        for chunk in chunks:
            if chunk.number not in book.chunks:
                book.chunks[chunk.number] = _ChunkState(chunk, chunk.entry_start)
                ranges = _ranges(chunk, book.rules)
                more = book.rules.bisections_max + bisections * ranges
                book.rules = replace(book.rules, bisections_max=more)
        book.chunks = dict(sorted(book.chunks.items()))

    def drop_chunks(self, number: int, chunks: Iterable[int], reason: str) -> int:
        """Take chunks out of a book, whatever has become of them; return their entries.

        What was committed there is no part of the result any more; leases end.
        """
        book, dropped = self._book(number), 0
        for state in [book.chunks[each] for each in sorted(set(chunks) & set(book.chunks))]:
            chunk = state.chunk
            place = (chunk.number, chunk.entry_start, chunk.entry_stop)
            self._take_out(book, number, place, reason)
            del book.chunks[chunk.number]
            dropped += chunk.entries
        return dropped

    def claim(
        self,
        lease: LeaseId,
        worker: WorkerId,
        units: int,
        duration: timedelta,
        now: datetime,
        books: Sequence[int],
        within: Within | None = None,
    ) -> list[LeasedInterval]:
        """Lease up to `units` units; a repeated lease id gives what it gave.

        Parameters
        ----------
        books : sequence of int
            Where to look, in this order.
        within : mapping of int, optional
            Which of their chunks may be taken from.
        """
        held = self.held(lease)
        if held:
            if held[0].worker != worker:
                raise ConflictError(f"lease {lease} is another worker's", lease=lease)
            return held
        taken: list[LeasedInterval] = []
        takers = (self._take_suspect, self._take_returned, self._take_fresh, self._take_part)
        for take in takers:
            for number in books:
                if number not in self._books:
                    continue
                for state in self._within(number, within):
                    for piece in take(worker, number, state, units):
                        units -= self._count(number, state, piece)
                        row = LeasedInterval(
                            lease,
                            worker,
                            number,
                            state.chunk.number,
                            piece.entry_start,
                            piece.entry_stop,
                            piece.attempt,
                            piece.failures,
                            piece.losses,
                            duration,
                            now + duration,
                            bisected=piece.bisected,
                        )
                        self._leases.append(row)
                        taken.append(row)
        return taken

    def _within(self, number: int, within: Within | None) -> list[_ChunkState]:
        states = self._books[number].chunks
        some = None if within is None else within.get(number, ())
        return [state for chunk, state in states.items() if some is None or chunk in some]

    def _count(self, book: int, state: _ChunkState, piece: _Free) -> int:
        step = self._books[book].rules.events_per_range
        return count_units((piece.entry_start, piece.entry_stop), state.chunk.entry_start, step)

    def _take_suspect(
        self, worker: WorkerId, book: int, state: _ChunkState, units: int
    ) -> list[_Free]:
        held = any(row.worker == worker and row.losses >= SUSPECT_LOSSES for row in self._leases)
        suspects = [piece for piece in state.free if piece.losses >= SUSPECT_LOSSES]
        return [] if held else self._take(book, state, min(units, 1), suspects)

    def _take_returned(self, _: WorkerId, book: int, state: _ChunkState, units: int) -> list[_Free]:
        return self._take(book, state, units, self._unsuspected(state, bisected=False))

    def _take_part(self, _: WorkerId, book: int, state: _ChunkState, units: int) -> list[_Free]:
        return self._take(book, state, units, self._unsuspected(state, bisected=True))

    @staticmethod
    def _unsuspected(state: _ChunkState, *, bisected: bool) -> list[_Free]:
        return [p for p in state.free if p.losses < SUSPECT_LOSSES and p.bisected is bisected]

    def _take(self, book: int, state: _ChunkState, units: int, pieces: list[_Free]) -> list[_Free]:
        step = self._books[book].rules.events_per_range
        taken: list[_Free] = []
        for piece in pieces:
            if units <= 0:
                break
            state.free.remove(piece)
            interval = (piece.entry_start, piece.entry_stop)
            end = units_end(interval, state.chunk.entry_start, step, units)
            if end < piece.entry_stop:
                self._give_back(state, replace(piece, entry_start=end))
            taken.append(replace(piece, entry_stop=end))
            units -= self._count(book, state, taken[-1])
        return taken

    def _take_fresh(self, _: WorkerId, book: int, state: _ChunkState, units: int) -> list[_Free]:
        start, stop = state.high_water, state.chunk.entry_stop
        if units <= 0 or start >= stop:
            return []
        step = self._books[book].rules.events_per_range
        state.high_water = units_end((start, stop), state.chunk.entry_start, step, units)
        return [_Free(start, state.high_water)]

    @staticmethod
    def _give_back(state: _ChunkState, piece: _Free) -> None:
        state.free.append(piece)
        state.free.sort(key=lambda free: free.entry_start)

    def held(self, lease: LeaseId) -> list[LeasedInterval]:
        """Return what a lease still holds."""
        return sorted(
            (row for row in self._leases if row.lease == lease),
            key=lambda row: (row.book, row.chunk, row.entry_start),
        )

    def renew(
        self,
        lease: LeaseId,
        worker: WorkerId,
        duration: timedelta,
        now: datetime,
        running: Iterable[RunningUnit] = (),
    ) -> list[LeasedInterval]:
        """Extend a lease and note which units have begun; return what is still held."""
        for unit in running:
            row = self._carve(
                lease, worker, unit.book, unit.chunk, unit.entry_start, unit.entry_stop
            )
            if row is not None:
                self._leases.append(structs.replace(row, running=True, cpu_s=unit.cpu_s))
        self._leases = [
            structs.replace(row, duration=duration, expires=now + duration)
            if (row.lease, row.worker) == (lease, worker)
            else row
            for row in self._leases
        ]
        return [row for row in self.held(lease) if row.worker == worker]

    def report(self, report: RangeReport) -> Answer:
        """Take a worker's word; only the deletion of its lease makes it count."""
        book = self._books.get(report.book)
        if book is None:
            return Answer.SUPERSEDED
        row = self._carve(
            report.lease,
            report.worker,
            report.book,
            report.chunk,
            report.entry_start,
            report.entry_stop,
            report.attempt,
        )
        if row is None:
            return self._answer_late(book, report)
        if isinstance(report.outcome, Success):
            book.commits.append(
                Commit(
                    row.book,
                    row.chunk,
                    row.entry_start,
                    row.entry_stop,
                    row.attempt,
                    row.lease,
                    row.worker,
                    report.outcome,
                )
            )
        else:
            self._fail(book, structs.replace(row, running=True), report.outcome)
        add_to(self._accounts, report.accounts)
        return Answer.ACCEPTED

    @staticmethod
    def _answer_late(book: _Book, report: RangeReport) -> Answer:
        """Tell a repeat of what was accepted from what came too late."""
        wanted = (
            report.lease,
            report.chunk,
            report.entry_start,
            report.entry_stop,
            report.attempt,
        )
        past: Sequence[Commit | FailedAttempt] = (
            book.commits if isinstance(report.outcome, Success) else book.failed
        )
        for item in past:
            if isinstance(item, FailedAttempt) and item.failure.kind in NOT_REPORTED:
                continue
            found = (
                item.lease,
                item.chunk,
                item.entry_start,
                item.entry_stop,
                item.attempt,
            )
            if found == wanted:
                return Answer.ALREADY_ACCEPTED
        return Answer.SUPERSEDED

    def _carve(
        self,
        lease: LeaseId,
        worker: WorkerId,
        book: int,
        chunk: int,
        start: int,
        stop: int,
        attempt: int | None = None,
    ) -> LeasedInterval | None:
        """Take an interval out of the lease that holds it, leaving the rest leased.

        CPU seconds go with the piece that is taken, so that none is counted twice; so does
        the word that it has begun.
        """
        for index, row in enumerate(self._leases):
            if (row.lease, row.worker, row.book, row.chunk) != (
                lease,
                worker,
                book,
                chunk,
            ):
                continue
            if not row.entry_start <= start < stop <= row.entry_stop:
                continue
            if attempt is not None and row.attempt != attempt:
                continue
            del self._leases[index]
            if row.entry_start < start:
                self._leases.append(
                    structs.replace(row, entry_stop=start, running=False, cpu_s=0.0)
                )
            if stop < row.entry_stop:
                self._leases.append(
                    structs.replace(row, entry_start=stop, running=False, cpu_s=0.0)
                )
            return structs.replace(row, entry_start=start, entry_stop=stop)
        return None

    def _fail(self, book: _Book, row: LeasedInterval, failure: Failure) -> None:
        book.failed.append(_ended(row, row.running, failure))
        after = aftermath(row, failure, book.rules, book.bisections)
        book.bisections += after.split_at is not None
        for start, stop in after.pieces(row):
            if after.error:
                place = (row.book, row.chunk, start, stop)
                closed = ClosedInterval(*place, RangeState.FATAL, after.error, row.attempt)
                book.closed.append(closed)
            else:
                counts = (row.attempt + 1, after.failures, after.losses, after.bisected)
                self._give_back(book.chunks[row.chunk], _Free(start, stop, *counts))

    def _lose(self, lost: list[LeasedInterval], reason: str) -> list[LeasedInterval]:
        lost = sorted(lost, key=lambda row: (row.book, row.chunk, row.entry_start))
        self._leases = [row for row in self._leases if row not in lost]
        for row in lost:
            self._fail(self._books[row.book], row, Failure("lost", reason, cpu_s=row.cpu_s))
        return lost

    def release(
        self, lease: LeaseId, worker: WorkerId, places: Iterable[BookPlace] | None = None
    ) -> list[LeasedInterval]:
        """Give back what a lease still holds, all of it or some intervals."""
        rows = [row for row in self.held(lease) if row.worker == worker]
        if places is not None:
            carved = [self._carve(lease, worker, *place) for place in places]
            rows = [row for row in carved if row is not None]
            self._leases += rows
        return self._lose(rows, "given back by its worker")

    def resume(self, now: datetime) -> None:
        """Give every lease its whole time again."""
        self._leases = [
            structs.replace(row, expires=max(row.expires, now + row.duration))
            for row in self._leases
        ]

    def expire(self, now: datetime) -> list[LeasedInterval]:
        """Take back the leases whose time is over."""
        return self._lose([row for row in self._leases if row.expires <= now], "lease expired")

    def forget_worker(self, worker: WorkerId) -> list[LeasedInterval]:
        """Take back the leases of a worker that is known to be gone."""
        return self._lose([row for row in self._leases if row.worker == worker], "worker lost")

    def cancel_book(self, number: int, reason: str = CANCELLED) -> None:
        """Close all that is not finished, with a reason; leases on it end."""
        book = self._book(number)
        open_intervals: list[tuple[int, int, int, int]] = []
        for state in book.chunks.values():
            chunk = state.chunk.number
            open_intervals += [
                (chunk, f.entry_start, f.entry_stop, f.attempt - 1) for f in state.free
            ]
            state.free.clear()
            if state.high_water < state.chunk.entry_stop:
                open_intervals.append((chunk, state.high_water, state.chunk.entry_stop, 0))
                state.high_water = state.chunk.entry_stop
        for row in [row for row in self._leases if row.book == number]:
            self._leases.remove(row)
            open_intervals.append((row.chunk, row.entry_start, row.entry_stop, row.attempt))
        for chunk, start, stop, attempt in sorted(open_intervals):
            book.closed.append(
                ClosedInterval(number, chunk, start, stop, RangeState.CANCELLED, reason, attempt)
            )

    def redo(self, number: int, places: Iterable[Place], reason: str) -> int:
        """Send out again, with fresh counts, what lies wholly within intervals.

        What was committed there is no part of the result any more; leases end. Returns
        the number of entries that go out again.
        """
        book = self._book(number)
        pieces = [
            piece for place in places for piece in self._take_out(book, number, place, reason)
        ]
        for (chunk, start, stop), attempt in joined(pieces):
            self._give_back(book.chunks[chunk], _Free(start, stop, attempt + 1))
        book.bisections = 0
        book.forgiven = self._own_failures(book)
        return sum(stop - start for (_, start, stop), _ in pieces)

    def discard(self, number: int, places: Iterable[Place], reason: str) -> int:
        """Close as withdrawn what lies wholly within intervals, whatever has become of it.

        Returns the number of entries that were not withdrawn before.
        """
        book = self._book(number)
        known = sum(c.entry_stop - c.entry_start for c in book.closed if c.state is _WITHDRAWN)
        pieces: list[tuple[Place, int]] = []
        for place in places:
            pieces += self._take_out(book, number, place, reason)
            state = book.chunks.get(place[0])
            if state and place[1] <= state.high_water < state.chunk.entry_stop <= place[2]:
                pieces.append(((place[0], state.high_water, state.chunk.entry_stop), 0))
                state.high_water = state.chunk.entry_stop
        for place, attempt in joined(pieces):
            book.closed.append(ClosedInterval(number, *place, _WITHDRAWN, reason, attempt))
        now = sum(c.entry_stop - c.entry_start for c in book.closed if c.state is _WITHDRAWN)
        return now - known

    def _take_out(
        self, book: _Book, number: int, place: Place, reason: str
    ) -> list[tuple[Place, int]]:
        """Take all but fresh entries out of an interval; return them with their last attempts."""
        chunk, start, stop = place
        if chunk not in book.chunks:
            return []

        def within(row: _Free | Commit | ClosedInterval | LeasedInterval) -> bool:
            return start <= row.entry_start and row.entry_stop <= stop

        at = (number, chunk)
        commits = [row for row in book.commits if row.chunk == chunk and within(row)]
        leases = [row for row in self.leases() if (row.book, row.chunk) == at and within(row)]
        closed = [row for row in book.closed if row.chunk == chunk and within(row)]
        for commit in sorted(commits, key=lambda row: row.entry_start):
            book.commits.remove(commit)
            spent = (commit.success.cpu_s, commit.success.wall_s)
            book.failed.append(_ended(commit, True, Failure(RETRACTED, reason, "", *spent)))
        for lease in leases:
            self._leases.remove(lease)
            lost = Failure("lost", reason, cpu_s=lease.cpu_s)
            book.failed.append(_ended(lease, lease.running, lost))
        for item in closed:
            book.closed.remove(item)
        taken: list[Commit | LeasedInterval | ClosedInterval] = [*commits, *leases, *closed]
        pieces = [((chunk, row.entry_start, row.entry_stop), row.attempt) for row in taken]
        for free in list(filter(within, book.chunks[chunk].free)):
            book.chunks[chunk].free.remove(free)
            pieces.append(((chunk, free.entry_start, free.entry_stop), free.attempt - 1))
        return pieces

    @staticmethod
    def _own_failures(book: _Book) -> int:
        return sum(item.failure.kind in COUNTED_KINDS for item in book.failed)

    def _book(self, number: int) -> _Book:
        if number not in self._books:
            raise NotFoundError(f"there is no book {number}", book=number)
        return self._books[number]

    def progress(self, number: int) -> Progress:
        """Return entries by state, and sums."""
        book = self._book(number)
        leased = [row for row in self._leases if row.book == number]
        closed = dict.fromkeys((RangeState.FATAL, RangeState.CANCELLED, _WITHDRAWN), 0)
        for item in book.closed:
            closed[item.state] += item.entry_stop - item.entry_start
        chunks = [state.chunk for state in book.chunks.values()]
        begun = [i for i in book.failed if i.running and i.failure.kind != RETRACTED]
        return Progress(
            entries=sum(chunk.entries for chunk in chunks),
            sent=sum(row.entries for row in leased if not row.running),
            running=sum(row.entries for row in leased if row.running),
            finished=sum(c.entry_stop - c.entry_start for c in book.commits),
            fatal=closed[RangeState.FATAL],
            cancelled=closed[RangeState.CANCELLED],
            ranges=sum(_ranges(chunk, book.rules) for chunk in chunks),
            ranges_finished=len(book.commits),
            attempts=len(book.commits) + len(begun),
            failed_attempts=len(begun),
            cpu_s=sum(c.success.cpu_s for c in book.commits),
            lost_cpu_s=sum(item.failure.cpu_s for item in book.failed),
            wall_s=sum(c.success.wall_s for c in book.commits),
            bytes_in=sum(c.success.bytes_in for c in book.commits),
            own_failures=self._own_failures(book) - book.forgiven,
            bisections=book.bisections,
            withdrawn=closed[_WITHDRAWN],
        )

    def commits(self, number: int) -> list[Commit]:
        """Return what is done, in entry order."""
        return sorted(self._book(number).commits, key=lambda c: (c.chunk, c.entry_start))

    def closed(self, number: int) -> list[ClosedInterval]:
        """Return what was set aside or cancelled, in entry order."""
        return sorted(self._book(number).closed, key=lambda c: (c.chunk, c.entry_start))

    def finished(
        self, number: int, chunk: int, entry_start: int, limit: int
    ) -> list[Commit | ClosedInterval]:
        """Return what is done or closed from a place on, in entry order, at most so many."""
        rows: list[Commit | ClosedInterval] = [*self.commits(number), *self.closed(number)]
        rows = [row for row in rows if (row.chunk, row.entry_start) >= (chunk, entry_start)]
        return sorted(rows, key=lambda row: (row.chunk, row.entry_start))[:limit]

    def failed_attempts(self, number: int) -> list[FailedAttempt]:
        """Return attempts that came to nothing, in the order they ended."""
        return list(self._book(number).failed)

    def accounts(self, book: int) -> list[Account]:
        """Return the sums of a book, by site and bin."""
        return sorted(
            (one for one in self._accounts.values() if one.book == book), key=lambda one: one.place
        )

    def failed_by_nodes(
        self, number: int, chunk: int, entry_start: int, attempt: int
    ) -> list[WorkerId]:
        """Return whose nodes failed the attempts on an interval, up to one of them, in order."""
        book = self._books.get(number)
        return [
            item.worker
            for item in (book.failed if book is not None else ())
            if (item.chunk, item.entry_start, item.failure.kind) == (chunk, entry_start, NODE)
            and item.attempt <= attempt
        ]

    def ready_chunks(self, number: int, first: int, limit: int) -> list[int]:
        """Return the numbers of chunks that a claim would find work in, in order."""
        states = self._books[number].chunks.items() if number in self._books else ()
        ready = [c for c, s in states if s.free or s.high_water < s.chunk.entry_stop]
        return [chunk for chunk in ready if chunk >= first][:limit]

    def chunks(self, number: int) -> list[Chunk]:
        """Return a book's chunks by number."""
        return [state.chunk for state in self._book(number).chunks.values()]

    def leases(self, book: int | None = None) -> list[LeasedInterval]:
        """Return every leased interval, or those of one book."""
        found = [row for row in self._leases if book is None or row.book == book]
        return sorted(found, key=lambda row: (row.book, row.chunk, row.entry_start))


def _ranges(chunk: Chunk, rules: BookRules) -> int:
    interval = (chunk.entry_start, chunk.entry_stop)
    return count_units(interval, chunk.entry_start, rules.events_per_range)


def _ended(row: LeasedInterval | Commit, running: bool, failure: Failure) -> FailedAttempt:
    place = (row.book, row.chunk, row.entry_start, row.entry_stop)
    return FailedAttempt(*place, row.attempt, row.lease, row.worker, running, failure)
