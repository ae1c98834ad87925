"""Names that nobody else has, and chance; both from a seed in the simulator."""

from __future__ import annotations

from typing import Protocol


class Ids(Protocol):
    """Source of identifiers and of random numbers."""

    def new(self, prefix: str) -> str:
        """Return ``prefix`` and at least 60 random bits in letters and digits."""
        ...

    def jitter(self) -> float:
        """Return a random number in [0, 1), to spread retries and polls."""
        ...
