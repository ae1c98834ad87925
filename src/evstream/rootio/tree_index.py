"""What must be known of a tree to cut it: its branches, baskets, clusters and shape."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from evstream.rootio.class_plan import BASIC_DTYPES
from evstream.rootio.clusters import common_boundaries
from evstream.rootio.keys import Key, folder_of
from evstream.rootio.tree_template import Skeleton

if TYPE_CHECKING:
    from evstream.rootio.tree_record import TreeTemplate

Int64 = npt.NDArray[np.int64]
_TEMPLATES_MAX = 8
# Where a branch's baskets are, and where a tree's clusters end and how long they are.
BASKET_ARRAYS = ("fBasketBytes", "fBasketEntry", "fBasketSeek")
CLUSTER_ARRAYS = ("fClusterRangeEnd", "fClusterSize")
# Of the TObject that a branch is.
STATUS_BITS = "fBits"


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


class BranchKind(NamedTuple):
    """What a branch is called and holds, whatever its baskets: see `BranchInfo`."""

    name: str
    parent: int
    type: str
    title: str


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

    @property
    def kind(self) -> int:
        """A number that tables share whose trees were recognised by one shape, while they live.

        Their branches differ in numbers alone; also in which make offsets they agree.
        """
        return id(self.nodes)

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

    @property
    def in_order(self) -> npt.NDArray[np.bool_]:
        """Which baskets end behind where they begin, and have a place and length that can be."""
        return (self.stop >= self.start) & (self.nbytes >= 0) & (self.seek >= 0)


class BasketSlots:
    """How many baskets each branch has, and how many slots its tables have for them.

    The tables of trees with the same numbers share what follows from these.

    Parameters
    ----------
    slots, counts : int64, shape (n_branches,)
        Length of each branch's tables, and how many baskets it has.
    """

    def __init__(self, slots: Int64, counts: Int64) -> None:
        self.counts = counts
        self._first = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])
        self._branch = np.repeat(np.arange(len(counts)), counts)
        self._where: Int64 | None = None
        if (slots != counts).any():
            skipped = np.cumsum(slots) - slots - self._first[:-1]
            self._where = np.arange(len(self._branch)) + np.repeat(skipped, counts)
        self._filled = np.flatnonzero(counts > 0)
        self._last = self._first[1:][self._filled] - 1

    def table(self, nbytes: Int64, start: Int64, seek: Int64, ends: Int64) -> BasketTable:
        """Join the tables of all branches.

        Parameters
        ----------
        nbytes, start, seek : int64, shape (slots.sum(),)
        ends : int64, shape (n_branches,)
            The entry behind each branch's last one.
        """
        if self._where is not None:
            nbytes, start, seek = nbytes[self._where], start[self._where], seek[self._where]
        stop = np.empty_like(start)
        stop[:-1] = start[1:]
        stop[self._last] = ends[self._filled]
        return BasketTable(self._first, self._branch, start, stop, seek, nbytes)


def joined_values(parts: Sequence[npt.NDArray[np.generic]]) -> Int64:
    """Put numbers as stored, of any types, behind each other."""
    return np.concatenate([np.zeros(0, np.int64), *parts], dtype=np.int64, casting="unsafe")


class Overlay(NamedTuple):
    """Bytes that a tree's record has in place of those of the tree that was walked.

    Attributes
    ----------
    at : int64
        Positions in the skeleton's data, ascending.
    values : uint8, of the same length
    """

    at: Int64
    values: npt.NDArray[np.uint8]


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
    stated_clusters : int64, shape (n + 1,), or None
        Clusters as the tree itself states them, which products state too.
    kinds : tuple of BranchKind
        Of its branches, in the tree's order, each before those below it.
    notes : tuple of str
        What a cut of this tree leaves behind, in words.
    walked : Skeleton
        Of the tree itself, or of the one that it was recognised by.
    overlay : Overlay or None
        What is different here.
    maxima : int64
        The values at the places that ``table.maxima`` lists, branch after branch.
    """

    path: str
    key: Key
    entries: int
    stated_clusters: Int64 | None
    kinds: tuple[BranchKind, ...]
    notes: tuple[str, ...]
    table: BranchTable
    baskets: BasketTable
    embedded: dict[int, bytes]
    walked: Skeleton
    overlay: Overlay | None
    fields: dict[str, tuple[int, int]]
    numbers: dict[str, int]
    maxima: Int64
    _templates: dict[tuple[int, ...], TreeTemplate] = field(
        default_factory=dict, repr=False, compare=False
    )
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    # A join of thousands of trees asks most of them for none of these.

    @cached_property
    def branches(self) -> tuple[BranchInfo, ...]:
        """Its branches, in the tree's order, each before those below it."""
        baskets = self.baskets
        sizes = np.bincount(baskets.branch, baskets.nbytes, len(self.table)).astype(np.int64)
        numbers = zip(sizes.tolist(), np.diff(baskets.first).tolist(), strict=True)
        return tuple(BranchInfo(*kind, *n) for kind, n in zip(self.kinds, numbers, strict=False))

    @cached_property
    def clusters(self) -> Int64:
        """Entries at which every branch begins a basket, and the entry count.

        int64, shape (n_clusters + 1,). Cuts there encode nothing anew. Hidden branches do
        not count.
        """
        first = self.baskets.first[: len(self.kinds) + 1]
        return common_boundaries(first, self.baskets.start[: int(first[-1])], self.entries)

    @cached_property
    def skeleton(self) -> Skeleton:
        """The shape of its record, with its own numbers."""
        if self.overlay is None:
            return self.walked
        data = np.frombuffer(self.walked.data, np.uint8).copy()
        data[self.overlay.at] = self.overlay.values
        return replace(self.walked, data=data.tobytes())

    @property
    def folder(self) -> str:
        """Path of the directory that lists it, "" at the top."""
        return folder_of(self.path, self.key)

    @property
    def weight(self) -> float:
        """What each entry weighs, as `TTree::SetWeight` said; 1 where nobody did."""
        if "fWeight" not in self.fields:
            return 1.0
        at, type_ = self.fields["fWeight"]
        if self.overlay is None:
            data = np.frombuffer(self.walked.data, np.uint8)
        else:
            # All numbers of the tree are among what may differ.
            data, at = self.overlay.values, int(np.searchsorted(self.overlay.at, at))
        return float(np.frombuffer(data, BASIC_DTYPES[type_], 1, at)[0])

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
