"""Leases run out by the service's time, but not by time that it slept through."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from evstream.adapters.catalogue.memory import MemoryLedger
from evstream.daemons import expire_leases
from evstream.domain.ledger import BookRules
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
        await expire_leases(ledger, touched.append, clock, every_s=1.0)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert bool(touched) == lost
