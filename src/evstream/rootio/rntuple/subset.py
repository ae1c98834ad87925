"""A choice of fields: what must come with them, and the schema that is left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from evstream.rootio.errors import UnsupportedFeatureError
from evstream.rootio.rntuple.ntuple_index import NTupleIndex
from evstream.rootio.rntuple.schema import Column, Flag, Role, Schema
from evstream.rootio.selection import unknown_branch

# Records of these types are nothing without all of their members.
_INDIVISIBLE = ("std::pair<", "std::tuple<")


def kept_fields(index: NTupleIndex, names: Sequence[str] | None) -> tuple[int, ...]:
    """Return the numbers of the fields that a product must hold.

    With a field come those below it, those that hold it, and those whose columns a
    projected field shows. Members of pairs, tuples and variants come together.

    Parameters
    ----------
    names : sequence of str, or None for all
        As in `NTupleIndex.branches`, or qualified as by ROOT.

    Raises
    ------
    UnknownBranchError
    UnsupportedFeatureError
        A field that this version does not understand.
    """
    schema = index.schema
    if names is None:
        kept = set(range(len(schema.fields)))
    else:
        wanted = []
        for name in names:
            if name not in index.field_of:
                raise unknown_branch(name, [b.name for b in index.branches])
            wanted.append(index.field_of[name])
        kept = _closure(schema, wanted)
    for top, why in schema.refusals().items():
        if top in kept:
            raise UnsupportedFeatureError(
                f"field {schema.names[top]!r} of {index.path!r} cannot be cut: {why}",
                hint="choose other fields",
                field=schema.names[top],
            )
    return tuple(sorted(kept))


def _closure(schema: Schema, wanted: Sequence[int]) -> set[int]:
    kept: set[int] = set()
    whole: set[int] = set()
    pending = [(number, True) for number in wanted]
    while pending:
        while pending:
            number, below = pending.pop()
            one = schema.fields[number]
            if number in whole or (number in kept and not below):
                continue
            kept.add(number)
            if below:
                whole.add(number)
                pending += [(child, True) for child in schema.children[number]]
            if one.parent != number:
                pending.append((one.parent, not _divisible(schema, one.parent)))
            if one.projected and one.origin >= 0:
                pending.append((one.origin, False))
        # What counts or holds others is nothing without any of them.
        pending = [
            (number, True)
            for number in sorted(kept - whole)
            if schema.children[number] and not any(c in kept for c in schema.children[number])
        ]
    return kept


def _divisible(schema: Schema, number: int) -> bool:
    """Tell whether a field still makes sense without some of those below it."""
    one = schema.fields[number]
    return one.role != Role.VARIANT and not one.type_name.startswith(_INDIVISIBLE)


def subset(schema: Schema, kept: Sequence[int]) -> tuple[Schema, list[int]]:
    """Write the schema anew with some of its fields, nothing deferred.

    Columns are sorted by field, representation and position.

    Returns
    -------
    schema, numbers of its slots in the old schema
    """
    fields = {old: new for new, old in enumerate(kept)}
    new_fields = []
    for old in kept:
        one = schema.fields[old]
        origin = fields[one.origin] if one.flags & Flag.PROJECTED else -1
        new_fields.append(replace(one, parent=fields[one.parent], origin=origin))
    slots = [number for number, slot in enumerate(schema.slots) if slot.field in fields]
    numbers: dict[int, int] = {}
    columns: list[Column] = []
    for old in kept:
        own = [schema.slots[number] for number in schema.slots_of.get(old, ())]
        for representation in range(len(own[0].columns) if own else 0):
            for slot in own:
                number = slot.columns[representation]
                numbers[number] = len(columns)
                column = schema.columns[number].undeferred()
                columns.append(replace(column, field=fields[old]))
    aliases = [
        replace(alias, column=numbers[alias.column], field=fields[alias.field])
        for alias in schema.aliases
        if alias.field in fields
    ]
    return Schema(tuple(new_fields), tuple(columns), tuple(aliases), schema.types), slots
