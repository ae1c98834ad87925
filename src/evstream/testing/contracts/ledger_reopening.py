"""The contract of a ledger, continued: what errors hold, and work that is taken back."""

from __future__ import annotations

import pytest

from evstream.domain.errors import NotFoundError
from evstream.domain.ledger import ClosedInterval, Failure, Place
from evstream.domain.names import LeaseId, Lfn
from evstream.domain.splitting import Chunk
from evstream.domain.states import Answer, RangeState
from evstream.ports.ledger import Ledger
from evstream.testing.contracts.ledger import (
    ANNE,
    BOB,
    BOOK,
    CRASH,
    DURATION,
    FIRST,
    RULES,
    SECOND,
    SUCCESS,
    THIRD,
    report_on,
    spans,
)
from evstream.testing.contracts.ledger_accounts import LedgerAccountsContract
from evstream.testing.contracts.ledger_within import WithinContract

FIRST_FILE, SECOND_FILE = (0, 0, 25), (1, 100, 120)


class LedgerContract(LedgerAccountsContract, WithinContract):
    """All of the contract; override `open_ledger`."""

    async def work(self, ledger: Ledger) -> None:
        """Leave entries 0 to 10 done, 10 to 20 set aside, 20 to 25 and 100 to 110 leased."""
        (held,) = await self.claim(ledger, 1)
        await ledger.report_ranges([report_on(held)])
        for number in range(RULES.failures_max):
            (held,) = await self.claim(ledger, 1, FIRST if number else SECOND, BOB)
            await ledger.report_ranges([report_on(held, CRASH)])
        assert spans(await self.claim(ledger, 2, THIRD)) == [(0, 20, 25), (1, 100, 110)]

    async def test_errors_may_hold_any_character(self, ledger: Ledger) -> None:
        (held,) = await self.claim(ledger, 1)
        error = "".join(map(chr, range(256))) + "é 漢 🙂"
        await ledger.report_ranges([report_on(held, Failure("payload", error))])
        (failed,) = await ledger.failed_attempts(BOOK)
        assert failed.failure.error == error.replace("\0", "\ufffd")

    async def test_what_is_redone_goes_out_with_its_next_attempt(self, ledger: Ledger) -> None:
        await self.work(ledger)
        done, (late, _) = await ledger.commits(BOOK), await ledger.leases()
        assert await ledger.redo(BOOK, [FIRST_FILE], "reprocessed") == 25
        assert (await ledger.commits(BOOK), await ledger.closed(BOOK)) == ([], [])
        progress = await ledger.progress(BOOK)
        assert (progress.finished, progress.fatal, progress.ready) == (0, 0, 35)
        assert (progress.own_failures, progress.ranges_finished) == (0, 0)
        assert progress.attempts == progress.failed_attempts == 2
        assert (progress.cpu_s, progress.wall_s, progress.bytes_in) == (0.0, 0.0, 0)
        assert progress.lost_cpu_s == SUCCESS.cpu_s + 2 * CRASH.cpu_s
        (again,) = await self.claim(ledger, 3, FIRST, BOB)
        assert (again.entry_start, again.entry_stop) == (0, 25)
        assert (again.attempt, again.failures, again.losses) == (RULES.failures_max + 1, 0, 0)
        assert done[0].attempt < again.attempt
        assert await ledger.report_ranges([report_on(late)]) == [Answer.SUPERSEDED]
        kinds = [(f.failure.kind, f.failure.error) for f in await ledger.failed_attempts(BOOK)]
        assert kinds[2:] == [("retracted", "reprocessed"), ("lost", "reprocessed")]

    async def test_a_report_on_what_was_taken_back_is_superseded(self, ledger: Ledger) -> None:
        (held,) = await self.claim(ledger)
        word = report_on(held)
        await ledger.report_ranges([word])
        await ledger.redo(BOOK, [FIRST_FILE], "reprocessed")
        assert await ledger.report_ranges([word, report_on(held, CRASH)]) == [
            Answer.SUPERSEDED,
            Answer.SUPERSEDED,
        ]
        assert await ledger.commits(BOOK) == []

    async def test_only_what_lies_wholly_within_is_taken(self, ledger: Ledger) -> None:
        await self.work(ledger)
        assert await ledger.redo(BOOK, [(0, 5, 20), (7, 0, 99)], "again") == 10
        (commit,) = await ledger.commits(BOOK)
        assert (commit.entry_start, commit.entry_stop) == (0, 10)
        assert await ledger.closed(BOOK) == []
        assert spans(await self.claim(ledger, 1, FIRST, BOB)) == [(0, 10, 20)]

    async def test_what_was_cancelled_can_be_redone(self, ledger: Ledger) -> None:
        await self.work(ledger)
        await ledger.cancel_book(BOOK, "stopped")
        cancelled = [c for c in await ledger.closed(BOOK) if c.state is RangeState.CANCELLED]
        assert [(c.entry_start, c.entry_stop, c.error, c.attempt) for c in cancelled] == [
            (20, 25, "stopped", 1),
            (100, 110, "stopped", 1),
            (110, 120, "stopped", 0),
        ]
        places = [(c.chunk, c.entry_start, c.entry_stop) for c in cancelled]
        assert await ledger.redo(BOOK, places, "again") == 25
        rows = await self.claim(ledger, 9, FIRST, BOB)
        assert [(r.entry_start, r.entry_stop, r.attempt) for r in rows] == [
            (20, 25, 2),
            (100, 120, 2),
        ]

    async def test_a_withdrawn_file_is_closed_whatever_became_of_it(self, ledger: Ledger) -> None:
        await self.work(ledger)
        (first, second) = await ledger.leases()
        assert await ledger.discard(BOOK, [FIRST_FILE, SECOND_FILE], "withdrawn") == 45
        assert await ledger.closed(BOOK) == [
            ClosedInterval(BOOK, 0, 0, 25, RangeState.DISCARDED, "withdrawn", 2),
            ClosedInterval(BOOK, 1, 100, 120, RangeState.DISCARDED, "withdrawn", 1),
        ]
        progress = await ledger.progress(BOOK)
        assert (progress.withdrawn, progress.complete, progress.ready) == (45, True, 0)
        assert (progress.finished, progress.fatal, progress.sent) == (0, 0, 0)
        assert (await ledger.leases(), await ledger.commits(BOOK)) == ([], [])
        late = [report_on(first), report_on(second)]
        assert await ledger.report_ranges(late) == [Answer.SUPERSEDED] * 2
        assert await self.claim(ledger, 9, FIRST, BOB) == []
        assert await ledger.discard(BOOK, [FIRST_FILE], "withdrawn") == 0

    async def test_a_chunk_that_is_dropped_was_never_there(self, ledger: Ledger) -> None:
        await self.work(ledger)
        first, second = await ledger.leases()
        assert await ledger.drop_chunks(BOOK, [0, 7], "taken back") == 25
        assert [chunk.number for chunk in await ledger.chunks(BOOK)] == [1]
        progress = await ledger.progress(BOOK)
        assert (progress.entries, progress.ranges, progress.sent) == (20, 2, 10)
        assert (progress.finished, progress.fatal, progress.withdrawn) == (0, 0, 0)
        assert (await ledger.commits(BOOK), await ledger.closed(BOOK)) == ([], [])
        assert await ledger.leases() == [second]
        assert await ledger.report_ranges([report_on(first)]) == [Answer.SUPERSEDED]
        kinds = [(f.failure.kind, f.failure.error) for f in await ledger.failed_attempts(BOOK)]
        assert kinds[2:] == [("retracted", "taken back"), ("lost", "taken back")]
        assert await ledger.drop_chunks(BOOK, [0], "taken back") == 0
        with pytest.raises(NotFoundError):
            await ledger.drop_chunks(99, [0], "taken back")

    async def test_a_failure_in_a_chunk_that_was_dropped_is_known(self, ledger: Ledger) -> None:
        (row,) = await self.claim(ledger, 1)
        word = report_on(row, CRASH)
        assert await ledger.report_ranges([word]) == [Answer.ACCEPTED]
        await ledger.drop_chunks(BOOK, [row.chunk], "away")
        # It was accepted, and its answer lost.
        assert await ledger.report_ranges([word]) == [Answer.ALREADY_ACCEPTED]

    async def test_a_book_that_grows_may_bisect_more(self, ledger: Ledger) -> None:
        more = [Chunk(5, Lfn("more.root"), 0, 20), Chunk(0, Lfn("known"), 0, 9)]
        await ledger.add_chunks(BOOK, more, 3)
        await ledger.drop_chunks(BOOK, [0, 1], "away")
        # Its rules have none; two ranges came with three each, and the known chunk gave none.
        bisected = 0
        while rows := await self.claim(ledger, 1):
            await ledger.report_ranges([report_on(rows[0], CRASH)])
            bisected = max(bisected, (await ledger.progress(BOOK)).bisections)
        assert bisected == 6

    async def test_a_withdrawn_file_leaves_the_others_alone(self, ledger: Ledger) -> None:
        await self.work(ledger)
        assert await ledger.discard(BOOK, [SECOND_FILE], "withdrawn") == 20
        progress = await ledger.progress(BOOK)
        assert (progress.finished, progress.fatal, progress.sent) == (10, 10, 5)
        assert spans(await ledger.leases()) == [(0, 20, 25)]
        assert await ledger.renew_lease(THIRD, ANNE, DURATION) == await ledger.leases()

    @pytest.mark.parametrize("places", [[], [FIRST_FILE]])
    async def test_no_unknown_book_is_taken_back(self, ledger: Ledger, places: list[Place]) -> None:
        with pytest.raises(NotFoundError):
            await ledger.redo(99, places, "")
        with pytest.raises(NotFoundError):
            await ledger.discard(99, places, "")

    # Parts of leases, and whole books

    async def test_a_part_of_a_lease_is_given_back(self, ledger: Ledger) -> None:
        await self.claim(ledger, 4)
        given = await ledger.release_lease(FIRST, ANNE, [(BOOK, 1, 100, 110), (BOOK, 0, 10, 15)])
        assert spans(given) == [(0, 10, 15), (1, 100, 110)]
        assert spans(await ledger.leases()) == [(0, 0, 10), (0, 15, 25)]
        assert [(row.attempt, *spans([row])) for row in await self.claim(ledger, 1, SECOND)] == [
            (2, (0, 10, 15))
        ]

    async def test_of_what_a_lease_does_not_hold_nothing_is_given_back(
        self, ledger: Ledger
    ) -> None:
        held = await self.claim(ledger, 1)
        for worker, place in (
            (BOB, (BOOK, 0, 0, 10)),
            (ANNE, (BOOK, 0, 5, 15)),
            (ANNE, (9, 0, 0, 1)),
        ):
            assert await ledger.release_lease(FIRST, worker, [place]) == []
        assert await ledger.release_lease(FIRST, ANNE, []) == []
        assert await ledger.leases() == held

    async def test_the_progress_of_many_books_is_read_at_once(self, ledger: Ledger) -> None:
        await self.work(ledger)
        await ledger.open_book(BOOK + 1, RULES, [Chunk(0, Lfn("c.root"), 0, 30)])
        found = await ledger.progress_of([BOOK + 1, 99, BOOK])
        assert found == {book: await ledger.progress(book) for book in (BOOK, BOOK + 1)}
        assert await ledger.progress_of([]) == {}

    async def test_a_book_is_forgotten_whole(self, ledger: Ledger) -> None:
        await self.work(ledger)
        await ledger.open_book(BOOK + 1, RULES, [Chunk(0, Lfn("c.root"), 0, 30)])
        before = await ledger.progress(BOOK + 1)
        assert await ledger.books() == [BOOK, BOOK + 1]
        await ledger.drop_book(BOOK)
        await ledger.drop_book(BOOK)
        assert await ledger.books() == [BOOK + 1]
        assert await ledger.leases() == []
        assert await self.claim(ledger, 9, LeaseId("later")) == []
        assert await ledger.progress(BOOK + 1) == before
        with pytest.raises(NotFoundError):
            await ledger.progress(BOOK)
        # Nothing of it is left for one of the same number.
        await ledger.open_book(BOOK, RULES, [Chunk(0, Lfn("c.root"), 0, 30)])
        assert await ledger.progress(BOOK) == before
        assert await ledger.failed_attempts(BOOK) == []
