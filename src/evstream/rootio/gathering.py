"""Gather scattered entries of a tree: which baskets are copied, dropped, taken apart.

A basket all of whose entries are chosen is copied as it is; one with none is not even
read. The others are decoded, their chosen entries taken, and small neighbours put
together, so that one entry in a hundred does not leave a hundred times too many baskets.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from evstream.rootio.basket_columns import Heads, Scratch, fetch_together, read_heads, take_columns
from evstream.rootio.baskets import (
    Basket,
    decode_basket,
    decode_embedded,
    put_position,
)
from evstream.rootio.clusters import Int64
from evstream.rootio.errors import corrupt_if_broken, corrupt_steps_if_broken
from evstream.rootio.packing import Made, Packing
from evstream.rootio.product import HEAD_BYTES, MEMORY, Segment
from evstream.rootio.source import Steps
from evstream.rootio.splice import (
    batches,
    check_entries,
    refuse_baskets_elsewhere,
    runs,
    with_offsets,
)
from evstream.rootio.spool import Spool
from evstream.rootio.take import take_entries
from evstream.rootio.threads import Crew
from evstream.rootio.tree_index import TreeIndex
from evstream.rootio.tree_record import TreeNumbers

# Of each basket its chosen entries and whether they may share another; None if not yet.
_Taken: TypeAlias = list[tuple[Basket, bool] | None]
# No position in a file takes more bits; branches are numbered above them.
_SEEK_BITS = 44
# How much is read at once, and how much of what that gives is inflated together. With
# more of either, the memory is not used again and again, but given anew page by page.
_BATCH_BYTES = 8 << 20
_SHARE_BYTES = 4 << 20
# Where nearly all keys end; messages name the branch.
_KEY_BYTES_MAX = 1 << 12


@dataclass(frozen=True, slots=True)
class _Share:
    """Baskets that one thread takes apart.

    Attributes
    ----------
    rows : of the plan
    place : row of each in ``heads``, -1 where it lies within the tree's record
    nbytes : as stored, all together
    """

    heads: Heads
    rows: Int64
    place: Int64
    nbytes: int


@dataclass(slots=True)
class _Plan:
    """Baskets with chosen entries, branch after branch.

    Attributes
    ----------
    basket : number in the index's table
    branch : position in ``kept``
    start, stop : entries within the product
    again : whether it is taken apart
    run : differs where neighbours must not share a basket
    rank : position in the order of the source, each branch's own order kept
    """

    basket: Int64
    branch: Int64
    start: Int64
    stop: Int64
    again: np.ndarray[tuple[int], np.dtype[np.bool_]]
    run: Int64
    rank: Int64


class Gathering:
    """The baskets of a product that holds some entries of one tree.

    Parameters
    ----------
    index : TreeIndex
    kept : tuple of int
        Branches, as in a splice's piece.
    chosen : int64
        Ascending entries, at least one.
    """

    def __init__(self, index: TreeIndex, kept: tuple[int, ...], chosen: Int64) -> None:
        self.index = index
        self.kept = kept
        self._chosen = chosen
        refuse_baskets_elsewhere(index, kept)
        self._clusters = _clusters(index, chosen)
        self._plan = _plan(index, kept, chosen, self._clusters)
        self._pinned = index.table.pinned[np.array(kept, np.int64)]
        self._scratch = Scratch()
        self._made: list[Made] = []
        self._spool = Spool()

    @property
    def entries(self) -> int:
        """Number of chosen entries."""
        return len(self._chosen)

    @property
    def boundary_bytes(self) -> int:
        """How many bytes of the source are read to be taken apart."""
        plan = self._plan
        return int(self.index.baskets.nbytes[plan.basket[plan.again]].sum())

    # --- taking apart -------------------------------------------------------------

    @corrupt_steps_if_broken
    def prepare_steps(self, source: int, source_size: int) -> Steps[None]:
        """Take the chosen entries out of all baskets that are not copied whole."""
        del source
        plan, table = self._plan, self.index.baskets
        rows = np.flatnonzero(plan.again)
        rows = rows[np.argsort(plan.rank[rows])]
        self._scratch = Scratch()
        with Crew(self.boundary_bytes) as crew:
            packing = Packing(self.index, self.kept, crew)
            ahead: deque[list[tuple[_Share, Callable[[], _Taken]]]] = deque()
            # What was read lies in one of them until its batch is packed, so two will do.
            reading = deque([Scratch(), Scratch()])
            for batch in batches(rows, table.nbytes[plan.basket[rows]], _BATCH_BYTES):
                # The threads work on one batch while the next is read.
                reading.rotate()
                shares = yield from self._shares(batch, source_size, reading[0])
                ahead.append([(share, crew.begin(self._take, share)) for share in shares])
                if len(ahead) > 1:
                    yield from self._pack(packing, ahead.popleft(), source_size)
            while ahead:
                yield from self._pack(packing, ahead.popleft(), source_size)
            self._made, self._spool = packing.finish(), packing.spool
        self._scratch = Scratch()

    def _pack(
        self, packing: Packing, batch: list[tuple[_Share, Callable[[], _Taken]]], source_size: int
    ) -> Steps[None]:
        """Put what was taken out of a batch into the product's baskets."""
        plan = self._plan
        for share, wait in batch:
            columns = (plan.branch, plan.run, plan.start, plan.rank)
            numbers = zip(*(column[share.rows].tolist() for column in columns), strict=True)
            for at, (part, (branch, run, start, rank)) in enumerate(
                zip(wait(), numbers, strict=True)
            ):
                found = part or (yield from self._take_counted(share, at, source_size))
                packing.add(found, branch, run, start, rank)
        packing.send()

    def _shares(self, batch: Int64, source_size: int, scratch: Scratch) -> Steps[list[_Share]]:
        """Read a batch of baskets, and split it into what is inflated together."""
        table, numbers = self.index.baskets, self._plan.basket[batch]
        stored = table.seek[numbers] > 0
        nbytes = np.where(stored, table.nbytes[numbers], 0)
        buffer, at = yield from fetch_together(
            table.seek[numbers[stored]], nbytes[stored], source_size, scratch
        )
        heads = read_heads(buffer, at, nbytes[stored])
        place = np.where(stored, np.cumsum(stored) - 1, -1)
        inflated = np.where(stored, heads.object_bytes[place], 0) if len(at) else nbytes
        edges = np.flatnonzero(np.diff(np.cumsum(inflated) // _SHARE_BYTES)) + 1
        return [
            _Share(heads, rows, places, int(size.sum()))
            for rows, places, size in zip(
                np.split(batch, edges), np.split(place, edges), np.split(nbytes, edges), strict=True
            )
        ]

    def _take(self, share: _Share) -> _Taken:
        """Take chosen entries; None stands for what cannot be done without other baskets."""
        plan, table, heads = self._plan, self.index.baskets, share.heads
        numbers = plan.basket[share.rows]
        usual = (share.place >= 0) & (self._pinned[plan.branch[share.rows]] == 0)
        usual[usual] = heads.plain[share.place[usual]]
        held = table.stop[numbers] - table.start[numbers]
        usual[usual] = heads.entries[share.place[usual]] >= held[usual]
        done: _Taken = [None] * len(numbers)
        at = np.flatnonzero(usual)
        if len(at):
            start, stop = plan.start[share.rows[at]], plan.stop[share.rows[at]]
            counts = stop - start
            which = np.repeat(start - (np.cumsum(counts) - counts), counts)
            which += np.arange(len(which))
            local = self._chosen[which] - np.repeat(table.start[numbers[at]], counts)
            parts = take_columns(heads, share.place[at], local, counts, self._scratch)
            if parts is None:
                usual[:] = False
            else:
                for k, part in zip(at.tolist(), parts, strict=True):
                    done[k] = part, True
        for k in np.flatnonzero(~usual).tolist():
            basket = self._decoded(share, k)
            # Offsets that follow from a counter take baskets of the counter's branch.
            if not basket.generated:
                done[k] = self._taken(int(share.rows[k]), basket)
        return done

    def _decoded(self, share: _Share, at: int) -> Basket:
        place = int(share.place[at])
        if place < 0:
            return decode_embedded(self.index.embedded[int(self._plan.basket[share.rows[at]])])
        record = share.heads.record(place)
        return decode_basket(record, len(record))

    def _take_counted(self, share: _Share, at: int, source_size: int) -> Steps[tuple[Basket, bool]]:
        plan, row = self._plan, int(share.rows[at])
        branch, number = self.kept[int(plan.branch[row])], int(plan.basket[row])
        basket = yield from with_offsets(
            self.index, branch, number, self._decoded(share, at), source_size
        )
        return self._taken(row, basket)

    def _taken(self, row: int, basket: Basket) -> tuple[Basket, bool]:
        plan, number = self._plan, int(self._plan.basket[row])
        check_entries(self.index, number, basket)
        local = self._chosen[int(plan.start[row]) : int(plan.stop[row])]
        local = local - int(self.index.baskets.start[number])
        return take_entries(basket, local, pinned=bool(self._pinned[int(plan.branch[row])]))

    # --- layout -----------------------------------------------------------------

    def place(self, at: int, directory: int) -> tuple[list[Segment], TreeNumbers]:
        """Lay all baskets out in the order of the source; see `Splice.place`."""
        plan, table = self._plan, self.index.baskets
        copied = np.flatnonzero(~plan.again)
        numbers = np.array(
            [(m.branch, m.start, m.entries, m.rank) for m in self._made], np.int64
        ).reshape(-1, 4)
        branch = np.concatenate([plan.branch[copied], numbers[:, 0]])
        start = np.concatenate([plan.start[copied], numbers[:, 1]])
        stop = np.concatenate([plan.stop[copied], numbers[:, 1] + numbers[:, 2]])
        rank = np.concatenate([plan.rank[copied], numbers[:, 3]])
        made = np.array([(m.offset, m.nbytes) for m in self._made], np.int64).reshape(-1, 2)
        nbytes = np.concatenate([table.nbytes[plan.basket[copied]], made[:, 1]])
        order = np.argsort(rank)
        seek = np.zeros(len(order), np.int64)
        seek[order] = at + np.cumsum(nbytes[order]) - nbytes[order]
        segments: list[Segment] = []
        changes = np.flatnonzero(np.diff((order >= len(copied)).astype(np.int8))) + 1
        for stretch in np.split(order, changes):
            if not len(stretch):
                continue
            if stretch[0] < len(copied):
                old = table.seek[plan.basket[copied[stretch]]]
                none = np.zeros_like(old)
                segments += runs(old, nbytes[stretch], directory, none, none)
                continue
            segments += self._positioned(made[stretch - len(copied)], seek[stretch], directory)
        by_branch = np.lexsort((start, branch))
        return segments, self._numbers(
            branch[by_branch], start[by_branch], stop[by_branch], nbytes[by_branch],
            seek[by_branch],
        )  # fmt: skip

    def _positioned(self, made: Int64, seek: Int64, directory: int) -> list[Segment]:
        """Put each basket's position into it, and list where the baskets are."""
        for (offset, nbytes), position in zip(made.tolist(), seek.tolist(), strict=True):
            head = bytearray(self._spool.read(offset, min(nbytes, _KEY_BYTES_MAX)))
            put_position(head, 0, position, directory)
            self._spool.overwrite(offset, head[:HEAD_BYTES])
        breaks = np.flatnonzero(made[1:, 0] != made[:-1].sum(axis=1)) + 1
        return [
            Segment(MEMORY, int(run[0, 0]), int(run[:, 1].sum()), spool=self._spool)
            for run in np.split(made, breaks)
        ]

    def _numbers(
        self, branch: Int64, start: Int64, stop: Int64, nbytes: Int64, seek: Int64
    ) -> TreeNumbers:
        kept, table = len(self.kept), self.index.table
        rows = np.array(self.kept, np.int64)
        counts = np.bincount(branch, minlength=kept)
        first = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        covered = counts > 0
        # Branches without baskets of their own have entries all the same.
        begin = np.searchsorted(self._chosen, table.first_entries[rows])
        behind = np.searchsorted(self._chosen, table.first_entries[rows] + table.entries[rows])
        branch_first, branch_entries = np.zeros(kept, np.int64), behind - begin
        branch_first[covered] = start[first[:-1][covered]]
        branch_entries[covered] = stop[first[1:][covered] - 1] - branch_first[covered]
        zipped = np.bincount(branch, nbytes, kept).astype(np.int64)
        plan = self._plan
        copied = np.where(plan.again, 0, self.index.baskets.nbytes[plan.basket])
        ratio = table.tot_bytes[rows] / np.maximum(table.zip_bytes[rows], 1)
        unpacked = np.rint(np.bincount(plan.branch, copied, kept) * ratio).astype(np.int64)
        for made in self._made:
            unpacked[made.branch] += made.unpacked
        stated = self.index.stated_clusters
        clusters = None if stated is None else self._product_clusters(stated)
        return TreeNumbers(
            self.entries, counts, start, nbytes, seek, branch_entries, branch_first, unpacked,
            zipped, clusters,
        )  # fmt: skip

    def _product_clusters(self, stated: Int64) -> Int64:
        edges = self._clusters if len(self._clusters) > 2 or len(stated) <= 2 else stated
        return np.unique(np.searchsorted(self._chosen, edges)).astype(np.int64)


@corrupt_if_broken
def _clusters(index: TreeIndex, chosen: Int64) -> Int64:
    """Put neighbouring clusters together while they have no more entries than one had.

    Only there does every branch begin a basket, in the source and in the product.

    Returns
    -------
    int64
        Entries of the source at which the product's clusters begin, and the entry count.
    """
    edges = index.clusters
    sizes = np.diff(edges)
    if not len(sizes):
        return edges
    counts = np.diff(np.searchsorted(chosen, edges)).tolist()
    stated = index.stated_clusters
    usual = np.diff(stated) if stated is not None and len(stated) > 1 else sizes
    limit = int(np.median(usual))
    begins, held = [0], 0
    for number, count in enumerate(counts):
        if held and held + count > limit:
            begins.append(number)
            held = 0
        held += count
    return edges[[*begins, len(counts)]]


@corrupt_if_broken
def _plan(index: TreeIndex, kept: tuple[int, ...], chosen: Int64, clusters: Int64) -> _Plan:
    table = index.baskets
    position = np.full(len(index.table), -1, np.int64)
    position[np.array(kept, np.int64)] = np.arange(len(kept))
    start, stop = np.searchsorted(chosen, table.start), np.searchsorted(chosen, table.stop)
    basket = np.flatnonzero((position[table.branch] >= 0) & (stop > start))
    start, stop = start[basket], stop[basket]
    branch = position[table.branch[basket]]
    again = (stop - start < table.stop[basket] - table.start[basket]) | (table.seek[basket] == 0)
    again |= index.table.makes_offsets[table.branch[basket]]
    cluster = np.searchsorted(clusters, table.start[basket], side="right")
    changes = (np.diff(branch) != 0) | (np.diff(cluster) != 0) | ~(again[1:] & again[:-1])
    run = np.concatenate([np.zeros(min(1, len(basket)), np.int64), np.cumsum(changes)])
    # In the source's order, but never one basket of a branch before an earlier one.
    numbered = (branch << _SEEK_BITS) + table.seek[basket]
    reached = np.maximum.accumulate(numbered) - (branch << _SEEK_BITS)
    rank = np.empty(len(basket), np.int64)
    rank[np.argsort(reached, kind="stable")] = np.arange(len(basket))
    return _Plan(basket, branch, start, stop, again, run, rank)
