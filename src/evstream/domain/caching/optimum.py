"""What no cache can beat, even one that knows the future.

For products of unequal sizes the exact optimum is NP-hard. `bound` is PFOO-L of Berger, Beckmann
and Harchol-Balter ("Practical bounds on optimal caching with variable object sizes", SIGMETRICS
2018): each wait of a product from one request to the next takes size times length of the cache's
space and time. The cheapest waits are taken until capacity times the trace's length is used up. It
lets the cache overflow at one time for having had room at another, so it promises more than is
possible, and a gap to it is never less than the true one. PFOO-U and Belady-size are what can be
reached, not bounds: gaps to those may come out too small.

For equal sizes `minimum` is Belady's MIN, exact, with passing on allowed.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from evstream.domain.caching.policy import Request


@dataclass(frozen=True, slots=True)
class Bound:
    """So many requests and bytes at most can be served; no cache need reach both at once."""

    hits: int
    bytes_served: int


def bound(trace: Sequence[Request], capacity_bytes: int) -> Bound:
    """Return what no policy exceeds (PFOO-L)."""
    last: dict[tuple[Hashable, int], int] = {}
    waits = []
    for turn, (_, key, size, _) in enumerate(trace):
        before = last.get((key, size))
        if before is not None and size <= capacity_bytes:
            waits.append((size, turn - before))
        last[key, size] = turn
    room = capacity_bytes * len(trace)
    by_hits = sorted(waits, key=lambda wait: wait[0] * wait[1])
    by_bytes = sorted(waits, key=lambda wait: wait[1])
    hits = sum(1 for _ in _taken(by_hits, room))
    return Bound(hits, sum(size for size, _ in _taken(by_bytes, room)))


def _taken(waits: list[tuple[int, int]], room: int) -> list[tuple[int, int]]:
    taken = []
    for size, length in waits:
        # What is cut through counts whole: a bound may promise too much, never too little.
        if room <= 0:
            break
        room -= size * length
        taken.append((size, length))
    return taken


def minimum(trace: Sequence[Request], capacity: int) -> int:
    """Return the hits of Belady's MIN for products of one size each, with room for so many."""
    nexts = _next_requests(trace)
    held: dict[Hashable, int] = {}
    farthest: list[tuple[int, int]] = []
    hits = 0
    for turn, request in enumerate(trace):
        if request.key in held:
            hits += 1
        if capacity < 1:
            continue
        held[request.key] = nexts[turn]
        heapq.heappush(farthest, (-nexts[turn], turn))
        while len(held) > capacity:
            until, at = heapq.heappop(farthest)
            if held.get(trace[at].key) == -until:
                del held[trace[at].key]
    return hits


def _next_requests(trace: Sequence[Request]) -> list[int]:
    """Return when each request's product is asked for next; past the end, and apart, if never."""
    nexts = [0] * len(trace)
    seen: dict[Hashable, int] = {}
    for turn in range(len(trace) - 1, -1, -1):
        nexts[turn] = seen.get(trace[turn].key, 2 * len(trace) - turn)
        seen[trace[turn].key] = turn
    return nexts
