"""Write a tree's record for a choice of branches and a set of baskets."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from evstream.rootio.class_plan import BASIC_DTYPES
from evstream.rootio.clusters import Int64, as_ranges
from evstream.rootio.errors import UnsupportedFeatureError
from evstream.rootio.object_graph import IO_BITS, NULL, Items
from evstream.rootio.primitives import I4
from evstream.rootio.source import Data
from evstream.rootio.tree_index import BASKET_ARRAYS, CLUSTER_ARRAYS, TreeIndex
from evstream.rootio.tree_template import Spots, Template

_SEEK = "fBasketSeek"
_LONG64 = 16
# TBranch before version 10 marks eight-byte positions with this flag.
_WIDE_FLAG = 2


@dataclass(frozen=True, slots=True)
class TreeNumbers:
    """All that differs between products of one template.

    Attributes
    ----------
    counts : int64, shape (n_kept,)
        Baskets of each kept branch.
    start, nbytes, seek : int64, shape (counts.sum(),)
        Tables of the baskets, branch after branch.
    branch_entries, branch_first, tot_bytes, zip_bytes : int64, shape (n_kept,)
    clusters : int64, shape (n_clusters + 1,), or None to state none
    maxima : {(kept branch, leaf): value}
        Leaf maxima that differ from the template's.
    """

    entries: int
    counts: Int64
    start: Int64
    nbytes: Int64
    seek: Int64
    branch_entries: Int64
    branch_first: Int64
    tot_bytes: Int64
    zip_bytes: Int64
    clusters: Int64 | None = None
    maxima: dict[tuple[int, int], int] = field(default_factory=dict)


class TreeTemplate:
    """One tree with some of its branches, ready to be filled with numbers.

    Parameters
    ----------
    index : TreeIndex
    kept : tuple of int
        Branches, ascending, with all that hold them and all that count their items.
    """

    def __init__(self, index: TreeIndex, kept: tuple[int, ...]) -> None:
        self._index = index
        self.kept = kept
        table = index.table
        self._top_level = sum(table.parents[i] < 0 and not table.hidden[i] for i in kept)
        nodes = {table.nodes[i] for i in kept}
        dropped = {
            table.nodes[i] for i in range(len(table)) if table.hidden[i] and i not in set(kept)
        }

        def keep(items: Items, node: int, written: bool) -> bool:
            if items.name == "fBranches":
                return node in nodes
            if items.name == "fLeaves" and items.owner == 0:
                return written
            return items.name != "fBaskets"

        self._template = Template(index.skeleton, keep, dropped)
        rows = np.array(kept, np.int64)
        self._branch_spots: dict[str, list[tuple[npt.NDArray[np.intp], Spots]]] = {}
        for name, places in table.fields.items():
            at, types = places.at[rows], places.type[rows]
            self._branch_spots[name] = [
                (which, self._template.spots(at[which], type_))
                for type_ in sorted(set(types[at >= 0].tolist()))
                for which in [np.flatnonzero((types == type_) & (at >= 0))]
            ]
        self._tree_spots = {
            name: self._template.spots([at], type_) for name, (at, type_) in index.fields.items()
        }
        self._types = [
            [index.skeleton.arrays[table.arrays[i][which]].type for i in kept]
            for which in range(len(BASKET_ARRAYS))
        ]
        # What fills each gap where no request says otherwise, and the gaps of which one does.
        self._arrays: list[Data] = []
        self._table_gaps: dict[str, list[int]] = {name: [0] * len(kept) for name in BASKET_ARRAYS}
        self._cluster_gaps: dict[str, int] = {}
        self._assign_arrays()

    def _assign_arrays(self) -> None:
        """Say what each gap is for."""
        table, skeleton = self._index.table, self._index.skeleton
        position = {table.nodes[i]: k for k, i in enumerate(self.kept)}
        for gap, number in enumerate(self._template.arrays):
            array = skeleton.arrays[number]
            branch = position.get(array.owner, NULL)
            self._arrays.append(b"")
            if branch != NULL and number in table.arrays[self.kept[branch]]:
                self._table_gaps[array.name][branch] = gap
            elif array.owner == 0 and array.name in CLUSTER_ARRAYS:
                self._cluster_gaps[array.name] = gap
            elif array.owner == 0 and array.name in ("fIndexValues", "fIndex"):
                self._arrays[gap] = I4.pack(0)
            else:
                head = bytes([array.flag]) if array.counted else I4.pack(array.count)
                stop = array.start + array.count * array.item_bytes
                self._arrays[gap] = head + skeleton.data[array.start : stop]

    def record(self, numbers: TreeNumbers, key_bytes: int) -> bytes:
        """Return the tree's record, uncompressed.

        Parameters
        ----------
        numbers : TreeNumbers
        key_bytes : int
            Length of the key that will stand before it.
        """
        base = self._template.blank()
        self._put_branches(base, numbers)
        clusters = self._put_tree(base, numbers)
        arrays = self._arrays.copy()
        for name, gap in self._cluster_gaps.items():
            values = clusters[name]
            arrays[gap] = (b"\1" if len(values) else b"\0") + values.astype(">i8").tobytes()
        for name, tables in self._basket_tables(numbers).items():
            for gap, one in zip(self._table_gaps[name], tables, strict=True):
                arrays[gap] = one
        return self._template.fill(base, arrays, key_bytes)

    def _put_branches(self, base: npt.NDArray[np.uint8], numbers: TreeNumbers) -> None:
        behind = numbers.branch_first + numbers.branch_entries
        columns = {
            "fWriteBasket": numbers.counts,
            "fMaxBaskets": numbers.counts + 1,
            "fEntryNumber": behind,
            "fEntries": numbers.branch_entries,
            "fFirstEntry": numbers.branch_first,
            "fTotBytes": numbers.tot_bytes,
            "fZipBytes": numbers.zip_bytes,
        }
        rows_kept = np.array(self.kept, np.int64)
        table = self._index.table
        columns[IO_BITS] = np.where(table.makes_offsets, 0, table.io_bits)[rows_kept]
        for name, values in columns.items():
            for rows, spots in self._branch_spots[name]:
                spots.put(base, _checked(values[rows], spots.type, name))
        for (branch, leaf), value in numbers.maxima.items():
            at, type_ = table.maxima[self.kept[branch]][leaf]
            self._template.spots([at], type_).put(base, [value])

    def _put_tree(self, base: npt.NDArray[np.uint8], numbers: TreeNumbers) -> dict[str, Int64]:
        index = self._index
        tot, zipped = int(numbers.tot_bytes.sum()), int(numbers.zip_bytes.sum())
        values = {
            "fEntries": numbers.entries,
            "fTotBytes": tot,
            "fZipBytes": zipped,
            "fSavedBytes": tot,
            "fFlushedBytes": zipped,
            "fNvar": self._top_level,
        }
        none = np.zeros(0, np.int64)
        clusters = dict.fromkeys(CLUSTER_ARRAYS, none)
        stated = numbers.clusters is not None and "fNClusterRange" in index.fields
        if stated and numbers.clusters is not None and numbers.entries:
            ranges = as_ranges(numbers.clusters)
            clusters = dict(zip(CLUSTER_ARRAYS, (ranges.ends, ranges.sizes), strict=True))
            values["fAutoFlush"] = ranges.rest
        values["fNClusterRange"] = len(clusters[CLUSTER_ARRAYS[0]])
        for name, value in values.items():
            spots = self._tree_spots.get(name)
            if spots is not None:
                spots.put(base, _checked(np.array([value]), spots.type, name))
        return clusters

    def _basket_tables(self, numbers: TreeNumbers) -> dict[str, list[Data]]:
        """Encode the three tables of each branch, with ROOT's one spare slot at the end."""
        counts = numbers.counts
        slots = counts + 1
        first = np.concatenate([np.zeros(1, np.int64), np.cumsum(slots)])
        place = np.arange(len(numbers.start)) + np.repeat(np.arange(len(counts)), counts)
        spare = numbers.branch_first + numbers.branch_entries
        none = np.zeros_like(spare)
        ends = (numbers.nbytes, none), (numbers.start, spare), (numbers.seek, none)
        columns = dict(zip(BASKET_ARRAYS, ends, strict=True))
        tables: dict[str, list[Data]] = {}
        for (name, (values, last)), types in zip(columns.items(), self._types, strict=True):
            flat = np.zeros(int(first[-1]), np.int64)
            flat[place] = values
            flat[first[1:] - 1] = last
            tables[name] = _encoded(name, flat, first.tolist(), types)
        return tables


def _encoded(name: str, flat: Int64, first: list[int], types: list[int]) -> list[Data]:
    largest = int(flat.max(initial=0))
    views: dict[int, tuple[bytes, int, bytes]] = {}
    for type_ in set(types):
        flag, wide = b"\1", type_
        if name == _SEEK and largest > 0x7FFFFFFF and type_ != _LONG64:
            flag, wide = bytes([_WIDE_FLAG]), _LONG64
        dtype = np.dtype(BASIC_DTYPES[wide])
        views[type_] = flag, dtype.itemsize, _checked(flat, wide, name).astype(dtype).tobytes()
    out: list[Data] = []
    for k, type_ in enumerate(types):
        flag, width, raw = views[type_]
        out.append(flag + raw[first[k] * width : first[k + 1] * width])
    return out


def _checked(values: Int64, type_: int, name: str) -> Int64:
    """Refuse numbers that the file's version of ROOT has no room for."""
    dtype = np.dtype(BASIC_DTYPES[type_])
    if dtype.kind in "iu" and len(values) and values.max() > np.iinfo(dtype).max:
        raise UnsupportedFeatureError(
            f"{name} exceeds what the tree's version can hold", hint="ask for fewer entries"
        )
    return values
