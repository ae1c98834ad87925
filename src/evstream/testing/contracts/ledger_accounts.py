"""What every ledger sums up of the work on a book."""

from __future__ import annotations

import pytest
from msgspec import structs

from evstream.domain.accounts import UnitAccount
from evstream.domain.ledger import Failure, LeasedInterval
from evstream.domain.names import LeaseId
from evstream.domain.states import Answer
from evstream.ports import Ledger
from evstream.testing.contracts.ledger import ANNE, BOOK, DURATION, SUCCESS, report_on
from evstream.testing.contracts.suite import Suite


async def claim(ledger: Ledger, number: int) -> list[LeasedInterval]:
    """Lease the next unit of the book."""
    return await ledger.claim_ranges(LeaseId(f"try-{number}"), ANNE, 1, DURATION, [BOOK])


class LedgerAccountsContract(Suite):
    """A part of `LedgerContract`."""

    async def test_what_work_took_is_summed_up(self, ledger: Ledger) -> None:
        said = UnitAccount(
            "lyon", begun=3, ended=5, queue_s=1.0, fetch_s=2.0, starved_s=0.5, edge=100
        )
        for number in range(4):
            (held,) = await claim(ledger, number)
            outcome = Failure("node", "no disk", cpu_s=0.25) if number == 1 else SUCCESS
            word = structs.replace(report_on(held, outcome), account=said)
            assert await ledger.report_ranges([word]) == [Answer.ACCEPTED]
            # Neither a repeat counts, nor what comes too late.
            late = structs.replace(word, attempt=word.attempt + 1)
            answers = await ledger.report_ranges([word, late])
            assert answers == [Answer.ALREADY_ACCEPTED, Answer.SUPERSEDED]
        begun, ended = await ledger.accounts(BOOK)
        assert begun.place == (BOOK, "lyon", 3)
        assert ended.place == (BOOK, "lyon", 5)
        assert (begun.started, begun.done) == (4, 0)
        assert (ended.started, ended.done, ended.failed) == (0, 3, 1)
        assert (ended.queue_s, ended.fetch_s, ended.starved_s, ended.edge) == (4.0, 8.0, 2.0, 400)
        assert ended.cpu_s == pytest.approx(3 * SUCCESS.cpu_s)
        assert ended.lost_cpu_s == 0.25
        commits = await ledger.commits(BOOK)
        assert ended.entries == sum(one.entry_stop - one.entry_start for one in commits)
        # It was spent, whatever becomes of what was done.
        await ledger.redo(BOOK, [(0, 0, 10)], "taken back")
        assert await ledger.accounts(BOOK) == [begun, ended]
        assert await ledger.accounts(99) == []

    async def test_accounts_are_apart_by_site_and_time(self, ledger: Ledger) -> None:
        places = [("", 1), ("lyon", 2), ("bonn", 2), ("lyon", 1)]
        for number, (site, ended) in enumerate(places):
            (held,) = await claim(ledger, number)
            said = UnitAccount(site, begun=ended, ended=ended)
            await ledger.report_ranges([structs.replace(report_on(held), account=said)])
        found = await ledger.accounts(BOOK)
        assert [one.place[1:] for one in found] == sorted(places)
        assert all((one.started, one.done) == (1, 1) for one in found)
