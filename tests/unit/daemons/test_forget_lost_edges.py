"""What an edge holds that stops beating is others' at once; after a silence of all, it is not."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from evstream.adapters.catalogue.memory import MemoryLedger
from evstream.adapters.catalogue.memory_products import MemoryProducts
from evstream.adapters.metrics import ServiceMetrics
from evstream.daemons import forget_lost_edges
from evstream.domain.edges import EdgeStatus
from evstream.domain.ledger import BookRules
from evstream.domain.names import LeaseId, Lfn, TaskId
from evstream.domain.preparation import edge_worker
from evstream.domain.splitting import Chunk
from evstream.testing.manual_clock import ManualClock

BEAT_S, EVERY_S, LEASE_S = 2.0, 1.0, 600.0


class Beats(ManualClock):
    """Each sleep of the loop is a second, in which some edges beat; then the loop is ended."""

    def __init__(self, products: list[MemoryProducts], rounds: list[tuple[float, str]]) -> None:
        super().__init__()
        self._products = products
        self._rounds = list(rounds)

    async def sleep(self, seconds: float) -> None:
        if not self._rounds:
            raise asyncio.CancelledError
        more_s, beating = self._rounds.pop(0)
        self.advance(seconds + more_s)
        await self.beat(beating)

    async def beat(self, names: str) -> None:
        for name in names:
            life = timedelta(seconds=3 * BEAT_S)
            url = f"http://{name}.example"
            await self._products[0].beat(name, url, "edge", 0, life, EdgeStatus())


@pytest.mark.parametrize(
    ("rounds", "left"),
    [
        pytest.param([(0.0, "ab")] * 10, {"a", "b"}, id="all beat"),
        pytest.param([(0.0, "b")] * 10, {"b"}, id="one is silent"),
        pytest.param([(100.0, "")] + [(0.0, "")] * 9, {"a", "b"}, id="nobody could be heard"),
    ],
)
def test_leases_of_silent_edges_are_taken_back(
    rounds: list[tuple[float, str]], left: set[str]
) -> None:
    there: list[MemoryProducts] = []
    clock = Beats(there, rounds)
    there.append(MemoryProducts(clock))
    ledger = MemoryLedger(clock)
    touched: list[TaskId] = []
    life = timedelta(seconds=LEASE_S)

    async def main() -> set[str]:
        await ledger.open_book(2, BookRules(10), [Chunk(0, Lfn("a"), 0, 40)])
        for name in "ab":
            await ledger.claim_ranges(LeaseId(name), edge_worker(name), 2, life, [2])
        await clock.beat("ab")
        meter = ServiceMetrics(["forget_lost_edges"])
        with pytest.raises(asyncio.CancelledError):
            await forget_lost_edges(there[0], ledger, touched.append, clock, meter, EVERY_S)
        return {row.worker for row in await ledger.leases()}

    assert asyncio.run(main()) == {edge_worker(name) for name in left}
    assert bool(touched) == (left != {"a", "b"})
