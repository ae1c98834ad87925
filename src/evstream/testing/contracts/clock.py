"""The contract of a clock."""

from __future__ import annotations

from datetime import timedelta

import pytest

from evstream.ports.clock import Clock
from evstream.testing.contracts.suite import Suite


class ClockContract(Suite):
    """Override `clock`."""

    @pytest.fixture
    def clock(self) -> Clock:
        """Return the clock."""
        raise NotImplementedError("override clock")

    async def test_the_time_of_day_is_aware_and_in_utc(self, clock: Clock) -> None:
        assert clock.now().utcoffset() == timedelta(0)

    async def test_monotonic_time_never_goes_back(self, clock: Clock) -> None:
        times = [clock.monotonic() for _ in range(100)]
        assert times == sorted(times)

    async def test_sleeping_takes_its_time(self, clock: Clock) -> None:
        monotonic, now = clock.monotonic(), clock.now()
        await clock.sleep(0.02)
        # Timers may fire a little early by another clock's measure.
        assert clock.monotonic() - monotonic >= 0.019
        assert clock.now() > now
