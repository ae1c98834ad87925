"""Page lists: where the pages of every column in every cluster are.

Tables, not objects: a file has tens of thousands of pages. A list's frames are walked
once, and the pages' own items are then read, or written, all together.

Source: RNTuple Binary Format Specification 1.0, "Page List Envelope".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from evstream.rootio.errors import CorruptFileError, UnsupportedFeatureError
from evstream.rootio.rntuple import envelope
from evstream.rootio.rntuple.envelope import CHECKSUM_BYTES, I4, I8, LIST_HEAD, U4, U8, Cursor
from evstream.rootio.scattered import put, take

Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

SUPPRESSED = -(1 << 63)
_SHARDED = 1
# A page: number of elements (negative: with a checksum), then a plain locator.
_ITEM = np.dtype([("elements", "<i4"), ("size", "<i4"), ("seek", "<i8")])
_OFFSET_BYTES, _SETTING_BYTES = 8, 4


@dataclass(frozen=True, slots=True)
class Pages:
    """Pages, in the order of clusters, columns and elements.

    Attributes
    ----------
    elements : int64
    seek, size : int64
        Where each is; ``size`` is without the checksum. A ``seek`` of -1 stands for
        zeros that are stored nowhere.
    checked : bool
        Whether a checksum follows it.
    """

    elements: Int64
    seek: Int64
    size: Int64
    checked: Bool

    @property
    def nbytes(self) -> Int64:
        """Bytes to copy: the page and its checksum."""
        return self.size + CHECKSUM_BYTES * self.checked

    def __len__(self) -> int:
        return len(self.elements)

    def take(self, rows: npt.NDArray[np.int64] | slice) -> Pages:
        """Return some of them."""
        return Pages(self.elements[rows], self.seek[rows], self.size[rows], self.checked[rows])

    @staticmethod
    def together(parts: Sequence[Pages]) -> Pages:
        """Put several tables behind each other."""
        none = np.zeros(0, np.int64)
        return Pages(
            np.concatenate([none, *(p.elements for p in parts)]),
            np.concatenate([none, *(p.seek for p in parts)]),
            np.concatenate([none, *(p.size for p in parts)]),
            np.concatenate([none.astype(np.bool_), *(p.checked for p in parts)]),
        )


@dataclass(frozen=True, slots=True)
class PageList:
    """One page list: some clusters.

    Attributes
    ----------
    first_entries, entries : int64, shape (n_clusters,)
    columns : int64, shape (n_clusters,)
        How many columns each cluster lists; those of later schema extensions lack.
    counts : int64, shape (sum of columns,)
        Pages of each listed column.
    offsets : int64, shape (sum of columns,)
        First element, over all clusters; negative if suppressed.
    settings : int64, shape (sum of columns,)
        Compression; -1 if suppressed.
    pages : Pages
    """

    first_entries: Int64
    entries: Int64
    columns: Int64
    counts: Int64
    offsets: Int64
    settings: Int64
    pages: Pages


def parse_page_list(body: memoryview, header_checksum: bytes) -> PageList:
    """Decode a page list's contents.

    Raises
    ------
    CorruptFileError, UnsupportedFeatureError
    """
    cursor = Cursor(body)
    if bytes(cursor.take(CHECKSUM_BYTES)) != header_checksum:
        raise CorruptFileError("a page list belongs to another header")
    summaries = cursor.records(_summary)
    clusters, count = cursor.list_frame()
    if count != len(summaries):
        raise CorruptFileError("a page list has other clusters than it sums up")
    columns: list[int] = []
    frames: list[tuple[int, int, int]] = []
    for _ in range(count):
        inner, column_count = clusters.list_frame()
        columns.append(column_count)
        frames += _column_frames(inner, column_count)
    rows = _Rows(body, np.array(frames, np.int64).reshape(-1, 3))
    table = np.array(summaries, np.int64).reshape(-1, 2)
    return PageList(
        table[:, 0],
        table[:, 1],
        np.array(columns, np.int64),
        rows.counts,
        rows.offsets,
        rows.settings,
        rows.pages(),
    )


def _summary(frame: Cursor) -> tuple[int, int]:
    first, word = frame.number(U8), frame.number(U8)
    if (word >> 56) & _SHARDED:
        raise UnsupportedFeatureError("its clusters are sharded, which no version defines yet")
    if first >= 1 << 62:
        raise CorruptFileError("a cluster begins at an impossible entry")
    return first, word & ((1 << 56) - 1)


def _column_frames(cluster: Cursor, columns: int) -> list[tuple[int, int, int]]:
    """Find where a cluster's columns begin, with their lengths and numbers of pages."""
    frames = []
    data, at, stop, unpack = cluster.data, cluster.at, cluster.stop, LIST_HEAD.unpack_from
    for _ in range(columns):
        if at + LIST_HEAD.size > stop:
            raise CorruptFileError("a page list ends within a cluster", offset=at)
        negative, count = unpack(data, at)
        frames.append((at, -negative, count))
        if -negative < LIST_HEAD.size:
            raise CorruptFileError("a frame has an impossible length", offset=at)
        at -= negative
    if at > stop:
        raise CorruptFileError("a frame has an impossible length", offset=frames[-1][0])
    return frames


class _Rows:
    """The columns of all clusters, and where their pages' items are.

    Parameters
    ----------
    frames : int64, shape (n_columns, 3)
        Position, length and number of pages of each.
    """

    def __init__(self, body: memoryview, frames: Int64) -> None:
        self._body = body
        self._raw = np.frombuffer(body, np.uint8)
        at, nbytes, self.counts = frames.T
        self._starts = at + LIST_HEAD.size
        stops = at + nbytes
        behind = self._starts + _ITEM.itemsize * self.counts
        stated = stops - behind
        self._plain = (stated == _OFFSET_BYTES + _SETTING_BYTES) | (
            (self.counts == 0) & (stated == _OFFSET_BYTES)
        )
        self._odd: dict[int, list[tuple[int, int, int]]] = {}
        for number in np.flatnonzero(~self._plain).tolist():
            cursor = Cursor(body, int(self._starts[number]), int(stops[number]))
            self._odd[number] = _odd_items(cursor, int(self.counts[number]))
            behind[number] = cursor.at
        if (behind + _OFFSET_BYTES > stops).any():
            raise CorruptFileError("an envelope ends within a value")
        self.offsets = self._numbers(behind, np.dtype("<i8"))
        kept = self.offsets >= 0
        if self.counts[~kept].any():
            raise CorruptFileError("a suppressed column has pages")
        behind = behind[kept] + _OFFSET_BYTES
        if (behind + _SETTING_BYTES > stops[kept]).any():
            raise CorruptFileError("an envelope ends within a value")
        self.settings = np.full(len(frames), -1, np.int64)
        self.settings[kept] = self._numbers(behind, np.dtype("<u4"))

    def _numbers(self, at: Int64, dtype: np.dtype[Any]) -> Int64:
        numbers: Int64 = take(self._raw, at, dtype).astype(np.int64)
        return numbers

    def pages(self) -> Pages:
        """Read the pages of all columns."""
        total = int(self.counts.sum())
        # Where each page's item begins, from where its column's do.
        before = np.cumsum(self.counts) - self.counts
        at = np.repeat(self._starts - before * _ITEM.itemsize, self.counts)
        at += np.arange(total) * _ITEM.itemsize
        at[np.repeat(~self._plain, self.counts)] = 0
        items = take(self._raw, at, _ITEM)
        table = np.stack([items[name].astype(np.int64) for name in ("elements", "seek", "size")])
        for number, odd in self._odd.items():
            first = int(before[number])
            table[:, first : first + len(odd)] = np.array(odd, np.int64).reshape(-1, 3).T
        elements, seek, size = table
        if (size < 0).any():
            # A locator of another kind that happened to have a plain one's length.
            raise UnsupportedFeatureError("a page's locator does not point into a file")
        if (seek < 0).any():
            raise CorruptFileError("a page lies at an impossible position")
        return Pages(abs(elements), seek, size, elements < 0)


def _odd_items(frame: Cursor, count: int) -> list[tuple[int, int, int]]:
    """Read the pages of a column one by one: some have locators of another kind."""
    # No item is shorter than a byte, so a claim is checked before it costs anything.
    if count > frame.stop - frame.at:
        raise CorruptFileError("a list claims more items than it has bytes", offset=frame.at)
    return [(frame.number(I4), *frame.locator()) for _ in range(count)]


@dataclass(frozen=True, slots=True)
class Group:
    """The clusters of one page list to be written.

    As in `PageList`, but every cluster has all columns.
    """

    first_entries: Int64
    entries: Int64
    counts: Int64
    offsets: Int64
    settings: Int64
    pages: Pages


def write_page_list(group: Group, header_checksum: bytes) -> bytes:
    """Encode a page list as an envelope."""
    summaries = [
        envelope.record(U8.pack(first) + U8.pack(entries))
        for first, entries in zip(group.first_entries.tolist(), group.entries.tolist(), strict=True)
    ]
    clusters = len(summaries)
    columns = len(group.counts) // max(clusters, 1)
    large = bool((group.pages.size > 0x7FFFFFFF).any())
    if large:
        raise UnsupportedFeatureError("a page is longer than 2 GB")
    suppressed = group.offsets < 0
    frame = LIST_HEAD.size + _OFFSET_BYTES + _SETTING_BYTES * ~suppressed
    sizes = frame + _ITEM.itemsize * group.counts
    outer = sizes.reshape(clusters, columns).sum(axis=1) + LIST_HEAD.size
    total = int(outer.sum())
    out = np.zeros(total, np.uint8)
    outer_at = np.cumsum(outer) - outer
    put(out, outer_at, (-outer).astype("<i8"))
    put(out, outer_at + 8, np.full(clusters, columns).astype("<u4"))
    # Columns follow each other; each cluster's first comes behind the cluster's own head.
    heads = np.repeat(np.arange(1, clusters + 1) * LIST_HEAD.size, columns)
    at = np.cumsum(sizes) - sizes + heads
    put(out, at, (-sizes).astype("<i8"))
    put(out, at + 8, group.counts.astype("<u4"))
    behind = at + LIST_HEAD.size + _ITEM.itemsize * group.counts
    put(out, behind, np.where(suppressed, SUPPRESSED, group.offsets).astype("<i8"))
    kept = ~suppressed
    put(out, behind[kept] + _OFFSET_BYTES, group.settings[kept].astype("<u4"))
    pages = group.pages
    items = np.zeros(len(pages), _ITEM)
    items["elements"] = np.where(pages.checked, -pages.elements, pages.elements)
    items["size"], items["seek"] = pages.size, pages.seek
    before = np.cumsum(group.counts) - group.counts
    where = np.repeat(at + LIST_HEAD.size - before * _ITEM.itemsize, group.counts)
    where += np.arange(len(pages)) * _ITEM.itemsize
    put(out, where, items)
    nested = I8.pack(-(total + LIST_HEAD.size)) + U4.pack(clusters) + out.tobytes()
    return envelope.make_envelope(
        envelope.PAGE_LIST, header_checksum + envelope.list_frame(summaries) + nested
    )
