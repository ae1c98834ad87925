"""Recognise trees that differ from one read before in numbers and baskets alone.

The files of a dataset are alike: walking over each tree anew would find the same branches
at the same places. A shape takes the numbers and basket tables out of a record and puts
them into the earlier tree's. Where the outcome is the record, byte for byte, the record
has that shape, and everything else about the trees is the same too. Where it is not,
somebody has to walk.

Small files of a task often have as many baskets as each other, too. Then their records are
equal but for bytes at the same places, which a `Stencil` knows: it compares all others at
once, and takes all numbers at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from evstream.rootio.class_plan import BASIC_DTYPES, BASIC_SIZES
from evstream.rootio.clusters import ClusterRanges, Int64, boundaries
from evstream.rootio.keys import Key
from evstream.rootio.object_graph import ObjectGraph
from evstream.rootio.primitives import I4
from evstream.rootio.source import Data
from evstream.rootio.stencil import Column, Found, Gathered, Places, Stencil
from evstream.rootio.tree_index import (
    CLUSTER_ARRAYS,
    BasketSlots,
    BasketTable,
    Overlay,
    TreeIndex,
    joined_values,
)
from evstream.rootio.tree_template import LIST, Spots, Template

# Members that may differ. All others say what kind of branch it is.
_FREE_IN_BRANCHES = frozenset({
    "fCompress", "fBasketSize", "fEntryOffsetLen", "fWriteBasket", "fEntryNumber",
    "fMaxBaskets", "fEntries", "fFirstEntry", "fTotBytes", "fZipBytes", "fMaximum",
})  # fmt: skip
_FREE_IN_LEAVES = frozenset({"fMinimum", "fMaximum"})
_COUNTERS = {
    "fBasketBytes": "fMaxBaskets", "fBasketEntry": "fMaxBaskets", "fBasketSeek": "fMaxBaskets",
    "fClusterRangeEnd": "fNClusterRange", "fClusterSize": "fNClusterRange",
}  # fmt: skip
# Columns of the branch table, and the members that they hold.
_COLUMNS = {
    "entries": "fEntries", "first_entries": "fFirstEntry", "tot_bytes": "fTotBytes",
    "zip_bytes": "fZipBytes", "offset_lengths": "fEntryOffsetLen", "compression": "fCompress",
    "written": "fWriteBasket",
}  # fmt: skip
_WIDE_FLAG, _LONG64 = 2, 16
# Of so many lengths of records stencils are kept.
_STENCILS_MAX = 64


@dataclass(frozen=True, slots=True)
class _Gap:
    """Where an array belongs in the template, and where its count is.

    ``head`` bytes stand before the items: a flag or a count, or nothing in lists of
    pointers, all of which are null. ``fixed`` is what stands there in every tree of the
    shape, None where that may differ.
    """

    at: int
    count_at: int
    gaps_before_count: int
    item_bytes: int
    type: int
    head: int
    fixed: bytes | None = None


class TreeShape:
    """The shape of a tree that was walked.

    Parameters
    ----------
    graph : ObjectGraph
        The walk.
    index : TreeIndex
        What came of it.

    Attributes
    ----------
    usable : bool
        False for trees that hold what a shape cannot tell apart from structure.
    """

    def __init__(self, graph: ObjectGraph, index: TreeIndex) -> None:
        self._index = index
        # How many empty places a branch's list of baskets has depends on how it was filled.
        self._template = Template(
            index.skeleton,
            lambda _items, _node, _written: True,
            open_lists={"fBaskets"},
            spelled=graph.spelled,
        )
        self._gap_at = np.array(self._template.gaps, np.int64)
        gaps = [self._gap(graph, *pair) for pair in enumerate(self._template.arrays)]
        self._gaps = [gap for gap in gaps if gap is not None]
        self.usable = len(self._gaps) == len(gaps) and not (
            index.embedded or index.notes or _has_baskets(graph)
        )
        if not self.usable:
            return
        self._free = _bytes_of(graph)
        list_counts = [g.count_at + i for g in self._gaps if g.head == 0 for i in range(4)]
        self._free_here = np.concatenate(
            [self._template.spots(self._free, 1).at, np.array(list_counts, np.int64)]
        )
        self._gaps_before_free = np.searchsorted(self._gap_at, self._free_here, side="right")
        branches = [graph.nodes[node] for node in index.table.nodes]
        self._columns = {
            column: _Numbers(self._template, [n.field(member) for n in branches])
            for column, member in _COLUMNS.items()
        }
        place = {number: i for i, number in enumerate(self._template.arrays)}
        # Of each of the three tables, for each branch: which gap, type and size of its items.
        self._tables = [
            [
                (place[n], np.dtype(BASIC_DTYPES[a.type]), a.item_bytes)
                for n, a in ((row[which], index.skeleton.arrays[row[which]]) for row in rows)
            ]
            for rows in [index.table.arrays]
            for which in range(3)
        ]
        arrays = index.skeleton.arrays
        self._cluster_gaps = {
            arrays[n].name: (i, np.dtype(BASIC_DTYPES[arrays[n].type]), arrays[n].item_bytes)
            for n, i in place.items()
            if n != LIST and arrays[n].owner == 0 and arrays[n].name in CLUSTER_ARRAYS
        }
        self._maxima = _Numbers(self._template, [s for row in index.table.maxima for s in row])
        self._of_tree = _Numbers(self._template, list(index.fields.values()))
        self._has_offsets = index.table.offset_lengths != 0
        self._stencils: dict[tuple[int, int], Stencil | None] = {}
        self._slots: tuple[Int64, BasketSlots] | None = None
        # A shape that does not recognise its own tree would recognise no other.
        self.usable = self.read(index.path, index.key, graph.data) is not None

    def _gap(self, graph: ObjectGraph, position: int, number: int) -> _Gap | None:
        at = int(self._gap_at[position])
        if number == LIST:
            return _Gap(at, at - 8, position, 4, 0, head=0)
        array = graph.arrays[number]
        if not array.counted:
            stop = array.start + array.count * array.item_bytes
            fixed = graph.data[array.start - I4.size : stop]
            return _Gap(at, at, position, array.item_bytes, array.type, 4, fixed)
        spot = graph.nodes[array.owner].field(_COUNTERS.get(array.name, ""))
        if spot is None or BASIC_SIZES[spot[1]] != I4.size:
            return None
        where = int(self._template.spots([spot[0]], spot[1]).at[0])
        before = int(np.searchsorted(self._gap_at, where, side="right"))
        return _Gap(at, where, before, array.item_bytes, array.type, head=1)

    # --- reading ----------------------------------------------------------------

    def read(self, path: str, key: Key, data: Data) -> TreeIndex | None:
        """Return the index of a tree of this shape, None if it may have another.

        Parameters
        ----------
        data : bytes-like
            Its record, decompressed.
        """
        place = len(data), key.key_bytes
        stencil = self._stencils.get(place)
        found = None if stencil is None else stencil.find(data)
        if found is None:
            arrays = self._arrays(data)
            found = None if arrays is None else self._search(key, data, *arrays)
            if arrays is None or found is None:
                return None
            self._learn(place, data, found, arrays[0])
        return self._index_of(path, key, found)

    def _search(self, key: Key, data: Data, shift: Int64, arrays: list[Data]) -> Found | None:
        """Take a record's numbers and put them into the template; None if it comes out other."""
        base = self._template.blank()
        if len(data) != len(base) + shift[-1]:
            return None
        raw = np.frombuffer(data, np.uint8)
        free = raw[self._free_here + shift[self._gaps_before_free]]
        base[self._free_here] = free
        columns = {name: numbers.get(base) for name, numbers in self._columns.items()}
        maxima = self._maxima.get(base)
        of_tree = self._of_tree.get(base).tolist()
        # Last, since it writes counts and references into the base.
        if self._template.fill(base, arrays, key.key_bytes) != data:
            return None
        nbytes, start, seek = (
            joined_values([np.frombuffer(arrays[i], dtype, offset=1) for i, dtype, _ in tables])
            for tables in self._tables
        )
        slots, *others = (
            np.array([(len(arrays[i]) - 1) // size for i, _, size in tables], np.int64)
            for tables in self._tables
        )
        if any((other != slots).any() for other in others):
            return None
        clusters = {
            name: np.frombuffer(arrays[i], dtype, offset=1).astype(np.int64)
            for name, (i, dtype, _) in self._cluster_gaps.items()
        }
        own = free[: len(self._free)]
        return Found(columns, maxima, of_tree, nbytes, start, seek, slots, clusters, own)

    def _arrays(self, data: Data) -> tuple[Int64, list[Data]] | None:
        """Find the arrays; return how far each moves what follows, and their bytes."""
        view = memoryview(data)
        shift = [0]
        arrays: list[Data] = []
        size = len(data)
        for gap in self._gaps:
            start = gap.at + shift[-1]
            count_at = gap.count_at + shift[gap.gaps_before_count]
            if count_at + 4 > size or start >= size:
                return None
            (count,) = I4.unpack_from(data, count_at)
            if gap.head == 1:
                flag = view[start]
                count = count if flag else 0
                if flag > 1 and (flag, gap.type) != (_WIDE_FLAG, _LONG64):
                    return None
            stop = start + gap.head + count * gap.item_bytes
            if count < 0 or stop > size:
                return None
            if gap.fixed is not None and view[start:stop] != gap.fixed:
                return None
            if gap.head == 0 and any(view[start:stop]):
                return None
            arrays.append(view[start:stop])
            shift.append(shift[-1] + stop - start)
        return np.array(shift, np.int64), arrays

    def _learn(self, place: tuple[int, int], data: Data, found: Found, shift: Int64) -> None:
        """Make a stencil when a length is met again: most lengths may be there only once."""
        if place in self._stencils:
            self._stencils[place] = self._stencil(data, found, shift)
            return
        if len(self._stencils) >= _STENCILS_MAX:
            self._stencils.clear()
        self._stencils[place] = None

    def _stencil(self, data: Data, found: Found, shift: Int64) -> Stencil:
        def here(places: Int64) -> Int64:
            moved: Int64 = places + shift[np.searchsorted(self._gap_at, places, side="right")]
            return moved

        def items(tables: Sequence[tuple[int, np.dtype[np.generic], int]]) -> Column:
            parts = []
            for i, dtype, size in tables:
                begin, end = self._gaps[i].at + shift[i] + 1, self._gaps[i].at + shift[i + 1]
                parts.append((np.arange(begin, end, size, dtype=np.int64), dtype))
            return gathered.items(parts)

        gathered = Gathered()
        own = here(self._free_here[: len(self._free)])
        loose = np.zeros(len(data), np.bool_)
        loose[own] = True
        for gap in self._gaps:
            if gap.head == 1:
                # Where these numbers are others, what follows lies elsewhere.
                count_at = gap.count_at + int(shift[gap.gaps_before_count])
                loose[count_at : count_at + I4.size] = False
        columns = {name: n.column(here, gathered) for name, n in self._columns.items()}
        maxima, of_tree = (n.column(here, gathered) for n in (self._maxima, self._of_tree))
        tables = [items(rows) for rows in self._tables]
        clusters = {name: items([gap]) for name, gap in self._cluster_gaps.items()}
        tabled = [i for rows in self._tables for i, _, _ in rows]
        for i in [*tabled, *(i for i, _, _ in self._cluster_gaps.values())]:
            loose[self._gaps[i].at + shift[i] + 1 : self._gaps[i].at + shift[i + 1]] = True
        places = Places(gathered.positions(), columns, maxima, of_tree, tables, clusters, own)
        return Stencil(data, loose, places, found.slots)

    def _index_of(self, path: str, key: Key, found: Found) -> TreeIndex | None:
        """Put what was found into the index of the tree that was walked."""
        model, columns = self._index, found.columns
        numbers = dict(zip(model.fields, found.of_tree, strict=True))
        entries = numbers["fEntries"]
        changed = ((columns["offset_lengths"] != 0) != self._has_offsets).any()
        if changed or entries < 0:
            return None
        baskets = self._baskets(found)
        ends, cluster_sizes = (
            found.clusters.get(name, np.zeros(0, np.int64)) for name in CLUSTER_ARRAYS
        )
        if baskets is None or len(ends) != len(cluster_sizes):
            return None
        ranges = ClusterRanges(ends, cluster_sizes, numbers.get("fAutoFlush", 0))
        return replace(
            model,
            path=path,
            key=key,
            entries=entries,
            stated_clusters=boundaries(ranges, entries),
            table=replace(
                model.table,
                entries=columns["entries"],
                first_entries=columns["first_entries"],
                tot_bytes=columns["tot_bytes"],
                zip_bytes=columns["zip_bytes"],
                offset_lengths=columns["offset_lengths"],
                compression=columns["compression"],
            ),
            baskets=baskets,
            overlay=Overlay(self._free, found.own),
            numbers=numbers,
            maxima=found.maxima,
            _templates={},
            _lock=threading.Lock(),
        )

    def _baskets(self, found: Found) -> BasketTable | None:
        counts = found.columns["written"]
        slots, known = self._slots or (None, None)
        if known is None or slots is not found.slots or (counts != known.counts).any():
            if (counts < 0).any() or (counts > found.slots).any():
                return None
            known = BasketSlots(found.slots, counts)
            self._slots = found.slots, known
        ends = found.columns["first_entries"] + found.columns["entries"]
        baskets = known.table(found.nbytes, found.start, found.seek, ends)
        in_order = (baskets.stop - baskets.start).min(initial=0) >= 0
        there = baskets.nbytes.min(initial=0) >= 0 and baskets.seek.min(initial=1) > 0
        return baskets if in_order and there else None


class _Numbers:
    """Members of many objects, of several basic types, as one column; zero where there is none.

    Parameters
    ----------
    template : Template
    spots : sequence of (position, basic type) or None
    """

    def __init__(self, template: Template, spots: Sequence[tuple[int, int] | None]) -> None:
        self._size = len(spots)
        self._groups: list[tuple[list[int], Spots]] = []
        types = {spot[1] for spot in spots if spot is not None}
        for type_ in sorted(types):
            rows = [i for i, spot in enumerate(spots) if spot is not None and spot[1] == type_]
            at = [spot[0] for spot in spots if spot is not None and spot[1] == type_]
            self._groups.append((rows, template.spots(at, type_)))

    def get(self, base: npt.NDArray[np.uint8]) -> Int64:
        """Read all from a template's bytes."""
        column = np.zeros(self._size, np.int64)
        for rows, spots in self._groups:
            column[rows] = spots.get(base)
        return column

    def column(self, here: Callable[[Int64], Int64], gathered: Gathered) -> Column:
        """Say how they are read from records in which they are at other places."""
        groups = [
            (np.array(rows, np.int64), here(spots.at), np.dtype(BASIC_DTYPES[spots.type]))
            for rows, spots in self._groups
        ]
        return gathered.numbers(self._size, groups)


def _bytes_of(graph: ObjectGraph) -> Int64:
    """List the positions of all bytes that may differ."""
    free: list[int] = []
    for number, node in enumerate(graph.nodes):
        names: Set[str]
        if number == 0:
            names = node.fields.keys()
        elif node.class_name.startswith("TLeaf"):
            names = _FREE_IN_LEAVES
        elif node.class_name.startswith("TBranch"):
            names = _FREE_IN_BRANCHES
        else:
            continue
        fields = node.fields
        for name in names & fields.keys():
            at, type_ = fields[name]
            free += range(at, at + BASIC_SIZES[type_])
    return np.array(sorted(free), np.int64)


def _has_baskets(graph: ObjectGraph) -> bool:
    return any(node.opaque for node in graph.nodes)
