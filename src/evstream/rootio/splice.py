"""Put pieces of trees together: which baskets are copied, which encoded again.

A piece is a range of entries of one tree. Baskets that lie within it are copied
as they are; those that straddle its ends, and those that only exist within the
tree's record, are decoded, cut and encoded again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
from evstream.rootio.source import Steps, fetch
from evstream.rootio.threads import map_in_threads
from evstream.rootio.tree_index import TreeIndex
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
    """Baskets of one piece, branch after branch.

    Attributes
    ----------
    basket : number in the index's table
    branch : position in ``kept``
    start, stop : entries within the piece's tree, clipped to the piece
    again : whether it is encoded again
    before : whether it straddles the beginning
    """

    basket: Int64
    branch: Int64
    start: Int64
    stop: Int64
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
        self._plans = [_plan(p) for p in pieces]

    @property
    def sources(self) -> list[int]:
        """The sources that something of it lies in."""
        return sorted({piece.source for piece in self.pieces})

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
        return sum(
            int(p.index.baskets.nbytes[plan.basket[plan.again]].sum())
            for p, plan in zip(self.pieces, self._plans, strict=True)
        )

    @corrupt_steps_if_broken
    def prepare_steps(self, source: int, source_size: int) -> Steps[None]:
        """Encode the straddling baskets of all pieces of one source."""
        for piece, plan in zip(self.pieces, self._plans, strict=True):
            if piece.source == source:
                yield from self._encode_piece(piece, plan, source_size)

    def _encode_piece(self, piece: Piece, plan: _Plan, source_size: int) -> Steps[None]:
        index, table = piece.index, piece.index.baskets
        again = np.flatnonzero(plan.again)
        on_file = table.seek[plan.basket[again]] > 0
        for part in _parts(index, plan, again[~on_file]):
            basket = decode_embedded(index.embedded[part.number])
            yield from self._encode_alone(index, plan, part, basket, source_size)

        def encode(job: tuple[_Part, memoryview]) -> tuple[bytes, int] | None:
            part, record = job
            basket = decode_basket(record, len(record))
            # Offsets that follow from a counter take baskets of the counter's branch.
            return None if basket.generated else _encoded(index, part, basket)

        for batch in batches(again[on_file], table.nbytes[plan.basket[again[on_file]]]):
            numbers = plan.basket[batch]
            seeks, sizes = table.seek[numbers].tolist(), table.nbytes[numbers].tolist()
            records = yield from fetch(list(zip(seeks, sizes, strict=True)), source_size)
            jobs = list(zip(_parts(index, plan, batch), records, strict=True))
            for job, done in zip(jobs, map_in_threads(encode, jobs, sum(sizes)), strict=True):
                part, record = job
                if done is None:
                    basket = decode_basket(record, len(record))
                    yield from self._encode_alone(index, plan, part, basket, source_size)
                else:
                    plan.encoded[part.row], plan.unpacked_bytes[part.row] = done

    def _encode_alone(
        self, index: TreeIndex, plan: _Plan, part: _Part, basket: Basket, source_size: int
    ) -> Steps[None]:
        if basket.generated:
            basket = yield from with_offsets(index, part.branch, part.number, basket, source_size)
        plan.encoded[part.row], plan.unpacked_bytes[part.row] = _encoded(index, part, basket)

    # --- layout -----------------------------------------------------------------

    def place(self, at: int, directory: int) -> tuple[list[Segment], TreeNumbers]:
        """Lay all baskets out from a position on.

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
        segments: list[Segment] = []
        seeks: list[Int64] = []
        sizes: list[Int64] = []
        for piece, plan in zip(self.pieces, self._plans, strict=True):
            seek, nbytes, parts, at = _place_piece(piece, plan, at, directory)
            segments += parts
            seeks.append(seek)
            sizes.append(nbytes)
        return segments, self._numbers(seeks, sizes)

    def _numbers(self, seeks: Sequence[Int64], sizes: Sequence[Int64]) -> TreeNumbers:
        kept = len(self.pieces[0].kept)
        bases = np.cumsum([0, *(p.stop - p.start for p in self.pieces)])
        branch = _joined([plan.branch for plan in self._plans])
        order = np.argsort(branch, kind="stable")
        branch = branch[order]
        starts, stops = (
            _joined(
                [
                    values + (int(base) - piece.start)
                    for piece, values, base in zip(self.pieces, columns, bases, strict=False)
                ]
            )[order]
            for columns in (
                [plan.start for plan in self._plans],
                [plan.stop for plan in self._plans],
            )
        )
        nbytes, seek = _joined(sizes)[order], _joined(seeks)[order]
        counts = np.bincount(branch, minlength=kept)
        first = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        self._refuse_holes(branch, starts, stops)
        covered = counts > 0
        branch_first, branch_entries = self._bare_entries()
        branch_first[covered] = starts[first[:-1][covered]]
        branch_entries[covered] = stops[first[1:][covered] - 1] - branch_first[covered]
        zipped = np.bincount(branch, nbytes, kept).astype(np.int64)
        return TreeNumbers(
            self.entries, counts, starts, nbytes, seek, branch_entries, branch_first,
            self._unpacked(kept), zipped, self._clusters(), self._maxima(),
        )  # fmt: skip

    def _refuse_holes(self, branch: Int64, starts: Int64, stops: Int64) -> None:
        holes = (branch[1:] == branch[:-1]) & (starts[1:] != stops[:-1])
        if holes.any():
            piece = self.pieces[0]
            names = sorted(
                {piece.index.branches[piece.kept[int(k)]].name for k in branch[1:][holes]}
            )
            raise SchemaMismatchError(
                f"branches without entries in some of the files: {', '.join(names[:10])}",
                hint="leave them out, or join the files that have them",
                names=names,
            )

    def _bare_entries(self) -> tuple[Int64, Int64]:
        """Count entries of branches that have no baskets of their own, from their records."""
        total = np.zeros(len(self.pieces[0].kept), np.int64)
        for piece in self.pieces:
            rows = np.array(piece.kept, np.int64)
            first = piece.index.table.first_entries[rows]
            behind = first + piece.index.table.entries[rows]
            overlap = np.minimum(behind, piece.stop) - np.maximum(first, piece.start)
            total += np.maximum(overlap, 0)
        return np.zeros_like(total), total

    def _unpacked(self, kept: int) -> Int64:
        """Add up uncompressed bytes; a copied basket counts as the average of its branch."""
        total = np.zeros(kept, np.int64)
        for piece, plan in zip(self.pieces, self._plans, strict=True):
            rows = np.array(piece.kept, np.int64)
            table = piece.index.table
            copied = np.where(plan.again, 0, piece.index.baskets.nbytes[plan.basket])
            stored = np.bincount(plan.branch, copied, kept)
            ratio = table.tot_bytes[rows] / np.maximum(table.zip_bytes[rows], 1)
            total += np.rint(stored * ratio).astype(np.int64)
            total += np.bincount(plan.branch, plan.unpacked_bytes, kept).astype(np.int64)
        return total

    def _clusters(self) -> Int64 | None:
        if len(self.pieces) == 1 and self.pieces[0].index.stated_clusters is None:
            return None
        edges = [np.zeros(1, np.int64)]
        base = 0
        for piece in self.pieces:
            stated = piece.index.stated_clusters
            clusters = np.array([0, piece.index.entries]) if stated is None else stated
            edges.append(cut_clusters(clusters, piece.start, piece.stop)[1:] + base)
            base += piece.stop - piece.start
        return np.concatenate(edges)

    def _maxima(self) -> dict[tuple[int, int], int]:
        """Take the largest maximum of each leaf: ROOT sizes its buffers by them."""
        if len(self.pieces) == 1:
            return {}
        best: dict[tuple[int, int], int] = {}
        for piece in self.pieces:
            values = piece.index.maxima
            for k, branch in enumerate(piece.kept):
                for leaf, value in enumerate(values[branch]):
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


@corrupt_if_broken
def _plan(piece: Piece) -> _Plan:
    table = piece.index.baskets
    refuse_baskets_elsewhere(piece.index, piece.kept)
    position = np.full(len(piece.index.table), -1, np.int64)
    position[np.array(piece.kept, np.int64)] = np.arange(len(piece.kept))
    wanted = (
        (position[table.branch] >= 0)
        & (table.stop > piece.start)
        & (table.start < piece.stop)
        & (table.stop > table.start)
    )
    basket = np.flatnonzero(wanted)
    start, stop = table.start[basket], table.stop[basket]
    before = start < piece.start
    again = before | (stop > piece.stop) | (table.seek[basket] == 0)
    again |= piece.index.table.makes_offsets[table.branch[basket]]
    # Branches that keep the index's order are in the order of `kept` too: it ascends.
    return _Plan(
        basket, position[table.branch[basket]], np.maximum(start, piece.start),
        np.minimum(stop, piece.stop), again, before, {}, np.zeros(len(basket), np.int64),
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


def _place_piece(
    piece: Piece, plan: _Plan, at: int, directory: int
) -> tuple[Int64, Int64, list[Segment], int]:
    """Lay out one piece: baskets before, copied ones in the source's order, those behind."""
    table = piece.index.baskets
    nbytes = table.nbytes[plan.basket].copy()
    for row, record in plan.encoded.items():
        nbytes[row] = len(record)
    seek = np.zeros(len(nbytes), np.int64)
    copied = np.flatnonzero(~plan.again)
    copied = copied[np.argsort(table.seek[plan.basket[copied]], kind="stable")]
    segments: list[Segment] = []
    for rows, again in (
        (np.flatnonzero(plan.before), True),
        (copied, False),
        (np.flatnonzero(plan.again & ~plan.before), True),
    ):
        behind = at + np.cumsum(nbytes[rows])
        seek[rows] = behind - nbytes[rows]
        if again:
            records = [plan.encoded[row] for row in rows.tolist()]
            segments.append(positioned(records, at, directory, piece.pid_shift))
        else:
            segments += runs(
                table.seek[plan.basket[rows]], nbytes[rows], directory, piece.source,
                piece.pid_shift,
            )  # fmt: skip
        at = int(behind[-1]) if len(rows) else at
    return seek, nbytes, segments, at


def positioned(records: Sequence[bytes], at: int, directory: int, pid_shift: int = 0) -> Segment:
    """Put baskets made anew behind each other, and each one's position into it."""
    blob = bytearray(b"".join(records))
    begin = 0
    for record in records:
        put_position(blob, begin, at + begin, directory, pid_shift)
        begin += len(record)
    return in_memory(memoryview(blob))


def runs(
    seeks: Int64, sizes: Int64, directory: int, source: int, pid_shift: int = 0
) -> list[Segment]:
    """Join baskets that follow each other in the source into runs."""
    if not len(seeks):
        return []
    ends = seeks + sizes
    breaks = np.flatnonzero(seeks[1:] != ends[:-1]) + 1
    segments = []
    for heads, lengths in zip(np.split(seeks, breaks), np.split(sizes, breaks), strict=True):
        offset = int(heads[0])
        size = int(heads[-1] + lengths[-1]) - offset
        segments.append(
            Segment(
                source, offset, size, b"", heads - offset, lengths, directory, pid_shift,
            )
        )  # fmt: skip
    return segments
