"""Sites that lease on what a head leased to them: whatever happens, each event counts once.

Random histories: claims, renewals, successes, failures, repeated and late reports, work given
back, workers and sites that are lost, sites that forget everything, heads that cannot be
reached, lost answers. What is handed out, and what is committed in the end, is checked.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from datetime import timedelta
from typing import Any

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
from evstream.testing.manual_clock import ManualClock
from evstream.testing.seeded_ids import SeededIds

BOOKS = {2: 3, 5: 1}
"""Events per range of the head's books."""
CHUNKS = (Chunk(0, Lfn("a.root"), 0, 40), Chunk(1, Lfn("b.root"), 100, 131))
ENTRIES = sum(chunk.entries for chunk in CHUNKS)
WORKER_LEASE = timedelta(seconds=10)
LEASES = SiteLeases(units=12, duration=timedelta(seconds=30), kept=timedelta(seconds=60))


class Line:
    """The way to the head, which may be cut, or lose an answer."""

    def __init__(self, head: MemoryLedger, rng: random.Random) -> None:
        self._head = head
        self._rng = rng
        self.cut = False
        self.loses = 0.1

    def __getattr__(self, name: str) -> Any:
        async def call(*args: Any) -> Any:
            if self.cut:
                raise TransientError("the head cannot be reached")
            answer = await getattr(self._head, name)(*args)
            if self._rng.random() < self.loses:
                raise TransientError("the answer was lost")
            return answer

        return call


class Site:
    """A site's ledger that can be started again, with what it knew or without."""

    def __init__(self, name: str, head: MemoryLedger, world: World) -> None:
        self.name = name
        self.line = Line(head, world.rng)
        self._world = world
        self.own = MemoryLedger(world.clock)
        self.start(forgets=False)

    def start(self, *, forgets: bool) -> None:
        if forgets:
            self.own = MemoryLedger(self._world.clock)

        async def events_per_range(book: int) -> int:
            return BOOKS[book]

        self.ledger = SiteLedger(
            self.line,
            self.own,
            WorkerId(self.name),
            events_per_range,
            self._world.clock,
            self._world.ids,
            LEASES,
        )


class World:
    """A head, two sites, and workers that ask either."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.clock = ManualClock()
        self.ids = SeededIds(rng.getrandbits(32))
        self.head = MemoryLedger(self.clock)
        self.sites = [Site(name, self.head, self) for name in ("lyon", "tokyo")]
        self.leases: list[tuple[Site, LeaseId, WorkerId]] = []
        self.units: list[tuple[Site, LeasedInterval]] = []
        self.reported: list[tuple[Site, RangeReport]] = []
        self.handed_out = Counter[tuple[int, int, int, int]]()
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
            assert set(again) == set(rows) or not rows
            rows = again
        self.leases.append((site, lease, worker))
        for row in rows:
            assert row.book in books
            assert within is None or row.chunk in within[row.book]
            for entry in range(row.entry_start, row.entry_stop):
                self.handed_out[row.book, row.chunk, entry, row.attempt] += 1
            grid = CHUNKS[row.chunk].entry_start
            for start, stop in units_of((row.entry_start, row.entry_stop), grid, BOOKS[row.book]):
                self.units.append((site, structs.replace(row, entry_start=start, entry_stop=stop)))

    async def report(self, site: Site, held: LeasedInterval, *, fails: bool) -> None:
        place = (held.book, held.chunk, held.entry_start, held.entry_stop)
        kind = self.rng.choice(["payload", "node", "input"])
        outcome = Failure(kind, "broken") if fails else Success((), cpu_s=1.0)
        word = RangeReport(held.lease, held.worker, *place, held.attempt, outcome)
        (answer,) = await site.ledger.report_ranges([word])
        if answer is Answer.ACCEPTED:
            self.reported.append((site, word))
            if not fails:
                for entry in range(held.entry_start, held.entry_stop):
                    self.succeeded.add((held.book, held.chunk, entry, held.attempt))

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
                self.clock.advance(self.rng.choice([1, 4, 9, 31]))
                await self.head.expire_leases()
                await site.ledger.expire_leases()
            case 11:
                match self.rng.randrange(8):
                    case 0:
                        site.line.cut = not site.line.cut
                    case 1:
                        site.start(forgets=self.rng.random() < 0.5)
                    case 2:
                        await site.ledger.forget_worker(WorkerId(f"w{self.rng.randrange(3)}"))

    async def finish(self) -> None:
        """Have everything done by workers that do not fail."""
        for site in self.sites:
            site.line.cut, site.line.loses = False, 0.0
        for _ in range(200):
            if all([(await self.head.progress(book)).complete for book in BOOKS]):
                return
            self.clock.advance(31)
            await self.head.expire_leases()
            for site in self.sites:
                await site.ledger.expire_leases()
                await site.ledger.synchronise()
                self.units.clear()
                await self.claim(site)
                for at, held in self.units:
                    await self.report(at, held, fails=False)
                await site.ledger.synchronise()
        raise AssertionError("it does not come to an end")

    async def check(self) -> None:
        """Compare what is committed with what was handed out and reported."""
        assert set(self.handed_out.values()) == {1}, "an attempt was handed out twice"
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


@pytest.mark.parametrize("part", range(4))
def test_each_event_counts_once_whatever_becomes_of_sites(part: int, rng: random.Random) -> None:
    async def walk(seed: int) -> None:
        world = World(random.Random(seed))
        for book, events_per_range in BOOKS.items():
            rules = BookRules(events_per_range, failures_max=4, losses_max=9, bisections_max=3)
            await world.head.open_book(book, rules, CHUNKS)
        for _ in range(150):
            try:
                await world.step()
            except TransientError:
                continue
        await world.finish()
        await world.check()

    for _ in range(40):
        seed = rng.getrandbits(32)
        print(f"history {seed}")
        asyncio.run(walk(seed))
