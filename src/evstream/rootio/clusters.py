"""Clusters: where all branches of a tree begin a basket together.

Source: TTree::TClusterIterator and TTree::MarkEventCluster of ROOT 6.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]
# Hostile metadata must not make us count a billion clusters of one entry.
CLUSTERS_MAX = 20_000_000


@dataclass(frozen=True, slots=True)
class ClusterRanges:
    """Clusters as TTree states them: ranges of equal sizes, then a size for the rest.

    Attributes
    ----------
    ends : int64, shape (n_ranges,)
        Last entry of each range, inclusive as in ROOT.
    sizes : int64, shape (n_ranges,)
    rest : int
        Size of the clusters behind the last range (fAutoFlush); not positive if unknown.
    """

    ends: Int64
    sizes: Int64
    rest: int


def boundaries(ranges: ClusterRanges, entries: int) -> Int64 | None:
    """List the first entries of all clusters, and the entry count; None if unknown."""
    parts: list[Int64] = []
    start = 0
    total = 0
    for end, size in zip(ranges.ends.tolist(), ranges.sizes.tolist(), strict=True):
        stop = min(end + 1, entries)
        if stop <= start:
            continue
        step = size if size > 0 else stop - start
        total += (stop - start) // step
        if total > CLUSTERS_MAX:
            return None
        parts.append(np.arange(start, stop, step, dtype=np.int64))
        start = stop
    if start < entries:
        if ranges.rest <= 0 or (entries - start) // ranges.rest > CLUSTERS_MAX:
            return None
        parts.append(np.arange(start, entries, ranges.rest, dtype=np.int64))
    parts.append(np.array([entries], np.int64))
    return np.concatenate(parts)


def as_ranges(clusters: Int64) -> ClusterRanges:
    """State clusters the way TTree does.

    Parameters
    ----------
    clusters : int64, shape (n_clusters + 1,)
        As `boundaries` returns them.
    """
    sizes = np.diff(clusters)
    if not len(sizes):
        return ClusterRanges(np.zeros(0, np.int64), np.zeros(0, np.int64), 0)
    # The last cluster may be a short one of the size before it.
    if len(sizes) > 1 and sizes[-1] < sizes[-2]:
        sizes[-1] = sizes[-2]
    last_of_run = np.flatnonzero(np.append(sizes[1:] != sizes[:-1], True))
    ends = clusters[last_of_run[:-1] + 1] - 1
    return ClusterRanges(ends, sizes[last_of_run[:-1]], int(sizes[-1]))


def cut_clusters(clusters: Int64, start: int, stop: int) -> Int64:
    """Clip clusters to a range of entries and count them from its beginning."""
    inner = clusters[(clusters > start) & (clusters < stop)]
    edges = [0, *(inner - start).tolist(), stop - start]
    return np.array(edges if stop > start else [0], np.int64)


def _all_like(values: Int64, start: Int64, counts: Int64) -> bool:
    """Whether all branches begin their baskets at the same entries, as they mostly do."""
    if (counts != len(values)).any() or len(start) != counts.sum():
        return False
    ascending = (values[1:] > values[:-1]).all()
    return bool(ascending and (start.reshape(len(counts), -1) == values).all())


def common_boundaries(first: Int64, start: Int64, entries: int) -> Int64:
    """Find the entries at which every branch with baskets begins one.

    Parameters
    ----------
    first : int64, shape (n_branches + 1,)
        Where each branch's baskets begin in ``start``.
    start : int64, shape (n_baskets,)
        First entry of each basket.
    """
    if not entries:
        return np.zeros(1, np.int64)
    counts = np.diff(first)
    counts = counts[counts > 0]
    values = start[: counts[0] if len(counts) else 0]
    if len(start) and not _all_like(values, start, counts):
        ordered = np.sort(start)
        news = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
        news = np.concatenate([np.zeros(1, np.int64), news])
        values = ordered[news[np.diff(news, append=len(ordered)) >= len(counts)]]
    shared = values[(values > 0) & (values < entries)]
    return np.concatenate([np.zeros(1, np.int64), shared, np.array([entries], np.int64)])
