"""A file that is not there: bytes in memory, runs of source bytes, and patches.

ROOT demands that each basket's key repeats the basket's position, so copied runs
are patched as they pass: eight or sixteen bytes a basket.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evstream.rootio.errors import CorruptFileError, UnsupportedFeatureError
from evstream.rootio.keys import (
    BIG_KEY_VERSION,
    KEY_VERSION,
    SEEKS_AT,
    Key,
    make_key,
    read_key,
    write_key,
)
from evstream.rootio.source import Data, Range, Steps, fetch

Int64 = npt.NDArray[np.int64]
MEMORY = -1
# As far into a key as patches reach: fixed part and two eight-byte positions.
HEAD_BYTES = SEEKS_AT + 16
_SMALL_SEEK_MAX = 0x7FFFFFFF


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
    """

    source: int
    offset: int
    size: int
    data: Data = b""
    heads: Int64 | None = None
    nbytes: Int64 | None = None
    directory: int = 0
    pid_shift: int = 0


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
        sizes = np.array([s.size for s in self._segments], np.int64)
        self._ends = np.cumsum(sizes)
        self._starts = self._ends - sizes
        self.size = int(self._ends[-1]) if len(sizes) else 0

    def sources_of(self, offset: int, size: int) -> list[int]:
        """List the sources that a range is made of."""
        return sorted({s.source for s, _ in self._within(offset, size) if s.source != MEMORY})

    def _within(self, offset: int, size: int) -> list[tuple[Segment, int]]:
        first = int(np.searchsorted(self._ends, offset, side="right"))
        last = int(np.searchsorted(self._starts, offset + size, side="left"))
        return [(self._segments[i], int(self._starts[i])) for i in range(first, last)]

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
        out = memoryview(bytearray(size)) if into is None else into
        copies: list[tuple[Segment, int, int, int]] = []  # segment, its start, from, to
        for segment, start in self._within(offset, size):
            begin, end = max(offset, start), min(offset + size, start + segment.size)
            if segment.source == MEMORY:
                out[begin - offset : end - offset] = memoryview(segment.data)[
                    begin - start : end - start
                ]
            elif segment.source == source:
                copies.append((segment, start, begin, end))
        if copies:
            yield from self._copy(copies, offset, out, self._source_sizes[source])
        return out

    def _copy(
        self,
        copies: Sequence[tuple[Segment, int, int, int]],
        offset: int,
        out: memoryview,
        source_size: int,
    ) -> Steps[None]:
        ranges: list[Range] = []
        edges: list[tuple[Segment, int, int]] = []  # segment, its start, head
        for segment, start, begin, end in copies:
            ranges.append((segment.offset + begin - start, end - begin))
            far = end > _SMALL_SEEK_MAX
            heads = _cut_heads(segment, begin - start, end - start, far=far)
            edges += [(segment, start, head) for head in heads]
        ranges += [(segment.offset + head, HEAD_BYTES) for segment, _, head in edges]
        views = yield from fetch(ranges, source_size)
        buffer = np.frombuffer(out, np.uint8)
        late: list[tuple[Segment, int, int]] = []
        for (segment, start, begin, end), view in zip(copies, views, strict=False):
            out[begin - offset : end - offset] = view
            late += _patch(segment, start, begin, end, buffer[begin - offset : end - offset])
        for (segment, start, head), view in zip(edges, views[len(copies) :], strict=True):
            one = np.frombuffer(bytearray(view), np.uint8)
            at = start + head
            if _patch(segment, start, at, at + HEAD_BYTES, one):
                late.append((segment, start, head))
            else:
                _overlay(out, offset, at, one.tobytes(), segment, start)
        if late:
            yield from _widen(late, offset, out, source_size)


def _heads_between(segment: Segment, begin: int, end: int) -> slice:
    if segment.heads is None:
        return slice(0, 0)
    first = int(np.searchsorted(segment.heads, begin, side="left"))
    last = int(np.searchsorted(segment.heads, end, side="left"))
    return slice(first, last)


def _cut_heads(segment: Segment, begin: int, end: int, *, far: bool) -> list[int]:
    """Find heads of baskets that a stretch of a segment holds only in part.

    Beyond two gigabytes a whole key may have to change, so the last head before the
    stretch counts too, however far its key reaches.
    """
    if segment.heads is None:
        return []
    near = segment.heads[_heads_between(segment, begin - HEAD_BYTES + 1, end)]
    cut: list[int] = near[(near < begin) | (near + HEAD_BYTES > end)].tolist()
    before = int(np.searchsorted(segment.heads, begin, side="left")) - 1
    if far and before >= 0 and int(segment.heads[before]) not in cut:
        cut.append(int(segment.heads[before]))
    return cut


def _patch(
    segment: Segment, start: int, begin: int, end: int, buffer: npt.NDArray[np.uint8]
) -> list[tuple[Segment, int, int]]:
    """Write the new positions into all whole heads of a stretch.

    Returns
    -------
    list of (segment, start, head)
        Heads with four-byte positions that lie beyond what those can say.
    """
    which = _heads_between(segment, begin - start, end - start - HEAD_BYTES + 1)
    if segment.heads is None or segment.nbytes is None or which.start >= which.stop:
        return []
    heads = segment.heads[which]
    at = heads - (begin - start)
    found = _number(buffer, at, 0, 4)
    if (found != segment.nbytes[which]).any():
        raise CorruptFileError(
            "a basket is not where its branch says",
            hint="the source changed after it was inspected, or is damaged",
        )
    seeks = heads + start
    big = _number(buffer, at, 4, 2) > BIG_KEY_VERSION
    _put(buffer, at[big], SEEKS_AT, 8, seeks[big])
    _put(buffer, at[big], SEEKS_AT + 10, 6, np.full(int(big.sum()), segment.directory))
    if segment.pid_shift:
        shifted = _number(buffer, at[big], SEEKS_AT + 8, 2) + segment.pid_shift
        _put(buffer, at[big], SEEKS_AT + 8, 2, shifted)
    small = ~big & (seeks <= _SMALL_SEEK_MAX)
    _put(buffer, at[small], SEEKS_AT, 4, seeks[small])
    _put(buffer, at[small], SEEKS_AT + 4, 4, np.full(int(small.sum()), segment.directory))
    return [(segment, start, int(h)) for h in heads[~big & ~small]]


def _number(buffer: npt.NDArray[np.uint8], at: Int64, shift: int, width: int) -> Int64:
    columns = buffer[(at + shift)[:, None] + np.arange(width)].astype(np.int64)
    values: Int64 = (columns << (8 * np.arange(width - 1, -1, -1))).sum(axis=1)
    return values


def _put(buffer: npt.NDArray[np.uint8], at: Int64, shift: int, width: int, values: Int64) -> None:
    raw = np.ascontiguousarray(values.astype(">i8")).view(np.uint8).reshape(-1, 8)
    buffer[(at + shift)[:, None] + np.arange(width)] = raw[:, 8 - width :]


def _overlay(
    out: memoryview, offset: int, at: int, data: bytes, segment: Segment, start: int
) -> None:
    """Lay patched bytes over the part of the buffer that they belong to."""
    begin = max(at, offset, start)
    end = min(at + len(data), offset + len(out), start + segment.size)
    if end > begin:
        out[begin - offset : end - offset] = data[begin - at : end - at]


def _widen(
    late: Sequence[tuple[Segment, int, int]], offset: int, out: memoryview, source_size: int
) -> Steps[None]:
    """Give keys with four-byte positions eight-byte ones, at the same length.

    Baskets' offsets count from the key's first byte, so the key may not grow: its
    title, the tree's name, which nobody reads from there, is shortened instead.
    """
    ranges = []
    for segment, _, head in late:
        where = segment.offset + head
        ranges.append((where, min(65_536, source_size - where)))
    views = yield from fetch(ranges, source_size)
    for (segment, start, head), view in zip(late, views, strict=True):
        key, behind = read_key(view)
        data = _wide_key(key, start + head, segment.directory) + bytes(view[behind : key.key_bytes])
        _overlay(out, offset, start + head, data, segment, start)


def _wide_key(key: Key, seek: int, directory: int) -> bytes:
    spare = 8
    title = key.title[: max(0, len(key.title) - spare)]
    spare -= len(key.title) - len(title)
    name = key.name[: max(0, len(key.name) - spare)]
    spare -= len(key.name) - len(name)
    wide = make_key(
        key.class_name,
        name,
        title,
        payload_bytes=key.nbytes - key.key_bytes,
        object_bytes=key.object_bytes,
        seek=seek,
        seek_directory=directory,
        date=key.date,
        cycle=key.cycle,
        big=True,
    )
    plain = make_key(
        key.class_name, key.name, key.title, payload_bytes=0, object_bytes=0, seek=0,
        seek_directory=0, date=0, big=False,
    )  # fmt: skip
    if wide.key_bytes != plain.key_bytes:
        raise UnsupportedFeatureError(
            f"a basket of {key.name!r} with a four-byte position lies beyond 2 GB",
            hint="ask for fewer entries, so that the product stays below 2 GB",
        )
    return write_key(
        Key(
            key.nbytes, KEY_VERSION + BIG_KEY_VERSION, key.object_bytes, key.date, key.key_bytes,
            key.cycle, seek, directory, key.class_name, name, title,
        )
    )  # fmt: skip
