"""A clock that stands still until a test moves it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class ManualClock:
    """The `Clock` port on a time of the test's own; `sleep` moves it and returns."""

    def __init__(self, start: datetime = datetime(2030, 1, 1, tzinfo=UTC)) -> None:
        self._start = start
        self._elapsed = timedelta()

    def advance(self, seconds: float) -> None:
        """Move the time on."""
        self._elapsed += timedelta(seconds=seconds)

    def now(self) -> datetime:
        """Return the time of day."""
        return self._start + self._elapsed

    def monotonic(self) -> float:
        """Return seconds since the clock was made."""
        return self._elapsed.total_seconds()

    async def sleep(self, seconds: float) -> None:
        """Move the time on; nobody waits."""
        self.advance(seconds)
