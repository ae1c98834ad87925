"""Put entries taken out of many baskets into fewer ones, and encode these."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import numpy as np

from evstream.rootio.baskets import Basket, encode_basket
from evstream.rootio.splice import setting_of
from evstream.rootio.spool import Spool
from evstream.rootio.take import alike, together
from evstream.rootio.threads import Crew
from evstream.rootio.tree_index import TreeIndex

# What a thread encodes at a time, before compression.
_SENT_BYTES = 256 << 10


@dataclass(slots=True)
class _Group:
    """Entries of one branch that will share a basket."""

    branch: int
    run: int
    start: int
    rank: int = 0
    parts: list[Basket] = field(default_factory=list)
    nbytes: int = 0


# With it its number of entries, the record, and the length of its entries.
_Encoded: TypeAlias = tuple[_Group, int, bytes, int]


class Made(NamedTuple):
    """A basket of the product.

    Attributes
    ----------
    branch : position in ``kept``
    start, entries : its first entry within the product, and how many it has
    rank : of the last basket of the source that it has entries of
    offset, nbytes : where it is in the spool, its own position still zero
    unpacked : length of its entries
    """

    branch: int
    start: int
    entries: int
    rank: int
    offset: int
    nbytes: int
    unpacked: int


class Packing:
    """Entries on their way into baskets.

    Parameters
    ----------
    index : TreeIndex
    kept : tuple of int
        Branches of the product.
    crew : Crew
        Encodes what is complete.
    """

    def __init__(self, index: TreeIndex, kept: tuple[int, ...], crew: Crew) -> None:
        self._index = index
        self._kept = kept
        self._crew = crew
        rows = np.array(kept, np.int64)
        counts = np.diff(index.baskets.first)[rows]
        # Baskets are put together up to the average size of the branch's own.
        self._targets = (index.table.tot_bytes[rows] // np.maximum(counts, 1)).tolist()
        self._open: dict[int, _Group] = {}
        self._closed: list[_Group] = []
        self._sent: deque[list[Callable[[], list[_Encoded]]]] = deque()
        self._made: list[Made] = []
        self.spool = Spool()

    def add(self, found: tuple[Basket, bool], branch: int, run: int, start: int, rank: int) -> None:
        """Put entries to those of their branch's basket, or begin another.

        Parameters
        ----------
        found : Basket and bool
            The entries, and whether they may share a basket with others.
        branch : int
            Position in ``kept``.
        run : int
            Differs where neighbours must not share a basket.
        start : int
            The first of the entries within the product.
        rank : int
            Of their basket in the source's order.
        """
        part, movable = found
        group = self._open.get(branch)
        if group is not None and (
            not movable
            or group.run != run
            or group.nbytes + len(part.data) > self._targets[branch]
            or not alike(group.parts[0], part)
        ):
            self._closed.append(self._open.pop(branch))
            group = None
        if group is None:
            group = self._open[branch] = _Group(branch, run, start)
        group.parts.append(part)
        group.nbytes += len(part.data)
        group.rank = rank
        if not movable:
            self._closed.append(self._open.pop(branch))

    def send(self) -> None:
        """Have what is complete encoded, and collect what was sent before the last time."""
        lots: list[list[_Group]] = []
        room = 0
        for group in self._closed:
            if room <= 0:
                lots.append([])
                room = _SENT_BYTES
            lots[-1].append(group)
            room -= group.nbytes
        self._closed = []
        self._sent.append([self._crew.begin(self._encode_all, lot) for lot in lots])
        if len(self._sent) > 1:
            self._collect()

    def _collect(self) -> None:
        for wait in self._sent.popleft():
            for group, entries, record, unpacked in wait():
                offset = self.spool.append(record)
                self._made.append(
                    Made(
                        group.branch, group.start, entries, group.rank, offset, len(record),
                        unpacked,
                    )
                )  # fmt: skip

    def finish(self) -> list[Made]:
        """Encode the rest, and return all baskets."""
        self._closed += self._open.values()
        self._open = {}
        self.send()
        while self._sent:
            self._collect()
        return self._made

    def _encode_all(self, groups: Sequence[_Group]) -> list[_Encoded]:
        return [self._encode(group) for group in groups]

    def _encode(self, group: _Group) -> _Encoded:
        basket = together(group.parts)
        number = self._kept[group.branch]
        setting = setting_of(self._index, number, basket)
        # A key of another length would move entries that may hold positions.
        big = basket.key.big or not bool(self._index.table.pinned[number])
        record = encode_basket(basket, setting, big=big)
        group.parts.clear()
        return group, basket.entries, record, len(basket.data)
