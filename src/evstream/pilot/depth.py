"""How much work to hold: enough that computing never waits for a fetch, and little more.

By Little's law, what is in hand ahead of the cores is the rate at which they take it, times
how long it takes to get more: to claim it and to fetch it. Both are measured, with what they
vary by. Work in hand is lost with the node, and nobody else can do it meanwhile, so nothing is
held that does not help.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count

from evstream.domain.usual import Measure

FIRST_AHEAD = 3
"""Before anything is known: so many units ahead of the cores, so that their fetches overlap."""
COVERED_S_MAX = 30.0
"""A network that is away for longer is waited for: more work is not held."""
PEAK_HALF_LIFE_S = 60.0
"""A fetch that took long is expected again, and by and by less so."""
LONG = 20.0
"""Units that take so many times the time to get one are fetched shortly before they are needed:
what is waited for then, now and then, is a small part of what is computed."""
LONG_S = 10.0
"""Shorter ones are never long: what would be gained for others is less than a claim costs."""
UNIT_S_LEAST = 0.001


class Pace:
    """How fast units are computed, as a moving mean of the time between them.

    Attributes
    ----------
    units : int
        How many were computed so far.
    """

    WEIGHT = 1 / 16

    def __init__(self) -> None:
        self.units = 0
        self._last: float | None = None
        self._between_s = math.inf

    def computed(self, now: float) -> None:
        """Note that a unit was computed."""
        self.units += 1
        if self._last is not None:
            between_s = now - self._last
            if self._between_s == math.inf:
                self._between_s = between_s
            self._between_s += self.WEIGHT * (between_s - self._between_s)
        self._last = now

    def pause(self) -> None:
        """Leave out the time until the next unit: there was nothing to do."""
        self._last = None

    def units_in(self, seconds: float) -> float:
        """Return how many units are computed in a time; 0 before anything is known."""
        return seconds / self._between_s if self._between_s > 0 else math.inf


class Depth:
    """Says how many units to hold, from what was measured. Time is told, never looked up.

    Parameters
    ----------
    ahead_s : float
        At least so much work is held if units are short, so that few claims bring it.
    fetches_max : int
        Fetches at once: more are not on their way, however fast units are computed.
    units_max : int
        Units to hold, at most.
    bytes_max : int
        Disk for their inputs.

    Attributes
    ----------
    until : float
        When all must be computed.
    """

    def __init__(
        self, cores: int, ahead_s: float, fetches_max: int, units_max: int, bytes_max: int
    ) -> None:
        self._cores = cores
        self._ahead_s = ahead_s
        self._fetches_max = fetches_max
        self._units_max = units_max
        self._bytes_max = bytes_max
        self.until = math.inf
        self.pace = Pace()
        self._compute = Measure()
        self._claim = Measure()
        self._fetch = Measure()
        self._size = Measure()
        self._peak_s = self._peak_at = 0.0
        self._numbers = count()
        self._on_their_way: dict[int, float] = {}

    def claimed(self, seconds: float) -> None:
        """Note how long a claim took that brought work."""
        self._claim.add(seconds)

    @contextmanager
    def fetching(self, now: Callable[[], float]) -> Iterator[None]:
        """Measure a fetch, from its beginning to its last byte; one that fails says nothing."""
        number, began = next(self._numbers), now()
        self._on_their_way[number] = began
        try:
            yield
            self._fetched(now(), now() - began)
        finally:
            del self._on_their_way[number]

    def _fetched(self, now: float, seconds: float) -> None:
        if seconds >= self._peak(now):
            self._peak_s, self._peak_at = seconds, now
        self._fetch.add(seconds)

    def arrived(self, size: int) -> None:
        """Note what the inputs of a unit take on disk."""
        self._size.add(size)

    def computed(self, now: float, seconds: float) -> None:
        """Note that a unit was computed, and how long a core was busy with it."""
        self.pace.computed(now)
        self._compute.add(seconds)

    def _peak(self, now: float) -> float:
        faded = math.exp2((self._peak_at - now) / PEAK_HALF_LIFE_S)
        return self._fetch.mean + max(0.0, self._peak_s - self._fetch.mean) * faded

    def covered_s(self, now: float) -> float:
        """Return how long it may take from the decision to claim until work is there."""
        claim_s = self._claim.mean + 2 * self._claim.deviation
        fetch_s = max(self._fetch.mean + 2 * self._fetch.deviation, self._peak(now))
        if self._on_their_way:
            # The oldest is the first.
            fetch_s = max(fetch_s, now - next(iter(self._on_their_way.values())))
        return min(claim_s + fetch_s, COVERED_S_MAX)

    def _is_long(self, now: float) -> bool:
        if not self._compute.count:
            return False
        return self._compute.mean >= max(LONG_S, LONG * self.covered_s(now))

    def in_time(self, now: float) -> int:
        """Return how many units can be computed in the time that is left, as far as is known."""
        left = self.until - now
        if left <= 0:
            return 0
        each_s = max(self._compute.mean + 2 * self._compute.deviation, UNIT_S_LEAST)
        return int(min(left / each_s, self._units_max)) * self._cores

    def bounds(self, now: float, running: Sequence[float]) -> tuple[int, int]:
        """Return with how many units in hand more is claimed, and up to how many.

        Parameters
        ----------
        running : sequence of float
            Since when each unit runs that runs now.

        Returns
        -------
        tuple
            Of units that are not computed yet: with fewer than the first more is claimed, so
            that there are as many as the second.
        """
        low, high = self._bounds(now, running)
        most = self.in_time(now)
        return min(low, most), min(high, most)

    def _bounds(self, now: float, running: Sequence[float]) -> tuple[int, int]:
        cores, covered_s = self._cores, self.covered_s(now)
        if self._is_long(now):
            due = sum(self._due_in(since, now) <= 0 for since in running)
            wanted = min(cores + due, self._units_max)
            return wanted, wanted
        if not self.pace.units:
            first = min(cores + max(cores, FIRST_AHEAD), self._units_max)
            # A claim may bring less than was asked for; the time until payloads have begun is
            # the best one to fetch in.
            return first, first
        # What is computed now, starved or not, in the time that it takes to get more; and
        # what could be computed, as far as it can be on its way at once.
        each_s = self._compute.mean
        possible = cores * covered_s / each_s if each_s > 0 else math.inf
        needed = max(cores, self.pace.units_in(covered_s), min(possible, self._fetches_max))
        # Short units are claimed in large batches.
        batch = max(1.0, self.pace.units_in(self._ahead_s) / 2)
        # The first units may be the shortest: never far more than have been computed.
        most = min(needed + batch, max(cores, FIRST_AHEAD) + 2 * self.pace.units)
        if self._size.mean > 0:
            # One that is computed is on disk as well.
            most = min(most, max(cores, self._bytes_max / self._size.mean - cores))
        most = min(most, self._units_max - cores)
        # Where all that was wanted is too much, half of what there may be is spent first.
        low = needed if most >= needed + batch else min(needed, max(most // 2, most - batch))
        return math.ceil(cores + max(low, 1.0)), math.floor(cores + max(most, 0.0))

    def look_in_s(self, now: float, running: Sequence[float]) -> float:
        """Return when to ask for the bounds again although nothing has happened meanwhile."""
        if not self._is_long(now):
            return math.inf
        return min(
            (d for since in running if (d := self._due_in(since, now)) > 0), default=math.inf
        )

    def _due_in(self, since: float, now: float) -> float:
        """Return in how many seconds the successor of a long unit is to be claimed."""
        soonest_s = self._compute.mean - 2 * self._compute.deviation
        return since + soonest_s - 2 * self.covered_s(now) - now
