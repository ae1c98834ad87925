"""What parts of a service count, in the words that its metrics have for it."""

from __future__ import annotations

from collections.abc import Iterator

from evstream.edge.cache import CacheState
from evstream.ports import Measure


def cache_measures(state: CacheState) -> Iterator[Measure]:
    """Yield what a cache of products holds and has done."""
    yield Measure(
        "evstream_cache_requests",
        "counter",
        "Requests for products, by whether they were held.",
        {("hit",): state.hits, ("miss",): state.misses},
        ("answer",),
    )
    yield Measure("evstream_cache_products", "gauge", "Products held.", {(): state.products})
    yield Measure(
        "evstream_cache_bytes",
        "gauge",
        "Bytes of products that are held, and taken by those being made.",
        {("kept",): state.bytes_kept, ("making",): state.bytes_making},
        ("state",),
    )
    yield Measure("evstream_cache_bytes_max", "gauge", "Bytes it may hold.", {(): state.bytes_max})
    yield Measure(
        "evstream_cache_evicted", "counter", "Products that made room.", {(): state.evicted}
    )
