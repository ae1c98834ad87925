"""RNTuple indices within a source index: names as text, tables as arrays."""

from __future__ import annotations

from dataclasses import astuple
from typing import Any, Protocol

import numpy as np

from evstream.rootio.keys import Key
from evstream.rootio.rntuple.anchor import Anchor, Link
from evstream.rootio.rntuple.envelope import Cursor
from evstream.rootio.rntuple.ntuple_index import NTupleIndex
from evstream.rootio.rntuple.page_list import Pages
from evstream.rootio.rntuple.schema import Schema
from evstream.rootio.rntuple.tables import Tables

Json = dict[str, Any]


class Writer(Protocol):
    """Takes what is too large for the text, and gives a reference to it."""

    def blob(self, data: bytes) -> list[int]:
        """Keep bytes."""
        ...

    def array(self, values: Any) -> list[Any]:
        """Keep whole numbers."""
        ...


class Reader(Protocol):
    """Finds them again."""

    def blob(self, reference: list[int]) -> bytes:
        """Return bytes."""
        ...

    def array(self, reference: list[Any]) -> Any:
        """Return numbers, as int64."""
        ...


def encode_ntuple(index: NTupleIndex, out: Writer) -> Json:
    """Encode an index as JSON, with its tables in a writer."""
    tables, pages = index.tables, index.tables.pages
    return {
        "path": index.path,
        "key": astuple(index.key),
        "anchor": astuple(index.anchor),
        "texts": [index.name, index.description, index.writer],
        "schema": out.blob(index.schema.to_bytes()),
        "groups": out.array(index.groups),
        "edges": out.array(tables.edges),
        # Counts, and positions as seen from the page before, compress well.
        "counts": out.array(np.diff(tables.first)),
        "representation": out.array(tables.representation.reshape(-1)),
        "settings": out.array(tables.settings.reshape(-1)),
        "elements": out.array(pages.elements),
        "seeks": out.array(np.diff(pages.seek, prepend=0)),
        "sizes": out.array(pages.size),
        "checked": out.blob(np.packbits(pages.checked).tobytes()),
        "pieces": [[seek, pieces] for seek, pieces in index.pieces.items()],
        "notes": index.notes,
    }


def decode_ntuple(text: Json, blobs: Reader) -> NTupleIndex:
    """Decode what `encode_ntuple` made."""
    schema = Schema.parse(Cursor(memoryview(blobs.blob(text["schema"]))))
    elements = blobs.array(text["elements"])
    checked = np.unpackbits(
        np.frombuffer(blobs.blob(text["checked"]), np.uint8), count=len(elements)
    )
    edges = blobs.array(text["edges"])
    shape = (len(edges) - 1, len(schema.slots))
    pages = Pages(
        elements,
        np.cumsum(blobs.array(text["seeks"])),
        blobs.array(text["sizes"]),
        checked.astype(np.bool_),
    )
    first = np.concatenate([np.zeros(1, np.int64), np.cumsum(blobs.array(text["counts"]))])
    version, header, footer, key_bytes_max = text["anchor"]
    name, description, writer = text["texts"]
    epoch, major, minor, patch = version
    return NTupleIndex(
        path=text["path"],
        key=Key(*text["key"]),
        anchor=Anchor((epoch, major, minor, patch), Link(*header), Link(*footer), key_bytes_max),
        name=name,
        description=description,
        writer=writer,
        schema=schema,
        groups=blobs.array(text["groups"]),
        tables=Tables(
            edges,
            first,
            blobs.array(text["representation"]).reshape(shape),
            blobs.array(text["settings"]).reshape(shape),
            pages,
        ),
        pieces={seek: [(a, b) for a, b in pieces] for seek, pieces in text["pieces"]},
        notes=tuple(text["notes"]),
    )
