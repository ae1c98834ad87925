"""The contract of a ledger, continued: claims of some chunks alone, and leases of one book."""

from __future__ import annotations

import pytest

from evstream.domain.errors import ConflictError
from evstream.domain.ledger import SUSPECT_LOSSES, BookRules, LeasedInterval, RunningUnit, Within
from evstream.domain.names import LeaseId, Lfn, WorkerId
from evstream.domain.splitting import Chunk
from evstream.domain.states import Answer
from evstream.ports.ledger import Ledger
from evstream.testing.contracts.ledger import (
    ANNE,
    BISECTING,
    BOB,
    BOOK,
    CRASH,
    DURATION,
    FIRST,
    RULES,
    SECOND,
    THIRD,
    LeasesContract,
    report_on,
    spans,
)

OTHER = 4
MANY = 1500
"""Chunks: more than one statement names."""


async def claim_within(
    ledger: Ledger,
    within: Within,
    units: int = 9,
    lease: LeaseId = FIRST,
    worker: WorkerId = ANNE,
) -> list[LeasedInterval]:
    """Claim from some chunks of both books."""
    return await ledger.claim_ranges(lease, worker, units, DURATION, [OTHER, BOOK], within)


class WithinContract(LeasesContract):
    """Claims within some chunks; override `open_ledger`."""

    async def test_a_claim_takes_from_the_chunks_it_names(self, ledger: Ledger) -> None:
        assert spans(await claim_within(ledger, {BOOK: [1]}, 1)) == [(1, 100, 110)]
        assert spans(await claim_within(ledger, {BOOK: [1]}, 9, SECOND)) == [(1, 110, 120)]
        assert await claim_within(ledger, {BOOK: [1]}, 9, THIRD) == []
        # What nobody named is where it was, and in its order.
        assert spans(await self.claim(ledger, 1, THIRD, BOB)) == [(0, 0, 10)]
        progress = await ledger.progress(BOOK)
        assert (progress.sent, progress.ready) == (30, 15)

    @pytest.mark.parametrize("within", [{}, {BOOK: []}, {BOOK: [7]}, {99: [0]}, {OTHER: None}])
    async def test_what_is_not_named_is_not_taken(self, ledger: Ledger, within: Within) -> None:
        assert await claim_within(ledger, within) == []
        assert spans(await self.claim(ledger, 1)) == [(0, 0, 10)]

    async def test_all_of_a_book_may_be_named(self, ledger: Ledger) -> None:
        await ledger.open_book(OTHER, RULES, [Chunk(0, Lfn("c.root"), 0, 10)])
        held = await claim_within(ledger, {BOOK: None, OTHER: [0]}, 4)
        assert [(row.book, row.chunk) for row in held] == [(OTHER, 0), (BOOK, 0)]
        assert spans(await self.claim(ledger, 9, SECOND)) == [(1, 100, 120)]

    async def test_a_repeated_restricted_claim_gives_what_it_gave(self, ledger: Ledger) -> None:
        held = await claim_within(ledger, {BOOK: [1]}, 1)
        assert await claim_within(ledger, {BOOK: [1]}, 1) == held
        assert await claim_within(ledger, {}, 1) == held
        assert await self.claim(ledger, 5) == held
        with pytest.raises(ConflictError):
            await claim_within(ledger, {BOOK: [0]}, 1, FIRST, BOB)

    async def test_restricted_and_other_claims_take_turns(self, ledger: Ledger) -> None:
        await ledger.add_chunks(BOOK, [Chunk(2, Lfn("c.root"), 0, 50)])
        got = []
        for number in range(4):
            got += await self.claim(ledger, 1, LeaseId(f"any-{number}"))
            got += await claim_within(ledger, {BOOK: [0, 2]}, 1, LeaseId(f"some-{number}"), BOB)
        assert spans(got) == [
            (0, 0, 10),
            (0, 10, 20),
            (0, 20, 25),
            (2, 0, 10),
            (1, 100, 110),
            (2, 10, 20),
            (1, 110, 120),
            (2, 20, 30),
        ]

    async def test_returned_work_comes_first_within_the_chunks(self, ledger: Ledger) -> None:
        await self.claim(ledger, 4)
        await ledger.release_lease(FIRST, ANNE)
        held = await claim_within(ledger, {BOOK: [1]}, 2, SECOND)
        assert [(row.chunk, row.entry_start, row.attempt) for row in held] == [
            (1, 100, 2),
            (1, 110, 1),
        ]
        held = await self.claim(ledger, 9, THIRD)
        assert [(*one, row.attempt) for one, row in zip(spans(held), held, strict=True)] == [
            (0, 0, 25, 2)
        ]

    async def test_suspects_and_parts_come_in_their_order(self, ledger: Ledger) -> None:
        await ledger.open_book(OTHER, BISECTING, [Chunk(n, Lfn("c"), 0, 20) for n in range(2)])
        for number in range(SUSPECT_LOSSES):
            lease = LeaseId(f"lost-{number}")
            await claim_within(ledger, {OTHER: [1]}, 1, lease)
            begun = [RunningUnit(OTHER, 1, 0, 10)]
            await ledger.renew_lease(lease, ANNE, DURATION, begun)
            await ledger.forget_worker(ANNE)
        for number in range(BISECTING.failures_max):
            lease = LeaseId(f"failed-{number}")
            (held,) = await claim_within(ledger, {OTHER: [0]}, 1, lease, BOB)
            await ledger.report_ranges([report_on(held, CRASH)])
        assert spans(await claim_within(ledger, {OTHER: [0]}, 2)) == [(0, 10, 20), (0, 0, 5)]
        assert spans(await claim_within(ledger, {OTHER: [1]}, 2, SECOND)) == [
            (1, 0, 10),
            (1, 10, 20),
        ]
        assert spans(await claim_within(ledger, {OTHER: None}, 9, THIRD, BOB)) == [(0, 5, 10)]

    async def test_what_was_claimed_so_is_reported_as_any_other(self, ledger: Ledger) -> None:
        (held,) = await claim_within(ledger, {BOOK: [1]}, 1)
        word = report_on(held)
        assert await ledger.report_ranges([word]) == [Answer.ACCEPTED]
        assert await ledger.report_ranges([word]) == [Answer.ALREADY_ACCEPTED]

    async def test_many_chunks_may_be_named(self, ledger: Ledger) -> None:
        chunks = [Chunk(number, Lfn(f"{number}.root"), 0, 3) for number in range(MANY)]
        await ledger.open_book(OTHER, BookRules(2), chunks)
        odd = list(range(1, MANY, 2))
        held = await claim_within(ledger, {OTHER: odd}, MANY - 4)
        assert spans(held) == [(number, 0, 3) for number in odd[: len(odd) - 2]]
        rest = await claim_within(ledger, {OTHER: odd}, 9, SECOND)
        assert spans(rest) == [(number, 0, 3) for number in odd[-2:]]
        assert await ledger.ready_chunks(OTHER, 0, 2 * MANY) == list(range(0, MANY, 2))

    async def test_it_is_known_which_chunks_have_ready_work(self, ledger: Ledger) -> None:
        assert await ledger.ready_chunks(BOOK, 0, 9) == [0, 1]
        assert await ledger.ready_chunks(BOOK, 0, 1) == [0]
        assert await ledger.ready_chunks(BOOK, 1, 9) == [1]
        assert await ledger.ready_chunks(99, 0, 9) == []
        await self.claim(ledger, 3)
        assert await ledger.ready_chunks(BOOK, 0, 9) == [1]
        await self.claim(ledger, 3, SECOND)
        assert await ledger.ready_chunks(BOOK, 0, 9) == []
        await ledger.release_lease(FIRST, ANNE)
        assert await ledger.ready_chunks(BOOK, 0, 9) == [0]
        await ledger.cancel_book(BOOK)
        assert await ledger.ready_chunks(BOOK, 0, 9) == []

    async def test_leases_of_one_book(self, ledger: Ledger) -> None:
        held = await self.claim(ledger)
        await ledger.open_book(OTHER, RULES, [Chunk(0, Lfn("c.root"), 0, 10)])
        (other,) = await ledger.claim_ranges(SECOND, BOB, 1, DURATION, [OTHER])
        assert await ledger.leases(BOOK) == held
        assert await ledger.leases(OTHER) == [other]
        assert await ledger.leases(OTHER + 1) == []
        assert len(await ledger.leases()) == len(held) + 1
