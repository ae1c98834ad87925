"""Ways to those who send products: how long answers take there, and whether one is broken."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from evstream.domain.usual import Wait

AVOIDED_S = 10.0
"""Who could not be reached is asked after all others for so long."""
CONNECT_S_FIRST = 3.0
CONNECT_S_LEAST = 0.5
"""A packet that asks for a connection and is lost is sent again after a second, then three: on a
link that comes back, who begins anew is there first."""
CONNECT_S_MOST = 10.0
CONNECT_TRIPS = 5.0
CONNECT_MORE = 0.1
"""Of the time that a way is broken, connections may take so much longer: it may be slow instead."""
BUSY_S = 5.0
HEDGED_SHARE = 0.05
HEDGES_AHEAD_MAX = 4.0
"""So many second requests may come at once, after long times without any."""
HEDGE_AFTER = 8
"""What is usual is known after so many answers."""
HEDGE_S_LEAST = 0.2


@dataclass(slots=True)
class Way:
    """What is known of the way to one server.

    Attributes
    ----------
    head, made : Wait
        From the question to the head of the answer: of what is held there, and of what may
        have to be made first.
    silence : Wait
        The longest time without any bytes in a body.
    trip_s : float or None
        What it took to connect, the last time.
    broken_since, broken_at : float or None
        When first, and when last, nothing came from there that should have; None while it is whole.
    """

    head: Wait = field(default_factory=lambda: Wait(10.0, 2.0, 60.0))
    made: Wait = field(default_factory=lambda: Wait(20.0, 5.0, 60.0))
    silence: Wait = field(default_factory=lambda: Wait(5.0, 1.0, 30.0))
    trip_s: float | None = None
    broken_since: float | None = None
    broken_at: float | None = None
    busy_until: float = 0.0

    def connected(self, seconds: float) -> None:
        """Note what it took to connect."""
        self.trip_s = seconds

    def broke(self, now: float) -> None:
        """Note that nothing came that should have."""
        self.broken_at = now
        if self.broken_since is None:
            self.broken_since = now

    def mended(self) -> None:
        """Note that something came."""
        self.broken_at = self.broken_since = None

    def connect_s_max(self, now: float) -> float:
        """Return how long a connection may take."""
        if self.trip_s is None:
            return CONNECT_S_FIRST
        usual = max(CONNECT_S_LEAST, CONNECT_TRIPS * self.trip_s)
        broken_s = 0.0 if self.broken_since is None else now - self.broken_since
        return min(usual + CONNECT_MORE * broken_s, CONNECT_S_MOST)

    def is_avoided(self, now: float) -> bool:
        """Whether others are asked before it."""
        return self.broken_at is not None and now < self.broken_at + AVOIDED_S

    def hedge_s(self) -> float | None:
        """Return after how long without a head another is asked as well, if that is known."""
        if self.head.measure.count < HEDGE_AFTER:
            return None
        usual = self.head.measure
        return max(usual.mean + 4 * usual.deviation, HEDGE_S_LEAST)


class Ways:
    """All of them, by server; and how many second requests there may be."""

    def __init__(self) -> None:
        self._ways: dict[str, Way] = {}
        self._hedges = 0.0

    def to(self, url: str) -> Way:
        """Return the way to whoever serves a URL; all paths alone are the service's."""
        return self._ways.setdefault(urlsplit(url).netloc, Way())

    def begun(self) -> None:
        """Note a request: of so many, a share may be asked for twice."""
        self._hedges = min(self._hedges + HEDGED_SHARE, HEDGES_AHEAD_MAX)

    def may_hedge(self, url: str, now: float) -> bool:
        """Say whether a second request may go there now, and count it if so."""
        way = self.to(url)
        if self._hedges < 1 or now < way.busy_until or way.is_avoided(now):
            return False
        self._hedges -= 1
        return True
