"""What a scheduler could have kept of workers that were killed, from what really ran in them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from bench.wan_parts.burn import Burnt


@dataclass(frozen=True, slots=True)
class Life:
    """One worker process.

    Attributes
    ----------
    began : float
        Unix time at which it could begin: when the one before it in its place ended.
    there : float
        When its process was there.
    stopped : float
        When it was killed, or had nothing to do any more.
    ran : sequence of Burnt
        The attempts in it, in order.
    """

    began: float
    there: float
    stopped: float
    killed: bool
    ran: Sequence[Burnt]

    @property
    def startup_s(self) -> float:
        """Seconds until the first attempt; not a number if there was none."""
        return self.ran[0].began - self.began if self.ran else math.nan


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of CPU seconds.

    Attributes
    ----------
    useful_cpu_s, lost_cpu_s : float
        Of attempts whose output counts, and of the others.
    in_flight_cpu_s : float
        Of the lost ones, what ran at the kills.
    lost_units_most : int
        Attempts that came to nothing in one worker.
    idle_s : float
        Time between attempts, and after the last one, while there was work.
    ideal_cpu_s : float
        What is kept by a scheduler that has the next unit begin at once, everywhere, and loses
        what really ran at the kills.
    ideal_units_cpu_s : float
        The same, where only the units count that such a scheduler ends before the kills.
    """

    useful_cpu_s: float
    lost_cpu_s: float
    in_flight_cpu_s: float
    lost_units_most: int
    idle_s: float
    ideal_cpu_s: float
    ideal_units_cpu_s: float


def judge(lives: Sequence[Life], committed: frozenset[str]) -> Verdict:
    """Hold what workers did against what they could have done.

    Both ideals are in CPU seconds, at the speed at which each worker got CPU while it had an
    attempt: other work on the machine does not count against the scheduler, nor for it.

    Parameters
    ----------
    committed : frozenset of str
        Names of the attempts whose outputs count.
    """
    ran = [one for life in lives for one in life.ran]
    unit_cpu_s = median(one.cpu_s for one in ran if one.ended)
    last_begin = max(one.began for one in ran)
    in_flight = idle = ideal = ideal_units = 0.0
    for life in lives:
        if not life.ran:
            continue
        ends = [*(one.last for one in life.ran[:-1]), _end(life)]
        waits = [one.began - end for end, one in zip(ends[:-1], life.ran[1:], strict=True)]
        # Once the last unit has begun, there is nothing to give to anybody.
        waits.append(max(0.0, min(life.stopped, last_begin) - ends[-1]))
        busy_s = sum(end - one.began for end, one in zip(ends, life.ran, strict=True))
        cpu_s = sum(one.cpu_s for one in life.ran)
        capacity = cpu_s + sum(waits) * cpu_s / busy_s
        running = [one.cpu_s for one in life.ran if not one.ended]
        in_flight += sum(running)
        idle += sum(waits)
        ideal += capacity - sum(running)
        ideal_units += unit_cpu_s * (capacity // unit_cpu_s) if life.killed else capacity
    useful = sum(one.cpu_s for one in ran if one.name in committed)
    return Verdict(
        useful,
        sum(one.cpu_s for one in ran) - useful,
        in_flight,
        max(sum(one.name not in committed for one in life.ran) for life in lives),
        idle,
        ideal,
        ideal_units,
    )


def _end(life: Life) -> float:
    """Return when the last attempt of a worker ended: with the worker, if it was cut short."""
    last = life.ran[-1]
    return last.last if last.ended else max(last.last, life.stopped)
