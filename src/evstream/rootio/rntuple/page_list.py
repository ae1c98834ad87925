"""Page lists: where the pages of every column in every cluster are.

Tables, not objects: a file has tens of thousands of pages. A list's frames are walked
once, and the pages' own items are then read, or written, all together.

Source: RNTuple Binary Format Specification 1.0, "Page List Envelope".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evstream.rootio.errors import CorruptFileError, UnsupportedFeatureError
from evstream.rootio.rntuple import envelope
from evstream.rootio.rntuple.envelope import CHECKSUM_BYTES, I4, I8, U4, U8, Cursor

Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

SUPPRESSED = -(1 << 63)
_SHARDED = 1
# A page: number of elements (negative: with a checksum), then a plain locator.
_ITEM = np.dtype([("elements", "<i4"), ("size", "<i4"), ("seek", "<i8")])
_LIST_HEAD_BYTES = 12
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
    columns, rows = [], _Rows(body)
    for _ in range(count):
        inner, column_count = clusters.list_frame()
        columns.append(column_count)
        for _ in range(column_count):
            rows.read(inner)
    table = np.array(summaries, np.int64).reshape(-1, 2)
    return PageList(
        table[:, 0],
        table[:, 1],
        np.array(columns, np.int64),
        np.array(rows.counts, np.int64),
        np.array(rows.offsets, np.int64),
        np.array(rows.settings, np.int64),
        rows.pages(),
    )


def _summary(frame: Cursor) -> tuple[int, int]:
    first, word = frame.number(U8), frame.number(U8)
    if (word >> 56) & _SHARDED:
        raise UnsupportedFeatureError("its clusters are sharded, which no version defines yet")
    if first >= 1 << 62:
        raise CorruptFileError("a cluster begins at an impossible entry")
    return first, word & ((1 << 56) - 1)


class _Rows:
    """Collects the columns of all clusters, and where their pages' items are."""

    def __init__(self, body: memoryview) -> None:
        self._body = body
        self._plain: list[tuple[int, int]] = []  # position of items, count
        self._odd: dict[int, list[tuple[int, int, int]]] = {}
        self.counts: list[int] = []
        self.offsets: list[int] = []
        self.settings: list[int] = []

    def read(self, outer: Cursor) -> None:
        frame, count = outer.list_frame()
        start = frame.at
        behind = start + _ITEM.itemsize * count
        stated = frame.stop - behind
        if stated == _OFFSET_BYTES + _SETTING_BYTES or (not count and stated == _OFFSET_BYTES):
            frame.at = behind
        else:
            items = []
            for _ in range(count):
                elements = frame.number(I4)
                items.append((elements, *frame.locator()))
            self._odd[len(self._plain)] = items
        self._plain.append((start, count))
        offset = frame.number(I8)
        self.counts.append(count)
        self.offsets.append(offset)
        self.settings.append(-1 if offset < 0 else frame.number(U4))
        if offset < 0 and count:
            raise CorruptFileError("a suppressed column has pages")

    def pages(self) -> Pages:
        starts = np.array([s for s, _ in self._plain], np.int64)
        counts = np.array([c for _, c in self._plain], np.int64)
        total = int(counts.sum())
        # Where each page's item begins, from where its column's do.
        before = np.cumsum(counts) - counts
        at = np.repeat(starts - before * _ITEM.itemsize, counts)
        at += np.arange(total) * _ITEM.itemsize
        if self._odd:
            plain = np.ones(len(counts), np.bool_)
            plain[list(self._odd)] = False
            at[np.repeat(~plain, counts)] = 0
        raw = np.frombuffer(self._body, np.uint8)
        items = raw[at[:, None] + np.arange(_ITEM.itemsize)].reshape(-1).view(_ITEM)
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
    frame = _LIST_HEAD_BYTES + _OFFSET_BYTES + _SETTING_BYTES * ~suppressed
    sizes = frame + _ITEM.itemsize * group.counts
    outer = sizes.reshape(clusters, columns).sum(axis=1) + _LIST_HEAD_BYTES
    total = int(outer.sum())
    out = np.zeros(total, np.uint8)
    outer_at = np.cumsum(outer) - outer
    _put(out, outer_at, -outer, "<i8")
    _put(out, outer_at + 8, np.full(clusters, columns), "<u4")
    # Columns follow each other; each cluster's first comes behind the cluster's own head.
    heads = np.repeat(np.arange(1, clusters + 1) * _LIST_HEAD_BYTES, columns)
    at = np.cumsum(sizes) - sizes + heads
    _put(out, at, -sizes, "<i8")
    _put(out, at + 8, group.counts, "<u4")
    behind = at + _LIST_HEAD_BYTES + _ITEM.itemsize * group.counts
    _put(out, behind, np.where(suppressed, SUPPRESSED, group.offsets), "<i8")
    kept = ~suppressed
    _put(out, behind[kept] + _OFFSET_BYTES, group.settings[kept], "<u4")
    pages = group.pages
    items = np.zeros(len(pages), _ITEM)
    items["elements"] = np.where(pages.checked, -pages.elements, pages.elements)
    items["size"], items["seek"] = pages.size, pages.seek
    before = np.cumsum(group.counts) - group.counts
    where = np.repeat(at + _LIST_HEAD_BYTES - before * _ITEM.itemsize, group.counts)
    where += np.arange(len(pages)) * _ITEM.itemsize
    out[where[:, None] + np.arange(_ITEM.itemsize)] = items.view(np.uint8).reshape(
        -1, _ITEM.itemsize
    )
    nested = I8.pack(-(total + _LIST_HEAD_BYTES)) + U4.pack(clusters) + out.tobytes()
    return envelope.make_envelope(
        envelope.PAGE_LIST, header_checksum + envelope.list_frame(summaries) + nested
    )


def _put(out: npt.NDArray[np.uint8], at: Int64, values: npt.NDArray[np.int64], dtype: str) -> None:
    width = np.dtype(dtype).itemsize
    raw = np.ascontiguousarray(values.astype(dtype)).view(np.uint8).reshape(-1, width)
    out[at[:, None] + np.arange(width)] = raw
