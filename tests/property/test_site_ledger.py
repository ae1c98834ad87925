"""Sites that lease on what a head leased to them: whatever happens, each event counts once.

Random histories: claims, renewals, successes, failures, repeated and late reports, work given
back, workers and sites that are lost, sites that forget everything, sites whose workers leave,
heads that cannot be reached, lost answers; several of these at once, some cancelled on their way.
What is handed out, and what is committed in the end, is checked. Where no lease of a site's was
lost, so is that the head knows each word that a worker's site has accepted.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import pytest
from msgspec import structs

from evstream.adapters.catalogue.memory import MemoryLedger
from evstream.domain.errors import TransientError
from evstream.domain.ledger import (
    BookRules,
    Failure,
    LeasedInterval,
    RangeReport,
    RunningUnit,
    Success,
)
from evstream.domain.names import LeaseId, Lfn, WorkerId
from evstream.domain.splitting import Chunk, units_of
from evstream.domain.states import Answer
from evstream.edge.site_ledger import SiteLeases, SiteLedger
from evstream.ports import Ledger
from evstream.testing.manual_clock import ManualClock
from evstream.testing.seeded_ids import SeededIds

BOOKS = {2: 3, 5: 1}
"""Events per range of the head's books."""
CHUNKS = (Chunk(0, Lfn("a.root"), 0, 40), Chunk(1, Lfn("b.root"), 100, 131))
ENTRIES = sum(chunk.entries for chunk in CHUNKS)
WORKER_LEASE = timedelta(seconds=10)
LEASES = SiteLeases(
    units=12,
    duration=timedelta(seconds=30),
    kept=timedelta(seconds=60),
    idle=timedelta(seconds=20),
)


class Line:
    """The way to a ledger, on which others overtake; it may be cut, or lose an answer."""

    def __init__(self, ledger: MemoryLedger, rng: random.Random, loses: float) -> None:
        self._ledger = ledger
        self._rng = rng
        self.cut = False
        self.loses = loses

    def __getattr__(self, name: str) -> Any:
        async def call(*args: Any) -> Any:
            if self.cut:
                raise TransientError("it cannot be reached")
            await self._pass_time()
            answer = await getattr(self._ledger, name)(*args)
            await self._pass_time()
            if self._rng.random() < self.loses:
                raise TransientError("the answer was lost")
            return answer

        return call

    async def _pass_time(self) -> None:
        for _ in range(self._rng.randrange(3)):
            await asyncio.sleep(0)


class Site:
    """A site's ledger that can be started again, with what it knew or without."""

    def __init__(self, name: str, head: MemoryLedger, world: World) -> None:
        self.name = name
        self.line = Line(head, world.rng, 0.1)
        self._world = world
        self.own = MemoryLedger(world.clock)
        self.start(forgets=False)

    def start(self, *, forgets: bool) -> None:
        if forgets:
            self.own = MemoryLedger(self._world.clock)
        self.door = Line(self.own, self._world.rng, 0.02)

        async def events_per_range(book: int) -> int:
            return BOOKS[book]

        self.ledger = SiteLedger(
            self.line,
            cast("Ledger", self.door),
            WorkerId(self.name),
            events_per_range,
            self._world.clock,
            self._world.ids,
            replace(LEASES, units=self._world.rng.choice([2, 5, 12])),
        )


class World:
    """A head, two sites, and workers that ask either.

    Where it is calm, no lease of a site's is ever lost.
    """

    def __init__(self, rng: random.Random, *, calm: bool) -> None:
        self.rng = rng
        self.calm = calm
        self.clock = ManualClock()
        self.ids = SeededIds(rng.getrandbits(32))
        self.head = MemoryLedger(self.clock)
        self.sites = [Site(name, self.head, self) for name in ("lyon", "tokyo")]
        self.leases: list[tuple[Site, LeaseId, WorkerId]] = []
        self.units: list[tuple[Site, LeasedInterval]] = []
        self.alone = True
        self.forgotten_until = 0.0
        self.reported: list[tuple[Site, RangeReport]] = []
        self.handed_out = defaultdict[tuple[int, int, int, int], set[LeaseId]](set)
        self.succeeded = set[tuple[int, int, int, int]]()

    async def claim(self, site: Site) -> None:
        lease, worker = LeaseId(self.ids.new("l")), WorkerId(f"w{self.rng.randrange(3)}")
        books = self.rng.choice([[2, 5], [5, 2], [2], [5]])
        units = self.rng.randrange(1, 6)
        some = {book: self.rng.sample(range(len(CHUNKS)), 1) for book in books}
        within = self.rng.choice([None, None, some])
        rows = await site.ledger.claim_ranges(lease, worker, units, WORKER_LEASE, books, within)
        if self.rng.random() < 0.2:
            again = await site.ledger.claim_ranges(
                lease, worker, units, WORKER_LEASE, books, within
            )
            assert not self.alone or not rows or set(again) == set(rows)
            rows = again
        self.leases.append((site, lease, worker))
        for row in rows:
            assert row.book in books
            assert within is None or row.chunk in within[row.book]
            for entry in range(row.entry_start, row.entry_stop):
                self.handed_out[row.book, row.chunk, entry, row.attempt].add(lease)
            grid = CHUNKS[row.chunk].entry_start
            for start, stop in units_of((row.entry_start, row.entry_stop), grid, BOOKS[row.book]):
                self.units.append((site, structs.replace(row, entry_start=start, entry_stop=stop)))

    async def report(self, site: Site, held: LeasedInterval, *, fails: bool) -> None:
        place = (held.book, held.chunk, held.entry_start, held.entry_stop)
        kind = self.rng.choice(["payload", "node", "input"])
        outcome = Failure(kind, "broken") if fails else Success((), cpu_s=1.0)
        word = RangeReport(held.lease, held.worker, *place, held.attempt, outcome)
        if not fails:
            for entry in range(held.entry_start, held.entry_stop):
                self.succeeded.add((held.book, held.chunk, entry, held.attempt))
        (answer,) = await site.ledger.report_ranges([word])
        if answer is Answer.ACCEPTED:
            self.reported.append((site, word))

    async def turn(self) -> None:
        """Let some things happen at once, and cancel some; a site may be killed meanwhile."""
        some = [asyncio.create_task(self.step()) for _ in range(self.rng.choice([1, 1, 3, 5]))]
        self.alone = len(some) == 1
        killed = self.rng.random() < 0.03
        if killed or self.rng.random() < 0.2:
            for _ in range(self.rng.randrange(12)):
                await asyncio.sleep(0)
            for each in some if killed else some[:1]:
                each.cancel()
        for end in await asyncio.gather(*some, return_exceptions=True):
            if end is not None and not isinstance(end, TransientError | asyncio.CancelledError):
                raise end
        if killed:
            forgets = not self.calm and self.rng.random() < 0.5
            self.rng.choice(self.sites).start(forgets=forgets)
            # What it had asked the head for just then, it does not know of.
            self.forgotten_until = self.clock.monotonic() + LEASES.duration.total_seconds()
        if self.calm:
            for site in self.sites:
                await told(site)
                if self.clock.monotonic() > self.forgotten_until:
                    await self.check_leases(site)

    async def step(self) -> None:
        site = self.rng.choice(self.sites)
        match self.rng.randrange(12):
            case 0 | 1:
                await self.claim(site)
            case 2 | 3 | 4 if self.units:
                unit = self.units.pop(self.rng.randrange(len(self.units)))
                await self.report(*unit, fails=self.rng.random() < 0.2)
            case 5 if self.units:
                at, held = self.rng.choice(self.units)
                begun = (held.book, held.chunk, held.entry_start, held.entry_stop, 0.25)
                await at.ledger.renew_lease(
                    held.lease, held.worker, WORKER_LEASE, [RunningUnit(*begun)]
                )
            case 6 if self.reported:
                at, word = self.rng.choice(self.reported)
                if self.rng.random() < 0.3:
                    word = structs.replace(
                        word, outcome=Failure("payload", "said otherwise before")
                    )
                (answer,) = await at.ledger.report_ranges([word])
                assert answer is not Answer.ACCEPTED
            case 7 if self.leases:
                at, lease, worker = self.rng.choice(self.leases)
                await at.ledger.release_lease(lease, worker)
            case 8 | 9:
                await site.ledger.synchronise()
            case 10:
                self.clock.advance(self.rng.choice([1, 4, 5] if self.calm else [1, 4, 9, 31]))
                await self.head.expire_leases()
                await site.ledger.expire_leases()
            case 11:
                match self.rng.randrange(4):
                    case 0 if not self.calm:
                        site.line.cut = not site.line.cut
                    case 1:
                        await site.ledger.forget_worker(WorkerId(f"w{self.rng.randrange(3)}"))
                    case 2:
                        await site.ledger.synchronise(leaving=True)

    async def finish(self) -> None:
        """Have everything done by workers of one site that do not fail; the other only goes on.

        Time passes so slowly that what a site renews is not lost to it.
        """
        for site in self.sites:
            site.line.cut, site.line.loses, site.door.loses = False, 0.0, 0.0
        self.alone, busy = True, self.rng.choice(self.sites)
        for _ in range(100):
            if all([(await self.head.progress(book)).complete for book in BOOKS]):
                return
            self.clock.advance(9)
            await self.head.expire_leases()
            for site in self.sites:
                await site.ledger.expire_leases()
                await site.ledger.synchronise()
            for _ in range(4):
                self.units.clear()
                await self.claim(busy)
                for at, held in self.units:
                    await self.report(at, held, fails=False)
            await busy.ledger.synchronise()
        raise AssertionError("it does not come to an end")

    async def check(self) -> None:
        """Compare what is committed with what was handed out and reported."""
        twice = [place for place, leases in self.handed_out.items() if len(leases) > 1]
        assert not twice, "an attempt was handed out twice"
        for book in BOOKS:
            ended = Counter[tuple[int, int]]()
            for row in [*await self.head.commits(book), *await self.head.closed(book)]:
                ended.update((row.chunk, e) for e in range(row.entry_start, row.entry_stop))
            assert len(ended) == ENTRIES
            assert set(ended.values()) == {1}
            for done in await self.head.commits(book):
                for entry in range(done.entry_start, done.entry_stop):
                    assert (book, done.chunk, entry, done.attempt) in self.succeeded
                assert done.worker in ("lyon", "tokyo")
            if self.calm:
                await self.check_words(book)

    async def check_leases(self, site: Site) -> None:
        """Compare what the head has leased to a site with what the site has to do."""
        leased = sum(r.entries for r in await self.head.leases() if r.worker == site.name)
        books = [await site.own.progress(book) for book in await site.own.books()]
        assert leased <= sum(book.ready + book.sent + book.running for book in books)

    async def check_words(self, book: int) -> None:
        """Compare what the head knows with what sites have accepted."""
        known: dict[tuple[str, int, int, int, int], str] = {}
        for row in await self.head.commits(book):
            known[row.worker, row.chunk, row.entry_start, row.entry_stop, row.attempt] = "done"
        for bad in await self.head.failed_attempts(book):
            place = (bad.worker, bad.chunk, bad.entry_start, bad.entry_stop, bad.attempt)
            known[place] = bad.failure.kind
        for site, word in self.reported:
            if word.book == book:
                kind = "done" if isinstance(word.outcome, Success) else word.outcome.kind
                at = (site.name, word.chunk, word.entry_start, word.entry_stop, word.attempt)
                assert known.get(at) == kind, f"{at} was {kind}"


async def told(site: Site) -> None:
    """Synchronise until no answer is lost."""
    for _ in range(1000):
        try:
            return await site.ledger.synchronise()
        except TransientError:
            continue
    raise AssertionError("no answer came through")


@pytest.mark.slow
@pytest.mark.parametrize("calm", [False, True])
@pytest.mark.parametrize("part", range(4))
def test_each_event_counts_once_whatever_becomes_of_sites(
    part: int, calm: bool, rng: random.Random
) -> None:
    async def walk(seed: int) -> None:
        world = World(random.Random(seed), calm=calm)
        for book, events_per_range in BOOKS.items():
            rules = BookRules(events_per_range, failures_max=4, losses_max=9, bisections_max=3)
            await world.head.open_book(book, rules, CHUNKS)
        for _ in range(150):
            await world.turn()
        await world.finish()
        await world.check()

    for _ in range(20 if calm else 40):
        seed = rng.getrandbits(32)
        print(f"history {seed}")
        asyncio.run(walk(seed))
