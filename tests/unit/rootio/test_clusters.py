"""Clusters, as lists of boundaries and as TTree states them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from evstream.rootio.clusters import (
    ClusterRanges,
    as_ranges,
    boundaries,
    common_boundaries,
    cut_clusters,
)

SIZES = st.lists(st.integers(1, 50), min_size=1, max_size=40)


@given(SIZES)
def test_stating_clusters_loses_nothing(sizes: list[int]) -> None:
    clusters = np.cumsum([0, *sizes])
    found = boundaries(as_ranges(clusters), int(clusters[-1]))
    assert found is not None
    assert found.tolist() == clusters.tolist()


@given(SIZES, st.data())
def test_cut_clusters_keep_the_boundaries_within(sizes: list[int], data: st.DataObject) -> None:
    clusters = np.cumsum([0, *sizes])
    entries = int(clusters[-1])
    start = data.draw(st.integers(0, entries))
    stop = data.draw(st.integers(start, entries))
    found = cut_clusters(clusters, start, stop)
    assert found[0] == 0
    assert found[-1] == stop - start
    inner = {c - start for c in clusters.tolist() if start < c < stop}
    assert set(found.tolist()) == inner | {0, stop - start}


def test_a_hostile_number_of_clusters_is_not_counted() -> None:
    ranges = ClusterRanges(np.zeros(0, np.int64), np.zeros(0, np.int64), 1)
    assert boundaries(ranges, 1 << 60) is None


def test_unknown_clusters_are_not_invented() -> None:
    ranges = ClusterRanges(np.zeros(0, np.int64), np.zeros(0, np.int64), -30_000_000)
    assert boundaries(ranges, 100) is None


def test_common_boundaries_are_those_of_all_branches() -> None:
    # Baskets of 16 and of 36 entries meet every 144.
    start = np.concatenate([np.arange(0, 500, 16), np.arange(0, 500, 36)])
    first = np.array([0, 32, len(start)])
    assert common_boundaries(first, start, 500).tolist() == [0, 144, 288, 432, 500]


ROWS = st.lists(st.lists(st.integers(0, 12), max_size=6).map(sorted), max_size=5)


@given(ROWS, st.booleans(), st.integers(0, 14))
def test_common_boundaries_are_where_every_branch_begins_a_basket(
    rows: list[list[int]], alike: bool, entries: int
) -> None:
    # Mostly all branches have the same baskets, which is found out without sorting.
    rows = [rows[0] for _ in rows] if alike else rows
    first = np.cumsum([0, *map(len, rows)])
    start = np.array([entry for row in rows for entry in row], np.int64)
    found = common_boundaries(first, start, entries)
    filled = [row for row in rows if row]
    counts = {entry: sum(row.count(entry) for row in filled) for entry in start.tolist()}
    inner = {e for e, n in counts.items() if n >= len(filled) and 0 < e < entries}
    assert found.tolist() == sorted({0, entries} | inner)
