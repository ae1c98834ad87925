"""Where blocking and CPU-bound work runs, away from the event loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

T = TypeVar("T")


class Offload(Protocol):
    """Runs a function elsewhere; a thread in production, in place in the simulator."""

    async def __call__(self, work: Callable[[], T]) -> T:
        """Run ``work`` and return what it returns, or raise what it raises."""
        ...
