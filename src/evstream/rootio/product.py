"""A file that is not there: bytes in memory, runs of source bytes, and patches.

ROOT demands that each basket's key repeats the basket's position, so copied runs
are patched as they pass: eight or sixteen bytes a basket.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from evstream.rootio.errors import CorruptFileError, UnsupportedFeatureError
from evstream.rootio.keys import (
    BIG_KEY_VERSION,
    KEY_HEAD,
    PIDS_MAX,
    SEEKS_AT,
    Key,
    moved,
    read_key,
    widened_within,
    with_pids,
    write_key,
)
from evstream.rootio.scattered import put, take
from evstream.rootio.source import ByteSource, Data, Range, Steps, direct, drive, fetch, fresh
from evstream.rootio.spool import Spool

Int64 = npt.NDArray[np.int64]
MEMORY = -1
# As far into a key as patches reach: fixed part and two eight-byte positions.
HEAD_BYTES = SEEKS_AT + 16
_SMALL_SEEK_MAX = 0x7FFFFFFF
# Of a key's positions, both widths begin at the same byte. The upper 16 bits of a big
# key's directory say which process ids are meant.
_HEAD = np.dtype(
    {
        "names": [
            "nbytes", "version", "seek", "pids", "directory_high", "directory_low",
            "small_seek", "small_directory",
        ],
        "formats": [">i4", ">i2", ">i8", ">u2", ">u2", ">u4", ">i4", ">i4"],
        "offsets": [0, 4, *(SEEKS_AT + at for at in (0, 8, 10, 12, 0, 4))],
        "itemsize": HEAD_BYTES,
    }
)  # fmt: skip
_NONE = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of the product: bytes in memory, or a run of a source.

    Attributes
    ----------
    data : bytes-like, for memory
    source, offset, size : int
        ``source`` is `MEMORY` or the number of a source.
    heads : int64
        Where baskets begin within the segment, ascending.
    nbytes : int64
        Their lengths, to notice a source that changed.
    directory : int
        Position of the directory that the baskets belong to.
    pid_shift : int
        Added to the baskets' offsets of process ids.
    spool : Spool, for bytes that may be more than memory should hold
        They begin at ``offset`` there.
    """

    source: int
    offset: int
    size: int
    data: Data = b""
    heads: Int64 | None = None
    nbytes: Int64 | None = None
    directory: int = 0
    pid_shift: int = 0
    spool: Spool | None = None


def in_memory(data: Data) -> Segment:
    """Make a segment of finished bytes."""
    return Segment(MEMORY, 0, len(data), data)


class Product:
    """A file as a sequence of segments, readable at any offset.

    Parameters
    ----------
    segments : sequence of Segment
    source_sizes : sequence of int
        Length of each source, so that nothing beyond is asked for.
    """

    def __init__(self, segments: Sequence[Segment], source_sizes: Sequence[int]) -> None:
        self._segments = [s for s in segments if s.size]
        self._source_sizes = list(source_sizes)
        self._ends = list(accumulate(s.size for s in self._segments))
        self.size = self._ends[-1] if self._ends else 0

    @property
    def segments(self) -> Sequence[Segment]:
        """What it is made of, in order."""
        return self._segments

    @property
    def source_sizes(self) -> Sequence[int]:
        """Length of each source."""
        return self._source_sizes

    def sources_of(self, offset: int, size: int) -> list[int]:
        """List the sources that a range is made of."""
        return sorted({s.source for s, _ in self._within(offset, size) if s.source != MEMORY})

    def _within(self, offset: int, size: int) -> list[tuple[Segment, int]]:
        first, stop = bisect_right(self._ends, offset), offset + size
        last = bisect_left(self._ends, stop, lo=first) + 1 if size else first
        segments = self._segments[first:last]
        ends = self._ends[first:last]
        return [(s, end - s.size) for s, end in zip(segments, ends, strict=True)]

    def read_steps(
        self, offset: int, size: int, source: int, into: memoryview | None = None
    ) -> Steps[memoryview]:
        """Make the bytes ``[offset, offset + size)``, as far as one source gives them.

        Parameters
        ----------
        source : int
            Whose ranges to ask for. A product of several sources takes one call a
            source, all into the same buffer; bytes in memory are put in each time.
        into : memoryview, optional
            The buffer, of the size that remains to the product's end.

        Returns
        -------
        memoryview
            Shorter than ``size`` at the product's end.
        """
        size = max(0, min(size, self.size - offset))
        out = fresh(size) if into is None else into
        copies = self._put_memory(offset, out).get(source)
        if copies:
            heads = _cut_by_edges(copies)
            ranges = [(c.segment.offset + c.begin - c.start, len(c)) for c in copies]
            ranges += _head_ranges(heads)
            views = yield from fetch(ranges, self._source_sizes[source])
            for copy, view in zip(copies, views, strict=False):
                out[copy.begin - offset : copy.end - offset] = view
            late = _widen_within(_patch(copies, np.frombuffer(out, np.uint8), offset), offset, out)
            for head, view in zip(heads, views[len(copies) :], strict=True):
                late += _patch_cut(head, view, out, offset)
            if late:
                yield from _widen(late, offset, out, self._source_sizes[source])
        return out

    def read_into(self, offset: int, out: memoryview, sources: Sequence[ByteSource]) -> memoryview:
        """Fill a buffer from all sources; those that are direct have their bytes copied once.

        Returns
        -------
        memoryview
            The part of ``out`` that was filled; less than all at the product's end.
        """
        out = out[: max(0, min(len(out), self.size - offset))]
        passed: list[_Copy] = []
        for number, copies in self._put_memory(offset, out).items():
            reader = direct(sources[number])
            if reader is None:
                drive(self.read_steps(offset, len(out), number, out), sources[number])
                continue
            for copy in copies:
                target = out[copy.begin - offset : copy.end - offset]
                reader.read_into(copy.segment.offset + copy.begin - copy.start, target)
            passed += copies
        # Chunks may hold hundreds of small files: their heads are patched all at once.
        late = _widen_within(_patch(passed, np.frombuffer(out, np.uint8), offset), offset, out)
        for head in _cut_by_edges(passed):
            source = sources[head.segment.source]
            (view,) = drive(fetch(_head_ranges([head]), source.size), source)
            late += _patch_cut(head, view, out, offset)
        for head in late:
            source = sources[head.segment.source]
            drive(_widen([head], offset, out, source.size), source)
        return out

    def _put_memory(self, offset: int, out: memoryview) -> dict[int, list[_Copy]]:
        """Put in what is in memory; list what each source has to give."""
        wanted: dict[int, list[_Copy]] = {}
        stop = offset + len(out)
        for segment, start in self._within(offset, len(out)):
            begin, end = max(offset, start), min(stop, start + segment.size)
            if segment.spool is not None:
                target = out[begin - offset : end - offset]
                segment.spool.read_into(segment.offset + begin - start, target)
            elif segment.source == MEMORY:
                data = memoryview(segment.data)[begin - start : end - start]
                out[begin - offset : end - offset] = data
            else:
                copy = _Copy(segment, start, begin, end)
                wanted.setdefault(segment.source, []).append(copy)
        return wanted


class _Copy(NamedTuple):
    """A stretch of a segment: the product's bytes ``[begin, end)``, the segment's at start."""

    segment: Segment
    start: int
    begin: int
    end: int

    def __len__(self) -> int:
        return self.end - self.begin


class _Head(NamedTuple):
    """A basket's beginning, ``at`` bytes into a segment that itself begins at ``start``."""

    segment: Segment
    start: int
    at: int


def _cut_by_edges(copies: Sequence[_Copy]) -> list[_Head]:
    """List the heads of which a stretch holds only a part."""
    return [
        _Head(c.segment, c.start, at)
        for c in copies
        if len(c) < c.segment.size
        for at in _cut_heads(
            c.segment, c.begin - c.start, c.end - c.start,
            whole=c.end > _SMALL_SEEK_MAX or c.segment.pid_shift != 0,
        )
    ]  # fmt: skip


def _head_ranges(heads: Sequence[_Head]) -> list[Range]:
    return [(head.segment.offset + head.at, HEAD_BYTES) for head in heads]


def _heads_between(segment: Segment, begin: int, end: int) -> slice:
    if segment.heads is None:
        return slice(0, 0)
    first, last = segment.heads.searchsorted((begin, end))
    return slice(int(first), int(last))


def _cut_heads(segment: Segment, begin: int, end: int, *, whole: bool) -> list[int]:
    """Find heads of baskets that a stretch of a segment holds only in part.

    Where a ``whole`` key may have to change, beyond two gigabytes or for process ids, the
    last head before the stretch counts too, however far its key reaches.
    """
    if segment.heads is None:
        return []
    near = segment.heads[_heads_between(segment, begin - HEAD_BYTES + 1, end)]
    cut: list[int] = near[(near < begin) | (near + HEAD_BYTES > end)].tolist()
    if whole:
        before = int(segment.heads.searchsorted(begin)) - 1
        if before >= 0 and int(segment.heads[before]) not in cut:
            cut.append(int(segment.heads[before]))
    return cut


def _patch(copies: Sequence[_Copy], buffer: npt.NDArray[np.uint8], offset: int) -> list[_Head]:
    """Write the new positions into all whole heads of some stretches.

    Parameters
    ----------
    buffer : uint8
        The product's bytes from ``offset`` on.

    Returns
    -------
    list of _Head
        Those with four-byte positions that cannot say what they must: where they lie, or
        which process ids are meant.
    """
    held = [(copy, *_whole_heads(copy)) for copy in copies]
    held = [(copy, heads, nbytes) for copy, heads, nbytes in held if len(heads)]
    if not held:
        return []
    counts = [len(heads) for _, heads, _ in held]

    def of_copies(values: Sequence[int]) -> Int64:
        return np.repeat(np.array(values, np.int64), counts)

    heads = np.concatenate([heads for _, heads, _ in held])
    seeks = heads + of_copies([copy.start for copy, _, _ in held])
    head = take(buffer, seeks - offset, _HEAD)
    if (head["nbytes"] != np.concatenate([nbytes for _, _, nbytes in held])).any():
        raise CorruptFileError(
            "a basket is not where its branch says",
            hint="the source changed after it was inspected, or is damaged",
        )
    directory = of_copies([copy.segment.directory for copy, _, _ in held])
    shift = of_copies([copy.segment.pid_shift for copy, _, _ in held])
    big = head["version"] > BIG_KEY_VERSION
    small = ~big & (seeks <= _SMALL_SEEK_MAX) & (shift == 0)
    if big.any():
        head["seek"][big] = seeks[big]
        head["directory_high"][big] = directory[big] >> 32
        head["directory_low"][big] = directory[big] & 0xFFFFFFFF
        if shift.any():
            pids = head["pids"][big].astype(np.int64) + shift[big]
            if pids.max() > PIDS_MAX:
                raise CorruptFileError("a basket refers to process ids that there are not")
            head["pids"][big] = pids
    if small.any():
        head["small_seek"][small] = seeks[small]
        head["small_directory"][small] = directory[small]
    put(buffer, seeks - offset, head)
    late = np.flatnonzero(~big & ~small)
    of_late = np.repeat(np.arange(len(held)), counts)[late].tolist()
    return [
        _Head(held[n][0].segment, held[n][0].start, at)
        for n, at in zip(of_late, heads[late].tolist(), strict=True)
    ]


def _whole_heads(copy: _Copy) -> tuple[Int64, Int64]:
    """Return where the heads are that a stretch holds whole, and their baskets' lengths."""
    segment, start, begin, end = copy
    if segment.heads is None or segment.nbytes is None:
        return _NONE, _NONE
    if len(copy) == segment.size:
        return segment.heads, segment.nbytes
    which = _heads_between(segment, begin - start, end - start - HEAD_BYTES + 1)
    return segment.heads[which], segment.nbytes[which]


def _patch_cut(head: _Head, view: Data, out: memoryview, offset: int) -> list[_Head]:
    """Patch a head, whose own bytes are given, as far as it lies within a buffer."""
    one = np.frombuffer(bytearray(view), np.uint8)
    at = head.start + head.at
    if late := _patch([_Copy(head.segment, head.start, at, at + HEAD_BYTES)], one, at):
        return late
    _overlay(out, offset, one.tobytes(), head)
    return []


def _overlay(out: memoryview, offset: int, data: bytes, head: _Head) -> None:
    """Lay patched bytes over the part of the buffer that they belong to."""
    at = head.start + head.at
    begin = max(at, offset, head.start)
    end = min(at + len(data), offset + len(out), head.start + head.segment.size)
    if end > begin:
        out[begin - offset : end - offset] = data[begin - at : end - at]


def _widen(late: Sequence[_Head], offset: int, out: memoryview, source_size: int) -> Steps[None]:
    """Give keys with four-byte positions eight-byte ones, at the same length.

    Baskets' offsets count from the key's first byte, so the key may not grow: its
    title, the tree's name, which nobody reads from there, is shortened instead.
    """
    ranges = []
    for head in late:
        where = head.segment.offset + head.at
        ranges.append((where, min(65_536, source_size - where)))
    views = yield from fetch(ranges, source_size)
    for head, view in zip(late, views, strict=True):
        _overlay(out, offset, _widened(head, view), head)


def _widen_within(late: Sequence[_Head], offset: int, out: memoryview) -> list[_Head]:
    """Do the same with keys that lie whole in a buffer; return the others."""
    others = []
    for head in late:
        at = head.start + head.at - offset
        key_bytes = KEY_HEAD.unpack_from(out, at)[4] if 0 <= at <= len(out) - HEAD_BYTES else 0
        if 0 < key_bytes <= len(out) - at:
            out[at : at + key_bytes] = _widened(head, out[at : at + key_bytes])
        else:
            others.append(head)
    return others


def _widened(head: _Head, view: Data) -> bytes:
    key, behind = read_key(view)
    return _wide_key(key, head) + bytes(view[behind : key.key_bytes])


def _wide_key(key: Key, head: _Head) -> bytes:
    wide = widened_within(key, cut_name=True)
    if wide is None:
        if head.segment.pid_shift:
            raise UnsupportedFeatureError(
                f"references of a basket of {key.name!r} cannot be led to another file's"
                " process ids: its key has a four-byte position and no room for more",
                hint="name that file first",
            )
        raise UnsupportedFeatureError(
            f"a basket of {key.name!r} with a four-byte position lies beyond 2 GB",
            hint="ask for fewer entries, so that the product stays below 2 GB",
        )
    segment = head.segment
    placed = moved(wide, head.start + head.at, segment.directory)
    return write_key(with_pids(placed, segment.pid_shift))
