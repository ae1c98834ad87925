"""Which products should be at how many edges: what is wanted spreads, what cools is dropped.

Pure rules, from what is asked for and held to decisions, each with its reason for people. How much
something is wanted is its score (`products.score_of`): requests, each worth half as much after a
while. What one edge keeps by itself is its cache's matter (`caching`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from evstream.domain.brokering import rendezvous
from evstream.domain.intervals import Interval

Deed = Literal["spread", "drop"]

SEQUENTIAL_MIN = 3
"""Requests that follow each other before the next is expected."""


@dataclass(frozen=True, slots=True)
class Spreading:
    """When a product is worth another copy.

    Attributes
    ----------
    hot_score : float
        A second copy is worth it from this score on, another one at each doubling.
    readers_each : int
        Concurrent readers that one copy is enough for.
    cold_score : float
        What is wanted less than this and read by nobody is dropped everywhere.
    slack : float
        A copy is dropped only if it would not be worth it at so many times the score: what lies
        at a limit is not copied and dropped by turns.
    copies_max : int
        However much it is wanted.
    """

    hot_score: float = 8.0
    readers_each: int = 32
    cold_score: float = 0.05
    slack: float = 2.0
    copies_max: int = 8

    def copies(self, score: float, readers: int) -> int:
        """Return at how many edges a product should be; 0 for one that is cold."""
        if score < self.cold_score and readers == 0:
            return 0
        for_score = 1 + max(0, math.floor(math.log2(max(score, 1e-9) / self.hot_score)) + 1)
        for_readers = math.ceil(readers / self.readers_each)
        return min(self.copies_max, max(for_score, for_readers))


@dataclass(frozen=True, slots=True)
class PlacedProduct:
    """A product as the head knows it.

    Attributes
    ----------
    score : float
        How much it is wanted now, in requests.
    readers : int
        Who reads it at this time, at all edges together.
    edges : frozenset of str
        Where it is.
    pinned : frozenset of str
        Where a request still needs it: it is not dropped there.
    compared : bool
        Two edges make it, as long as anybody wants it: it shows whether they make the same.
    """

    key: str
    size: int
    score: float
    readers: int = 0
    edges: frozenset[str] = frozenset()
    pinned: frozenset[str] = frozenset()
    compared: bool = False


@dataclass(frozen=True, slots=True)
class EdgeRoom:
    """An edge that may be given products.

    Attributes
    ----------
    free_bytes : int
        Room that takes nothing's place.
    weight : float
        How much it can serve, against others.
    """

    name: str
    free_bytes: int
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Decision:
    """What an edge should do about a product, and why."""

    deed: Deed
    key: str
    edge: str
    reason: str


def place(
    products: Iterable[PlacedProduct],
    edges: Iterable[EdgeRoom],
    rules: Spreading | None = None,
    bytes_max: int = 1 << 40,
) -> list[Decision]:
    """Decide where products should be.

    The most wanted for its bytes comes first. A product that is nowhere is not fetched: it is made
    where it is asked for. At an edge that is not among those given, nothing is done.

    Parameters
    ----------
    bytes_max : int
        What is copied in one round at most.
    """
    rules = rules or Spreading()
    room = {edge.name: edge.free_bytes for edge in edges_by_name(edges)}
    weights = {edge.name: edge.weight for edge in edges_by_name(edges)}
    decisions = []
    ranked = sorted(products, key=lambda one: (-one.score / max(one.size, 1), one.key))
    for product in ranked:
        decisions += _drops(product, weights, rules)
    for product in ranked:
        spread = _spreads(product, weights, room, rules, bytes_max)
        bytes_max -= product.size * len(spread)
        decisions += spread
    return decisions


def edges_by_name(edges: Iterable[EdgeRoom]) -> list[EdgeRoom]:
    """Return edges in the order of their names: decisions do not depend on how they came."""
    return sorted(edges, key=lambda edge: edge.name)


def _copies(product: PlacedProduct, rules: Spreading, slack: float = 1.0) -> int:
    copies = rules.copies(product.score * slack, product.readers)
    return max(copies, 2) if product.compared and copies else copies


def _drops(product: PlacedProduct, weights: dict[str, float], rules: Spreading) -> list[Decision]:
    keep = _copies(product, rules, rules.slack)
    spare = len(product.edges) - keep
    if spare <= 0:
        return []
    # Those where it belongs least go first; its home is the last to lose it.
    here = {name: weights[name] for name in product.edges if name in weights}
    loose = [name for name in rendezvous(product.key, here) if name not in product.pinned]
    if keep == 0:
        reason = f"nobody wants it any more (score {product.score:.2g})"
    else:
        reason = f"{keep} of {len(product.edges)} copies are enough (score {product.score:.2g})"
    return [Decision("drop", product.key, name, reason) for name in loose[::-1][:spare]]


def _spreads(
    product: PlacedProduct,
    weights: dict[str, float],
    room: dict[str, int],
    rules: Spreading,
    bytes_max: int,
) -> list[Decision]:
    if not product.edges:
        return []
    wanted = _copies(product, rules) - len(product.edges)
    reason = f"{product.score:.3g} requests of late, {product.readers} readers now"
    if product.compared:
        reason = f"made a second time, to compare ({reason})"
    found: list[Decision] = []
    for name in rendezvous(product.key, weights):
        if len(found) >= wanted or product.size * (len(found) + 1) > bytes_max:
            break
        if name not in product.edges and room[name] >= product.size:
            room[name] -= product.size
            found.append(Decision("spread", product.key, name, reason))
    return found


def expected_next(recent: Sequence[Interval], entries: int, ahead: int = 1) -> list[Interval]:
    """Return what a reader of a file asks for next, if it reads on and on.

    Parameters
    ----------
    recent : sequence of (int, int)
        Intervals that were asked for, the oldest first.
    entries : int
        Of the file: nothing past its end is expected.
    ahead : int
        How many intervals.

    Returns
    -------
    list of (int, int)
        As wide as the last; none if the last requests did not follow each other.
    """
    last = list(recent[-SEQUENTIAL_MIN:])
    follows = all(before[1] == after[0] for before, after in pairwise(last))
    if len(last) < SEQUENTIAL_MIN or not follows:
        return []
    start = last[-1][1]
    width = start - last[-1][0]
    begins = [start + number * width for number in range(ahead)]
    return [(begin, min(begin + width, entries)) for begin in begins if begin < entries]
