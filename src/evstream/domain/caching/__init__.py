"""Rules of caches: what to keep, what to give up, and what that brings.

`policy.CachePolicy` is what all of them answer; `ByReuse` is the one that edges use.
"""

from collections.abc import Callable, Hashable, Mapping

from evstream.domain.caching.heaps import Gdsf, Lfu
from evstream.domain.caching.optimum import Bound, bound
from evstream.domain.caching.policy import CachePolicy, Request
from evstream.domain.caching.queues import Lru, S3Fifo, Sieve
from evstream.domain.caching.replay import Outcome, replay
from evstream.domain.caching.reuse import ByReuse

POLICIES: Mapping[str, Callable[[int], CachePolicy[Hashable]]] = {
    "lru": Lru,
    "lfu": Lfu,
    "s3-fifo": S3Fifo,
    "gdsf": Gdsf,
    "gdsf-cost": lambda capacity_bytes: Gdsf(capacity_bytes, by_cost=True),
    "sieve": Sieve,
    "reuse": ByReuse,
}
"""Makers of policies for caches of so many bytes, by name."""

__all__ = [
    "POLICIES",
    "Bound",
    "ByReuse",
    "CachePolicy",
    "Outcome",
    "Request",
    "bound",
    "replay",
]
