"""Leases run out by the service's time, but not by time that it slept through."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from evstream.adapters.catalogue.memory import MemoryLedger
from evstream.adapters.metrics import ServiceMetrics
from evstream.daemons import expire_leases
from evstream.domain.errors import TransientError
from evstream.domain.ledger import BookRules, LeasedInterval
from evstream.domain.names import LeaseId, Lfn, TaskId, WorkerId
from evstream.domain.splitting import Chunk
from evstream.testing.manual_clock import ManualClock

LEASE_S = 10.0


class PausedClock(ManualClock):
    """Each sleep lasts as long as it should, and a pause longer; then the loop is ended.

    Asleep, the machine counts no monotonic time.
    """

    def __init__(self, pauses: list[float], *, asleep: bool) -> None:
        super().__init__()
        self._pauses = list(pauses)
        self._asleep = asleep
        self._slept_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() - self._slept_s

    async def sleep(self, seconds: float) -> None:
        if not self._pauses:
            raise asyncio.CancelledError
        pause = self._pauses.pop(0)
        self.advance(seconds + pause)
        self._slept_s += pause if self._asleep else 0.0


class AwayLedger(MemoryLedger):
    """A ledger whose database is away from its third round on, so many rounds."""

    def __init__(self, clock: ManualClock, rounds: int) -> None:
        super().__init__(clock)
        self._away = range(2, 2 + rounds)
        self._round = -1

    async def expire_leases(self) -> list[LeasedInterval]:
        self._round += 1
        if self._round in self._away:
            raise TransientError("the database is away")
        return await super().expire_leases()


@pytest.mark.parametrize(("rounds_after", "lost"), [(4, False), (12, True)])
def test_a_database_that_is_away_costs_no_lease(rounds_after: int, lost: bool) -> None:
    clock = PausedClock([0.0] * (2 + 2 * 40 + rounds_after), asleep=False)
    ledger = AwayLedger(clock, 40)
    touched: list[TaskId] = []

    async def main() -> None:
        await ledger.open_book(2, BookRules(10), [Chunk(0, Lfn("a"), 0, 10)])
        await ledger.claim_ranges(LeaseId("l"), WorkerId("w"), 1, timedelta(seconds=LEASE_S), [2])
        meter = ServiceMetrics(["expire_leases"])
        await expire_leases(ledger, touched.append, clock, meter, every_s=1.0)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert bool(touched) == lost


@pytest.mark.parametrize("asleep", [False, True])
@pytest.mark.parametrize(
    ("pauses", "lost"),
    [
        ([0.0] * 8, False),
        ([0.0] * 12, True),
        # The head itself was paused for longer than a lease: nobody could renew.
        ([0.0, 0.0, 60.0, 0.0, 0.0], False),
        ([0.0, 0.0, 60.0, *[0.0] * 12], True),
    ],
)
def test_a_pause_costs_no_lease(pauses: list[float], lost: bool, asleep: bool) -> None:
    clock = PausedClock(pauses, asleep=asleep)
    ledger = MemoryLedger(clock)
    touched: list[TaskId] = []

    async def main() -> None:
        await ledger.open_book(2, BookRules(10), [Chunk(0, Lfn("a"), 0, 10)])
        await ledger.claim_ranges(LeaseId("l"), WorkerId("w"), 1, timedelta(seconds=LEASE_S), [2])
        meter = ServiceMetrics(["expire_leases"])
        await expire_leases(ledger, touched.append, clock, meter, every_s=1.0)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert bool(touched) == lost
