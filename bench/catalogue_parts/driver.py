"""One client program for both ledgers: claims and reports, over and over."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Protocol

RANGES_A_CLAIM = 100


class Side(Protocol):
    """A ledger that clients drive."""

    async def cycle(self, client: int, number: int, ranges: int) -> None:
        """Claim so many ranges, then report all of them as finished."""
        ...


@dataclass(frozen=True, slots=True)
class Drive:
    """What clients did in a time.

    Attributes
    ----------
    minutes : list of float
        Cycles a second in each whole minute.
    """

    cycles: int
    wall_s: float
    minutes: list[float]

    @property
    def per_second(self) -> float:
        """Claims and reports of one unit of work each, per second."""
        return self.cycles / self.wall_s


async def drive(side: Side, clients: int, seconds: float, prefix: int) -> Drive:
    """Have clients cycle for a time, after a tenth of it that does not count.

    Parameters
    ----------
    prefix : int
        Another one for each run, so that no lease is named twice.
    """
    begin = time.perf_counter() + seconds / 10
    end = begin + seconds
    counts = [0] * (int(seconds // 60) + 2)

    async def client(number: int) -> None:
        cycle = 0
        while (now := time.perf_counter()) < end:
            await side.cycle(number, (prefix << 40) + cycle, RANGES_A_CLAIM)
            cycle += 1
            if begin <= now and (done := time.perf_counter()) <= end:
                counts[int((done - begin) // 60)] += 1

    await asyncio.gather(*(client(number) for number in range(clients)))
    minutes = [count / 60 for count in counts[: int(seconds // 60)]]
    return Drive(sum(counts), seconds, minutes)
