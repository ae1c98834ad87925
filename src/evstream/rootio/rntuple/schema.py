"""The schema: fields, the columns that hold their elements, and names for both.

Source: RNTuple Binary Format Specification 1.0, "Header Envelope".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cached_property

from evstream.rootio.errors import CorruptFileError
from evstream.rootio.rntuple import envelope
from evstream.rootio.rntuple.envelope import I8, U2, U4, U8, Cursor


class Role(IntEnum):
    """What a field is in the schema's tree."""

    LEAF, COLLECTION, RECORD, VARIANT, STREAMER = range(5)


class Flag(IntEnum):
    """Bits of a field's flags."""

    REPETITIVE = 1
    PROJECTED = 2
    CHECKSUM = 4


_DEFERRED, _RANGED = 1, 2
_RANGE_BYTES = 16
FIELDS_MAX = 1_000_000
# Deeper schemas than any C++ compiler takes.
DEPTH_MAX = 200


@dataclass(frozen=True, slots=True)
class Field:
    """One field. ``parent`` is its own number at the top level; ``tail`` is of later versions."""

    field_version: int
    type_version: int
    parent: int
    role: int
    flags: int
    name: str
    type_name: str
    type_alias: str
    description: str
    array_size: int = 0
    origin: int = -1
    checksum: int = 0
    tail: bytes = b""

    @property
    def repetitions(self) -> int:
        """How many of it, and of what is below it, an instance of its parent has."""
        return self.array_size if self.flags & Flag.REPETITIVE else 1

    @property
    def projected(self) -> bool:
        """Whether it shows columns of another field."""
        return bool(self.flags & Flag.PROJECTED)

    @classmethod
    def parse(cls, frame: Cursor) -> Field:
        """Decode a field's record frame."""
        version, type_version, parent = frame.number(U4), frame.number(U4), frame.number(U4)
        role, flags = frame.number(U2), frame.number(U2)
        name, type_name, alias, description = (frame.text() for _ in range(4))
        size = frame.number(U8) if flags & Flag.REPETITIVE else 0
        origin = frame.number(U4) if flags & Flag.PROJECTED else -1
        checksum = frame.number(U4) if flags & Flag.CHECKSUM else 0
        return cls(
            version, type_version, parent, role, flags, name, type_name, alias, description,
            size, origin, checksum, frame.rest(),
        )  # fmt: skip

    def to_bytes(self) -> bytes:
        """Encode the record frame."""
        parts = [U4.pack(n) for n in (self.field_version, self.type_version, self.parent)]
        parts += [U2.pack(self.role), U2.pack(self.flags)]
        names = (self.name, self.type_name, self.type_alias, self.description)
        parts += [envelope.text(name) for name in names]
        if self.flags & Flag.REPETITIVE:
            parts.append(U8.pack(self.array_size))
        if self.flags & Flag.PROJECTED:
            parts.append(U4.pack(self.origin))
        if self.flags & Flag.CHECKSUM:
            parts.append(U4.pack(self.checksum))
        return envelope.record(b"".join(parts) + self.tail)


@dataclass(frozen=True, slots=True)
class Column:
    """One column. ``first`` is the first element of a deferred one, 0 for all others.

    ``limits`` are the 16 bytes of its range, or none.
    """

    type: int
    bits: int
    field: int
    flags: int
    representation: int
    first: int = 0
    limits: bytes = b""
    tail: bytes = b""

    @property
    def kind(self) -> tuple[int, int, bytes]:
        """What its pages look like."""
        return self.type, self.bits, self.limits

    @classmethod
    def parse(cls, frame: Cursor) -> Column:
        """Decode a column's record frame."""
        type_, bits, owner = frame.number(U2), frame.number(U2), frame.number(U4)
        flags, representation = frame.number(U2), frame.number(U2)
        first = frame.number(I8) if flags & _DEFERRED else 0
        limits = bytes(frame.take(_RANGE_BYTES)) if flags & _RANGED else b""
        return cls(type_, bits, owner, flags, representation, first, limits, frame.rest())

    def to_bytes(self) -> bytes:
        """Encode the record frame."""
        parts = [U2.pack(self.type), U2.pack(self.bits), U4.pack(self.field)]
        parts += [U2.pack(self.flags), U2.pack(self.representation)]
        if self.flags & _DEFERRED:
            parts.append(I8.pack(self.first))
        return envelope.record(b"".join([*parts, self.limits, self.tail]))

    def undeferred(self) -> Column:
        """Return it for a product, where every cluster has pages of it."""
        return replace(self, flags=self.flags & ~_DEFERRED, first=0)


@dataclass(frozen=True, slots=True)
class Alias:
    """A projected field's use of another's column."""

    column: int
    field: int
    tail: bytes = b""

    @classmethod
    def parse(cls, frame: Cursor) -> Alias:
        """Decode an alias column's record frame."""
        return cls(frame.number(U4), frame.number(U4), frame.rest())

    def to_bytes(self) -> bytes:
        """Encode the record frame."""
        return envelope.record(U4.pack(self.column) + U4.pack(self.field) + self.tail)


@dataclass(frozen=True, slots=True)
class TypeInfo:
    """Extra information on a type: ROOT's class descriptions, where ``content_id`` is 0."""

    content_id: int
    type_version: int
    type_name: str
    content: bytes
    tail: bytes = b""

    @classmethod
    def parse(cls, frame: Cursor) -> TypeInfo:
        """Decode a type information's record frame."""
        numbers = frame.number(U4), frame.number(U4)
        return cls(*numbers, frame.text(), bytes(frame.take(frame.number(U4))), frame.rest())

    def to_bytes(self) -> bytes:
        """Encode the record frame."""
        parts = [U4.pack(self.content_id), U4.pack(self.type_version)]
        parts += [envelope.text(self.type_name), U4.pack(len(self.content)), self.content]
        return envelope.record(b"".join(parts) + self.tail)


@dataclass(frozen=True, slots=True)
class Slot:
    """One sequence of elements of a field: the same in all of its representations.

    Attributes
    ----------
    field : int
    position : int
        0 for a field's principal column, 1 for the characters or bytes of one.
    columns : tuple of int
        The column of each representation.
    """

    field: int
    position: int
    columns: tuple[int, ...]


@dataclass(frozen=True)
class Schema:
    """Everything that header and footer say of fields and columns."""

    fields: tuple[Field, ...]
    columns: tuple[Column, ...]
    aliases: tuple[Alias, ...] = ()
    types: tuple[TypeInfo, ...] = ()

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.fields, self.columns, self.aliases, self.types))

    @classmethod
    def parse(cls, *parts: Cursor) -> Schema:
        """Decode the schema from the header, and its extension from the footer.

        Raises
        ------
        CorruptFileError
            Fields or columns that refer to none.
        """
        fields: list[Field] = []
        columns: list[Column] = []
        aliases: list[Alias] = []
        types: list[TypeInfo] = []
        for part in parts:
            if part.at_end:
                continue
            fields += part.records(Field.parse)
            columns += part.records(Column.parse)
            aliases += part.records(Alias.parse)
            types += part.records(TypeInfo.parse)
        schema = cls(tuple(fields), tuple(columns), tuple(aliases), tuple(types))
        schema._check()
        return schema

    def to_bytes(self) -> bytes:
        """Encode the four lists."""
        lists = (self.fields, self.columns, self.aliases, self.types)
        return b"".join(envelope.list_frame([item.to_bytes() for item in one]) for one in lists)

    def _check(self) -> None:
        count = len(self.fields)
        if count > FIELDS_MAX or len(self.columns) > FIELDS_MAX:
            raise CorruptFileError(f"a schema of {count} fields is beyond reason")
        for i, one in enumerate(self.fields):
            if one.parent > i or one.origin >= count or not one.name:
                raise CorruptFileError(f"field {i} refers to none, or has no name")
            if self.depths[i] > DEPTH_MAX:
                raise CorruptFileError("a schema is nested beyond reason")
        owners = [c.field for c in self.columns] + [a.field for a in self.aliases]
        if max(owners, default=-1) >= count:
            raise CorruptFileError("a column belongs to no field")
        if max((a.column for a in self.aliases), default=-1) >= len(self.columns):
            raise CorruptFileError("an alias stands for no column")

    @cached_property
    def depths(self) -> list[int]:
        """How deep each field lies, 0 at the top level."""
        depths: list[int] = []
        for i, one in enumerate(self.fields):
            depths.append(0 if one.parent >= i else depths[one.parent] + 1)
        return depths

    @cached_property
    def children(self) -> list[list[int]]:
        """The fields directly below each."""
        below: list[list[int]] = [[] for _ in self.fields]
        for i, one in enumerate(self.fields):
            if one.parent != i:
                below[one.parent].append(i)
        return below

    @cached_property
    def tops(self) -> list[int]:
        """The top-level field that each belongs to."""
        tops: list[int] = []
        for i, one in enumerate(self.fields):
            tops.append(i if one.parent >= i else tops[one.parent])
        return tops

    @cached_property
    def names(self) -> list[str]:
        """Qualified names, as ROOT spells them: "muons._0.pt"."""
        names: list[str] = []
        for i, one in enumerate(self.fields):
            names.append(one.name if one.parent == i else f"{names[one.parent]}.{one.name}")
        return names

    @cached_property
    def short_names(self) -> list[str]:
        """Names without what only the format has names for: "muons.pt".

        Items of collections and arrays, and what is within an enumeration or an atomic,
        bear the name of the field that holds them.
        """
        names: list[str] = []
        for i, one in enumerate(self.fields):
            if one.parent == i:
                names.append(one.name)
            elif self.nameless(i):
                names.append(names[one.parent])
            else:
                names.append(f"{names[one.parent]}.{one.name}")
        return names

    def nameless(self, number: int) -> bool:
        """Tell whether a field is the only thing within another, and goes by its name."""
        one = self.fields[number]
        holder = self.fields[one.parent].role
        inner = one.parent != number and holder in (Role.COLLECTION, Role.LEAF)
        return inner and one.name == "_0"

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        """All slots, in the order of fields."""
        found: dict[int, dict[int, list[int]]] = {}
        for number, column in enumerate(self.columns):
            by_representation = found.setdefault(column.field, {})
            by_representation.setdefault(column.representation, []).append(number)
        slots: list[Slot] = []
        for owner in sorted(found):
            sets = [found[owner][r] for r in sorted(found[owner])]
            wrong = list(found[owner]) != list(range(len(sets)))
            if wrong or len({len(s) for s in sets}) != 1 or self.fields[owner].projected:
                raise CorruptFileError(
                    f"representations of field {self.names[owner]!r} do not agree"
                )
            positions = zip(*sets, strict=True)
            slots += [Slot(owner, place, columns) for place, columns in enumerate(positions)]
        return tuple(slots)

    @cached_property
    def slots_of(self) -> dict[int, list[int]]:
        """Numbers of each field's slots; fields without columns are left out."""
        held: dict[int, list[int]] = {}
        for number, slot in enumerate(self.slots):
            held.setdefault(slot.field, []).append(number)
        return held

    def refusals(self) -> dict[int, str]:
        """Say of top-level fields why this version cannot cut them, where it cannot."""
        from evstream.rootio.rntuple.elements import why_unknown, zero_is_zero

        reasons: dict[int, str] = {}
        for number, one in enumerate(self.fields):
            if one.role > Role.STREAMER:
                reasons[self.tops[number]] = f"structural role {one.role} is unknown"
            elif one.field_version:
                reasons[self.tops[number]] = f"field version {one.field_version} is unknown"
        for column in self.columns:
            why = why_unknown(column)
            if column.first > 0 and not zero_is_zero(column):
                why = "it was added late, and its quantized column cannot say zero exactly"
            if why:
                reasons[self.tops[column.field]] = why
        return reasons
