"""The contract of a ledger."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import ClassVar

import pytest

from evstream.domain.errors import ConflictError, NotFoundError
from evstream.domain.ledger import (
    SUSPECT_LOSSES,
    BookRules,
    ClosedInterval,
    Commit,
    Failure,
    LeasedInterval,
    RangeReport,
    RunningUnit,
    Success,
)
from evstream.domain.names import LeaseId, Lfn, WorkerId
from evstream.domain.outputs import OutputRecord
from evstream.domain.splitting import Chunk
from evstream.domain.states import Answer, RangeState
from evstream.ports.ledger import Ledger
from evstream.testing.contracts.suite import Suite
from evstream.testing.manual_clock import ManualClock

OpenLedger = Callable[[], AbstractAsyncContextManager[Ledger]]

ANNE, BOB = WorkerId("anne"), WorkerId("bob")
FIRST, SECOND, THIRD = LeaseId("lease-1"), LeaseId("lease-2"), LeaseId("lease-3")
LEASE_S = 60
DURATION = timedelta(seconds=LEASE_S)
BOOK = 2
RULES = BookRules(events_per_range=10, failures_max=2, losses_max=4)
BISECTING = BookRules(events_per_range=10, failures_max=2, losses_max=4, bisections_max=99)
# Two files; the first one's last range is short.
CHUNKS = (Chunk(0, Lfn("a.root"), 0, 25), Chunk(1, Lfn("b.root"), 100, 120))
OUTPUT = OutputRecord("output", "tasks/1/output/x.root", 12, "ab" * 32, "0badcafe", {"Events": 10})
SUCCESS = Success((OUTPUT,), cpu_s=1.5, wall_s=2.0, bytes_in=1000)
CRASH = Failure("payload", "exit 1", log="tasks/1/log/x.log", cpu_s=0.5, wall_s=0.75)


def spans(intervals: list[LeasedInterval]) -> list[tuple[int, int, int]]:
    """Return (chunk, entry_start, entry_stop) of each interval."""
    return [(held.chunk, held.entry_start, held.entry_stop) for held in intervals]


def report_on(held: LeasedInterval, outcome: Success | Failure = SUCCESS) -> RangeReport:
    """Return a worker's word on the whole of an interval that it holds."""
    return RangeReport(
        held.lease,
        held.worker,
        held.book,
        held.chunk,
        held.entry_start,
        held.entry_stop,
        held.attempt,
        outcome,
    )


def running_unit(held: LeasedInterval, cpu_s: float = 0.0) -> RunningUnit:
    """Return a worker's word that it has begun an interval."""
    return RunningUnit(held.book, held.chunk, held.entry_start, held.entry_stop, cpu_s)


class LeasesContract(Suite):
    """Override `open_ledger`; set ``durable = False`` for a ledger that forgets."""

    durable: ClassVar[bool] = True

    @pytest.fixture
    def clock(self) -> ManualClock:
        """Return the database's clock."""
        return ManualClock()

    @pytest.fixture
    def open_ledger(self, clock: ManualClock) -> OpenLedger:
        """Return what opens the ledger, the same one each time if it is durable."""
        raise NotImplementedError("override open_ledger")

    @pytest.fixture
    async def ledger(self, open_ledger: OpenLedger) -> AsyncIterator[Ledger]:
        """Open a ledger with one book."""
        async with open_ledger() as ledger:
            await ledger.open_book(BOOK, RULES, CHUNKS)
            yield ledger

    @staticmethod
    async def claim(
        ledger: Ledger, units: int = 1, lease: LeaseId = FIRST, worker: WorkerId = ANNE
    ) -> list[LeasedInterval]:
        """Claim from the book that is there."""
        return await ledger.claim_ranges(lease, worker, units, DURATION, [BOOK])

    # Claims

    async def test_a_claim_takes_the_first_units(self, ledger: Ledger, clock: ManualClock) -> None:
        expires = clock.now() + DURATION
        expected = LeasedInterval(FIRST, ANNE, BOOK, 0, 0, 10, 1, 0, 0, DURATION, expires)
        assert await self.claim(ledger) == [expected]
        assert await ledger.leases() == [expected]

    async def test_a_claim_spans_chunks_and_keeps_to_their_grids(self, ledger: Ledger) -> None:
        assert spans(await self.claim(ledger, 4)) == [(0, 0, 25), (1, 100, 110)]

    async def test_claims_never_overlap(self, ledger: Ledger) -> None:
        first = await self.claim(ledger, 2)
        second = await self.claim(ledger, 9, SECOND, BOB)
        assert spans(first) + spans(second) == [(0, 0, 20), (0, 20, 25), (1, 100, 120)]
        assert await self.claim(ledger, 1, THIRD) == []

    @pytest.mark.parametrize("units", [0, -1])
    async def test_a_claim_of_nothing_gives_nothing(self, ledger: Ledger, units: int) -> None:
        assert await self.claim(ledger, units) == []

    async def test_a_repeated_claim_gives_what_it_gave(self, ledger: Ledger) -> None:
        held = await self.claim(ledger, 2)
        assert await self.claim(ledger, 2) == held
        assert spans(await self.claim(ledger, 9, SECOND)) == [(0, 20, 25), (1, 100, 120)]

    async def test_another_workers_lease_is_refused(self, ledger: Ledger) -> None:
        await self.claim(ledger)
        with pytest.raises(ConflictError):
            await self.claim(ledger, 1, FIRST, BOB)

    async def test_books_are_looked_at_in_the_order_given(self, ledger: Ledger) -> None:
        await ledger.open_book(4, RULES, [Chunk(0, Lfn("c.root"), 0, 10)])
        held = await ledger.claim_ranges(FIRST, ANNE, 2, DURATION, [4, 99, BOOK])
        assert [(row.book, row.entry_start) for row in held] == [(4, 0), (BOOK, 0)]
        assert await ledger.claim_ranges(SECOND, ANNE, 2, DURATION, []) == []
        assert await ledger.claim_ranges(SECOND, ANNE, 2, DURATION, [4]) == []

    async def test_returned_work_of_any_listed_book_goes_before_fresh(self, ledger: Ledger) -> None:
        await ledger.open_book(4, RULES, [Chunk(0, Lfn("c.root"), 0, 10)])
        await self.claim(ledger)
        await ledger.release_lease(FIRST, ANNE)
        held = await ledger.claim_ranges(SECOND, BOB, 2, DURATION, [4, BOOK])
        assert [(row.book, row.entry_start, row.attempt) for row in held] == [
            (BOOK, 0, 2),
            (4, 0, 1),
        ]

    async def test_a_book_opened_again_stays_as_it_is(self, ledger: Ledger) -> None:
        await self.claim(ledger)
        await ledger.open_book(BOOK, BookRules(1), [Chunk(0, Lfn("z.root"), 0, 5)])
        assert await ledger.chunks(BOOK) == list(CHUNKS)
        assert (await ledger.progress(BOOK)).sent == 10

    async def test_an_open_book_takes_more_chunks(self, ledger: Ledger) -> None:
        held = await self.claim(ledger, 9)
        more = [Chunk(3, Lfn("d.root"), 5, 12), Chunk(2, Lfn("c.root"), 0, 10)]
        await ledger.add_chunks(BOOK, more)
        assert [chunk.number for chunk in await ledger.chunks(BOOK)] == [0, 1, 2, 3]
        progress = await ledger.progress(BOOK)
        assert (progress.entries, progress.ranges, progress.ready) == (62, 7, 17)
        assert spans(await self.claim(ledger, 9, SECOND)) == [(2, 0, 10), (3, 5, 12)]
        assert spans(await ledger.leases())[: len(held)] == spans(held)

    async def test_a_chunk_whose_number_is_known_stays_as_it_is(self, ledger: Ledger) -> None:
        await self.claim(ledger)
        before = await ledger.progress(BOOK)
        await ledger.add_chunks(BOOK, [Chunk(0, Lfn("z.root"), 0, 500)])
        await ledger.add_chunks(BOOK, CHUNKS)
        assert await ledger.chunks(BOOK) == list(CHUNKS)
        assert await ledger.progress(BOOK) == before

    async def test_what_is_finished_is_read_from_a_place_on(self, ledger: Ledger) -> None:
        held = await self.claim(ledger, 9)
        parts = [(0, 20, 25), (0, 0, 10), (1, held[1].entry_start, held[1].entry_stop)]
        words = [RangeReport(FIRST, ANNE, BOOK, *part, 1, SUCCESS) for part in parts]
        assert await ledger.report_ranges(words) == [Answer.ACCEPTED] * 3
        await ledger.cancel_book(BOOK)
        every = await ledger.finished(BOOK, 0, 0, 100)
        rows: list[Commit | ClosedInterval] = [
            *await ledger.commits(BOOK),
            *await ledger.closed(BOOK),
        ]
        assert every == sorted(rows, key=lambda row: (row.chunk, row.entry_start))
        assert await ledger.finished(BOOK, 0, 0, 2) == every[:2]
        for place, item in enumerate(every):
            assert await ledger.finished(BOOK, item.chunk, item.entry_start, 9) == every[place:]
        assert await ledger.finished(BOOK, 7, 0, 9) == []
        with pytest.raises(NotFoundError):
            await ledger.finished(99, 0, 0, 9)

    async def test_chunks_need_a_book(self, ledger: Ledger) -> None:
        with pytest.raises(NotFoundError):
            await ledger.add_chunks(99, CHUNKS)

    # Reports

    async def test_a_success_is_committed_once(self, ledger: Ledger) -> None:
        (held,) = await self.claim(ledger)
        word = report_on(held)
        assert await ledger.report_ranges([word, word]) == [
            Answer.ACCEPTED,
            Answer.ALREADY_ACCEPTED,
        ]
        assert await ledger.report_ranges([word]) == [Answer.ALREADY_ACCEPTED]
        (commit,) = await ledger.commits(BOOK)
        assert (commit.chunk, commit.entry_start, commit.entry_stop) == (0, 0, 10)
        assert (commit.attempt, commit.lease, commit.worker) == (1, FIRST, ANNE)
        assert commit.success == SUCCESS
        assert await ledger.leases() == []

    async def test_a_part_can_be_reported_and_the_rest_stays_leased(self, ledger: Ledger) -> None:
        (held,) = await self.claim(ledger, 3)
        middle = RangeReport(FIRST, ANNE, BOOK, 0, 10, 20, held.attempt, SUCCESS)
        assert await ledger.report_ranges([middle]) == [Answer.ACCEPTED]
        assert spans(await ledger.leases()) == [(0, 0, 10), (0, 20, 25)]

    async def test_what_does_not_match_the_lease_is_superseded(self, ledger: Ledger) -> None:
        await self.claim(ledger)
        wrong = [
            RangeReport(SECOND, ANNE, BOOK, 0, 0, 10, 1, SUCCESS),
            RangeReport(FIRST, BOB, BOOK, 0, 0, 10, 1, SUCCESS),
            RangeReport(FIRST, ANNE, 99, 0, 0, 10, 1, SUCCESS),
            RangeReport(FIRST, ANNE, BOOK, 99, 0, 10, 1, SUCCESS),
            RangeReport(FIRST, ANNE, BOOK, 0, 0, 11, 1, SUCCESS),
            RangeReport(FIRST, ANNE, BOOK, 0, 5, 5, 1, SUCCESS),
            RangeReport(FIRST, ANNE, BOOK, 0, 0, 10, 2, SUCCESS),
        ]
        assert await ledger.report_ranges(wrong) == [Answer.SUPERSEDED] * len(wrong)
        assert spans(await ledger.leases()) == [(0, 0, 10)]
        assert await ledger.commits(BOOK) == []

    async def test_a_late_report_is_superseded(self, ledger: Ledger, clock: ManualClock) -> None:
        (held,) = await self.claim(ledger)
        clock.advance(LEASE_S)
        await ledger.expire_leases()
        assert await ledger.report_ranges([report_on(held)]) == [Answer.SUPERSEDED]
        (again,) = await self.claim(ledger, 1, SECOND, BOB)
        assert (again.entry_start, again.attempt) == (0, 2)
        assert await ledger.report_ranges([report_on(held), report_on(again)]) == [
            Answer.SUPERSEDED,
            Answer.ACCEPTED,
        ]

    async def test_an_expired_lease_counts_until_it_is_taken_back(
        self, ledger: Ledger, clock: ManualClock
    ) -> None:
        (held,) = await self.claim(ledger)
        clock.advance(10 * LEASE_S)
        assert await ledger.report_ranges([report_on(held)]) == [Answer.ACCEPTED]
        assert await ledger.expire_leases() == []

    async def test_a_failure_sends_the_range_out_again(self, ledger: Ledger) -> None:
        (held,) = await self.claim(ledger)
        word = report_on(held, CRASH)
        assert await ledger.report_ranges([word, word, report_on(held)]) == [
            Answer.ACCEPTED,
            Answer.ALREADY_ACCEPTED,
            Answer.SUPERSEDED,
        ]
        (again,) = await self.claim(ledger, 1, SECOND)
        assert (again.entry_start, again.attempt, again.failures) == (0, 2, 1)
        (failed,) = await ledger.failed_attempts(BOOK)
        assert (failed.lease, failed.worker, failed.attempt) == (FIRST, ANNE, 1)
        assert (failed.running, failed.failure) == (True, CRASH)

    async def test_failures_of_its_own_set_a_range_aside(self, ledger: Ledger) -> None:
        for number in range(RULES.failures_max):
            (held,) = await self.claim(ledger, 1, LeaseId(f"try-{number}"))
            await ledger.report_ranges([report_on(held, CRASH)])
        assert await ledger.closed(BOOK) == [
            ClosedInterval(BOOK, 0, 0, 10, RangeState.FATAL, "exit 1", RULES.failures_max)
        ]
        assert spans(await self.claim(ledger)) == [(0, 10, 20)]

    async def test_a_failing_range_is_bisected_down_to_the_event(self, ledger: Ledger) -> None:
        await ledger.open_book(4, BISECTING, [Chunk(0, Lfn("c.root"), 0, 25)])
        poison, tried = {3, 17, 18}, 0
        # One unit after the other: whoever gets poison fails.
        while held := await ledger.claim_ranges(LeaseId(f"t{tried}"), ANNE, 1, DURATION, [4]):
            (row,) = held
            bad = poison.intersection(range(row.entry_start, row.entry_stop))
            await ledger.report_ranges([report_on(row, CRASH if bad else SUCCESS)])
            tried += 1
        closed = await ledger.closed(4)
        assert [(c.entry_start, c.entry_stop, c.error) for c in closed] == [
            (entry, entry + 1, "exit 1") for entry in sorted(poison)
        ]
        progress = await ledger.progress(4)
        assert (progress.finished, progress.fatal, progress.complete) == (22, 3, True)
        assert progress.own_failures == progress.failed_attempts
        assert progress.attempts == tried <= 40

    async def test_halves_wait_for_the_rest_and_need_one_failure(self, ledger: Ledger) -> None:
        await ledger.open_book(4, BISECTING, [Chunk(0, Lfn("c.root"), 0, 20)])
        for number in range(BISECTING.failures_max):
            (held,) = await ledger.claim_ranges(LeaseId(f"t{number}"), ANNE, 1, DURATION, [4])
            await ledger.report_ranges([report_on(held, CRASH)])
        assert (await ledger.progress(4)).bisections == 1
        rows = await ledger.claim_ranges(FIRST, ANNE, 9, DURATION, [4])
        assert [(r.entry_start, r.entry_stop, r.attempt, r.failures, r.bisected) for r in rows] == [
            (10, 20, 1, 0, False),
            (0, 5, 3, 0, True),
            (5, 10, 3, 0, True),
        ]
        await ledger.release_lease(FIRST, ANNE)
        (fresh,) = await ledger.claim_ranges(SECOND, ANNE, 1, DURATION, [4])
        assert (fresh.entry_start, fresh.bisected) == (10, False)
        (half,) = await ledger.claim_ranges(THIRD, ANNE, 1, DURATION, [4])
        await ledger.report_ranges([report_on(half, CRASH)])
        rows = await ledger.claim_ranges(FIRST, ANNE, 9, DURATION, [4])
        assert [(r.entry_start, r.entry_stop, r.attempt) for r in rows] == [
            (0, 2, 5),
            (2, 5, 5),
            (5, 10, 4),
        ]

    async def test_with_no_bisection_left_a_part_is_set_aside_whole(self, ledger: Ledger) -> None:
        rules = BookRules(8, failures_max=1, bisections_max=1)
        await ledger.open_book(4, rules, [Chunk(0, Lfn("c.root"), 0, 8)])
        number = 0
        while held := await ledger.claim_ranges(LeaseId(f"t{number}"), ANNE, 1, DURATION, [4]):
            await ledger.report_ranges([report_on(held[0], CRASH)])
            number += 1
        told = "exit 1 (set aside whole: the task has made its 1 bisections)"
        assert [(c.entry_start, c.entry_stop, c.error) for c in await ledger.closed(4)] == [
            (0, 4, told),
            (4, 8, told),
        ]

    async def test_what_kills_its_workers_is_bisected_too(self, ledger: Ledger) -> None:
        rules = BookRules(4, losses_max=4, bisections_max=9)
        await ledger.open_book(4, rules, [Chunk(0, Lfn("c.root"), 0, 4)])
        killer, number = 2, 0
        while held := await ledger.claim_ranges(LeaseId(f"t{number}"), ANNE, 1, DURATION, [4]):
            number += 1
            (row,) = held
            if row.entry_start <= killer < row.entry_stop:
                await ledger.renew_lease(row.lease, ANNE, DURATION, [running_unit(row)])
                await ledger.forget_worker(ANNE)
            else:
                await ledger.report_ranges([report_on(row)])
        (closed,) = await ledger.closed(4)
        assert (closed.entry_start, closed.entry_stop) == (killer, killer + 1)
        assert closed.error.startswith("4 workers were lost while they ran it")
        assert (await ledger.progress(4)).finished == 3

    async def test_what_is_true_of_the_whole_file_is_not_searched_for(self, ledger: Ledger) -> None:
        await ledger.open_book(4, BISECTING, [Chunk(0, Lfn("c.root"), 0, 10)])
        for number in range(BISECTING.failures_max):
            (held,) = await ledger.claim_ranges(LeaseId(f"t{number}"), ANNE, 1, DURATION, [4])
            await ledger.report_ranges([report_on(held, Failure("source", "file is gone"))])
        (closed,) = await ledger.closed(4)
        assert (closed.entry_start, closed.entry_stop, closed.error) == (0, 10, "file is gone")
        progress = await ledger.progress(4)
        assert (progress.own_failures, progress.bisections) == (2, 0)

    async def test_a_join_is_never_bisected(self, ledger: Ledger) -> None:
        await ledger.open_book(4, BISECTING, [Chunk(0, Lfn("c.root"), 0, 10)])
        (held,) = await ledger.claim_ranges(FIRST, ANNE, 1, DURATION, [4])
        await ledger.report_ranges([report_on(held, Failure("merge", "other branches"))])
        assert [(c.entry_start, c.entry_stop) for c in await ledger.closed(4)] == [(0, 10)]

    async def test_failures_of_the_node_cost_nothing(self, ledger: Ledger) -> None:
        for number in range(3 * RULES.losses_max):
            (held,) = await self.claim(ledger, 1, LeaseId(f"try-{number}"))
            assert (held.attempt, held.failures, held.losses) == (number + 1, 0, 0)
            await ledger.report_ranges([report_on(held, Failure("node", "disk full"))])
        assert await ledger.closed(BOOK) == []

    async def test_it_is_known_whose_nodes_failed_a_range(self, ledger: Ledger) -> None:
        kinds = ["node", "payload", "node", "node"]
        for number, kind in enumerate(kinds):
            worker = ANNE if number < 3 else BOB
            (held,) = await self.claim(ledger, 1, LeaseId(f"try-{number}"), worker)
            await ledger.report_ranges([report_on(held, Failure(kind, "no disk"))])
        place = (held.book, held.chunk, held.entry_start)
        told = [await ledger.failed_by_nodes(*place, attempt) for attempt in range(5)]
        assert told == [[], [ANNE], [ANNE], [ANNE, ANNE], [ANNE, ANNE, BOB]]
        assert await ledger.failed_by_nodes(BOOK, held.chunk, held.entry_stop, 4) == []
        assert await ledger.failed_by_nodes(99, 0, 0, 4) == []

    async def test_a_join_that_is_refused_is_not_tried_again(self, ledger: Ledger) -> None:
        (held,) = await self.claim(ledger)
        await ledger.report_ranges([report_on(held, Failure("merge", "other branches"))])
        assert await ledger.closed(BOOK) == [
            ClosedInterval(BOOK, 0, 0, 10, RangeState.FATAL, "other branches", 1)
        ]

    async def test_what_is_lost_often_while_it_runs_is_set_aside(self, ledger: Ledger) -> None:
        for number in range(RULES.losses_max):
            lease = LeaseId(f"try-{number}")
            (held,) = await self.claim(ledger, 1, lease)
            assert (held.attempt, held.failures, held.losses) == (number + 1, 0, number)
            await ledger.renew_lease(lease, ANNE, DURATION, [running_unit(held)])
            await ledger.forget_worker(ANNE)
        assert [(c.entry_start, c.state, c.error) for c in await ledger.closed(BOOK)] == [
            (
                0,
                RangeState.FATAL,
                "4 workers were lost while they ran it; it may need more memory or time",
            )
        ]

    async def test_no_worker_holds_two_suspects_at_once(self, ledger: Ledger) -> None:
        for number in range(SUSPECT_LOSSES):
            lease = LeaseId(f"try-{number}")
            units = await self.claim(ledger, 2, lease)
            begun = [RunningUnit(BOOK, 0, start, start + 10) for start in (0, 10)]
            assert spans(units)[0][1] == 0
            await ledger.renew_lease(lease, ANNE, DURATION, begun)
            await ledger.forget_worker(ANNE)
        assert spans(await self.claim(ledger, 9, FIRST, ANNE)) == [
            (0, 0, 10),
            (0, 20, 25),
            (1, 100, 120),
        ]
        assert await self.claim(ledger, 9, SECOND, ANNE) == []
        assert spans(await self.claim(ledger, 9, THIRD, BOB)) == [(0, 10, 20)]

    async def test_what_is_lost_before_it_runs_is_handed_out_for_ever(self, ledger: Ledger) -> None:
        for number in range(3 * RULES.losses_max):
            (held,) = await self.claim(ledger, 1, LeaseId(f"try-{number}"))
            assert (held.attempt, held.losses) == (number + 1, 0)
            await ledger.forget_worker(ANNE)
        assert await ledger.closed(BOOK) == []

    # Leases that end otherwise

    async def test_a_lease_expires_at_its_time(self, ledger: Ledger, clock: ManualClock) -> None:
        held = await self.claim(ledger, 4)
        clock.advance(LEASE_S - 1)
        assert await ledger.expire_leases() == []
        clock.advance(1)
        assert await ledger.expire_leases() == held
        assert await ledger.expire_leases() == []
        assert [f.failure.kind for f in await ledger.failed_attempts(BOOK)] == ["lost", "lost"]

    async def test_a_renewed_lease_lives_on(self, ledger: Ledger, clock: ManualClock) -> None:
        await self.claim(ledger)
        clock.advance(LEASE_S - 1)
        (held,) = await ledger.renew_lease(FIRST, ANNE, DURATION)
        assert held.expires == clock.now() + DURATION
        clock.advance(LEASE_S - 1)
        assert await ledger.expire_leases() == []

    async def test_leases_have_their_whole_time_again_after_the_head_was_away(
        self, ledger: Ledger, clock: ManualClock
    ) -> None:
        await self.claim(ledger)
        await ledger.renew_lease(FIRST, ANNE, DURATION / 2)
        await self.claim(ledger, 1, SECOND, BOB)
        clock.advance(10 * LEASE_S)
        await ledger.resume_leases()
        assert await ledger.expire_leases() == []
        clock.advance(LEASE_S / 2)
        assert [row.lease for row in await ledger.expire_leases()] == [FIRST]
        assert [row.expires for row in await ledger.leases()] == [
            clock.now() + DURATION / 2,
        ]

    async def test_renewal_notes_what_has_begun(self, ledger: Ledger) -> None:
        (held,) = await self.claim(ledger, 3)
        begun = RunningUnit(BOOK, 0, 10, 20, cpu_s=4.5)
        rows = await ledger.renew_lease(FIRST, ANNE, DURATION, [begun])
        assert [(row.entry_start, row.running, row.cpu_s) for row in rows] == [
            (0, False, 0.0),
            (10, True, 4.5),
            (20, False, 0.0),
        ]
        assert {row.attempt for row in rows} == {held.attempt}

    async def test_begun_work_that_was_lost_counts_as_an_attempt(self, ledger: Ledger) -> None:
        held = await self.claim(ledger, 2)
        await ledger.renew_lease(FIRST, ANNE, DURATION, [RunningUnit(BOOK, 0, 0, 10, 4.5)])
        assert len(await ledger.release_lease(FIRST, ANNE)) == 2
        progress = await ledger.progress(BOOK)
        assert (progress.attempts, progress.failed_attempts) == (1, 1)
        assert progress.lost_cpu_s == 4.5
        assert progress.ready == progress.entries
        assert held[0].attempt == 1

    async def test_cpu_seconds_are_not_counted_twice_when_a_unit_is_split(
        self, ledger: Ledger
    ) -> None:
        (held,) = await self.claim(ledger)
        await ledger.renew_lease(FIRST, ANNE, DURATION, [running_unit(held, cpu_s=4.0)])
        part = RangeReport(FIRST, ANNE, BOOK, 0, 0, 5, 1, SUCCESS)
        await ledger.report_ranges([part])
        (rest,) = await ledger.leases()
        assert (rest.entry_start, rest.entry_stop, rest.running) == (5, 10, False)
        await ledger.release_lease(FIRST, ANNE)
        progress = await ledger.progress(BOOK)
        assert (progress.lost_cpu_s, progress.failed_attempts) == (0.0, 0)
        # What had not begun was not lost while it ran.
        assert [row.losses for row in await self.claim(ledger, 1, SECOND)] == [0]

    async def test_nobody_renews_or_releases_anothers_lease(self, ledger: Ledger) -> None:
        (held,) = await self.claim(ledger)
        assert await ledger.renew_lease(FIRST, BOB, DURATION, [running_unit(held)]) == []
        assert await ledger.release_lease(FIRST, BOB) == []
        assert await ledger.leases() == [held]

    async def test_what_was_lost_is_not_renewed(self, ledger: Ledger) -> None:
        (held,) = await self.claim(ledger)
        await ledger.release_lease(FIRST, ANNE)
        assert await ledger.renew_lease(FIRST, ANNE, DURATION, [running_unit(held)]) == []

    async def test_a_lost_workers_leases_are_taken_back(self, ledger: Ledger) -> None:
        await self.claim(ledger, 1, FIRST, ANNE)
        await self.claim(ledger, 1, SECOND, BOB)
        await self.claim(ledger, 1, THIRD, ANNE)
        lost = await ledger.forget_worker(ANNE)
        assert spans(lost) == [(0, 0, 10), (0, 20, 25)]
        assert spans(await ledger.leases()) == [(0, 10, 20)]
        assert await ledger.forget_worker(ANNE) == []

    async def test_returned_work_is_cut_like_fresh_work(self, ledger: Ledger) -> None:
        await self.claim(ledger, 9)
        await ledger.release_lease(FIRST, ANNE)
        assert spans(await self.claim(ledger, 1, SECOND)) == [(0, 0, 10)]
        assert spans(await self.claim(ledger, 3, THIRD)) == [(0, 10, 25), (1, 100, 110)]

    # Cancelling, and what is told

    async def test_cancelling_closes_all_that_is_not_done(self, ledger: Ledger) -> None:
        held = await self.claim(ledger, 2)
        done = RangeReport(FIRST, ANNE, BOOK, 0, 0, 10, 1, SUCCESS)
        await ledger.report_ranges([done])
        await ledger.cancel_book(BOOK)
        progress = await ledger.progress(BOOK)
        assert (progress.finished, progress.cancelled, progress.complete) == (10, 35, True)
        assert await ledger.leases() == []
        assert await self.claim(ledger, 1, SECOND) == []
        late = RangeReport(FIRST, ANNE, BOOK, 0, 10, 20, held[0].attempt, SUCCESS)
        assert await ledger.report_ranges([done, late]) == [
            Answer.ALREADY_ACCEPTED,
            Answer.SUPERSEDED,
        ]
        await ledger.cancel_book(BOOK)
        assert await ledger.progress(BOOK) == progress

    async def test_progress_adds_up(self, ledger: Ledger) -> None:
        fresh = await ledger.progress(BOOK)
        assert (fresh.entries, fresh.ranges, fresh.ready) == (45, 5, 45)
        await self.claim(ledger, 3)
        await ledger.renew_lease(FIRST, ANNE, DURATION, [RunningUnit(BOOK, 0, 10, 20, 1.0)])
        await ledger.report_ranges([RangeReport(FIRST, ANNE, BOOK, 0, 0, 10, 1, SUCCESS)])
        await ledger.report_ranges([RangeReport(FIRST, ANNE, BOOK, 0, 20, 25, 1, CRASH)])
        progress = await ledger.progress(BOOK)
        assert (progress.sent, progress.running, progress.finished) == (0, 10, 10)
        assert (progress.ready, progress.complete) == (25, False)
        assert (progress.ranges_finished, progress.attempts, progress.failed_attempts) == (1, 2, 1)
        assert (progress.cpu_s, progress.wall_s, progress.bytes_in) == (1.5, 2.0, 1000)
        assert progress.lost_cpu_s == 0.5

    async def test_lists_are_in_entry_order(self, ledger: Ledger) -> None:
        (first, second) = await self.claim(ledger, 4)
        await ledger.report_ranges([report_on(second), report_on(first)])
        await ledger.cancel_book(BOOK)
        assert [(c.chunk, c.entry_start) for c in await ledger.commits(BOOK)] == [(0, 0), (1, 100)]
        assert [(c.chunk, c.entry_start) for c in await ledger.closed(BOOK)] == [(1, 110)]

    async def test_an_unknown_book_is_not_found(self, ledger: Ledger) -> None:
        for ask in (
            ledger.progress,
            ledger.chunks,
            ledger.commits,
            ledger.closed,
            ledger.failed_attempts,
            ledger.cancel_book,
        ):
            with pytest.raises(NotFoundError):
                await ask(99)

    async def test_what_was_answered_is_there_after_opening_again(
        self, open_ledger: OpenLedger, clock: ManualClock
    ) -> None:
        if not self.durable:
            pytest.skip("this ledger does not outlive its process")
        async with open_ledger() as ledger:
            await ledger.open_book(BOOK, RULES, CHUNKS)
            (held,) = await self.claim(ledger, 2)
            await ledger.renew_lease(FIRST, ANNE, DURATION, [RunningUnit(BOOK, 0, 10, 20, 1.0)])
            done = RangeReport(FIRST, ANNE, BOOK, 0, 0, 10, held.attempt, SUCCESS)
            await ledger.report_ranges([done])
            told = await ledger.progress(BOOK), await ledger.leases(), await ledger.commits(BOOK)
        async with open_ledger() as ledger:
            assert told == (
                await ledger.progress(BOOK),
                await ledger.leases(),
                await ledger.commits(BOOK),
            )
            assert await ledger.report_ranges([done]) == [Answer.ALREADY_ACCEPTED]
            clock.advance(LEASE_S)
            assert spans(await ledger.expire_leases()) == [(0, 10, 20)]
