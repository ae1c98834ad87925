"""Plan what a product's clusters are made of: a range of entries, or scattered ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from evstream.rootio.rntuple.ntuple_index import NTupleIndex
from evstream.rootio.rntuple.ntuple_pages import Cluster, NTuplePages, Origin
from evstream.rootio.rntuple.runs import Runs
from evstream.rootio.rntuple.subset import subset
from evstream.rootio.rntuple.taking import Part

Int64 = npt.NDArray[np.int64]
# What is put together of smaller clusters has about so many entries: a cluster costs its
# reader something of each field, however few there are.
CLUSTER_ENTRIES_MIN = 1000


def cut_pages(index: NTupleIndex, kept: Sequence[int], start: int, stop: int) -> NTuplePages:
    """Plan the pages of the entries ``[start, stop)``; clusters stay as they are within it."""
    edges = index.tables.edges
    clusters = []
    first = int(np.searchsorted(edges, start, side="right")) - 1
    for number in range(max(first, 0), len(edges) - 1):
        begin, end = int(edges[number]), int(edges[number + 1])
        if begin >= stop:
            break
        if begin == end:
            continue
        if start <= begin and end <= stop:
            clusters.append(Cluster(0, number))
        elif start < stop:
            entries = Runs.one(max(start, begin) - begin, min(stop, end) - begin)
            clusters.append(Cluster(0, number, (Part(number, entries),)))
    return _pages(index, kept, clusters)


def gathered_pages(index: NTupleIndex, kept: Sequence[int], chosen: Int64) -> NTuplePages:
    """Plan the pages of scattered entries.

    Clusters all of whose entries are chosen stay as they are. What is left of others is
    put together up to the usual number of entries a cluster has, or a thousand if that is
    more.

    Parameters
    ----------
    chosen : int64
        Ascending.
    """
    tables = index.tables
    edges = tables.edges
    sizes = np.diff(edges)
    limit = max(CLUSTER_ENTRIES_MIN, int(np.median(sizes[sizes > 0])))
    bounds = np.searchsorted(chosen, edges)
    clusters: list[Cluster] = []
    parts: list[Part] = []
    held = 0
    for number in np.flatnonzero(np.diff(bounds)).tolist():
        own = chosen[bounds[number] : bounds[number + 1]] - edges[number]
        whole = len(own) == sizes[number]
        apart = whole or held + len(own) > limit or not _alike(index, parts, number)
        if parts and apart:
            clusters.append(Cluster(0, parts[0].cluster, tuple(parts)))
            parts, held = [], 0
        if whole:
            clusters.append(Cluster(0, number))
        else:
            parts.append(Part(number, Runs.of(own)))
            held += len(own)
    if parts:
        clusters.append(Cluster(0, parts[0].cluster, tuple(parts)))
    return _pages(index, kept, clusters)


def _alike(index: NTupleIndex, parts: Sequence[Part], number: int) -> bool:
    """Tell whether a cluster has the representations and compression of others."""
    if not parts:
        return True
    tables, model = index.tables, parts[0].cluster
    return bool(
        (tables.representation[model] == tables.representation[number]).all()
        and (tables.settings[model] == tables.settings[number]).all()
    )


def _pages(index: NTupleIndex, kept: Sequence[int], clusters: Sequence[Cluster]) -> NTuplePages:
    schema, slots = subset(index.schema, kept)
    width = max((len(slot.columns) for slot in index.schema.slots), default=1)
    same = np.tile(np.arange(width), (len(slots), 1))
    origin = Origin(0, index, frozenset(kept), np.array(slots, np.int64), same)
    return NTuplePages(schema, [origin], clusters)
