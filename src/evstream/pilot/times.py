"""How long the steps of a unit took, and how long a core stood still for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import astuple, dataclass


@dataclass(slots=True)
class UnitTimes:
    """Seconds that a unit took, step by step.

    Steps of different units overlap: that fetching and staging take long costs nothing as long
    as cores compute meanwhile. What it costs is `starved_s`.

    Attributes
    ----------
    plan_s : float
        The claim that brought it: the service leased it and planned where its bytes are.
    queue_s : float
        From then until something was fetched for it: others' turn, or no room on the disk.
    fetch_s : float
        From then until its inputs were there.
    ready_s : float
        Its inputs were there, and every core was busy.
    starved_s : float
        A core was free, and waited for its inputs although they had been claimed.
    idle_s : float
        A core was free since nothing had been claimed.
    compute_s : float
        Its payload ran.
    stage_s : float
        Its outputs were looked at and stored.
    commit_s : float
        Its report waited for others, and for its answer.
    """

    plan_s: float = 0.0
    queue_s: float = 0.0
    fetch_s: float = 0.0
    ready_s: float = 0.0
    starved_s: float = 0.0
    idle_s: float = 0.0
    compute_s: float = 0.0
    stage_s: float = 0.0
    commit_s: float = 0.0


def added(one: UnitTimes, other: UnitTimes) -> UnitTimes:
    """Return the times of two together."""
    return UnitTimes(*(a + b for a, b in zip(astuple(one), astuple(other), strict=True)))


class Cores:
    """So many payloads at once; knows since when each core has been free."""

    def __init__(self, number: int, now: Callable[[], float]) -> None:
        self._now = now
        self._free = asyncio.Semaphore(number)
        self._free_since = [now()] * number

    @asynccontextmanager
    async def one(self, claimed: float, times: UnitTimes) -> AsyncIterator[None]:
        """Hold a core; note how long it was waited for, or has waited.

        Parameters
        ----------
        claimed : float
            When the unit came that has it now.
        """
        there = self._now()
        async with self._free:
            # The one that was busy last: what the others waited for was not this unit.
            began, since = self._now(), self._free_since.pop()
            times.ready_s = began - there
            times.starved_s = min(began - since, began - claimed)
            times.idle_s = began - since - times.starved_s
            try:
                yield
            finally:
                self._free_since.append(self._now())
