"""Which edges deliver a product to a client, best first, and why.

The measure is the expected time to deliver, in seconds, as a sum of terms that people can check:
round trips, the edge's queue, the transfer, and, where the edge lacks the product, making it from
its source. To that comes a charge for a second copy: a product has a *home*, found by rendezvous
hashing among the edges that are about equally near to the client, so that all requests for it meet
there; any other edge that would have to make it is charged what the making costs everybody else.

Nearness is in classes of fixed bounds, and a home depends on the edges of the nearest class alone:
when an edge comes or goes, the products that it gains or loses are the only ones that move.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np

from evstream.domain.sites import Map, Pace

ROUND_TRIPS = 2.0
"""To connect, and to ask."""
SOURCE_TRIPS = 3.0
"""To open a source, find its index and read what is wanted of it."""
MAKE_S = 0.05
"""To make a product whose source is at hand, until an edge has said how long it takes there."""
TYPICAL_BYTES = 16e6
"""Nearness is the time for a product of this size."""
NEAR_S = 0.1
CLASS_FACTOR = 4.0
"""Classes of nearness end at 0.1 s, 0.4 s, 1.6 s and so on."""
LOAD_FACTOR = 1.25
"""An edge with more than so many times its share of the load gets no more homes (bounded load)."""
LOAD_SLACK = 64.0
"""But none that has less than this many products more than its share: few are no load."""
AWAY_S_MIN = 0.25
"""A second copy costs at least this: it is read from the source, and room is taken for it."""
EVICTED_AGAIN = 0.5
"""Of what a full edge throws away, this part is wanted again, and made again."""
CHOICES_MAX = 3

_GOLDEN, _FIRST, _SECOND = map(
    np.uint64, (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)
_27, _30, _31 = map(np.uint64, (27, 30, 31))


@dataclass(frozen=True, slots=True)
class EdgeView:
    """An edge as brokering sees it.

    Attributes
    ----------
    site : str
        Where it is; empty if nobody said.
    capacity_bytes, free_bytes : int
        Room for products, and what of it is left; a capacity of 0 is not known.
    queue_s : float
        How long something new would wait there.
    make_s : float
        What making a product took there lately; 0 if it is not known.
    load : float
        Products that were lately sent there to be made.
    refused : str
        Why nothing new may go there; empty for one that takes more.
    serves : bool
        Whether what it holds is served although nothing new may go there.
    """

    name: str
    site: str = ""
    capacity_bytes: int = 0
    free_bytes: int = 0
    queue_s: float = 0.0
    make_s: float = 0.0
    load: float = 0.0
    refused: str = ""
    serves: bool = True


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be delivered.

    Attributes
    ----------
    key : str
        The product's.
    size : int
        Bytes of it, about.
    held : collection of str
        Edges that have it.
    promised : collection of str
        Edges that clients of the same site were sent to for it a moment ago: its homes, whatever
        their load is now.
    replica_sites : collection of str
        Where copies of its source are; empty if nobody said.
    spread : int
        How many homes it has: more than one where it is hot.
    """

    key: str
    size: int
    held: Collection[str] = ()
    promised: Collection[str] = ()
    replica_sites: Collection[str] = ()
    spread: int = 1


@dataclass(frozen=True, slots=True)
class Choice:
    """An edge for a product, with the terms of its expected time, all in seconds.

    Attributes
    ----------
    trips_s, queue_s, transfer_s : float
        Round trips to it, waiting there, and moving the bytes.
    making_s : float
        Making it from its source; 0 where it is held.
    room_s : float
        What a full edge would throw away for it, and make again.
    away_s : float
        The charge for a copy away from home.
    source_site : str
        From where it would be made; empty where it is held, or nobody said.
    measured : bool
        Whether the way to the client was measured; else it is supposed.
    refused : str
        Why it is not chosen; empty if it may be.
    """

    edge: str
    trips_s: float = 0.0
    queue_s: float = 0.0
    transfer_s: float = 0.0
    making_s: float = 0.0
    room_s: float = 0.0
    away_s: float = 0.0
    held: bool = False
    home: bool = False
    source_site: str = ""
    measured: bool = False
    refused: str = ""

    @property
    def seconds(self) -> float:
        """The sum of all terms."""
        return (
            self.trips_s
            + self.queue_s
            + self.transfer_s
            + self.making_s
            + self.room_s
            + self.away_s
        )

    @property
    def reason(self) -> str:
        """Why it stands where it does, in words."""
        if self.refused:
            return self.refused
        if self.held:
            return "holds it"
        origin = f", made from {self.source_site}" if self.source_site else ", made there"
        return ("its home" if self.home else "another") + origin


def _number(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big")


def _key_number(key: str) -> int:
    """Return 64 bits of a product's key, or of the hash of what is none."""
    try:
        return int(key[:16], 16)
    except ValueError:
        return _number(key)


class Preference:
    """Edges with weights, and the order in which a product prefers them.

    Highest random weight: each edge is first for a share of all products that is its weight's, and
    the order of the rest does not depend on who is among them (weights as in Schindelhauer and
    Schomaker 2005).
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._names = list(weights)
        self._seeds = np.array([_number(name) for name in weights], np.uint64)
        self._weights = np.array(list(weights.values()), np.float64)

    def order(self, key: str) -> Iterator[str]:
        """Yield edges, the preferred first."""
        # The finaliser of splitmix64: all bits of edge and product reach all bits of the result.
        mixed = (self._seeds ^ np.uint64(_key_number(key))) + _GOLDEN
        mixed ^= mixed >> _30
        mixed *= _FIRST
        mixed ^= mixed >> _27
        mixed *= _SECOND
        mixed ^= mixed >> _31
        chances = (mixed.astype(np.float64) + 1.0) / 2.0**64
        for place in np.argsort(-np.log(chances) / self._weights, kind="stable"):
            yield self._names[place]

    def first(self, key: str) -> str:
        """Return the edge that a product, or a file by its digest, prefers."""
        return next(self.order(key))


def rendezvous(key: str, weights: Mapping[str, float]) -> list[str]:
    """Return edges in the order in which a product prefers them, by their weights."""
    return list(Preference(weights).order(key))


@dataclass(slots=True, eq=False)
class _Near:
    """An edge as it is seen from a client's site."""

    edge: EdgeView
    pace: Pace
    weight: float
    sources: dict[str, Pace] = field(default_factory=dict)


class _Class:
    """Edges that are about equally near to a site."""

    def __init__(self, members: Iterable[_Near]) -> None:
        self.members = {one.edge.name: one for one in members}
        self._preference = Preference({n: one.weight for n, one in self.members.items()})
        self._weight = sum(one.weight for one in self.members.values())
        self._load = sum(one.edge.load for one in self.members.values())
        rooms = [one.edge.capacity_bytes for one in self.members.values()]
        self._room_min = min((room for room in rooms if room), default=math.inf)

    def order(self, wanted: Wanted) -> Iterator[_Near]:
        """Yield those that have room for a product at all, the preferred first."""
        names = self._preference.order(wanted.key)
        if wanted.size <= self._room_min:
            return (self.members[name] for name in names)
        return (one for name in names if _fits((one := self.members[name]).edge, wanted.size))

    def bound(self, load: Mapping[str, float]) -> float:
        """Return how much load for its weight an edge may have, and still gets homes."""
        more = sum(load[name] for name in self.members.keys() & load.keys()) if load else 0.0
        return LOAD_FACTOR * (self._load + more) / self._weight


class Broker:
    """Edges, sites and links at a time: made seldom, asked often.

    Parameters
    ----------
    edges : iterable of EdgeView
    known : Map
    """

    def __init__(self, edges: Iterable[EdgeView], known: Map | None = None) -> None:
        self._edges = {edge.name: edge for edge in edges}
        self._map = known or Map()
        rooms = [edge.capacity_bytes for edge in self._edges.values() if edge.capacity_bytes]
        # One that does not say how much room it has counts like the others, on average.
        self._usual = sum(rooms) / len(rooms) if rooms else 1.0
        self._views: dict[str, dict[str, _Near]] = {}
        self._classes: dict[str, list[_Class]] = {}

    @property
    def edges(self) -> Mapping[str, EdgeView]:
        """All edges by name."""
        return self._edges

    def choose(
        self,
        wanted: Wanted,
        site: str = "",
        load: Mapping[str, float] | None = None,
        limit: int = CHOICES_MAX,
    ) -> list[Choice]:
        """Return the edges that deliver a product to a client at a site, best first.

        Parameters
        ----------
        load : mapping, optional
            What was sent to edges since they were told of, which comes to their own load.
        limit : int
            How many at most.
        """
        near = self._view(site)
        load = load or {}
        holding = [near[name] for name in wanted.held if name in near and near[name].edge.serves]
        homes, others = self._homes(wanted, site, load, limit)
        found = {one.edge.name: one for one in (*holding, *homes, *others)}
        at_home = [one.edge.name for one in homes]
        choices = [self._terms(one, wanted, at_home) for one in found.values()]
        order = {name: rank for rank, name in enumerate([*at_home, *found])}

        # Times that differ by less than a hundredth of a second are the same: then copies share
        # the load, and the rest is as the product prefers it.
        def rank(choice: Choice) -> tuple[float, float, int]:
            one = near[choice.edge]
            busy = (one.edge.load + load.get(choice.edge, 0.0)) / one.weight
            shared = busy if choice.held or choice.home else math.inf
            return round(choice.seconds, 2), shared, order[choice.edge]

        return sorted(choices, key=rank)[:limit]

    def explain(
        self, wanted: Wanted, site: str = "", load: Mapping[str, float] | None = None
    ) -> list[Choice]:
        """Return all edges: those to choose from, best first, then those refused and why."""
        taken = self.choose(wanted, site, load, limit=len(self._edges))
        names = {choice.edge for choice in taken}
        near = self._view(site)
        refused = [
            Choice(
                name,
                measured=near[name].pace.measured,
                held=name in wanted.held,
                refused=edge.refused or "no room for so large a product",
            )
            for name, edge in sorted(self._edges.items())
            if name not in names
        ]
        return [*taken, *refused]

    def _view(self, site: str) -> dict[str, _Near]:
        if (view := self._views.get(site)) is None:
            view = {}
            for name, edge in self._edges.items():
                pace = self._map.pace(site, name, edge.site, "to_site")
                view[name] = _Near(edge, pace, (edge.capacity_bytes or self._usual) / self._usual)
            self._views[site] = view
            self._classes[site] = _in_classes(view.values())
        return view

    def _homes(
        self, wanted: Wanted, site: str, load: Mapping[str, float], limit: int
    ) -> tuple[list[_Near], list[_Near]]:
        """Return a product's homes, and who comes after them, to a number of all."""
        near, others = self._view(site), list[_Near]()
        promised = [near[name] for name in wanted.promised if name in near]
        homes = [one for one in promised if not one.edge.refused and _fits(one.edge, wanted.size)]
        found = False
        for members in self._classes[site]:
            bound = members.bound(load)
            seeking = not found
            for one in members.order(wanted):
                if one in homes:
                    continue
                if seeking and len(homes) < wanted.spread:
                    held = one.edge.load + load.get(one.edge.name, 0.0)
                    within = held <= bound * one.weight + LOAD_SLACK
                    (homes if within else others).append(one)
                elif len(homes) + len(others) < limit:
                    others.append(one)
                else:
                    break
            found = bool(homes)
            if found and len(homes) + len(others) >= limit:
                break
        return homes, others

    def _terms(self, one: _Near, wanted: Wanted, homes: Sequence[str]) -> Choice:
        edge, pace, held = one.edge, one.pace, one.edge.name in wanted.held
        home = edge.name in homes
        making_s = room_s = away_s = 0.0
        source_site = ""
        if not held:
            making_s = edge.make_s or MAKE_S
            if wanted.replica_sites:
                paces = {site: self._source(one, site) for site in wanted.replica_sites}
                seconds = {s: pace.time_for(wanted.size, SOURCE_TRIPS) for s, pace in paces.items()}
                source_site = min(seconds, key=lambda site: (seconds[site], site))
                making_s += seconds[source_site]
            if edge.capacity_bytes and edge.free_bytes < wanted.size:
                room_s = EVICTED_AGAIN * making_s
            if not home:
                away_s = max(making_s, AWAY_S_MIN)
        return Choice(
            edge.name,
            trips_s=ROUND_TRIPS * pace.trip_s,
            # What is there needs no maker, and does not wait for one.
            queue_s=0.0 if held else edge.queue_s,
            transfer_s=wanted.size / pace.bytes_per_s,
            making_s=making_s,
            room_s=room_s,
            away_s=away_s,
            held=held,
            home=home,
            source_site=source_site,
            measured=pace.measured,
        )

    def _source(self, one: _Near, site: str) -> Pace:
        if (pace := one.sources.get(site)) is None:
            pace = self._map.pace(site, one.edge.name, one.edge.site, "from_site")
            one.sources[site] = pace
        return pace


def _in_classes(near: Iterable[_Near]) -> list[_Class]:
    """Return edges that take more by nearness, each class in the order of names."""
    classes: dict[int, list[_Near]] = {}
    for one in sorted(near, key=lambda one: one.edge.name):
        if not one.edge.refused:
            classes.setdefault(nearness(one.pace), []).append(one)
    return [_Class(members) for _, members in sorted(classes.items())]


def nearness(pace: Pace) -> int:
    """Return the class of a link: 0 is best."""
    seconds = pace.time_for(TYPICAL_BYTES, ROUND_TRIPS)
    return max(0, math.ceil(math.log(seconds / NEAR_S, CLASS_FACTOR)))


def _fits(edge: EdgeView, size: int) -> bool:
    return not edge.capacity_bytes or size <= edge.capacity_bytes
