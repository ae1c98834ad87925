"""A site's ledger beside the head's: what a worker is told, and what the head knows when."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec.structs import replace

from evstream.adapters.catalogue.memory import MemoryLedger
from evstream.adapters.catalogue.sqlite import SqliteDatabase
from evstream.domain.ledger import (
    BookRules,
    Failure,
    LeasedInterval,
    RangeReport,
    RunningUnit,
    Success,
)
from evstream.domain.names import LeaseId, Lfn, WorkerId
from evstream.domain.splitting import Chunk
from evstream.domain.states import Answer
from evstream.edge.site_ledger import SiteLeases, SiteLedger
from evstream.ports import Ledger
from evstream.testing.manual_clock import ManualClock
from evstream.testing.seeded_ids import SeededIds

BOOK = 2
DURATION = timedelta(seconds=10)
LEASES = SiteLeases(units=10, duration=timedelta(seconds=60), kept=timedelta(seconds=300))
IDLE_S = LEASES.idle.total_seconds()
ANNE, BOB, SITE = WorkerId("anne"), WorkerId("bob"), WorkerId("lyon")
SUCCESS = Success(())
FIRST, SECOND = LeaseId("l1"), LeaseId("l2")


pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def head(clock: ManualClock) -> MemoryLedger:
    ledger = MemoryLedger(clock)
    await ledger.open_book(BOOK, BookRules(2), [Chunk(7, Lfn("a.root"), 100, 160)])
    return ledger


@pytest.fixture
async def site(head: MemoryLedger, clock: ManualClock) -> SiteLedger:
    return site_on(head, MemoryLedger(clock), clock)


def site_on(head: MemoryLedger, own: Ledger, clock: ManualClock, seed: int = 1) -> SiteLedger:
    async def two(book: int) -> int:
        return 2

    return SiteLedger(head, own, SITE, two, clock, SeededIds(seed), LEASES)


class Meanwhile:
    """A ledger at which something happens once, as soon as a call of some name has its effect."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.after: dict[str, Callable[[], Awaitable[None]]] = {}

    def __getattr__(self, name: str) -> Any:
        async def call(*args: Any) -> Any:
            answer = await getattr(self._ledger, name)(*args)
            if name in self.after:
                await self.after.pop(name)()
            return answer

        return call


async def cancelled() -> None:
    raise asyncio.CancelledError


def words(
    rows: Sequence[LeasedInterval], outcome: Success | Failure = SUCCESS
) -> list[RangeReport]:
    return [
        RangeReport(
            r.lease, r.worker, r.book, r.chunk, r.entry_start, r.entry_stop, r.attempt, outcome
        )
        for r in rows
    ]


def spans(rows: Sequence[LeasedInterval]) -> list[tuple[int, int, int, int]]:
    return [(row.chunk, row.entry_start, row.entry_stop, row.attempt) for row in rows]


async def test_workers_see_the_intervals_of_the_head(site: SiteLedger, head: MemoryLedger) -> None:
    got = await site.claim_ranges(FIRST, ANNE, 3, DURATION, [BOOK])
    assert spans(got) == [(7, 100, 106, 1)]
    assert spans(await site.claim_ranges(SECOND, BOB, 100, DURATION, [BOOK])) == [(7, 106, 120, 1)]
    # The head knows of one large lease of the site's.
    assert [(r.worker, r.entry_start, r.entry_stop) for r in await head.leases()] == [
        (SITE, 100, 120)
    ]


async def test_a_success_counts_at_the_head_once_it_is_told(
    site: SiteLedger, head: MemoryLedger
) -> None:
    got = await site.claim_ranges(FIRST, ANNE, 3, DURATION, [BOOK])
    assert await site.report_ranges(words(got)) == [Answer.ACCEPTED]
    assert (await head.progress(BOOK)).finished == 0
    await site.synchronise()
    await site.synchronise()
    (commit,) = await head.commits(BOOK)
    assert (commit.chunk, commit.entry_start, commit.entry_stop) == (7, 100, 106)
    assert (commit.attempt, commit.worker) == (1, SITE)
    assert await site.report_ranges(words(got)) == [Answer.ALREADY_ACCEPTED]


async def test_the_head_decides_about_failures(site: SiteLedger, head: MemoryLedger) -> None:
    got = await site.claim_ranges(FIRST, ANNE, 1, DURATION, [BOOK])
    await site.report_ranges(words(got, Failure("payload", "exit 1")))
    others = await site.claim_ranges(SECOND, BOB, 9, DURATION, [BOOK])
    assert spans(others) == [(7, 102, 120, 1)], "not tried again here"
    await site.synchronise()
    (failed,) = await head.failed_attempts(BOOK)
    assert (failed.failure.error, failed.attempt, failed.worker) == ("exit 1", 1, SITE)
    again = await head.claim_ranges(LeaseId("x"), BOB, 1, DURATION, [BOOK])
    assert spans(again) == [(7, 100, 102, 2)]


@pytest.mark.parametrize("begun", [False, True])
async def test_what_a_worker_loses_is_given_back_to_the_head(
    site: SiteLedger, head: MemoryLedger, clock: ManualClock, begun: bool
) -> None:
    await site.claim_ranges(FIRST, ANNE, 2, DURATION, [BOOK])
    if begun:
        unit = RunningUnit(BOOK, 7, 102, 104, 1.5)
        held = await site.renew_lease(FIRST, ANNE, DURATION, [unit])
        assert [(r.entry_start, r.entry_stop) for r in held if r.running] == [(102, 104)]
    clock.advance(11)
    assert await site.expire_leases()
    await site.synchronise()
    failed = [(f.entry_start, f.running, f.failure.kind) for f in await head.failed_attempts(BOOK)]
    expected = [(100, False, "lost"), (102, True, "lost")] if begun else [(100, False, "lost")]
    assert failed == expected
    assert (await head.progress(BOOK)).sent == 16


async def test_what_is_given_back_in_part_leaves_the_rest(
    site: SiteLedger, head: MemoryLedger
) -> None:
    await site.claim_ranges(FIRST, ANNE, 4, DURATION, [BOOK])
    given = await site.release_lease(FIRST, ANNE, [(BOOK, 7, 102, 104), (BOOK, 7, 10, 12)])
    assert spans(given) == [(7, 102, 104, 1)]
    assert spans(await site.leases()) == [(7, 100, 102, 1), (7, 104, 108, 1)]
    await site.synchronise()
    again = await head.claim_ranges(LeaseId("x"), BOB, 1, DURATION, [BOOK])
    assert spans(again) == [(7, 102, 104, 2)]


async def test_what_the_head_took_back_is_given_up(
    site: SiteLedger, head: MemoryLedger, clock: ManualClock
) -> None:
    got = await site.claim_ranges(FIRST, ANNE, 2, timedelta(hours=1), [BOOK])
    clock.advance(61)
    await head.expire_leases()
    await site.synchronise()
    assert await site.renew_lease(FIRST, ANNE, DURATION) == []
    assert await site.report_ranges(words(got)) == [Answer.SUPERSEDED]
    fresh = await site.claim_ranges(SECOND, ANNE, 2, DURATION, [BOOK])
    assert spans(fresh) == [(7, 100, 104, 2)]


async def test_a_cancelled_book_ends_at_the_site_too(site: SiteLedger, head: MemoryLedger) -> None:
    await site.claim_ranges(FIRST, ANNE, 2, DURATION, [BOOK])
    await head.cancel_book(BOOK)
    await site.synchronise()
    assert await site.leases() == []
    assert await site.claim_ranges(SECOND, ANNE, 2, DURATION, [BOOK]) == []


async def test_what_is_over_is_forgotten_after_a_while(
    site: SiteLedger, head: MemoryLedger, clock: ManualClock
) -> None:
    got = await site.claim_ranges(FIRST, ANNE, 10, DURATION, [BOOK])
    await site.report_ranges(words(got))
    await site.synchronise()
    clock.advance(299)
    await site.synchronise()
    assert await site.report_ranges(words(got)) == [Answer.ALREADY_ACCEPTED]
    clock.advance(2)
    await site.synchronise()
    assert await site.report_ranges(words(got)) == [Answer.SUPERSEDED]
    assert (await head.progress(BOOK)).finished == 20


async def test_a_site_that_was_killed_goes_on_with_what_it_had(
    head: MemoryLedger, clock: ManualClock, tmp_path: Path
) -> None:
    database = SqliteDatabase(tmp_path / "site", clock)
    site = site_on(head, database.ledger, clock)
    first = await site.claim_ranges(FIRST, ANNE, 3, DURATION, [BOOK])
    second = await site.claim_ranges(SECOND, BOB, 3, DURATION, [BOOK])
    assert await site.report_ranges(words(first)) == [Answer.ACCEPTED]
    await database.close()
    database = SqliteDatabase(tmp_path / "site", clock)
    site = site_on(head, database.ledger, clock)
    assert await site.report_ranges(words(first)) == [Answer.ALREADY_ACCEPTED]
    assert await site.report_ranges(words(second)) == [Answer.ACCEPTED]
    await site.synchronise()
    await database.close()
    assert (await head.progress(BOOK)).finished == 12


async def test_what_a_site_had_not_told_comes_back_when_it_dies(
    site: SiteLedger, head: MemoryLedger, clock: ManualClock
) -> None:
    got = await site.claim_ranges(FIRST, ANNE, 3, DURATION, [BOOK])
    await site.report_ranges(words(got))
    await site.synchronise()
    more = await site.claim_ranges(SECOND, ANNE, 3, DURATION, [BOOK])
    await site.report_ranges(words(more))
    clock.advance(61)
    await head.expire_leases()
    again = await head.claim_ranges(LeaseId("x"), BOB, 99, DURATION, [BOOK])
    assert spans(again) == [(7, 106, 120, 2), (7, 120, 160, 1)]


@pytest.mark.parametrize("call", ["open_book", "chunks"])
async def test_a_claim_cancelled_while_a_book_is_opened_strands_nothing(
    head: MemoryLedger, clock: ManualClock, call: str
) -> None:
    own = Meanwhile(MemoryLedger(clock))
    site = site_on(head, cast("Ledger", own), clock)
    own.after[call] = cancelled
    with pytest.raises(asyncio.CancelledError):
        await site.claim_ranges(FIRST, ANNE, 3, DURATION, [BOOK])
    got = await site.claim_ranges(SECOND, BOB, 3, DURATION, [BOOK])
    assert spans(got) == [(7, 100, 106, 1)]
    assert await site.report_ranges(words(got)) == [Answer.ACCEPTED]
    await site.synchronise()
    assert [(c.entry_start, c.entry_stop) for c in await head.commits(BOOK)] == [(100, 106)]
    rest = await site.claim_ranges(LeaseId("l3"), BOB, 99, DURATION, [BOOK])
    assert spans(rest) == [(7, 106, 120, 1), (7, 120, 140, 1)], "what was leased is handed out"


async def test_a_lease_whose_answer_was_lost_is_found_again(
    head: MemoryLedger, clock: ManualClock
) -> None:
    line = Meanwhile(head)
    site = site_on(cast("MemoryLedger", line), MemoryLedger(clock), clock)
    line.after["claim_ranges"] = cancelled
    with pytest.raises(asyncio.CancelledError):
        await site.claim_ranges(FIRST, ANNE, 3, DURATION, [BOOK])
    await site.synchronise()
    got = await site.claim_ranges(SECOND, BOB, 99, DURATION, [BOOK])
    assert spans(got) == [(7, 100, 120, 1)]


async def test_a_failure_reported_while_the_head_is_told_is_told_next_time(
    head: MemoryLedger, clock: ManualClock
) -> None:
    line = Meanwhile(head)
    site = site_on(cast("MemoryLedger", line), MemoryLedger(clock), clock)
    (row,) = await site.claim_ranges(FIRST, ANNE, 10, DURATION, [BOOK])
    last = replace(row, entry_start=118)

    async def fail() -> None:
        answers = await site.report_ranges(words([last], Failure("payload", "exit 1")))
        assert answers == [Answer.ACCEPTED]

    await site.report_ranges(words([replace(row, entry_stop=118)]))
    line.after["report_ranges"] = fail
    await site.synchronise()
    await site.synchronise()
    (failed,) = await head.failed_attempts(BOOK)
    assert (failed.entry_start, failed.failure.kind, failed.failure.error) == (
        118,
        "payload",
        "exit 1",
    )
    assert await head.leases() == []


async def test_what_no_worker_asks_for_goes_back(
    site: SiteLedger, head: MemoryLedger, clock: ManualClock
) -> None:
    await site.claim_ranges(FIRST, ANNE, 3, timedelta(hours=9), [BOOK])
    other = {BOOK: [8]}
    for _ in range(int(IDLE_S // 30)):
        await site.synchronise()
        assert await site.claim_ranges(SECOND, BOB, 1, DURATION, [BOOK], other) == []
        assert (await head.progress(BOOK)).sent == 20
        clock.advance(30)
    await site.synchronise()
    assert (await head.progress(BOOK)).sent == 6, "what a worker holds stays"
    assert spans(await site.leases()) == [(7, 100, 106, 1)]
    (given,) = await head.failed_attempts(BOOK)
    assert (given.entry_start, given.entry_stop, given.running) == (106, 120, False)
    again = await site.claim_ranges(SECOND, BOB, 3, DURATION, [BOOK])
    assert spans(again) == [(7, 106, 112, 2)]


async def test_what_workers_ask_for_stays(
    site: SiteLedger, head: MemoryLedger, clock: ManualClock
) -> None:
    await site.claim_ranges(FIRST, ANNE, 3, timedelta(hours=9), [BOOK])
    for number in range(4):
        clock.advance(IDLE_S - 1)
        await head.resume_leases()
        await site.claim_ranges(LeaseId(f"m{number}"), BOB, 1, timedelta(hours=9), [BOOK])
        await site.synchronise()
    assert (await head.progress(BOOK)).sent == 20


async def test_a_site_that_leaves_gives_back_what_nobody_has_begun(
    site: SiteLedger, head: MemoryLedger
) -> None:
    got = await site.claim_ranges(FIRST, ANNE, 3, DURATION, [BOOK])
    await site.synchronise(leaving=True)
    assert [(row.entry_start, row.entry_stop) for row in await head.leases()] == [(100, 106)]
    assert await site.report_ranges(words(got)) == [Answer.ACCEPTED]
    await site.synchronise(leaving=True)
    assert await head.leases() == []


async def test_a_site_killed_between_two_books_of_a_lease_opens_the_other(
    head: MemoryLedger, clock: ManualClock
) -> None:
    await head.open_book(4, BookRules(2), [Chunk(1, Lfn("b.root"), 0, 20)])
    await head.open_book(3, BookRules(2), [Chunk(1, Lfn("c.root"), 0, 6)])
    own = MemoryLedger(clock)
    dying = Meanwhile(own)
    dying.after["open_book"] = cancelled
    site = site_on(head, cast("Ledger", dying), clock)
    with pytest.raises(asyncio.CancelledError):
        await site.claim_ranges(FIRST, ANNE, 3, DURATION, [3, 4])
    assert await own.books() == [1]
    site = site_on(head, own, clock, seed=2)
    await site.synchronise()
    got = await site.claim_ranges(SECOND, BOB, 99, DURATION, [4])
    assert spans(got) == [(1, 0, 14, 1)]
    assert len(await head.leases()) == 2
