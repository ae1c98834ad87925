"""What must be known of an RNTuple to cut it: schema, clusters, and where pages are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from evstream.rootio.compression import decompress
from evstream.rootio.errors import CorruptFileError, corrupt_steps_if_broken
from evstream.rootio.keys import Key, folder_of
from evstream.rootio.rntuple import envelope
from evstream.rootio.rntuple.anchor import Anchor, Link, extents, read_blobs
from evstream.rootio.rntuple.envelope import Cursor
from evstream.rootio.rntuple.page_list import PageList, Pages, parse_page_list
from evstream.rootio.rntuple.schema import Field, Role, Schema
from evstream.rootio.rntuple.tables import Tables, build_tables
from evstream.rootio.source import Data, Range, Steps
from evstream.rootio.tree_index import BranchInfo

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class NTupleIndex:
    """An RNTuple: what people ask about it, and what a cut needs.

    Attributes
    ----------
    path : str
        "Events", or "a/Events" in a directory.
    key : Key
        Of its anchor's newest cycle.
    anchor : Anchor
    name, description, writer : str
        As its header states them.
    schema : Schema
        Header and extension together.
    groups : int64, shape (n_groups + 1,)
        Where each cluster group's clusters begin.
    tables : Tables
    pieces : mapping of position to stretches
        Of pages that are stored in several keys.
    notes : tuple of str
        What a cut leaves behind, in words.
    """

    path: str
    key: Key
    anchor: Anchor
    name: str
    description: str
    writer: str
    schema: Schema
    groups: Int64
    tables: Tables
    pieces: dict[int, list[Range]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        """Path of the directory that lists it, "" at the top."""
        return folder_of(self.path, self.key)

    @property
    def entries(self) -> int:
        """Number of entries."""
        return int(self.tables.edges[-1])

    @property
    def clusters(self) -> Int64:
        """First entry of each cluster, and the entry count."""
        return self.tables.edges

    @cached_property
    def branches(self) -> tuple[BranchInfo, ...]:
        """Fields as people know them, each before those below it.

        Items of collections and arrays are counted to the field that holds them.
        """
        return tuple(info for info, _ in self._named)

    @cached_property
    def field_of(self) -> dict[str, int]:
        """Number of the field that a branch's name means; qualified names work too."""
        known = {name: i for i, name in reversed(list(enumerate(self.schema.names)))}
        known.update({info.name: number for info, number in reversed(self._named)})
        return known

    @cached_property
    def _named(self) -> list[tuple[BranchInfo, int]]:
        schema = self.schema
        counts = self.tables.page_counts
        nbytes, pages = [0] * len(schema.fields), [0] * len(schema.fields)
        holder: list[int] = []
        for i, one in enumerate(schema.fields):
            holder.append(holder[one.parent] if schema.nameless(i) else i)
        stored = (
            np.add.reduceat(np.append(self.tables.pages.size, 0), self.tables.first[:-1])
            * (np.diff(self.tables.first) > 0)
            if len(self.tables.first) > 1
            else np.zeros(0, np.int64)
        )
        by_slot = stored.reshape(-1, len(schema.slots)).sum(axis=0).tolist()
        for slot, size, count in zip(
            schema.slots, by_slot, counts.sum(axis=0).tolist(), strict=True
        ):
            nbytes[holder[slot.field]] += size
            pages[holder[slot.field]] += count
        rows: list[tuple[BranchInfo, int]] = []
        place: dict[int, int] = {}
        for i, one in enumerate(schema.fields):
            if holder[i] != i:
                continue
            parent = -1 if one.parent == i else place[holder[one.parent]]
            place[i] = len(rows)
            info = BranchInfo(
                schema.short_names[i], parent, _type_text(one), one.description, nbytes[i], pages[i]
            )
            rows.append((info, i))
        return rows


def _type_text(one: Field) -> str:
    words = {Role.COLLECTION: "collection", Role.RECORD: "record"}
    return one.type_alias or one.type_name or words.get(Role(min(one.role, 4)), "")


@corrupt_steps_if_broken
def read_ntuple(
    path: str,
    key: Key,
    record: Data,
    source_size: int,
    parse_schema: Callable[..., Schema] = Schema.parse,
) -> Steps[tuple[NTupleIndex, list[bytes]]]:
    """Read an RNTuple's envelopes, following its anchor.

    Parameters
    ----------
    record : bytes-like
        The anchor's record, decompressed.
    parse_schema : callable
        Given what header and footer say of it.

    Returns
    -------
    index, envelopes as stored (for fingerprints)

    Raises
    ------
    CorruptFileError, UnsupportedFeatureError
    """
    anchor = Anchor.parse(record)
    links = [anchor.header, anchor.footer]
    stored = yield from _read(links, anchor, source_size)
    header_raw, footer_raw = (
        decompress(data, link.length) for data, link in zip(stored, links, strict=True)
    )
    header = Cursor(envelope.open_envelope(header_raw, envelope.HEADER))
    header_checksum = bytes(memoryview(header_raw)[-envelope.CHECKSUM_BYTES :])
    footer = Cursor(envelope.open_envelope(footer_raw, envelope.FOOTER))
    header.features()
    footer.features()
    if bytes(footer.take(envelope.CHECKSUM_BYTES)) != header_checksum:
        raise CorruptFileError("an RNTuple's footer belongs to another header")
    name, description, writer = (header.text() for _ in range(3))
    schema = parse_schema(header, footer.record())
    groups = footer.records(_group)
    notes = _notes(footer)
    lists_stored = yield from _read([link for _, link in groups], anchor, source_size)
    pairs = zip(groups, lists_stored, strict=True)
    lists = [_page_list(data, *group, header_checksum) for group, data in pairs]
    tables = build_tables(schema, lists)
    pieces = yield from _pieces(tables.pages, anchor.key_bytes_max, source_size)
    index = NTupleIndex(
        path=path,
        key=key,
        anchor=anchor,
        name=name,
        description=description,
        writer=writer,
        schema=schema,
        groups=np.cumsum([0, *(count for count, _ in groups)], dtype=np.int64),
        tables=tables,
        pieces=pieces,
        notes=notes,
    )
    return index, [bytes(data) for data in [*stored, *lists_stored]]


def _page_list(data: Data, clusters: int, link: Link, header_checksum: bytes) -> PageList:
    body = envelope.open_envelope(decompress(data, link.length), envelope.PAGE_LIST)
    found = parse_page_list(body, header_checksum)
    if len(found.entries) != clusters:
        raise CorruptFileError("a cluster group has other clusters than the footer says")
    return found


def _read(links: Sequence[Link], anchor: Anchor, source_size: int) -> Steps[list[memoryview]]:
    blobs = [(link.offset, link.size) for link in links]
    views = yield from read_blobs(blobs, anchor.key_bytes_max, source_size)
    return views


def _group(frame: Cursor) -> tuple[int, Link]:
    """Read a cluster group: its number of clusters, and where its page list is."""
    frame.take(16)
    count, length = frame.number(envelope.U4), frame.number(envelope.U8)
    return count, Link(*frame.locator(), length)


def _notes(footer: Cursor) -> tuple[str, ...]:
    if footer.at_end:
        return ()
    _, count = footer.list_frame()
    return (f"linked attribute sets ({count})",) if count else ()


def _pieces(pages: Pages, key_bytes_max: int, source_size: int) -> Steps[dict[int, list[Range]]]:
    """Find the stretches of pages that are longer than a key may be."""
    if not key_bytes_max:
        return {}
    pieces = {}
    for row in np.flatnonzero(pages.nbytes > key_bytes_max).tolist():
        seek = int(pages.seek[row])
        if seek not in pieces:
            pieces[seek] = yield from extents(
                seek, int(pages.nbytes[row]), key_bytes_max, source_size
            )
    return pieces
