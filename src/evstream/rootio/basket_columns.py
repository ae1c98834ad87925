"""Many baskets at once: their heads as columns, and chosen entries out of all of them.

What is done for each basket alone is no more than inflating it. Baskets that are not as
nearly all are (ROOT 3's displacements, offsets stored as sizes or not at all, impossible
numbers) are left to `evstream.rootio.baskets` and `evstream.rootio.take`, which know them
all and say what is wrong with them.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from evstream.rootio.baskets import Basket, BasketKey
from evstream.rootio.compression import algorithm_of, decompress
from evstream.rootio.keys import BIG_KEY_VERSION, PDIR_MASK, SEEKS_AT
from evstream.rootio.scattered import take
from evstream.rootio.source import GAP_BYTES_MAX, Steps, fetch

Int64 = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

_KEY_HEAD = np.dtype(
    [
        ("nbytes", ">i4"), ("version", ">i2"), ("object_bytes", ">i4"), ("date", ">u4"),
        ("key_bytes", ">i2"), ("cycle", ">i2"),
    ]
)  # fmt: skip
_COUNTERS = np.dtype(
    [
        ("version", ">i2"), ("buffer_bytes", ">i4"), ("entry_bytes", ">i4"),
        ("entries", ">i4"), ("last", ">i4"), ("flag", "u1"),
    ]
)  # fmt: skip
_DIRECTORY = np.dtype(">i8")
_OFFSET = np.dtype(">i4")
_STRINGS = 3
_LONG_STRING = 255
_HEAD_BYTES_LEAST = SEEKS_AT + 8 + _STRINGS + _COUNTERS.itemsize
_GENERATED = 80
# Baskets are laid behind each other at multiples of the widest item.
_WIDTHS = (8, 4, 2, 1)
_ALIGNED = _WIDTHS[0]


@dataclass(frozen=True, slots=True)
class Heads:
    """Heads of baskets that lie in one buffer, one row each.

    Attributes
    ----------
    plain : bool
        Whether the other columns say all that there is to know.
    at : int64
        Where the basket's key begins in the buffer.
    strings, counters : int64
        Where its class name begins, and where its counters do.
    border : int64
        How many bytes its entries have, all together.
    """

    buffer: Bytes
    plain: Mask
    at: Int64
    nbytes: Int64
    key_bytes: Int64
    object_bytes: Int64
    date: Int64
    cycle: Int64
    big: Mask
    pids: Int64
    strings: Int64
    counters: Int64
    buffer_bytes: Int64
    entry_bytes: Int64
    entries: Int64
    border: Int64

    def record(self, row: int) -> memoryview:
        """Give one basket, key and payload."""
        begin = int(self.at[row])
        return self.buffer.data[begin : begin + int(self.nbytes[row])]


class Scratch(threading.local):
    """Memory of each thread to read or inflate into, used again.

    Fresh memory is given page by page, which takes a sixth of what inflating takes.
    """

    def __init__(self) -> None:
        self._held = np.empty(0, np.uint8)

    def of(self, nbytes: int) -> Bytes:
        """Return so many bytes, whatever they hold, until the thread asks again."""
        if len(self._held) < nbytes:
            self._held = np.empty(nbytes + nbytes // 4, np.uint8)
        return self._held[:nbytes]


def fetch_together(
    seeks: Int64, sizes: Int64, source_size: int, scratch: Scratch
) -> Steps[tuple[Bytes, Int64]]:
    """Ask for many ranges, as `fetch` does, and get them in one buffer.

    Parameters
    ----------
    scratch : Scratch
        May hold what is returned.

    Returns
    -------
    buffer, at
        Where each range, in the order given, begins in the buffer.
    """
    if not len(seeks):
        return np.zeros(0, np.uint8), np.zeros(0, np.int64)
    outside = np.flatnonzero((seeks > source_size) | (seeks + sizes > source_size))
    if len(outside):
        # Refused there, in words.
        yield from fetch([(int(seeks[outside[0]]), int(sizes[outside[0]]))], source_size)
    order = np.argsort(seeks, kind="stable")
    begin = seeks[order]
    reach = np.maximum.accumulate(begin + sizes[order])
    first = np.concatenate([[0], np.flatnonzero(begin[1:] - reach[:-1] > GAP_BYTES_MAX) + 1])
    start = begin[first]
    length = reach[np.append(first[1:], len(reach)) - 1] - start
    views = yield from fetch(list(zip(start.tolist(), length.tolist(), strict=True)), source_size)
    placed = np.cumsum(length) - length
    if len(views) == 1:
        buffer = np.frombuffer(views[0], np.uint8)
    else:
        buffer = scratch.of(int(length.sum()))
        for view, begin_at in zip(views, placed.tolist(), strict=True):
            buffer.data[begin_at : begin_at + len(view)] = view
    shift = placed - start
    at = np.empty(len(seeks), np.int64)
    at[order] = begin + np.repeat(shift, np.diff(np.append(first, len(begin))))
    return buffer, at


def read_heads(buffer: Bytes, at: Int64, nbytes: Int64) -> Heads:
    """Read the keys and counters of baskets.

    Parameters
    ----------
    at, nbytes : int64
        Where each begins in the buffer, and the length that its branch's table gives.
    """
    limit = at + nbytes
    plain = nbytes >= _HEAD_BYTES_LEAST
    if not plain.any():
        buffer = np.zeros(_HEAD_BYTES_LEAST, np.uint8)  # none is read
    key = take(buffer, np.where(plain, at, 0), _KEY_HEAD)
    key_bytes, object_bytes = _numbers(key, "key_bytes"), _numbers(key, "object_bytes")
    big = key["version"] > BIG_KEY_VERSION
    strings = at + np.where(big, SEEKS_AT + 16, SEEKS_AT + 8)
    behind = strings
    for _ in range(_STRINGS):
        plain &= behind < limit
        length = buffer[np.where(plain, behind, 0)].astype(np.int64)
        plain &= length < _LONG_STRING
        behind = behind + 1 + length
    plain &= behind + _COUNTERS.itemsize <= at + key_bytes
    plain &= (at + key_bytes <= limit) & (object_bytes >= 0) & (key["nbytes"] == nbytes)
    counters = take(buffer, np.where(plain, behind, 0), _COUNTERS)
    entries, border = _numbers(counters, "entries"), _numbers(counters, "last") - key_bytes
    # A negative size per entry announces features.
    plain &= (counters["entry_bytes"] >= 0) & (counters["flag"] < _GENERATED)
    plain &= (entries >= 0) & (border >= 0) & (border <= object_bytes)
    pids = np.zeros(len(at), np.int64)
    far = plain & big
    if far.any():
        pids[far] = take(buffer, at[far] + SEEKS_AT + 8, _DIRECTORY) & ~PDIR_MASK
    return Heads(
        buffer, plain, at, nbytes, key_bytes, object_bytes, _numbers(key, "date"),
        _numbers(key, "cycle"), big, pids, strings, behind, _numbers(counters, "buffer_bytes"),
        _numbers(counters, "entry_bytes"), entries, border,
    )  # fmt: skip


def _numbers(records: npt.NDArray[Any], name: str) -> Int64:
    numbers: Int64 = records[name].astype(np.int64)
    return numbers


def take_columns(
    heads: Heads, rows: Int64, local: Int64, counts: Int64, scratch: Scratch
) -> list[Basket] | None:
    """Take chosen entries out of several plain baskets.

    Parameters
    ----------
    rows : int64
        Which of the heads.
    local : int64
        The entries, ascending and counted from each basket's first, basket after basket.
    counts : int64, shape of ``rows``
        How many there are of each.
    scratch : Scratch
        Nothing of it is in what is returned.

    Returns
    -------
    list of Basket, one a row, or None
        None if one of them turns out not to be plain after all.
    """
    raw, base = _inflated(heads, rows, scratch)
    found = _stretches(raw, base, heads, rows, local, counts)
    if found is None:
        return None
    begin, size, varies, entry_bytes = found
    data = _gathered(raw, begin, size, counts)
    # Positions within each basket's data: one more than it has entries.
    last = np.cumsum(counts)
    ends = np.cumsum(size)
    before = np.concatenate([[0], ends])[last - counts]
    offsets = np.zeros(len(local) + len(rows), np.int64)
    offsets[np.arange(len(local)) + np.repeat(np.arange(1, len(rows) + 1), counts)] = (
        ends - np.repeat(before, counts)
    )
    edges = (last + np.arange(1, len(rows) + 1)).tolist()
    taken = []
    keys = _keys(heads, rows)
    numbers = zip(
        keys, heads.buffer_bytes[rows].tolist(), entry_bytes.tolist(), counts.tolist(),
        data, varies.tolist(), edges, _algorithms(heads, rows), strict=True,
    )  # fmt: skip
    for key, buffer_bytes, width, count, blob, jagged, edge, algorithm in numbers:
        # A copy: nothing of the batch is kept for the sake of a few entries.
        own = offsets[edge - count - 1 : edge].copy() if jagged else None
        taken.append(
            Basket(key, buffer_bytes, width, count, blob, own, None, generated=False,
                   algorithm=algorithm)
        )  # fmt: skip
    return taken


def _payloads(heads: Heads, rows: Int64) -> tuple[list[int], list[int]]:
    at = heads.at[rows]
    return (at + heads.key_bytes[rows]).tolist(), (at + heads.nbytes[rows]).tolist()


def _inflated(heads: Heads, rows: Int64, scratch: Scratch) -> tuple[Bytes, Int64]:
    """Inflate baskets behind each other; say where each begins."""
    view = heads.buffer.data
    sizes = heads.object_bytes[rows]
    padded = sizes + -sizes % _ALIGNED
    base = np.cumsum(padded) - padded
    raw = scratch.of(int(padded.sum()))
    into = raw.data
    numbers = zip(*_payloads(heads, rows), sizes.tolist(), base.tolist(), strict=True)
    for begin, end, size, at in numbers:
        into[at : at + size] = decompress(view[begin:end], size)
    return raw, base


def _stretches(
    raw: Bytes, base: Int64, heads: Heads, rows: Int64, local: Int64, counts: Int64
) -> tuple[Int64, Int64, Mask, Int64] | None:
    """Find where each entry begins in ``raw``, and its size.

    Returns
    -------
    begin, size, varies, entry_bytes, or None
        The last two by basket: whether its entries have offsets, and what its counters
        say or, of entries without offsets, their true size.
    """
    entries, border = heads.entries[rows], heads.border[rows]
    entry_bytes, rest = heads.entry_bytes[rows], heads.object_bytes[rows] - border
    varies = rest >= _OFFSET.itemsize
    uneven = ~varies & (entries * entry_bytes != border)
    if uneven.any():
        entry_bytes = np.where(uneven, border // np.maximum(entries, 1), entry_bytes)
        if (entries * entry_bytes != border)[uneven].any():
            return None
    begin = np.empty(len(local), np.int64)
    size = np.empty(len(local), np.int64)
    flags = np.repeat(varies, counts)
    for kind in (False, True):
        those = np.flatnonzero(varies == kind)
        if not len(those):
            continue
        # Nothing is picked where all baskets are of a kind.
        picked = slice(None) if len(those) == len(rows) else flags == kind
        inside, number = local[picked], counts[those]
        if not kind:
            size[picked] = np.repeat(entry_bytes[those], number)
            begin[picked] = np.repeat(base[those], number) + inside * size[picked]
            continue
        table = base[those] + border[those]
        # Read behind the count: nothing of less than one offset an entry is plain.
        words = np.ndarray((len(raw) - 3,), _OFFSET, raw.data, strides=(1,))
        stored = words[table].astype(np.int64)
        whole = _OFFSET.itemsize * (stored + 1)
        if (stored < entries[those]).any() or (rest[those] - whole < 0).any():
            return None
        if (rest[those] - whole >= _OFFSET.itemsize).any():
            return None  # displacements follow
        where = np.repeat(table, number) + _OFFSET.itemsize * (inside + 1)
        start = words[where].astype(np.int64)
        # The offset behind the last entry's is not stored.
        final = inside == np.repeat(entries[those] - 1, number)
        where += np.where(final, 0, _OFFSET.itemsize)
        key_bytes = heads.key_bytes[rows][those]
        stop = np.where(final, np.repeat(border[those] + key_bytes, number), words[where])
        low, high = np.repeat(key_bytes, number), np.repeat(border[those] + key_bytes, number)
        if (start < low).any() or (stop < start).any() or (stop > high).any():
            return None
        size[picked] = stop - start
        begin[picked] = start + np.repeat(base[those] - key_bytes, number)
    return begin, size, varies, entry_bytes


def _gathered(raw: Bytes, begin: Int64, size: Int64, counts: Int64) -> list[bytes]:
    """Copy stretches of bytes behind each other, in items as wide as a basket's allow."""
    first = np.cumsum(counts) - counts
    bits = np.bitwise_or.reduceat(begin | size, first) | _ALIGNED
    widths = bits & -bits
    each = np.repeat(widths, counts)
    totals = np.add.reduceat(size, first)
    data = [b""] * len(counts)
    for width in _WIDTHS:
        those = np.flatnonzero(widths == width)
        if not len(those):
            continue
        picked = slice(None) if len(those) == len(counts) else each == width
        items = raw.view(f"u{width}")
        source, number = begin[picked] // width, size[picked] // width
        where = np.repeat(source - (np.cumsum(number) - number), number)
        where += np.arange(len(where))
        blob = memoryview(items[where]).cast("B")
        ends = np.cumsum(totals[those])
        starts = ends - totals[those]
        for row, a, b in zip(those.tolist(), starts.tolist(), ends.tolist(), strict=True):
            data[row] = bytes(blob[a:b])
    return data


def _keys(heads: Heads, rows: Int64) -> list[BasketKey]:
    view = heads.buffer.data
    columns = (
        heads.nbytes, heads.object_bytes, heads.key_bytes, heads.date, heads.cycle,
        heads.big, heads.pids,
    )  # fmt: skip
    begins, ends = heads.strings[rows].tolist(), heads.counters[rows].tolist()
    strings = [bytes(view[a:b]) for a, b in zip(begins, ends, strict=True)]
    return list(map(BasketKey, *(column[rows].tolist() for column in columns), strings))


def _algorithms(heads: Heads, rows: Int64) -> list[int | None]:
    view = heads.buffer.data
    plain = (heads.nbytes - heads.key_bytes == heads.object_bytes)[rows].tolist()
    begins, ends = _payloads(heads, rows)
    numbers = zip(plain, begins, ends, strict=True)
    return [None if as_is else algorithm_of(view[a:b]) for as_is, a, b in numbers]
