"""Source indices as bytes: compact, versioned, quick to load, safe to lose.

A magic and a version, then one zstd frame: a JSON text for names and small
numbers, and behind it the large arrays that the text refers to by position; then a
digest of it all.
Nothing in it is executed when it is read.
"""

from __future__ import annotations

import json
from dataclasses import fields
from operator import attrgetter
from struct import Struct
from types import MappingProxyType
from typing import Any

import cramjam
import numpy as np
import xxhash

from evstream.rootio.errors import CorruptFileError, corrupt_if_broken
from evstream.rootio.index import Folder, ObjectInfo, Record, SourceIndex
from evstream.rootio.keys import Key
from evstream.rootio.object_graph import Array, Items, Op
from evstream.rootio.rntuple.ntuple_codec import decode_ntuple, encode_ntuple
from evstream.rootio.rntuple.ntuple_index import NTupleIndex
from evstream.rootio.tree_index import (
    BasketTable,
    BranchKind,
    BranchTable,
    FieldPlaces,
    LeafLayout,
    TreeIndex,
)
from evstream.rootio.tree_template import Skeleton

MAGIC = b"EVSINDEX"
VERSION = 6
_HEAD = Struct(">8sHQI")
_DIGEST = Struct(">Q")
_BYTES_MAX = 1 << 31
_ZSTD_LEVEL = 3

Json = dict[str, Any]

# Of flat dataclasses; `dataclasses.astuple` copies deeply, which took longer than all else here.
_OF_KEY, _OF_FOLDER, _OF_LAYOUT, _OF_ARRAY = (
    attrgetter(*(each.name for each in fields(kind))) for kind in (Key, Folder, LeafLayout, Array)
)


class _Writer:
    """Collects arrays and blobs; each becomes a small reference in the text."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self._at = 0

    def blob(self, data: bytes) -> list[int]:
        self.parts.append(data)
        self._at += len(data)
        return [self._at - len(data), len(data)]

    def array(self, values: Any) -> list[Any]:
        array = np.asarray(values, np.int64)
        width = "<i4" if not array.size or abs(array).max() < 2**31 else "<i8"
        return [width, *self.blob(array.astype(width).tobytes())]


class _Reader:
    """Finds them again."""

    def __init__(self, data: memoryview) -> None:
        self._data = data

    def blob(self, reference: list[int]) -> bytes:
        start, size = reference
        if start < 0 or size < 0 or start + size > len(self._data):
            raise ValueError("a reference lies outside the index")
        return bytes(self._data[start : start + size])

    def array(self, reference: list[Any]) -> Any:
        width, start, size = reference
        if width not in ("<i4", "<i8"):
            raise ValueError("an array of an unknown type")
        return np.frombuffer(self.blob([start, size]), width).astype(np.int64)


def encode_index(index: SourceIndex) -> bytes:
    """Encode an index; `decode_index` reads it."""
    out = _Writer()
    text = json.dumps(
        {
            "size": index.size,
            "uuid": index.uuid,
            "fingerprint": index.fingerprint,
            "root_version": index.root_version,
            "compression": index.compression,
            "trees": [_tree(tree, out) for tree in index.ttrees.values()],
            "unreadable": dict(index.unreadable),
            "objects": [
                [o.path, o.class_name, o.cycle, o.nbytes, _OF_KEY(o.key)] for o in index.objects
            ],
            "folders": [_OF_FOLDER(f) for f in index.folders],
            "streamers": None if index.streamers is None else _record(index.streamers, out),
            "carried": [_record(r, out) for r in index.carried],
            "ntuples": [encode_ntuple(one, out) for one in index.ntuples.values()],
        },
        separators=(",", ":"),
    ).encode()
    body = b"".join([text, *out.parts])
    packed = bytes(cramjam.zstd.compress(body, level=_ZSTD_LEVEL))
    return sealed(_HEAD.pack(MAGIC, VERSION, len(body), len(text)) + packed)


def sealed(content: bytes) -> bytes:
    """Return an index with its digest behind it: damage is found before it is believed."""
    return content + _DIGEST.pack(xxhash.xxh3_64_intdigest(content))


@corrupt_if_broken
def decode_index(data: bytes) -> SourceIndex:
    """Decode an index.

    Raises
    ------
    CorruptFileError
        Damaged, or of another version.
    """
    magic, version, size, text_bytes = _HEAD.unpack_from(data, 0)
    if magic != MAGIC or version != VERSION:
        raise CorruptFileError(
            "this is no source index of this version", hint="inspect the file again"
        )
    data, digest = data[: -_DIGEST.size], data[-_DIGEST.size :]
    if _DIGEST.pack(xxhash.xxh3_64_intdigest(data)) != digest:
        raise CorruptFileError("a source index is damaged", hint="inspect the file again")
    if size > _BYTES_MAX:
        raise CorruptFileError(f"a source index claims {size} bytes")
    body = bytearray(size)
    try:
        written = cramjam.zstd.decompress_into(memoryview(data)[_HEAD.size :], body)
    except cramjam.DecompressionError as problem:
        raise CorruptFileError(
            f"a source index is damaged: {problem}", hint="inspect the file again"
        ) from problem
    if written != size or text_bytes > size:
        raise CorruptFileError("a source index is cut off", hint="inspect the file again")
    view = memoryview(body)
    text: Json = json.loads(bytes(view[:text_bytes]))
    return _index(text, _Reader(view[text_bytes:]))


def _index(text: Json, blobs: _Reader) -> SourceIndex:
    try:
        trees = [_tree_from(t, blobs) for t in text["trees"]]
        ntuples = [decode_ntuple(t, blobs) for t in text["ntuples"]]
        held: list[TreeIndex | NTupleIndex] = [*trees, *ntuples]
        return SourceIndex(
            size=text["size"],
            uuid=text["uuid"],
            fingerprint=text["fingerprint"],
            root_version=text["root_version"],
            compression=text["compression"],
            trees=MappingProxyType({t.path: t for t in held}),
            unreadable=MappingProxyType(text["unreadable"]),
            objects=tuple(
                ObjectInfo(path, class_name, cycle, nbytes, Key(*key))
                for path, class_name, cycle, nbytes, key in text["objects"]
            ),
            folders=tuple(Folder(*f) for f in text["folders"]),
            streamers=None if text["streamers"] is None else _record_from(text["streamers"], blobs),
            carried=tuple(_record_from(r, blobs) for r in text["carried"]),
        )
    except (TypeError, AttributeError) as problem:
        raise CorruptFileError(
            f"a source index is damaged: {problem}", hint="inspect the file again"
        ) from problem


def _record(record: Record, out: _Writer) -> list[Any]:
    return [_OF_KEY(record.key), out.blob(record.payload)]


def _record_from(reference: list[Any], blobs: _Reader) -> Record:
    key, payload = reference
    return Record(Key(*key), blobs.blob(payload))


def _tree(tree: TreeIndex, out: _Writer) -> Json:
    table = tree.table
    return {
        "path": tree.path,
        "key": _OF_KEY(tree.key),
        "entries": tree.entries,
        "stated": None if tree.stated_clusters is None else out.array(tree.stated_clusters),
        "kinds": tree.kinds,
        "notes": tree.notes,
        "fields": tree.fields,
        "numbers": tree.numbers,
        "maxima": tree.maxima.tolist(),
        "embedded": [[n, out.blob(data)] for n, data in tree.embedded.items()],
        "baskets": [
            out.array(getattr(tree.baskets, name))
            for name in ("first", "start", "stop", "seek", "nbytes")
        ],
        "table": {
            "nodes": table.nodes,
            "parents": table.parents,
            "hidden": table.hidden,
            "requires": table.requires,
            "maxima": table.maxima,
            "arrays": table.arrays,
            "layouts": [_OF_LAYOUT(x) for x in table.layouts],
            "file_names": table.file_names,
            "signatures": table.signatures,
            "columns": [out.array(getattr(table, name)) for name in _COLUMNS],
            "fields": {
                name: [out.array(f.at), out.array(f.type)] for name, f in table.fields.items()
            },
        },
        "skeleton": _skeleton(tree, out),
    }


_COLUMNS = (
    "entries", "first_entries", "tot_bytes", "zip_bytes", "offset_lengths", "compression",
    "io_bits", "pinned",
)  # fmt: skip


def _tree_from(text: Json, blobs: _Reader) -> TreeIndex:
    table = text["table"]
    first, start, stop, seek, nbytes = (blobs.array(a) for a in text["baskets"])
    columns = {name: blobs.array(a) for name, a in zip(_COLUMNS, table["columns"], strict=True)}
    branch = np.repeat(np.arange(len(first) - 1), np.diff(first))
    return TreeIndex(
        path=text["path"],
        key=Key(*text["key"]),
        entries=text["entries"],
        stated_clusters=None if text["stated"] is None else blobs.array(text["stated"]),
        kinds=tuple(BranchKind(*kind) for kind in text["kinds"]),
        notes=tuple(text["notes"]),
        table=BranchTable(
            nodes=table["nodes"],
            parents=table["parents"],
            hidden=table["hidden"],
            requires=table["requires"],
            maxima=[[(at, type_) for at, type_ in row] for row in table["maxima"]],
            arrays=[(a, b, c) for a, b, c in table["arrays"]],
            layouts=[LeafLayout(*x) for x in table["layouts"]],
            file_names=table["file_names"],
            signatures=table["signatures"],
            fields={
                name: FieldPlaces(blobs.array(at), blobs.array(type_))
                for name, (at, type_) in table["fields"].items()
            },
            **columns,
        ),
        baskets=BasketTable(first, branch, start, stop, seek, nbytes),
        embedded={n: blobs.blob(data) for n, data in text["embedded"]},
        walked=_skeleton_from(text["skeleton"], blobs),
        overlay=None,
        fields={name: (at, type_) for name, (at, type_) in text["fields"].items()},
        numbers=text["numbers"],
        maxima=np.array(text["maxima"], np.int64),
    )


def _skeleton(tree: TreeIndex, out: _Writer) -> Json:
    skeleton = tree.skeleton
    # Baskets and their tables are kept elsewhere: what no token names becomes zeros.
    data = bytearray(len(skeleton.data))
    tokens = iter(skeleton.tokens)
    for op, a, b in zip(tokens, tokens, tokens, strict=True):
        if op == Op.RAW:
            data[a:b] = skeleton.data[a:b]
    tabled = {number for row in tree.table.arrays for number in row}
    for number, array in enumerate(skeleton.arrays):
        if number not in tabled:
            stop = array.start + array.count * array.item_bytes
            data[array.start : stop] = skeleton.data[array.start : stop]
    for items in skeleton.lists:
        for start, stop in items.options or ():
            data[start:stop] = skeleton.data[start:stop]
    names = list(dict.fromkeys(skeleton.class_names))
    number_of = {name: i for i, name in enumerate(names)}
    return {
        "data": out.blob(bytes(data)),
        "tokens": out.array(skeleton.tokens),
        "starts": out.array(skeleton.starts),
        "names": names,
        "classes": out.array([number_of[name] for name in skeleton.class_names]),
        "lists": [[i.owner, i.name, i.nodes, i.options] for i in skeleton.lists],
        "arrays": [_OF_ARRAY(a) for a in skeleton.arrays],
    }


def _skeleton_from(text: Json, blobs: _Reader) -> Skeleton:
    names = text["names"]
    return Skeleton(
        data=blobs.blob(text["data"]),
        tokens=blobs.array(text["tokens"]).tolist(),
        starts=blobs.array(text["starts"]).tolist(),
        class_names=[names[i] for i in blobs.array(text["classes"]).tolist()],
        lists=[
            Items(
                owner,
                name,
                nodes,
                None if options is None else [(start, stop) for start, stop in options],
            )
            for owner, name, nodes, options in text["lists"]
        ],
        arrays=[Array(*a) for a in text["arrays"]],
    )
