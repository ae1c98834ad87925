"""A site's ledger: it leases large intervals from a head, and leases them on.

A worker near the site asks it instead of the head, and sees no difference: the same calls, the
same intervals, the same attempts, the same answers. Each lease of the head's is kept as books
of the site's own ledger, one for each of the head's books in it::

    head      book 2, chunk 0:  ├────────── lease "h7", attempt 1 ──────────┤
    site      own book 1:       ├─ done ─┼─ leased to anne ─┼─ never claimed ┤

What the site has accepted is durable there, and told to the head by `synchronise`. What has
failed or was lost is told too, and not tried again here: the head decides, and counts attempts.
A site that dies loses its leases as any worker does: what it had not told comes back. What no
worker there has asked for in a while goes back too, for others.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import msgspec
from msgspec import structs

from evstream.domain.intervals import IntervalSet
from evstream.domain.ledger import (
    NOT_REPORTED,
    BookPlace,
    BookRules,
    ClosedInterval,
    Commit,
    FailedAttempt,
    LeasedInterval,
    RangeReport,
    RunningUnit,
    Success,
    Within,
)
from evstream.domain.names import LeaseId, Lfn, WorkerId
from evstream.domain.splitting import Chunk
from evstream.domain.states import Answer
from evstream.ports import Clock, Ids, Ledger
from evstream.ports.ledger import Leasing

_FIRST = 1
_SENT_BACK = "the head decides what becomes of it"
_TAKEN_BACK = "taken back by the head"


class _Origin(msgspec.Struct, frozen=True, array_like=True):
    """Whose a chunk of the site's own is; kept as its logical file name."""

    lease: LeaseId
    book: int
    chunk: int
    attempt: int

    @classmethod
    def of(cls, chunk: Chunk) -> _Origin:
        return msgspec.json.decode(chunk.lfn, type=cls)

    def to_lfn(self) -> Lfn:
        return Lfn(msgspec.json.encode(self).decode())


@dataclass(frozen=True, slots=True)
class _Piece:
    """An interval that the head has leased to the site."""

    origin: _Origin
    own_book: int
    own: Chunk

    def holds(self, start: int, stop: int) -> bool:
        return self.own.entry_start <= start and stop <= self.own.entry_stop


@dataclass(slots=True)
class _Part:
    """A lease of the head's on one of its books: a book of the site's own."""

    own_book: int
    pieces: dict[int, _Piece]
    wanted: dict[int, float]
    """When a worker has last asked for what each piece is of, by the monotonic clock."""
    told: set[tuple[int, int, int, LeaseId, bool]] = field(default_factory=set)
    over_since: float | None = None

    @property
    def origin(self) -> _Origin:
        return self.pieces[min(self.pieces)].origin

    def chunks(self, within: Within | None) -> list[int]:
        """Return which of its pieces are of some chunks of the head's."""
        some = None if within is None else within.get(self.origin.book, ())
        return [n for n, piece in self.pieces.items() if some is None or piece.origin.chunk in some]


@dataclass(frozen=True, slots=True)
class SiteLeases:
    """How much a site leases at once, and for how long.

    Attributes
    ----------
    units : int
        Units of one lease of the head's.
    duration : timedelta
        Of such a lease; each `SiteLedger.synchronise` renews it.
    kept : timedelta
        For so long what is over is remembered: a repeated report is known then.
    idle : timedelta
        What no worker has claimed goes back to the head once none has asked for it so long.
    """

    units: int = 10_000
    duration: timedelta = timedelta(minutes=10)
    kept: timedelta = timedelta(hours=1)
    idle: timedelta = timedelta(minutes=5)


class SiteLedger:
    """The `Leasing` port on a site's own database and a head's ledger.

    Parameters
    ----------
    head : Leasing
        Where work comes from.
    own : Ledger
        The site's own, used by nobody else; what a former process left in it is gone on with.
    name : WorkerId
        The site, as the head's ledger and its receipts name it.
    events_per_range : callable
        Returns how the head cuts one of its books into units.
    """

    def __init__(
        self,
        head: Leasing,
        own: Ledger,
        name: WorkerId,
        events_per_range: Callable[[int], Awaitable[int]],
        clock: Clock,
        ids: Ids,
        leases: SiteLeases = SiteLeases(),
    ) -> None:
        self._head = head
        self._own = own
        self._name = name
        self._events_per_range = events_per_range
        self._clock = clock
        self._ids = ids
        self._settings = leases
        self._parts: dict[int, _Part] = {}
        self._last_book = 0
        self._unopened = set[LeaseId]()
        self._known = False
        self._fetching = asyncio.Lock()
        self._synchronising = asyncio.Lock()

    # --- what workers ask -------------------------------------------------------

    async def claim_ranges(
        self,
        lease: LeaseId,
        worker: WorkerId,
        units: int,
        duration: timedelta,
        books: Sequence[int],
        within: Within | None = None,
    ) -> list[LeasedInterval]:
        """Lease up to ``units`` units; where the site has none left, it asks the head for more."""
        await self._remember()
        taken = await self._claim_own(lease, worker, units, duration, books, within)
        if taken or units <= 0:
            return taken
        before = self._last_book
        async with self._fetching:
            # Whoever waited here may find what another has fetched.
            if before == self._last_book:
                await self._fetch(books, within)
        return await self._claim_own(lease, worker, units, duration, books, within)

    async def renew_lease(
        self,
        lease: LeaseId,
        worker: WorkerId,
        duration: timedelta,
        running: Sequence[RunningUnit] = (),
    ) -> list[LeasedInterval]:
        """Extend a lease and note which units have begun; return what it still holds."""
        await self._remember()
        held = await self._own.renew_lease(lease, worker, duration)
        pieces = [self._piece_of(row) for row in held]
        begun = [
            structs.replace(unit, book=piece.own_book, chunk=piece.own.number)
            for unit in running
            for piece in dict.fromkeys(pieces)
            if _is_at(unit, piece)
        ]
        if begun:
            held = await self._own.renew_lease(lease, worker, duration, begun)
        return self._seen(held)

    async def report_ranges(self, reports: Sequence[RangeReport]) -> list[Answer]:
        """Take reports in order; each counts by deleting its lease, here and then at the head."""
        await self._remember()
        found = [self._find(report) for report in reports]
        known = [
            structs.replace(report, book=piece.own_book, chunk=piece.own.number, attempt=_FIRST)
            for report, piece in zip(reports, found, strict=True)
            if piece is not None
        ]
        answers = await self._own.report_ranges(known)
        await self._send_back(
            (report.book, report.chunk, report.entry_start, report.entry_stop)
            for report, answer in zip(known, answers, strict=True)
            if answer is Answer.ACCEPTED and not isinstance(report.outcome, Success)
        )
        told = iter(answers)
        return [Answer.SUPERSEDED if piece is None else next(told) for piece in found]

    async def release_lease(
        self, lease: LeaseId, worker: WorkerId, places: Sequence[BookPlace] | None = None
    ) -> list[LeasedInterval]:
        """Give back what a lease still holds, all of it or some intervals."""
        await self._remember()
        own_places: list[BookPlace] | None = None
        if places is not None:
            held = await self._own.leases()
            pieces = dict.fromkeys(self._piece_of(row) for row in held if row.lease == lease)
            own_places = [
                (piece.own_book, piece.own.number, start, stop)
                for book, chunk, start, stop in places
                for piece in pieces
                if (piece.origin.book, piece.origin.chunk) == (book, chunk)
                and piece.holds(start, stop)
            ]
        return await self._lost(await self._own.release_lease(lease, worker, own_places))

    async def resume_leases(self, unless: timedelta = timedelta()) -> None:
        """Give every lease of a worker's its whole time again."""
        await self._remember()
        await self._own.resume_leases(unless)

    async def expire_leases(self) -> list[LeasedInterval]:
        """Take back the workers' leases whose time is over."""
        await self._remember()
        return await self._lost(await self._own.expire_leases())

    async def forget_worker(self, worker: WorkerId) -> list[LeasedInterval]:
        """Take back the leases of a worker that is known to be gone."""
        await self._remember()
        return await self._lost(await self._own.forget_worker(worker))

    async def leases(self, book: int | None = None) -> list[LeasedInterval]:
        """Return every interval that a worker holds, or those of one book."""
        await self._remember()
        seen = self._seen(await self._own.leases())
        return [row for row in seen if book is None or row.book == book]

    # --- what the site asks of the head -----------------------------------------

    async def synchronise(self, *, leaving: bool = False) -> None:
        """Tell the head what has become of its leases, renew them, and heed what it took back.

        To be called some times within a lease's duration. Repeating it is harmless; where the
        head cannot be reached, nothing changes.

        Parameters
        ----------
        leaving : bool
            The site is about to stop: give back at once all that no worker has claimed.

        Raises
        ------
        TransientError
            The head or the own database does not answer.
        """
        await self._remember()
        async with self._synchronising:
            leases: dict[int, list[LeasedInterval]] = defaultdict(list)
            for row in await self._own.leases():
                leases[row.book].append(row)
            for part in list(self._parts.values()):
                if part.over_since is None:
                    await self._give_back_unwanted(part, leaving=leaving)
                    await self._synchronise(part, leases[part.own_book])
                elif self._elapsed(part.over_since, self._settings.kept):
                    await self._own.drop_book(part.own_book)
                    del self._parts[part.own_book]
            await self._open_late()

    async def _synchronise(self, part: _Part, leased: list[LeasedInterval]) -> None:
        lease = part.origin.lease
        # In this order, what is closed has its failure among those that the head is told.
        closed = await self._own.closed(part.own_book)
        failed = await self._own.failed_attempts(part.own_book)
        commits = await self._own.commits(part.own_book)
        lost = [row for row in failed if row.failure.kind in NOT_REPORTED]
        begun: list[LeasedInterval | FailedAttempt] = [
            *(row for row in leased if row.running),
            *(row for row in lost if row.running),
        ]
        held = await self._head.renew_lease(
            lease, self._name, self._settings.duration, [self._running(row) for row in begun]
        )
        ended: list[Commit | FailedAttempt] = [
            *commits,
            *(row for row in failed if row.failure.kind not in NOT_REPORTED),
        ]
        words = [row for row in ended if _key(row) not in part.told]
        await self._head.report_ranges([self._report(part, row) for row in words])
        given = [row for row in lost if _key(row) not in part.told]
        if given:
            places = [self._place(part, row) for row in given]
            await self._head.release_lease(lease, self._name, places)
        part.told.update(_key(row) for row in [*words, *given])
        await self._heed(part, [*commits, *failed, *closed], held)
        if self._strays(held):
            self._unopened.add(lease)

    async def _heed(
        self,
        part: _Part,
        rows: Sequence[Commit | FailedAttempt | ClosedInterval],
        held: Sequence[LeasedInterval],
    ) -> None:
        """Give up what the head has taken back; note when nothing is left to be done."""
        still: dict[tuple[int, int, int], list[tuple[int, int]]] = defaultdict(list)
        for row in held:
            still[row.book, row.chunk, row.attempt].append((row.entry_start, row.entry_stop))
        ended: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for end in rows:
            ended[end.chunk].append((end.entry_start, end.entry_stop))
        open_entries, gone = 0, []
        for number, piece in part.pieces.items():
            origin = piece.origin
            outstanding = IntervalSet.of([(piece.own.entry_start, piece.own.entry_stop)])
            outstanding -= IntervalSet.of(ended[number])
            taken = outstanding - IntervalSet.of(still[origin.book, origin.chunk, origin.attempt])
            gone += [(number, start, stop) for start, stop in taken]
            open_entries += len(outstanding) - len(taken)
        if gone:
            await self._own.discard(part.own_book, gone, _TAKEN_BACK)
        if not open_entries:
            part.over_since = self._clock.monotonic()

    async def _give_back_unwanted(self, part: _Part, *, leaving: bool) -> None:
        """Claim what no worker has asked for, so that none gets it any more, and lose it."""
        unwanted = [
            number
            for number, asked in part.wanted.items()
            if leaving or self._elapsed(asked, self._settings.idle)
        ]
        if unwanted:
            lease, duration = LeaseId(self._ids.new("unwanted")), self._settings.duration
            entries = sum(part.pieces[number].own.entries for number in unwanted)
            within = {part.own_book: unwanted}
            books = [part.own_book]
            await self._own.claim_ranges(lease, self._name, entries, duration, books, within)
            await self._lost(await self._own.release_lease(lease, self._name))

    async def _fetch(self, books: Sequence[int], within: Within | None) -> None:
        """Lease more from the head, and open books for it."""
        lease = LeaseId(self._ids.new("site"))
        self._unopened.add(lease)
        rows = await self._head.claim_ranges(
            lease, self._name, self._settings.units, self._settings.duration, books, within
        )
        await self._open(rows)
        self._unopened.remove(lease)

    async def _open_late(self) -> None:
        """Open books for what a fetch that did not come to its end has leased."""
        if not self._unopened:
            return
        async with self._fetching:
            for lease in sorted(self._unopened):
                held = await self._head.renew_lease(lease, self._name, self._settings.duration)
                await self._open(held)
                self._unopened.remove(lease)

    async def _open(self, rows: Sequence[LeasedInterval]) -> None:
        """Open books for what the head has leased to the site, unless there are some."""
        while strays := self._strays(rows):
            book = strays[0].book
            chunks = [
                Chunk(number, _origin(row).to_lfn(), row.entry_start, row.entry_stop)
                for number, row in enumerate(row for row in strays if row.book == book)
            ]
            rules = BookRules(await self._events_per_range(book), failures_max=1, losses_max=1)
            own_book = self._last_book + 1
            await self._own.open_book(own_book, rules, chunks)
            # A book that was opened by a cancelled call is there already, with other chunks.
            self._add_part(own_book, await self._own.chunks(own_book))

    def _strays(self, rows: Iterable[LeasedInterval]) -> list[LeasedInterval]:
        """Return what the head has leased to the site and no book of its own holds."""
        held: dict[_Origin, list[LeasedInterval]] = defaultdict(list)
        for row in rows:
            held[_origin(row)].append(row)
        known: dict[_Origin, list[tuple[int, int]]] = defaultdict(list)
        for part in self._parts.values():
            for piece in part.pieces.values():
                known[piece.origin].append((piece.own.entry_start, piece.own.entry_stop))
        strays = []
        for origin, some in held.items():
            missing = IntervalSet.of((row.entry_start, row.entry_stop) for row in some)
            missing -= IntervalSet.of(known[origin])
            # An interval is known as a whole or not at all: the head never joins what it leased.
            strays += [r for r in some if IntervalSet(((r.entry_start, r.entry_stop),)) & missing]
        return strays

    async def _remember(self) -> None:
        """Read, once, what a former process left."""
        if self._known:
            return
        async with self._fetching:
            if not self._known:
                for own_book in await self._own.books():
                    self._add_part(own_book, await self._own.chunks(own_book))
                self._known = True

    def _add_part(self, own_book: int, chunks: Iterable[Chunk]) -> None:
        pieces = {chunk.number: _Piece(_Origin.of(chunk), own_book, chunk) for chunk in chunks}
        wanted = dict.fromkeys(pieces, self._clock.monotonic())
        self._parts[own_book] = _Part(own_book, pieces, wanted)
        # Never used again: a cancelled call may yet open the next one.
        self._last_book = own_book

    def _elapsed(self, since: float, duration: timedelta) -> bool:
        return self._clock.monotonic() - since >= duration.total_seconds()

    # --- between the head's numbers and the site's own ----------------------------

    async def _claim_own(
        self,
        lease: LeaseId,
        worker: WorkerId,
        units: int,
        duration: timedelta,
        books: Sequence[int],
        within: Within | None,
    ) -> list[LeasedInterval]:
        parts = [
            part
            for book in books
            for part in self._parts.values()
            if part.origin.book == book and part.over_since is None
        ]
        own_books = [part.own_book for part in parts]
        asked = {part.own_book: part.chunks(within) for part in parts}
        for part in parts:
            part.wanted.update(dict.fromkeys(asked[part.own_book], self._clock.monotonic()))
        own_within = None if within is None else asked
        while True:
            rows = await self._own.claim_ranges(
                lease, worker, units, duration, own_books, own_within
            )
            # A crash may have come between a failure and its way back to the head.
            again = [row for row in rows if row.attempt != _FIRST]
            await self._lost(again)
            if len(again) < len(rows) or not rows:
                return self._seen(row for row in rows if row.attempt == _FIRST)

    async def _lost(self, rows: Sequence[LeasedInterval]) -> list[LeasedInterval]:
        await self._send_back(
            (row.book, row.chunk, row.entry_start, row.entry_stop) for row in rows
        )
        return self._seen(rows)

    async def _send_back(self, places: Iterable[BookPlace]) -> None:
        """Leave to the head what did not succeed: nobody else gets it here."""
        by_book: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
        for book, *place in places:
            by_book[book].append((place[0], place[1], place[2]))
        for book, some in by_book.items():
            await self._own.discard(book, some, _SENT_BACK)

    def _piece_of(self, row: LeasedInterval) -> _Piece:
        return self._parts[row.book].pieces[row.chunk]

    def _seen(self, rows: Iterable[LeasedInterval]) -> list[LeasedInterval]:
        """Return intervals as the head names them."""
        seen = []
        for row in rows:
            origin = self._piece_of(row).origin
            seen.append(
                structs.replace(row, book=origin.book, chunk=origin.chunk, attempt=origin.attempt)
            )
        return seen

    def _find(self, report: RangeReport) -> _Piece | None:
        wanted = (report.book, report.chunk, report.attempt)
        return next(
            (
                piece
                for part in reversed(self._parts.values())
                for piece in part.pieces.values()
                if (piece.origin.book, piece.origin.chunk, piece.origin.attempt) == wanted
                and piece.holds(report.entry_start, report.entry_stop)
            ),
            None,
        )

    def _place(self, part: _Part, row: Commit | FailedAttempt) -> BookPlace:
        origin = part.pieces[row.chunk].origin
        return origin.book, origin.chunk, row.entry_start, row.entry_stop

    def _running(self, row: LeasedInterval | FailedAttempt) -> RunningUnit:
        origin = self._parts[row.book].pieces[row.chunk].origin
        cpu_s = row.cpu_s if isinstance(row, LeasedInterval) else row.failure.cpu_s
        place = origin.book, origin.chunk, row.entry_start, row.entry_stop
        return RunningUnit(*place, cpu_s)

    def _report(self, part: _Part, row: Commit | FailedAttempt) -> RangeReport:
        origin = part.pieces[row.chunk].origin
        outcome = row.success if isinstance(row, Commit) else row.failure
        place = self._place(part, row)
        return RangeReport(origin.lease, self._name, *place, origin.attempt, outcome)


def _origin(row: LeasedInterval) -> _Origin:
    return _Origin(row.lease, row.book, row.chunk, row.attempt)


def _key(row: Commit | FailedAttempt) -> tuple[int, int, int, LeaseId, bool]:
    return row.chunk, row.entry_start, row.entry_stop, row.lease, isinstance(row, Commit)


def _is_at(unit: RunningUnit, piece: _Piece) -> bool:
    at = (piece.origin.book, piece.origin.chunk) == (unit.book, unit.chunk)
    return at and piece.holds(unit.entry_start, unit.entry_stop)
