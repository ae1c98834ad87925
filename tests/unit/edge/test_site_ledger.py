"""A site's ledger beside the head's: what a worker is told, and what the head knows when."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

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


def site_on(head: MemoryLedger, own: Ledger, clock: ManualClock) -> SiteLedger:
    async def two(book: int) -> int:
        return 2

    return SiteLedger(head, own, SITE, two, clock, SeededIds(1), LEASES)


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
