"""Put pieces of trees together: which baskets are copied, which encoded again.

A piece is a range of entries of one tree. Baskets that lie within it are copied
as they are; those that straddle its ends, and those that only exist within the
tree's record, are decoded, cut and encoded again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from evstream.rootio.baskets import (
    Basket,
    decode_basket,
    decode_embedded,
    encode_basket,
    put_position,
    slice_basket,
    with_counts,
)
from evstream.rootio.clusters import Int64, cut_clusters
from evstream.rootio.compression import Setting
from evstream.rootio.errors import (
    SchemaMismatchError,
    UnsupportedFeatureError,
    corrupt_if_broken,
    corrupt_steps_if_broken,
)
from evstream.rootio.product import Segment, in_memory
from evstream.rootio.source import Steps, fetch, fresh
from evstream.rootio.threads import map_in_threads
from evstream.rootio.tree_index import BranchTable, TreeIndex
from evstream.rootio.tree_record import TreeNumbers

# Straddling baskets are read and encoded in batches of about this many bytes.
BATCH_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Piece:
    """Entries ``[start, stop)`` of a tree of source number ``source``.

    ``kept`` are the branches, in the same order in all pieces of a splice.
    """

    source: int
    index: TreeIndex
    kept: tuple[int, ...]
    start: int
    stop: int
    pid_shift: int = 0


class Baskets(Protocol):
    """The baskets of a product's tree, however they come about: a splice or a gathering."""

    @property
    def index(self) -> TreeIndex:
        """The tree whose record the product's follows."""
        ...

    @property
    def kept(self) -> tuple[int, ...]:
        """Its branches in the product."""
        ...

    @property
    def entries(self) -> int:
        """Number of entries in the product."""
        ...

    @property
    def boundary_bytes(self) -> int:
        """How many bytes of the sources are read to encode baskets anew."""
        ...

    def prepare_steps(self, source: int, source_size: int) -> Steps[None]:
        """Encode what one source has to be encoded anew."""
        ...

    def place(self, at: int, directory: int) -> tuple[list[Segment], TreeNumbers]:
        """Lay all baskets out from a position on, in a directory at another."""
        ...


@dataclass(slots=True)
class _Plan:
    """Baskets of all pieces: piece after piece, of each branch after branch.

    Attributes
    ----------
    piece : number of the piece
    basket : number in its index's table
    branch : position in ``kept``
    start, stop : entries within the piece's tree, clipped to the piece
    seek, nbytes : in the source
    again : whether it is encoded again
    before : whether it straddles the piece's beginning
    """

    piece: Int64
    basket: Int64
    branch: Int64
    start: Int64
    stop: Int64
    seek: Int64
    nbytes: Int64
    again: npt.NDArray[np.bool_]
    before: npt.NDArray[np.bool_]
    encoded: dict[int, bytes]
    unpacked_bytes: Int64


class _Part(NamedTuple):
    """What is taken of one basket.

    ``begin`` and ``end`` count from the basket's first entry, of which its branch says
    that it has ``expected``.
    """

    row: int
    number: int
    branch: int
    begin: int
    end: int
    expected: int
    pinned: bool


class Splice:
    """The baskets of a product's tree.

    Thousands of small trees may be put together: what is done with their baskets is done
    with those of all at once, and branches of trees of one kind are looked at once.

    Parameters
    ----------
    pieces : sequence of Piece
        In the order of the product's entries.

    Raises
    ------
    UnsupportedFeatureError
        Baskets in other files, or branches with holes between pieces.
    """

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self.pieces = list(pieces)
        self._kinds = _kinds(self.pieces)
        self._plan = _plan(self.pieces, self._kinds)
        self._again: dict[int, list[Int64]] = {}
        rows = np.flatnonzero(self._plan.again)
        for mine in _split(rows, self._plan.piece[rows]):
            source = self.pieces[int(self._plan.piece[mine[0]])].source
            self._again.setdefault(source, []).append(mine)

    @property
    def sources(self) -> list[int]:
        """The sources of which something has to be encoded anew."""
        return sorted(self._again)

    @property
    def index(self) -> TreeIndex:
        """The first piece's tree, whose record the product's follows."""
        return self.pieces[0].index

    @property
    def kept(self) -> tuple[int, ...]:
        """The first piece's branches."""
        return self.pieces[0].kept

    @property
    def entries(self) -> int:
        """Number of entries of all pieces."""
        return sum(p.stop - p.start for p in self.pieces)

    # --- boundaries -----------------------------------------------------------

    @property
    def boundary_bytes(self) -> int:
        """How many bytes of the sources are read to encode straddling baskets."""
        return int(self._plan.nbytes[self._plan.again].sum())

    @corrupt_steps_if_broken
    def prepare_steps(self, source: int, source_size: int) -> Steps[None]:
        """Encode the straddling baskets of all pieces of one source."""
        for rows in self._again.get(source, ()):
            index = self.pieces[int(self._plan.piece[rows[0]])].index
            yield from self._encode(index, rows, source_size)

    def _encode(self, index: TreeIndex, again: Int64, source_size: int) -> Steps[None]:
        """Encode baskets of one piece."""
        plan = self._plan
        on_file = plan.seek[again] > 0
        for part in _parts(index, plan, again[~on_file]):
            basket = decode_embedded(index.embedded[part.number])
            yield from self._encode_alone(index, part, basket, source_size)

        def encode(job: tuple[_Part, memoryview]) -> tuple[bytes, int] | None:
            part, record = job
            basket = decode_basket(record, len(record))
            # Offsets that follow from a counter take baskets of the counter's branch.
            return None if basket.generated else _encoded(index, part, basket)

        for batch in batches(again[on_file], plan.nbytes[again[on_file]]):
            seeks, sizes = plan.seek[batch].tolist(), plan.nbytes[batch].tolist()
            records = yield from fetch(list(zip(seeks, sizes, strict=True)), source_size)
            jobs = list(zip(_parts(index, plan, batch), records, strict=True))
            for job, done in zip(jobs, map_in_threads(encode, jobs, sum(sizes)), strict=True):
                part, record = job
                if done is None:
                    basket = decode_basket(record, len(record))
                    yield from self._encode_alone(index, part, basket, source_size)
                else:
                    plan.encoded[part.row], plan.unpacked_bytes[part.row] = done

    def _encode_alone(
        self, index: TreeIndex, part: _Part, basket: Basket, source_size: int
    ) -> Steps[None]:
        plan = self._plan
        if basket.generated:
            basket = yield from with_offsets(index, part.branch, part.number, basket, source_size)
        plan.encoded[part.row], plan.unpacked_bytes[part.row] = _encoded(index, part, basket)

    # --- layout -----------------------------------------------------------------

    def place(self, at: int, directory: int) -> tuple[list[Segment], TreeNumbers]:
        """Lay all baskets out from a position on.

        Of each piece come first the baskets that straddle its beginning, then those that
        are copied, in the source's order, then the others.

        Parameters
        ----------
        at : int
            Position of the first basket in the product.
        directory : int
            Position of the directory that the tree is in.

        Returns
        -------
        segments, numbers
            What to write there, and what the tree's record says about it.
        """
        plan = self._plan
        nbytes = plan.nbytes.copy()
        for row, record in plan.encoded.items():
            nbytes[row] = len(record)
        turn = np.where(plan.before, 0, np.where(plan.again, 2, 1))
        order = np.lexsort((np.where(plan.again, 0, plan.seek), turn, plan.piece))
        behind = at + np.cumsum(nbytes[order])
        seek = np.empty_like(behind)
        seek[order] = behind - nbytes[order]
        sources, shifts = (
            np.array(values, np.int64)[plan.piece]
            for values in ([p.source for p in self.pieces], [p.pid_shift for p in self.pieces])
        )
        segments: list[Segment] = []
        for rows in _split(order, np.where(plan.again, plan.piece, -1)[order]):
            if plan.again[rows[0]]:
                records = [plan.encoded[row] for row in rows.tolist()]
                first = int(rows[0])
                segments.append(
                    positioned(records, int(seek[first]), directory, int(shifts[first]))
                )
            else:
                segments += runs(
                    plan.seek[rows], nbytes[rows], directory, sources[rows], shifts[rows]
                )
        return segments, self._numbers(seek, nbytes)

    def _numbers(self, seek: Int64, nbytes: Int64) -> TreeNumbers:
        plan = self._plan
        kept = len(self.kept)
        begins = np.array([p.start for p in self.pieces], np.int64)
        entries = np.array([p.stop for p in self.pieces], np.int64) - begins
        moved = (np.cumsum(entries) - entries - begins)[plan.piece]
        order = np.argsort(plan.branch, kind="stable")
        branch = plan.branch[order]
        starts, stops = (plan.start + moved)[order], (plan.stop + moved)[order]
        counts = np.bincount(branch, minlength=kept)
        first = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        self._refuse_holes(branch, starts, stops)
        covered = counts > 0
        branch_first, branch_entries = self._bare_entries()
        branch_first[covered] = starts[first[:-1][covered]]
        branch_entries[covered] = stops[first[1:][covered] - 1] - branch_first[covered]
        zipped = np.bincount(plan.branch, nbytes, kept).astype(np.int64)
        return TreeNumbers(
            self.entries, counts, starts, nbytes[order], seek[order], branch_entries, branch_first,
            self._unpacked(), zipped, self._clusters(), self._maxima(),
        )  # fmt: skip

    def _refuse_holes(self, branch: Int64, starts: Int64, stops: Int64) -> None:
        holes = (branch[1:] == branch[:-1]) & (starts[1:] != stops[:-1])
        lacking = set(branch[1:][holes].tolist())
        if len(self.pieces) > 1:
            # A single file's branch may begin late or end early, and still does in its cuts.
            edges = np.flatnonzero(np.diff(branch, prepend=-1, append=-1))
            late = branch[edges[:-1]][starts[edges[:-1]] != 0]
            early = branch[edges[:-1]][stops[edges[1:] - 1] != self.entries]
            lacking |= {*late.tolist(), *early.tolist()}
        if lacking:
            piece = self.pieces[0]
            names = sorted(piece.index.branches[piece.kept[k]].name for k in lacking)
            raise SchemaMismatchError(
                f"branches without entries in some of the files: {', '.join(names[:10])}",
                hint="leave them out, or join the files that have them",
                names=names,
            )

    def _bare_entries(self) -> tuple[Int64, Int64]:
        """Count entries of branches that have no baskets of their own, from their records."""
        total = np.zeros(len(self.kept), np.int64)
        for numbers in self._kinds:
            first = self._stacked(numbers, lambda table: table.first_entries)
            behind = first + self._stacked(numbers, lambda table: table.entries)
            begins = np.array([self.pieces[n].start for n in numbers], np.int64)[:, None]
            ends = np.array([self.pieces[n].stop for n in numbers], np.int64)[:, None]
            overlap = np.minimum(behind, ends) - np.maximum(first, begins)
            total += np.maximum(overlap, 0).sum(axis=0)
        return np.zeros_like(total), total

    def _stacked(self, numbers: Sequence[int], column: Callable[[BranchTable], Int64]) -> Int64:
        """Put a column of pieces of one kind above each other: a row each, of kept branches."""
        kept = np.array(self.pieces[numbers[0]].kept, np.int64)
        return np.stack([column(self.pieces[n].index.table) for n in numbers])[:, kept]

    def _unpacked(self) -> Int64:
        """Add up uncompressed bytes; a copied basket counts as the average of its branch."""
        plan, kept = self._plan, len(self.kept)
        copied = np.where(plan.again, 0, plan.nbytes)
        shape = len(self.pieces), kept
        stored = np.bincount(plan.piece * kept + plan.branch, copied, shape[0] * kept)
        stored = stored.reshape(shape)
        total = np.bincount(plan.branch, plan.unpacked_bytes, kept).astype(np.int64)
        for numbers in self._kinds:
            zipped = np.maximum(self._stacked(numbers, lambda table: table.zip_bytes), 1)
            ratio = self._stacked(numbers, lambda table: table.tot_bytes) / zipped
            total += np.rint(stored[numbers] * ratio).astype(np.int64).sum(axis=0)
        return total

    def _clusters(self) -> Int64 | None:
        if len(self.pieces) == 1 and self.pieces[0].index.stated_clusters is None:
            return None
        edges = [np.zeros(1, np.int64)]
        base = 0
        for piece in self.pieces:
            if piece.stop == piece.start:
                continue
            entries, stated = piece.index.entries, piece.index.stated_clusters
            clusters = np.array([0, entries]) if stated is None else stated
            if (piece.start, piece.stop) != (0, entries):
                clusters = cut_clusters(clusters, piece.start, piece.stop)
            edges.append(clusters[1:] + base)
            base += piece.stop - piece.start
        return np.concatenate(edges)

    def _maxima(self) -> dict[tuple[int, int], int]:
        """Take the largest maximum of each leaf: ROOT sizes its buffers by them."""
        if len(self.pieces) == 1:
            return {}
        best: dict[tuple[int, int], int] = {}
        for numbers in self._kinds:
            piece = self.pieces[numbers[0]]
            largest = np.stack([self.pieces[n].index.maxima for n in numbers]).max(axis=0).tolist()
            rows = piece.index.table.maxima
            first = list(accumulate(map(len, rows), initial=0))
            for k, branch in enumerate(piece.kept):
                for leaf, value in enumerate(largest[first[branch] : first[branch + 1]]):
                    best[k, leaf] = max(value, best.get((k, leaf), value))
        return best


def _joined(parts: Sequence[Int64]) -> Int64:
    return np.concatenate([np.zeros(0, np.int64), *parts])


def refuse_baskets_elsewhere(index: TreeIndex, kept: Sequence[int]) -> None:
    """Refuse branches whose baskets are in other files, by name."""
    names = index.table.file_names
    elsewhere = [index.branches[i].name for i in kept if names[i]]
    if elsewhere:
        raise UnsupportedFeatureError(
            f"branches have their baskets in other files: {', '.join(elsewhere[:10])}",
            hint="leave these branches out, or merge the files with hadd first",
            branches=elsewhere,
        )


def _split(rows: Int64, keys: Int64) -> list[Int64]:
    """Split rows where their key becomes another."""
    return np.split(rows, np.flatnonzero(np.diff(keys)) + 1) if len(rows) else []


def _kinds(pieces: Sequence[Piece]) -> list[list[int]]:
    """Group the numbers of pieces with the same branches of trees of one kind."""
    groups: dict[tuple[int, tuple[int, ...]], list[int]] = {}
    for number, piece in enumerate(pieces):
        groups.setdefault((piece.index.table.kind, piece.kept), []).append(number)
    return list(groups.values())


def _near(piece: Piece) -> Int64 | slice:
    """Choose the baskets with some of a piece's entries, so that no others are looked at."""
    if (piece.start, piece.stop) == (0, piece.index.entries):
        return slice(None)
    table = piece.index.baskets
    return np.flatnonzero((table.stop > piece.start) & (table.start < piece.stop))


@corrupt_if_broken
def _plan(pieces: Sequence[Piece], kinds: Sequence[Sequence[int]]) -> _Plan:
    chosen = [_near(p) for p in pieces]
    tables = [p.index.baskets for p in pieces]
    numbers = [np.arange(len(table.seek))[rows] for table, rows in zip(tables, chosen, strict=True)]
    piece = np.repeat(np.arange(len(pieces)), list(map(len, numbers)))
    basket = _joined(numbers)
    branch, start, stop, seek, nbytes = (
        _joined([getattr(t, name)[rows] for t, rows in zip(tables, chosen, strict=True)])
        for name in ("branch", "start", "stop", "seek", "nbytes")
    )
    # For each kind and branch: its position among those kept, and whether it makes offsets.
    shape = len(kinds), max(len(p.index.table) for p in pieces)
    kind_of = np.zeros(len(pieces), np.int64)
    position, made = np.full(shape, -1, np.int64), np.zeros(shape, np.bool_)
    for number, members in enumerate(kinds):
        index, kept = pieces[members[0]].index, pieces[members[0]].kept
        refuse_baskets_elsewhere(index, kept)
        kind_of[members] = number
        position[number, np.array(kept, np.int64)] = np.arange(len(kept))
        made[number, : len(index.table)] = index.table.makes_offsets
    kind = kind_of[piece]
    begin, end = (
        np.array(values, np.int64)[piece]
        for values in ([p.start for p in pieces], [p.stop for p in pieces])
    )
    position, made = position[kind, branch], made[kind, branch]
    wanted = (position >= 0) & (stop > begin) & (start < end) & (stop > start)
    before = start < begin
    again = before | (stop > end) | (seek == 0) | made
    # Branches that keep the index's order are in the order of `kept` too: it ascends.
    return _Plan(
        piece[wanted], basket[wanted], position[wanted], np.maximum(start, begin)[wanted],
        np.minimum(stop, end)[wanted], seek[wanted], nbytes[wanted], again[wanted],
        before[wanted], {}, np.zeros(int(wanted.sum()), np.int64),
    )  # fmt: skip


def batches(rows: Int64, sizes: Int64, batch_bytes: int = BATCH_BYTES) -> list[Int64]:
    """Split rows into batches of about so many bytes."""
    if not len(rows):
        return []
    batch = np.cumsum(sizes) // batch_bytes
    return np.split(rows, np.flatnonzero(np.diff(batch)) + 1)


def setting_of(index: TreeIndex, branch: int, basket: Basket) -> Setting:
    """Say how to compress what takes a basket's place: its algorithm, its branch's level."""
    stated = Setting.from_root(int(index.table.compression[branch]))
    if basket.algorithm is None:
        # Stored plain, for want of gain or of wish; the branch's setting says which.
        return stated
    if basket.algorithm == stated.algorithm and stated.level:
        return stated
    return Setting.like(basket.algorithm, stated.level)


def check_entries(index: TreeIndex, number: int, basket: Basket) -> None:
    """Refuse a basket with fewer entries than its branch says."""
    expect_entries(basket, int(index.baskets.stop[number] - index.baskets.start[number]))


def expect_entries(basket: Basket, expected: int) -> None:
    """Refuse a basket with fewer entries than are expected."""
    if basket.entries < expected:
        raise UnsupportedFeatureError(
            f"a basket of {basket.key.name!r} has {basket.entries} entries,"
            f" its branch says {expected}",
            branch=basket.key.name,
        )


def with_offsets(
    index: TreeIndex, branch: int, number: int, basket: Basket, source_size: int
) -> Steps[Basket]:
    """Make the offsets of a basket that leaves them to a counter.

    Parameters
    ----------
    branch, number : int
        In the index's tables.
    """
    check_entries(index, number, basket)
    layout = index.table.layouts[branch]
    if layout.counter < 0:
        raise UnsupportedFeatureError(
            f"offsets of {basket.key.name!r} follow from a counter that it does not have"
        )
    first = int(index.baskets.start[number])
    stop = first + basket.entries
    counts = yield from _counter_values(index, layout.counter, first, stop, source_size)
    return with_counts(basket, counts, layout.item_bytes, layout.header_bytes)


def _parts(index: TreeIndex, plan: _Plan, rows: Int64) -> list[_Part]:
    """Look up what is known of some of a plan's baskets before they are decoded."""
    table = index.baskets
    number = plan.basket[rows]
    branch, first = table.branch[number], table.start[number]
    columns = (
        rows, number, branch, plan.start[rows] - first, plan.stop[rows] - first,
        table.stop[number] - first, index.table.pinned[branch] != 0,
    )  # fmt: skip
    return list(map(_Part._make, zip(*(c.tolist() for c in columns), strict=True)))


def _encoded(index: TreeIndex, part: _Part, basket: Basket) -> tuple[bytes, int]:
    """Encode the wanted entries of a basket; also say how many bytes they have."""
    expect_entries(basket, part.expected)
    taken = slice_basket(basket, part.begin, part.end, pinned=part.pinned)
    # A key of another length would move entries that may hold positions.
    big = basket.key.big or not part.pinned
    setting = setting_of(index, part.branch, basket)
    return encode_basket(taken, setting, big=big), len(taken.data)


def _counter_values(
    index: TreeIndex, counter: int, start: int, stop: int, source_size: int
) -> Steps[Int64]:
    """Read a counting branch's values for some entries."""
    table = index.baskets
    begin, end = int(table.first[counter]), int(table.first[counter + 1])
    numbers = begin + np.flatnonzero(
        (table.stop[begin:end] > start) & (table.start[begin:end] < stop)
    )
    on_file = [int(n) for n in numbers if table.seek[n] > 0]
    ranges = [(int(table.seek[n]), int(table.nbytes[n])) for n in on_file]
    records = yield from fetch(ranges, source_size)
    found = dict(zip(on_file, records, strict=True))
    parts = []
    for n in numbers.tolist():
        basket = (
            decode_basket(found[n], int(table.nbytes[n]))
            if n in found
            else decode_embedded(index.embedded[n])
        )
        first = int(table.start[n])
        begin, end = max(start, first) - first, min(stop, int(table.stop[n])) - first
        part = slice_basket(basket, begin, end, pinned=False)
        parts.append(np.frombuffer(part.data, f">i{part.entry_bytes}").astype(np.int64))
    return _joined(parts)


def positioned(records: Sequence[bytes], at: int, directory: int, pid_shift: int = 0) -> Segment:
    """Put baskets made anew behind each other, and each one's position into it."""
    blob = fresh(sum(map(len, records)))
    begin = 0
    for record in records:
        blob[begin : begin + len(record)] = record
        put_position(blob, begin, at + begin, directory, pid_shift)
        begin += len(record)
    return in_memory(blob)


def runs(
    seeks: Int64, sizes: Int64, directory: int, sources: Int64, pid_shifts: Int64
) -> list[Segment]:
    """Join baskets that follow each other in a source into runs.

    Parameters
    ----------
    seeks, sizes, sources, pid_shifts : int64
        One a basket, in the product's order.
    """
    if not len(seeks):
        return []
    ends = seeks + sizes
    apart = (seeks[1:] != ends[:-1]) | (sources[1:] != sources[:-1])
    begins = np.concatenate([np.zeros(1, np.int64), np.flatnonzero(apart) + 1])
    stops = np.append(begins[1:], len(seeks))
    offsets = seeks[begins]
    heads = seeks - np.repeat(offsets, stops - begins)
    columns = (
        sources[begins], offsets, ends[stops - 1] - offsets, begins, stops, pid_shifts[begins],
    )  # fmt: skip
    return [
        Segment(source, at, size, b"", heads[begin:stop], sizes[begin:stop], directory, shift)
        for source, at, size, begin, stop, shift in zip(*(c.tolist() for c in columns), strict=True)
    ]
