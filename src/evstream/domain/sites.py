"""Sites and the links between them and edges: what was measured, and what is supposed before."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from evstream.domain.errors import RequestError

SITE_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
"""What sites may be called; an RSE's name is one."""
COUNTRY = r"[A-Z]{2}"
"""ISO 3166-1, two letters."""

LINK_HALF_LIFE_S = 600.0
"""What was measured counts half as much after ten minutes."""
LINK_KEPT_S = 7 * 86_400.0
"""A link that nobody measured for a week is forgotten."""
PRIOR_TRIPS = 1.0
PRIOR_S = 1.0
"""What is supposed weighs like one round trip, and like a transfer of a second."""

EARTH_RADIUS_KM = 6371.0
KM_PER_TRIP_S = 70_000.0
"""Kilometres for each second of a round trip: light in fibre, on paths half as long again."""
TRIP_S_MIN = 0.001
TRIP_S_COUNTRY = 0.015
TRIP_S_UNKNOWN = 0.06
BYTES_PER_S_SITE = 200e6
BYTES_PER_S_FAR = 50e6
WINDOW_BYTES = 2.5e6
"""One stream moves so much in a round trip, with a kernel's own buffers (25 MB/s at 100 ms)."""

Direction = Literal["to_site", "from_site"]
"""Whether an edge sent products to a site, or read sources from it."""


@dataclass(frozen=True, slots=True)
class Site:
    """A place with workers, edges or storage.

    Attributes
    ----------
    country : str
        Two capital letters; empty if it is not known.
    latitude, longitude : float or None
        In degrees; both or none.
    """

    name: str
    country: str = ""
    latitude: float | None = None
    longitude: float | None = None

    def __post_init__(self) -> None:
        if (self.latitude is None) != (self.longitude is None):
            raise RequestError(
                f"site {self.name} has half a place", hint="give latitude and longitude, or none"
            )


@dataclass(frozen=True, slots=True)
class Measured:
    """What was seen of a link, since some time or ever; sums, so that heads can add theirs up.

    Attributes
    ----------
    trips, trips_s : float
        Round trips, and the seconds of all of them.
    bytes, seconds : float
        What was moved, and in how long.
    """

    trips: float = 0.0
    trips_s: float = 0.0
    bytes: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: Measured) -> Measured:
        return Measured(
            self.trips + other.trips,
            self.trips_s + other.trips_s,
            self.bytes + other.bytes,
            self.seconds + other.seconds,
        )

    def after(self, seconds: float) -> Measured:
        """Return what it counts for some time later."""
        left = 2.0 ** (-max(seconds, 0.0) / LINK_HALF_LIFE_S)
        return Measured(
            self.trips * left, self.trips_s * left, self.bytes * left, self.seconds * left
        )


LinkName = tuple[str, str, Direction]
"""Site, edge, direction."""


@dataclass(frozen=True, slots=True)
class Link:
    """What is known of a link at a time."""

    site: str
    edge: str
    direction: Direction
    measured: Measured
    at: datetime

    @property
    def name(self) -> LinkName:
        """What tells it from others."""
        return self.site, self.edge, self.direction

    def with_more(self, more: Measured, at: datetime) -> Link:
        """Return it with what was measured since, as of a time."""
        aged = self.measured.after((at - self.at).total_seconds())
        return replace(self, measured=aged + more, at=max(self.at, at))


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a link is thought to be.

    Attributes
    ----------
    measured : bool
        Whether measurements weigh more than what is supposed.
    """

    trip_s: float
    bytes_per_s: float
    measured: bool = False

    def time_for(self, size: float, trips: float) -> float:
        """Return seconds for some round trips and bytes."""
        return trips * self.trip_s + size / self.bytes_per_s

    def blended(self, seen: Measured) -> Pace:
        """Return this prior with what was seen; the more of it, and the newer, the more it is."""
        return Pace(
            (seen.trips_s + PRIOR_TRIPS * self.trip_s) / (seen.trips + PRIOR_TRIPS),
            (seen.bytes + PRIOR_S * self.bytes_per_s) / (seen.seconds + PRIOR_S),
            measured=seen.trips > PRIOR_TRIPS or seen.seconds > PRIOR_S,
        )


def distance_km(one: Site, other: Site) -> float | None:
    """Return how far two sites are from each other on a sphere; None if it is not known."""
    if (
        one.latitude is None
        or one.longitude is None
        or other.latitude is None
        or other.longitude is None
    ):
        return None
    a, b = math.radians(one.latitude), math.radians(other.latitude)
    half_a, half_o = (b - a) / 2, math.radians(other.longitude - one.longitude) / 2
    chord = math.sin(half_a) ** 2 + math.cos(a) * math.cos(b) * math.sin(half_o) ** 2
    return 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(min(chord, 1.0)))


def supposed(one: Site, other: Site) -> Pace:
    """Return how fast a link between two sites is thought to be before it is measured.

    The same site, then distance, then country; sites of which nothing is known are far.
    """
    if one.name and one.name == other.name:
        return Pace(TRIP_S_MIN, BYTES_PER_S_SITE)
    distance = distance_km(one, other)
    if distance is not None:
        trip_s = TRIP_S_MIN + distance / KM_PER_TRIP_S * 1.5
    elif one.country and one.country == other.country:
        trip_s = TRIP_S_COUNTRY
    else:
        trip_s = TRIP_S_UNKNOWN
    return Pace(trip_s, min(BYTES_PER_S_FAR, WINDOW_BYTES / trip_s))


class Map:
    """Sites and links as they are known at a time; says how fast the way is from one to another.

    Parameters
    ----------
    sites : iterable of Site
    links : iterable of Link
    now : datetime
        To which the links' age is counted.
    """

    def __init__(
        self, sites: Iterable[Site] = (), links: Iterable[Link] = (), now: datetime | None = None
    ) -> None:
        self._sites = {site.name: site for site in sites}
        self._seen = {
            link.name: link.measured.after((now - link.at).total_seconds() if now else 0.0)
            for link in links
        }

    def site(self, name: str) -> Site:
        """Return a site; of one that nobody added its name is all that is known."""
        return self._sites.get(name) or Site(name)

    def pace(self, site: str, edge: str, edge_site: str, direction: Direction) -> Pace:
        """Return how fast a link between a site and an edge is thought to be.

        Where one direction was never measured the other one stands for it.
        """
        prior = supposed(self.site(site), self.site(edge_site))
        other: Direction = "from_site" if direction == "to_site" else "to_site"
        seen = self._seen.get((site, edge, direction)) or self._seen.get((site, edge, other))
        return prior if seen is None else prior.blended(seen)
