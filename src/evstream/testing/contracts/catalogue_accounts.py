"""What each catalogue knows of who submitted tasks, and of what that took."""

from __future__ import annotations

from datetime import timedelta

import pytest

from evstream.domain.accounts import UnitAccount
from evstream.domain.ledger import BookRules, RangeReport, Success
from evstream.domain.names import DatasetName, LeaseId, Lfn, TaskId, WorkerId
from evstream.domain.payload import Payload
from evstream.domain.splitting import Chunk
from evstream.domain.states import Answer
from evstream.domain.task import TaskSpec, merge_book, process_book
from evstream.ports.catalogue import Catalogue
from evstream.ports.ledger import Ledger
from evstream.testing.contracts.suite import Suite

ANNE = WorkerId("anne")
SPEC = TaskSpec("copy", DatasetName("user:zmumu"), "Events", Payload("cp {input} {output}"))


class CatalogueAccountsContract(Suite):
    """Needs `stores`."""

    @pytest.fixture
    def stores(self) -> tuple[Catalogue, Ledger]:
        """Return an empty catalogue, and the ledger of its books."""
        raise NotImplementedError("override stores")

    async def test_what_work_took_is_summed_up_by_who_submitted_it(
        self, stores: tuple[Catalogue, Ledger]
    ) -> None:
        catalogue, ledger = stores
        assert await catalogue.spent() == []
        chunks = (Chunk(0, Lfn("a.root"), 0, 30),)
        whose = ["bea", "anna", "bea", ""]
        for number, submitter in enumerate(whose, 1):
            made = await catalogue.add_task(
                SPEC, f"request-{number}", BookRules(10), chunks, submitter
            )
            assert (made.id, made.submitter) == (number, submitter)
            assert (await catalogue.task(made.id)).submitter == submitter
        # Whoever asks again under the same id has made nothing.
        again = await catalogue.add_task(SPEC, "request-1", BookRules(10), chunks, "carl")
        assert again.submitter == "bea"
        await ledger.open_book(merge_book(TaskId(1)), BookRules(1), [Chunk(0, Lfn("m"), 0, 1)])
        done = [(1, "lyon", 1), (1, "bonn", 2), (2, "lyon", 1), (3, "lyon", 7)]
        for number, (task, site, ended) in enumerate(done):
            account = UnitAccount(site, ended, ended, fetch_s=0.5, edge=100)
            await self._do(ledger, process_book(TaskId(task)), f"lease-{number}", account)
        await self._do(ledger, merge_book(TaskId(1)), "merge", UnitAccount("lyon", store=7))
        found = {one.submitter: one for one in await catalogue.spent()}
        assert list(found) == ["", "anna", "bea"]
        assert [one.tasks for one in found.values()] == [1, 1, 2]
        assert found[""].ranges == found[""].merges == found["anna"].merges == []
        (anna,) = found["anna"].ranges
        assert (anna.place, anna.done, anna.edge) == ((0, "lyon", 0), 1, 100)
        bonn, lyon = found["bea"].ranges
        assert (bonn.place, bonn.done) == ((0, "bonn", 0), 1)
        assert (lyon.place, lyon.done, lyon.started) == ((0, "lyon", 0), 2, 2)
        assert (lyon.entries, lyon.fetch_s, lyon.cpu_s, lyon.edge) == (20, 1.0, 4.0, 200)
        (merged,) = found["bea"].merges
        assert (merged.place, merged.store) == ((1, "lyon", 0), 7)
        # In whole numbers, whatever the database makes of sums.
        assert {type(lyon.entries), type(lyon.edge), type(merged.store)} == {int}

    @staticmethod
    async def _do(ledger: Ledger, book: int, lease: str, account: UnitAccount) -> None:
        held = await ledger.claim_ranges(LeaseId(lease), ANNE, 1, timedelta(minutes=1), [book])
        (row,) = held
        place = row.book, row.chunk, row.entry_start, row.entry_stop, row.attempt
        word = RangeReport(row.lease, ANNE, *place, Success((), cpu_s=2.0), account)
        assert await ledger.report_ranges([word]) == [Answer.ACCEPTED]
