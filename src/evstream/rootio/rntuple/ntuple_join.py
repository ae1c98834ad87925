"""Join RNTuples: one schema for all, and every cluster as it is.

Files may store a field in different ways, as ROOT does with and without compression:
the product's field then has all of their representations, and each cluster says which
is its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from struct import Struct

import numpy as np
import numpy.typing as npt

from evstream.rootio.errors import (
    SchemaMismatchError,
    UnsupportedFeatureError,
    corrupt_steps_if_broken,
)
from evstream.rootio.rntuple.elements import (
    REAL32_QUANT,
    REAL32_TRUNC,
    Kind,
    kind_of,
    open_page,
    page_bytes,
    unsplit,
)
from evstream.rootio.rntuple.ntuple_index import NTupleIndex
from evstream.rootio.rntuple.ntuple_pages import Cluster, NTuplePages, Origin
from evstream.rootio.rntuple.schema import Alias, Column, Field, Flag, Schema, TypeInfo
from evstream.rootio.rntuple.subset import kept_fields, subset
from evstream.rootio.rntuple.taking import pages_of
from evstream.rootio.source import Data, Steps
from evstream.rootio.streamer_info import BYTE_COUNT, NEW_CLASS, StreamerInfos
from evstream.rootio.streamer_union import unite

_U4 = Struct(">I")
_LIST_CLASS = _U4.pack(NEW_CLASS) + b"TList\0"
# Byte count and class in front of the list of class descriptions.
_LIST_HEAD_BYTES = 4 + len(_LIST_CLASS)
_SHOWN = 10
_PACKED = frozenset({REAL32_TRUNC, REAL32_QUANT})
Int64 = npt.NDArray[np.int64]
Kinds = tuple[tuple[int, int, bytes], ...]


def joined_pages(
    holders: Sequence[tuple[int, NTupleIndex]],
    names: Sequence[str],
    wanted: Callable[[NTupleIndex], Sequence[str] | None] = lambda _index: None,
) -> NTuplePages:
    """Plan an RNTuple of the clusters of several.

    Parameters
    ----------
    holders : sequence of (number of the source, NTupleIndex)
    names : sequence of str
        What errors call the sources.
    wanted : callable (NTupleIndex) -> names of fields, or None for all

    Raises
    ------
    SchemaMismatchError
        Other fields, or other types; the error names them.
    UnsupportedFeatureError
        A field that this version does not understand.
    """
    model = holders[0][1]
    sides: dict[Schema, _Side] = {}
    for number, index in holders:
        if index.schema not in sides:
            side = sides[index.schema] = _Side(index, wanted(index))
            _compare(sides[model.schema], side, names[number])
    # Representations by field, in the order in which files bring them.
    first = sides[model.schema]
    known: dict[str, list[Kinds]] = {name: [] for name in first.names}
    for side in sides.values():
        for name, kinds in side.kinds.items():
            known[name] += [one for one in kinds if one not in known[name]]
    named = [names[number] for number, _ in holders]
    types = _types([index for _, index in holders], model.path, named)
    schema = _schema(first, known, types)
    ways = {own: _way(side, schema, known) for own, side in sides.items()}
    origins, clusters = [], []
    for place, (number, index) in enumerate(holders):
        origins.append(Origin(number, index, sides[index.schema].kept, *ways[index.schema]))
        entries = np.diff(index.tables.edges)
        clusters += [Cluster(place, which) for which in np.flatnonzero(entries).tolist()]
    return NTuplePages(schema, origins, clusters)


class _Side:
    """What all files of one schema have in common, in the order of a product's."""

    def __init__(self, index: NTupleIndex, wanted: Sequence[str] | None) -> None:
        kept = kept_fields(index, wanted)
        self.path = index.path
        self.kept = frozenset(kept)
        self.schema, self.slots = subset(index.schema, kept)
        self.names = self.schema.names
        self.fields = dict(zip(self.names, self.schema.fields, strict=True))
        self.kinds: dict[str, list[Kinds]] = {}
        for number, slots in self.schema.slots_of.items():
            columns = [self.schema.slots[slot].columns for slot in slots]
            self.kinds[self.names[number]] = [
                tuple(self.schema.columns[c].kind for c in one)
                for one in zip(*columns, strict=True)
            ]

    def shape(self, name: str) -> tuple[object, ...]:
        """List what must agree of a field."""
        one: Field = self.fields[name]
        origin = self.names[one.origin] if one.flags & Flag.PROJECTED else ""
        width = len(self.kinds[name][0]) if self.kinds.get(name) else 0
        versions = one.field_version, one.type_version, one.checksum
        return one.type_name, one.role, one.flags, one.array_size, origin, width, versions


def _compare(model: _Side, other: _Side, file: str) -> None:
    different = sorted(set(model.names) ^ set(other.names))
    if different or len(other.fields) != len(other.names):
        raise SchemaMismatchError(
            f"RNTuple {model.path!r} of {file} has other fields: "
            f"{', '.join(different[:_SHOWN]) or 'names that occur twice'}",
            hint="join files of one kind only, or select the fields they share",
            names=different,
        )
    changed = [name for name in model.names if model.shape(name) != other.shape(name)]
    if changed:
        raise SchemaMismatchError(
            f"fields of RNTuple {model.path!r} have another type in {file}: "
            f"{', '.join(changed[:_SHOWN])}",
            hint="join files of one kind only",
            names=changed,
        )
    # ROOT decodes what is packed by the bits and the range of one representation, even where
    # a cluster says that another is its own.
    packed = [
        name
        for name, kinds in model.kinds.items()
        if kinds != other.kinds[name]
        and any(type_ in _PACKED for one in kinds + other.kinds[name] for type_, _, _ in one)
    ]
    if packed:
        raise SchemaMismatchError(
            f"fields of RNTuple {model.path!r} are truncated or quantized otherwise in {file}:"
            f" {', '.join(packed[:_SHOWN])}; ROOT would read wrong values of a join",
            hint="join files whose fields have the same number of bits and the same range",
            names=packed,
        )


def _schema(model: _Side, known: dict[str, list[Kinds]], types: tuple[TypeInfo, ...]) -> Schema:
    """Write the model's schema with all representations, and projections of all of them."""
    columns: list[Column] = []
    of_field: dict[int, list[list[int]]] = {}  # by position: numbers of columns
    for number, name in enumerate(model.names):
        for representation, kinds in enumerate(known[name]):
            for position, (type_, bits, limits) in enumerate(kinds):
                like = model.schema.columns[model.schema.slots[
                    model.schema.slots_of[number][position]].columns[0]]  # fmt: skip
                flags = (like.flags & ~_RANGED) | (_RANGED if limits else 0)
                own = of_field.setdefault(number, [[] for _ in kinds])
                own[position].append(len(columns))
                columns.append(Column(type_, bits, number, flags, representation, 0, limits))
    shown: dict[int, set[int]] = {}
    positions = {c: slot.position for slot in model.schema.slots for c in slot.columns}
    for alias in model.schema.aliases:
        shown.setdefault(alias.field, set()).add(positions[alias.column])
    aliases = []
    for number in sorted(shown):
        own = of_field.get(model.schema.fields[number].origin, [])
        chosen = [own[position] for position in sorted(shown[number])]
        aliases += [Alias(c, number) for one in zip(*chosen, strict=True) for c in one]
    return Schema(model.schema.fields, tuple(columns), tuple(aliases), types)


_RANGED = 2


def _way(side: _Side, schema: Schema, known: dict[str, list[Kinds]]) -> tuple[Int64, Int64]:
    """Say for each slot of a product which of a file's it is, and which representation."""
    own = {
        (side.names[slot.field], slot.position): number
        for number, slot in enumerate(side.schema.slots)
    }
    slots, representations = [], []
    width = max((len(slot.columns) for slot in side.schema.slots), default=1)
    names = schema.names
    for slot in schema.slots:
        name = names[slot.field]
        slots.append(side.slots[own[name, slot.position]])
        found = [known[name].index(kinds) for kinds in side.kinds[name]]
        representations.append(found + [0] * (width - len(found)))
    table = np.array(representations, np.int64).reshape(len(slots), width)
    return np.array(slots, np.int64), table


# --- class descriptions of streamed fields --------------------------------------------


def _types(indices: Sequence[NTupleIndex], path: str, names: Sequence[str]) -> tuple[TypeInfo, ...]:
    """Unite what the files say of types."""
    first = indices[0].schema.types
    distinct = list(dict.fromkeys(one for index in indices for one in index.schema.types))
    if len(distinct) == len(first):
        return first
    described = [one for one in distinct if one.content_id == 0]
    rest = [one for one in distinct if one.content_id != 0]
    if len({(one.content_id, one.type_version, one.type_name) for one in rest}) != len(rest):
        raise UnsupportedFeatureError(
            f"files disagree on the types of RNTuple {path!r}",
            hint="join files of one kind only",
        )
    infos = [StreamerInfos(_listed(one.content, path), _LIST_HEAD_BYTES) for one in described]
    sayers = [
        next(n for n, i in zip(names, indices, strict=True) if one in i.schema.types)
        for one in described
    ]
    united = unite(infos, _LIST_HEAD_BYTES, sayers)
    head = _U4.pack(BYTE_COUNT | (len(_LIST_CLASS) + len(united)))
    content = head + _LIST_CLASS + united
    return (replace(described[0], content=content), *rest)


def _listed(content: bytes, path: str) -> Data:
    """Return the list within a buffer of class descriptions."""
    if content[4:_LIST_HEAD_BYTES] != _LIST_CLASS:
        raise UnsupportedFeatureError(
            f"class descriptions of RNTuple {path!r} are in a form that cannot be united",
            hint="join files of one kind only",
        )
    return content[_LIST_HEAD_BYTES:]


# --- comparison -----------------------------------------------------------------------


@corrupt_steps_if_broken
def content_steps(index: NTupleIndex, source_size: int) -> Steps[dict[str, str]]:
    """Digest what each slot of a small RNTuple holds, by the name of its field.

    Entries may be in other clusters and pages.
    """
    schema = index.schema
    found = {"": str(index.entries)}
    stored = np.flatnonzero(index.tables.pages.seek >= 0).tolist()
    pages, _ = yield from pages_of(index, stored, source_size)
    for number, slot in enumerate(schema.slots):
        digest = _digested(index, number, pages)
        found[f"{schema.names[slot.field]} {slot.position}"] = digest
    return found


def _digested(index: NTupleIndex, number: int, pages: Mapping[int, memoryview]) -> str:
    """Digest what a slot holds."""
    tables, slot = index.tables, index.schema.slots[number]
    one = index.schema.fields[slot.field]
    digest = hashlib.sha256(f"{one.type_name} {one.role} {one.array_size}".encode())
    told: object = None
    before = 0
    for cluster in range(len(tables.edges) - 1):
        column = index.schema.columns[slot.columns[int(tables.representation[cluster, number])]]
        kind = kind_of(column)
        type_, *shape = column.kind
        said = [unsplit(type_), *shape] if kind is Kind.DATA else kind.name
        if said != told:
            told = said
            digest.update(str(said).encode())
        rows = tables.rows(cluster, number)
        items = 0
        for row in range(rows.start, rows.stop):
            count = int(tables.pages.elements[row])
            # Zeros of a column that was added late are stored nowhere.
            page = pages.get(row, memoryview(bytes(page_bytes(column, count))))
            checked = row in pages and bool(tables.pages.checked[row])
            elements = open_page(page, column, count, checked=checked)
            if kind is Kind.INDEX:
                items = int(elements[-1]) if count else items
                # They count from the cluster's first item, here from the RNTuple's.
                elements = elements.astype(np.uint64) + np.uint64(before)
            elif kind is Kind.SWITCH:
                # Which item of its kind it is follows from those before.
                elements = elements["tag"]
            digest.update(elements.tobytes())
        before += items
    return digest.hexdigest()
