"""What parts of a service count, in the words that its metrics have for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from evstream.domain.lanes import LaneState
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


def lane_measures(states: Sequence[LaneState]) -> Iterator[Measure]:
    """Yield how busy the lanes of an edge are."""
    lane = ("lane",)
    by_lane = {one.lane.value: one for one in states}
    yield Measure(
        "evstream_lane_making",
        "gauge",
        "Products being made.",
        {(name,): one.making for name, one in by_lane.items()},
        lane,
    )
    yield Measure(
        "evstream_lane_waiting",
        "gauge",
        "Products that wait for a maker.",
        {(name,): one.waiting for name, one in by_lane.items()},
        lane,
    )
    yield Measure(
        "evstream_lane_made",
        "counter",
        "Products whose making ended.",
        {(name,): one.made for name, one in by_lane.items()},
        lane,
    )
    yield Measure(
        "evstream_lane_refused",
        "counter",
        "Asks that were sent away.",
        {(name,): one.refused for name, one in by_lane.items()},
        lane,
    )
    yield Measure(
        "evstream_lane_make_seconds",
        "gauge",
        "What making a product took lately; 0 where none was made.",
        {(name,): one.make_s for name, one in by_lane.items()},
        lane,
    )


def check_measures(judged: Mapping[str, int], ordered: int) -> Iterator[Measure]:
    """Yield how often edges' products were compared, and who was found wrong."""
    yield Measure(
        "evstream_conflicts",
        "counter",
        "Products that two edges told different bytes of, by who was found wrong.",
        {(found,): count for found, count in judged.items()},
        ("wrong",),
    )
    yield Measure(
        "evstream_cross_checks",
        "counter",
        "Orders to make a product at a second edge, to compare.",
        {(): ordered},
    )
