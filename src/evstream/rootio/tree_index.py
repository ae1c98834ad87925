"""What must be known of a tree to cut it: its branches, baskets, clusters and shape."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from evstream.rootio.clusters import common_boundaries
from evstream.rootio.keys import Key
from evstream.rootio.tree_template import Skeleton

if TYPE_CHECKING:
    from evstream.rootio.tree_record import TreeTemplate

Int64 = npt.NDArray[np.int64]
_TEMPLATES_MAX = 8
# Where a branch's baskets are, and where a tree's clusters end and how long they are.
BASKET_ARRAYS = ("fBasketBytes", "fBasketEntry", "fBasketSeek")
CLUSTER_ARRAYS = ("fClusterRangeEnd", "fClusterSize")


@dataclass(frozen=True, slots=True)
class BranchInfo:
    """One branch.

    Attributes
    ----------
    name : str
        Path from the tree as in uproot: "Muon_pt", "evt/evt.fBits".
    parent : int
        Position of the branch that holds it, -1 at the top level.
    type : str
        The type of its leaves, or its class.
    title : str
        Its leaves' titles, which carry the dimensions: "Muon_pt[nMuon]".
    compressed_bytes : int
        Its own baskets, as stored; not those of branches below it.
    baskets : int
    """

    name: str
    parent: int
    type: str
    title: str
    compressed_bytes: int
    baskets: int

    @property
    def is_top_level(self) -> bool:
        """Whether it is a direct branch of the tree."""
        return self.parent < 0


@dataclass(frozen=True, slots=True)
class FieldPlaces:
    """Where one numeric member is in the skeleton's data, one row a branch.

    ``at`` is -1 where the branch's class has no such member.
    """

    at: Int64
    type: Int64


@dataclass(frozen=True, slots=True)
class LeafLayout:
    """How many bytes an entry of a branch with one counted leaf takes.

    An entry has ``header_bytes`` plus the counter's value times ``item_bytes``.
    ``counter`` is the counting branch, -1 if there is none or several leaves.
    """

    counter: int
    item_bytes: int
    header_bytes: int
    counter_bytes: int


@dataclass(frozen=True, slots=True)
class BranchTable:
    """What cuts need of all branches, one row each.

    The last rows may be hidden branches (TBranchRef), which people do not ask for.

    Attributes
    ----------
    nodes : node of each branch in the skeleton
    arrays : numbers of fBasketBytes, fBasketEntry and fBasketSeek in the skeleton
    requires : branches that count a branch's items and must come with it
    maxima : (position in the skeleton's data, basic type) of fMaximum of its leaves (of a text,
        also fLen) and of itself
    pinned : whether entries may hold positions within their basket, so must not move
    signatures : classes, versions and shapes that must agree for baskets to be joined
    """

    nodes: list[int]
    parents: list[int]
    hidden: list[bool]
    requires: list[list[int]]
    maxima: list[list[tuple[int, int]]]
    arrays: list[tuple[int, int, int]]
    layouts: list[LeafLayout]
    file_names: list[str]
    signatures: list[str]
    entries: Int64
    first_entries: Int64
    tot_bytes: Int64
    zip_bytes: Int64
    offset_lengths: Int64
    compression: Int64
    io_bits: Int64
    pinned: Int64
    fields: dict[str, FieldPlaces]

    @property
    def makes_offsets(self) -> npt.NDArray[np.bool_]:
        """Whether baskets store sizes, or leave offsets to the counter (kGenerateOffsetMap).

        ROOT 6.40 misreads such branches where the counter's baskets begin elsewhere,
        and uproot does not read them at all, so products have plain offsets instead.
        """
        made: npt.NDArray[np.bool_] = (self.io_bits != 0) & (self.offset_lengths != 0)
        return made

    def __len__(self) -> int:
        return len(self.nodes)


@dataclass(frozen=True, slots=True)
class BasketTable:
    """All baskets of all branches, those of one branch next to each other.

    Attributes
    ----------
    first : int64, shape (n_branches + 1,)
        Where each branch's baskets begin.
    branch : int64, shape (n_baskets,)
    start, stop : int64, shape (n_baskets,)
        Entries of each basket.
    seek, nbytes : int64, shape (n_baskets,)
        Position and length in the file; position 0 for embedded baskets.
    """

    first: Int64
    branch: Int64
    start: Int64
    stop: Int64
    seek: Int64
    nbytes: Int64

    @classmethod
    def of_slots(
        cls, nbytes: Int64, start: Int64, seek: Int64, slots: Int64, counts: Int64, ends: Int64
    ) -> BasketTable:
        """Join the tables of all branches, which have more slots than baskets.

        Parameters
        ----------
        nbytes, start, seek : int64, shape (slots.sum(),)
        slots, counts : int64, shape (n_branches,)
            Length of each branch's tables, and how many baskets it has.
        ends : int64, shape (n_branches,)
            The entry behind each branch's last one.
        """
        first = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])
        branch = np.repeat(np.arange(len(counts)), counts)
        if (slots != counts).any():
            skipped = np.cumsum(slots) - slots - first[:-1]
            where = np.arange(len(branch)) + np.repeat(skipped, counts)
            nbytes, start, seek = nbytes[where], start[where], seek[where]
        stop = np.append(start[1:], 0)
        filled = counts > 0
        stop[first[1:][filled] - 1] = ends[filled]
        return cls(first, branch, start, stop, seek, nbytes)

    @property
    def disordered(self) -> Int64:
        """Baskets that end before they begin, or have no place or length that could be."""
        return np.flatnonzero((self.stop < self.start) | (self.nbytes < 0) | (self.seek < 0))


def joined_values(parts: Sequence[npt.NDArray[np.generic]]) -> Int64:
    """Put numbers as stored, of any types, behind each other."""
    return np.concatenate([np.zeros(0, np.int64), *parts], dtype=np.int64, casting="unsafe")


def visible_boundaries(baskets: BasketTable, branches: int, entries: int) -> Int64:
    """Find where the first so many branches, hidden ones left out, all begin a basket."""
    own = baskets.start[: int(baskets.first[branches])]
    return common_boundaries(baskets.first[: branches + 1], own, entries)


@dataclass(frozen=True)
class TreeIndex:
    """A tree: what people ask about it, and what a cut needs.

    Attributes
    ----------
    path : str
        "Events", or "events/events" in a directory.
    key : Key
        Of its newest cycle.
    entries : int
    clusters : int64, shape (n_clusters + 1,)
        Entries at which every branch begins a basket, and the entry count: cuts there
        encode nothing anew.
    stated_clusters : int64, shape (n + 1,), or None
        Clusters as the tree itself states them, which products state too.
    branches : tuple of BranchInfo
        In the tree's order, each branch before those below it.
    notes : tuple of str
        What a cut of this tree leaves behind, in words.
    """

    path: str
    key: Key
    entries: int
    clusters: Int64
    stated_clusters: Int64 | None
    branches: tuple[BranchInfo, ...]
    notes: tuple[str, ...]
    table: BranchTable
    baskets: BasketTable
    embedded: dict[int, bytes]
    skeleton: Skeleton
    fields: dict[str, tuple[int, int]]
    numbers: dict[str, int]
    maxima: list[list[int]]
    _templates: dict[tuple[int, ...], TreeTemplate] = field(
        default_factory=dict, repr=False, compare=False
    )
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def template(self, kept: tuple[int, ...]) -> TreeTemplate:
        """Return the template for a choice of branches, made when first asked for."""
        from evstream.rootio.tree_record import TreeTemplate

        with self._lock:
            template = self._templates.get(kept)
            if template is None:
                template = TreeTemplate(self, kept)
                if len(self._templates) >= _TEMPLATES_MAX:
                    self._templates.pop(next(iter(self._templates)))
                self._templates[kept] = template
        return template
