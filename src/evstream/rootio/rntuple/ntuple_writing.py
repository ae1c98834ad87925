"""Write an RNTuple into a product: pages, page lists, header, footer and anchor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from evstream.rootio.assembly import FileAssembly
from evstream.rootio.compression import compress
from evstream.rootio.product import Segment, in_memory
from evstream.rootio.rntuple import envelope
from evstream.rootio.rntuple.anchor import CLASS, KEY_BYTES_MAX, Anchor, Link
from evstream.rootio.rntuple.ntuple_index import NTupleIndex
from evstream.rootio.rntuple.ntuple_pages import NTuplePages, ProductTable, Stored
from evstream.rootio.rntuple.page_list import Group, write_page_list
from evstream.rootio.rntuple.schema import Schema
from evstream.rootio.splice import Baskets

Int64 = npt.NDArray[np.int64]
# A key's length is a number of four bytes; no page is longer than half of what it says.
_PAYLOAD_BYTES_MAX = 1 << 29
# Columns and pages in one page list; readers take a list as a whole.
_LIST_ITEMS_MAX = 2_000_000
# Since this version a list of attribute sets ends the footer; uproot goes by the version.
_WITH_ATTRIBUTES = (1, 0, 1, 0)
_NO_FEATURES = envelope.U8.pack(0)


def add_ntuple(assembly: FileAssembly, ntuple: NTuplePages, source_sizes: Sequence[int]) -> None:
    """Add an RNTuple to a file that is being put together.

    Parameters
    ----------
    ntuple : NTuplePages
        Prepared.
    source_sizes : sequence of int
        Length of each source in bytes.
    """
    like = ntuple.index
    folder, name = like.folder, like.key.name
    header_raw = _header(like, ntuple.schema)
    header = _add_envelope(assembly, folder, header_raw, like.key.date)
    header_checksum = header_raw[-envelope.CHECKSUM_BYTES :]
    table = ntuple.table(source_sizes)
    seek = _add_pages(assembly, folder, table, like.key.date)
    groups = []
    for group in _groups(ntuple.schema, table, seek):
        raw = write_page_list(group, header_checksum)
        link = _add_envelope(assembly, folder, raw, like.key.date)
        first, span = int(group.first_entries[0]), int(group.entries.sum())
        numbers = envelope.U8.pack(first) + envelope.U8.pack(span)
        numbers += envelope.U4.pack(len(group.entries))
        groups.append(envelope.record(numbers + _link(link)))
    nothing_new = envelope.record(Schema((), ()).to_bytes())
    lists = [envelope.list_frame(groups)]
    if like.anchor.version >= _WITH_ATTRIBUTES:
        lists.append(envelope.list_frame([]))
    footer_body = b"".join([_NO_FEATURES, header_checksum, nothing_new, *lists])
    footer_raw = envelope.make_envelope(envelope.FOOTER, footer_body)
    footer = _add_envelope(assembly, folder, footer_raw, like.key.date)
    anchor = Anchor(like.anchor.version, header, footer, KEY_BYTES_MAX).to_bytes()
    assembly.add_object(folder, CLASS, name, like.key.title, anchor, len(anchor), like.key.date)


def add_entries(
    assembly: FileAssembly, held: Baskets | NTuplePages, source_sizes: Sequence[int]
) -> None:
    """Add a tree or an RNTuple, prepared, to a file that is being put together."""
    if isinstance(held, NTuplePages):
        add_ntuple(assembly, held, source_sizes)
    else:
        assembly.add_tree(held)


def _header(like: NTupleIndex, schema: Schema) -> bytes:
    texts = [envelope.text(t) for t in (like.name, like.description, like.writer)]
    body = b"".join([_NO_FEATURES, *texts, schema.to_bytes()])
    return envelope.make_envelope(envelope.HEADER, body)


def _add_envelope(assembly: FileAssembly, folder: str, raw: bytes, date: int) -> Link:
    stored = compress(raw, assembly.setting)
    offset = assembly.add_blob(folder, [in_memory(stored)], len(raw), date)
    return Link(offset, len(stored), len(raw))


def _link(link: Link) -> bytes:
    return envelope.U8.pack(link.length) + envelope.locator(link.offset, link.size)


# --- pages ----------------------------------------------------------------------------


def _add_pages(assembly: FileAssembly, folder: str, table: ProductTable, date: int) -> Int64:
    """Lay pages out, a key or more for each cluster; return the position of each page."""
    stored = table.stored()
    count = len(stored.nbytes)
    if not count:
        return np.zeros(0, np.int64)
    ends = np.cumsum(stored.nbytes)
    starts = ends - stored.nbytes
    new = np.flatnonzero(np.diff(stored.cluster, prepend=-1))
    within = starts - np.repeat(starts[new], np.diff(np.append(new, count)))
    part = within // _PAYLOAD_BYTES_MAX
    key = np.flatnonzero(np.diff(stored.cluster, prepend=-1) | np.diff(part, prepend=-1))
    position = np.zeros(count, np.int64)
    for first, last in zip(key.tolist(), [*key[1:].tolist(), count], strict=True):
        segments = _segments(stored, table, first, last)
        size = int(ends[last - 1] - starts[first])
        begin = assembly.add_blob(folder, segments, size, date)
        position[first:last] = begin + starts[first:last] - starts[first]
    seek: Int64 = position[stored.which]
    return seek


def _segments(stored: Stored, table: ProductTable, first: int, last: int) -> list[Segment]:
    """Find runs of pages that lie behind each other in a source, or are made."""
    source, seek = stored.source[first:last], stored.seek[first:last]
    behind = seek + stored.nbytes[first:last]
    apart = np.diff(source) != 0
    apart |= (seek[1:] != behind[:-1]) & (source[1:] >= 0)
    for number, pieces in table.pieces.items():
        if pieces:
            split = (source == number) & np.isin(seek, list(pieces))
            apart |= split[1:] | split[:-1]
    begins = [0, *(np.flatnonzero(apart) + 1).tolist()]
    segments: list[Segment] = []
    for begin, end in zip(begins, [*begins[1:], last - first], strict=True):
        where, number = int(seek[begin]), int(source[begin])
        if number < 0:
            made = [table.made[i].data for i in seek[begin:end].tolist()]
            segments.append(in_memory(b"".join(made)))
        elif where in table.pieces[number]:
            segments += [Segment(number, *piece) for piece in table.pieces[number][where]]
        else:
            segments.append(Segment(number, where, int(behind[end - 1]) - where))
    return segments


def _groups(schema: Schema, table: ProductTable, seek: Int64) -> list[Group]:
    """Arrange clusters by column, in groups of a bearable size."""
    slots = len(schema.slots)
    columns = len(schema.columns)
    slot_of, representation_of = np.zeros(columns, np.int64), np.zeros(columns, np.int64)
    for number, slot in enumerate(schema.slots):
        for representation, column in enumerate(slot.columns):
            slot_of[column], representation_of[column] = number, representation
    first = np.concatenate([np.zeros(1, np.int64), np.cumsum(table.counts.reshape(-1))])
    pages = replace(table.pages, seek=seek)
    running = np.concatenate([np.zeros(1, np.int64), np.cumsum(pages.elements)])
    elements = np.diff(running[first]).reshape(-1, slots) if slots else table.counts
    offsets = np.cumsum(elements, axis=0) - elements
    entries = np.cumsum(table.entries) - table.entries
    items = np.cumsum(table.counts.sum(axis=1) + columns)
    group_of = (items - 1) // _LIST_ITEMS_MAX if len(items) else items
    begins = np.flatnonzero(np.diff(group_of, prepend=-1)).tolist()
    groups = []
    for begin, end in zip(begins, [*begins[1:], len(items)][: len(begins)], strict=True):
        active = table.representation[begin:end, slot_of] == representation_of
        groups.append(
            Group(
                entries[begin:end],
                table.entries[begin:end],
                np.where(active, table.counts[begin:end, slot_of], 0).reshape(-1),
                np.where(active, offsets[begin:end, slot_of], -1).reshape(-1),
                table.settings[begin:end, slot_of].reshape(-1),
                pages.take(slice(int(first[begin * slots]), int(first[end * slots]))),
            )
        )
    return groups
