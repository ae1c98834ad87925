"""A trace run through a policy: how many requests and bytes a cache would have served."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from evstream.domain.caching.policy import CachePolicy, Request


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a trace.

    Attributes
    ----------
    bytes_asked, origin_bytes : int
        Bytes of all requests, and of those that the cache did not hold.
    cost : float
        Of the requests that it did not hold.
    """

    requests: int
    hits: int
    bytes_asked: int
    origin_bytes: int
    cost: float

    @property
    def hit_rate(self) -> float:
        """Share of requests that were served from the cache; 0 of none."""
        return self.hits / self.requests if self.requests else 0.0

    @property
    def byte_hit_rate(self) -> float:
        """Share of bytes that were."""
        return 1.0 - self.origin_bytes / self.bytes_asked if self.bytes_asked else 0.0


def replay(trace: Sequence[Request], policy: CachePolicy[Hashable], capacity_bytes: int) -> Outcome:
    """Run a trace through an empty cache.

    A product larger than the cache is passed on. One whose size has changed is another.
    """
    held: dict[Hashable, int] = {}
    used = hits = origin = asked = 0
    paid = 0.0
    for now, key, size, cost in trace:
        asked += size
        policy.record(key, size, cost, now)
        if held.get(key) == size:
            hits += 1
            continue
        origin += size
        paid += cost
        if key in held:
            used -= held.pop(key)
            policy.remove(key)
        if size > capacity_bytes or not policy.admits(key, size, cost, now):
            continue
        if used + size > capacity_bytes:
            for gone in policy.victims(used + size - capacity_bytes, _never):
                used -= held.pop(gone)
        policy.keep(key, size, cost, now)
        held[key] = size
        used += size
    return Outcome(len(trace), hits, asked, origin, paid)


def _never(key: Hashable) -> bool:
    return False
