"""Products that are prepared: what each serves, where it is, and how much it is wanted.

A *recipe* here is all of a descriptor but its sources: name, version, parameters and
format. A product serves whoever asks for less: fewer entries, or fewer branches.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Literal

from evstream.domain.dataset import Fingerprint
from evstream.domain.descriptor import Descriptor, SourceSlice
from evstream.domain.edges import EdgeState, EdgeStatus
from evstream.domain.errors import RequestError
from evstream.domain.intervals import Interval, IntervalSet
from evstream.domain.names import Pfn, ProductKey

BRANCHES = "branches"
"""The parameter that names the columns of a product's entries; left out, it is all of them."""
ENTRY_MAX = 1 << 60
"""More entries than any file has."""
HALF_LIFE_S = 7 * 86_400.0
"""A request counts half as much after a week."""
FORGOTTEN_BELOW = 0.01
"""What is wanted less than this is not kept: one request is, for about 46 days."""

EDGE_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
"""What edges and stores may be called."""

PlaceKind = Literal["edge", "store"]
ReplicaState = Literal["available", "copying", "unavailable", "bad"]


@dataclass(frozen=True)
class Recipe:
    """How a product is made of its sources: a descriptor without them."""

    name: str
    version: int
    parameters: tuple[tuple[str, Any], ...]
    format: str

    @classmethod
    def of(cls, descriptor: Descriptor) -> Recipe:
        """Return how a descriptor makes its product.

        Raises
        ------
        RequestError
            Its branches are no list of names.
        """
        listed = descriptor.parameter(BRANCHES, [])
        if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
            raise RequestError(f"{BRANCHES} are a list of names", hint="leave them out for all")
        return cls(
            descriptor.recipe, descriptor.recipe_version, descriptor.parameters, descriptor.format
        )

    @cached_property
    def parameters_json(self) -> str:
        """The parameters as the one JSON text that they have."""
        return json.dumps(dict(self.parameters), sort_keys=True, separators=(",", ":"))

    @cached_property
    def digest(self) -> bytes:
        """Sha256 of all of it, 32 bytes."""
        plain = [self.name, self.version, self.parameters_json, self.format]
        return hashlib.sha256(json.dumps(plain).encode()).digest()

    @cached_property
    def branches(self) -> frozenset[str] | None:
        """Names of the columns; None for all."""
        listed = dict(self.parameters).get(BRANCHES)
        return None if listed is None else frozenset(listed)

    @cached_property
    def apart_from_branches(self) -> bytes:
        """What two recipes have in common that differ in their branches alone."""
        rest = tuple(pair for pair in self.parameters if pair[0] != BRANCHES)
        return Recipe(self.name, self.version, rest, self.format).digest

    def serves(self, wanted: Recipe) -> bool:
        """Whether its products hold at least what another one's do, of the same entries.

        All but the branches is equal, the selection of events and the tree among it.
        """
        if self.apart_from_branches != wanted.apart_from_branches:
            return False
        if self.branches is None:
            return True
        return wanted.branches is not None and wanted.branches <= self.branches

    def descriptor(self, sources: tuple[SourceSlice, ...]) -> Descriptor:
        """Return the descriptor of a product that is made of some sources so."""
        return Descriptor(sources, self.name, self.version, self.parameters, self.format)


@dataclass(frozen=True)
class PreparedProduct:
    """A product as one encoder has made it.

    Attributes
    ----------
    encoder_id : str
        Engine, codecs and writer: other encoders make other bytes of the same key.
    size : int
        Bytes.
    sha256 : str
        Of the bytes, 64 hexadecimal digits.
    """

    descriptor: Descriptor
    encoder_id: str
    size: int
    sha256: str

    @cached_property
    def name(self) -> tuple[ProductKey, str]:
        """Key and encoder: what tells it from others."""
        return self.descriptor.key, self.encoder_id

    @cached_property
    def pieces(self) -> tuple[tuple[Fingerprint, Interval], ...]:
        """The intervals of each file that it holds; those that touch are one.

        Raises
        ------
        RequestError
            It holds none, or what is no interval of entries.
        """
        by_file: dict[Fingerprint, IntervalSet] = {}
        for source in self.descriptor.sources:
            for interval in source.entries:
                check_interval(interval)
            held = by_file.get(source.fingerprint, IntervalSet())
            by_file[source.fingerprint] = held | IntervalSet.of(source.entries)
        if not any(by_file.values()):
            raise RequestError("the product holds no entries", hint="no search would find it")
        return tuple((file, interval) for file, held in by_file.items() for interval in held)


@dataclass(frozen=True, slots=True)
class Edge:
    """Where products are: an edge that serves them, or a store that keeps them.

    Attributes
    ----------
    url : str
        Where it is reached.
    capacity_bytes : int
        Room for products; 0 if it is not known.
    alive_until : datetime or None
        When it counts as silent unless it beats again; None for one that need not.
    products, bytes : int
        What is registered there.
    state : EdgeState
        What the head has decided of it, and why.
    status : EdgeStatus
        What it said of itself last.
    """

    name: str
    url: str
    kind: PlaceKind = "edge"
    capacity_bytes: int = 0
    alive_until: datetime | None = None
    products: int = 0
    bytes: int = 0
    state: EdgeState = "serving"
    reason: str = ""
    status: EdgeStatus = EdgeStatus()

    def beats(self, now: datetime) -> bool:
        """Whether this is an edge, and not silent."""
        return self.kind == "edge" and (self.alive_until is None or self.alive_until > now)

    @property
    def takes_work(self) -> bool:
        """Whether it is given new work."""
        return self.state == "serving" and not self.status.leaving

    @property
    def site(self) -> str:
        """Where it is: what it says, or its own name, as replicas know it."""
        return self.status.site or self.name


@dataclass(frozen=True, slots=True)
class FoundProduct:
    """A product, and the edges and stores that have it now, by name."""

    product: PreparedProduct
    places: tuple[Edge, ...]


@dataclass(frozen=True, slots=True)
class PopularProduct:
    """A product, where it is, and how much it is wanted.

    Attributes
    ----------
    score : float
        Its share of what its file and recipe are asked for: all their products count alike.
    pinned : frozenset of str
        Edges that keep it for a time that was agreed.
    """

    found: FoundProduct
    score: float
    pinned: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Replica:
    """A copy of a file.

    Attributes
    ----------
    site : str
        Name of the storage that it is at, an RSE where there are such.
    """

    fingerprint: Fingerprint
    pfn: Pfn
    site: str = ""
    state: ReplicaState = "available"


@dataclass(frozen=True, slots=True)
class Wanted:
    """How much a recipe of a file is wanted.

    Attributes
    ----------
    score : float
        Requests, each worth half as much after `HALF_LIFE_S`.
    """

    fingerprint: Fingerprint
    recipe: Recipe
    score: float


def wanted_part(descriptor: Descriptor) -> tuple[Fingerprint, Interval]:
    """Return the file and the interval that a search is for.

    Raises
    ------
    RequestError
        It has several: products are searched for one interval at a time.
    """
    if len(descriptor.sources) != 1 or len(descriptor.sources[0].entries) != 1:
        raise RequestError(
            "a search is for one interval of one file",
            hint="ask for each interval by a descriptor of its own",
        )
    source = descriptor.sources[0]
    check_interval(source.entries[0])
    return source.fingerprint, source.entries[0]


def check_interval(interval: Interval) -> None:
    """Refuse what is no interval of entries.

    Raises
    ------
    RequestError
    """
    start, stop = interval
    if not 0 <= start < stop <= ENTRY_MAX:
        raise RequestError(
            f"entries [{start}, {stop}) are no interval",
            hint=f"give 0 <= entry_start < entry_stop <= {ENTRY_MAX}",
        )


def reach_of(interval: Interval) -> int:
    """Return the least power of two above an interval's width.

    Intervals of one reach that hold an entry begin within so many entries before it: an index
    by reach and start finds them, however wide those of another reach are.
    """
    return 1 << (interval[1] - interval[0]).bit_length()


def heat_after(heat: float | None, requests: float, at: datetime) -> float:
    """Return a heat with more requests in it.

    Heat is the logarithm to base two of what all requests are worth, each at its own time, in
    half-lives since 1970. So it changes with requests alone, and sorts by what is wanted now.

    Parameters
    ----------
    heat : float or None
        As it was; None before the first.
    """
    added = at.timestamp() / HALF_LIFE_S + math.log2(requests)
    if heat is None:
        return added
    high, low = max(heat, added), min(heat, added)
    return high + math.log2(1.0 + 2.0 ** (low - high))


def score_of(heat: float, now: datetime) -> float:
    """Return what a heat is worth now, in requests."""
    return float(2.0 ** (heat - now.timestamp() / HALF_LIFE_S))


def coldest_kept(now: datetime) -> float:
    """Return the heat below which a recipe of a file is forgotten."""
    return now.timestamp() / HALF_LIFE_S + math.log2(FORGOTTEN_BELOW)
