"""Arrow data as they are stored, whatever extension types this process happens to know.

A library that registers an extension type (awkward does) changes what pyarrow reads in
its process, and the bytes that pyarrow writes. Here types are always the stored ones, and
what the file says of extensions stays in the fields' metadata, word for word, as it is
for who does not know them.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

_NAME = b"ARROW:extension:name"
_PARAMETERS = b"ARROW:extension:metadata"
# As long as the true name, so that a stored schema can be read with one for the other.
_HIDDEN = b"ARROW:0xtension:name"


def stored_schema(schema: pa.Schema, file_schema: bytes = b"") -> pa.Schema:
    """Return a schema with storage types; what it says of extensions is metadata.

    Parameters
    ----------
    file_schema : bytes
        ``ARROW:schema`` of the file's metadata, where extensions are described in the
        words of whoever wrote it.
    """
    import pyarrow as pa

    words = _words_of(file_schema)
    fields = [_stored_field(field, True, _child(words, field.name)) for field in schema]
    return pa.schema(fields, metadata=schema.metadata)


def stored_table(table: pa.Table, stored: pa.Schema) -> pa.Table:
    """Return a table with the storage types of `stored_schema`, without copying."""
    import pyarrow as pa

    if table.schema.equals(stored, check_metadata=False):
        return table
    # With names of extensions in its metadata, importing would find them again.
    bare = pa.schema([_stored_field(field, False, None) for field in stored])
    batches = [pa.record_batch(_Renamed(batch, bare)) for batch in table.to_batches()]
    return pa.Table.from_batches(batches, schema=bare)


@dataclass(frozen=True, slots=True)
class _Renamed:
    """A batch's buffers under another schema (the Arrow PyCapsule interface)."""

    batch: pa.RecordBatch
    schema: pa.Schema

    def __arrow_c_array__(self, requested_schema: object = None) -> tuple[Any, Any]:
        return self.schema.__arrow_c_schema__(), self.batch.__arrow_c_array__()[1]


def _words_of(file_schema: bytes) -> pa.Schema | None:
    """Read a stored schema without its extensions being looked up."""
    import pyarrow as pa

    try:
        message = base64.b64decode(file_schema).replace(_NAME, _HIDDEN)
        return pa.ipc.read_schema(pa.BufferReader(message)) if message else None
    except (pa.ArrowException, ValueError, OSError):
        return None


def _child(words: Any, name: str) -> pa.Field | None:
    """Return a field of a schema or of a struct by name."""
    place = -1 if words is None else words.get_field_index(name)
    return words.field(place) if place >= 0 else None


def _stored_field(field: pa.Field, with_metadata: bool, words: pa.Field | None) -> pa.Field:
    import pyarrow as pa

    kind = field.type
    metadata = dict(field.metadata or {})
    if isinstance(kind, pa.BaseExtensionType):
        said = dict(words.metadata or {}) if words is not None else {}
        metadata[_NAME] = said.get(_HIDDEN) or kind.extension_name.encode()
        if _PARAMETERS in said:
            metadata[_PARAMETERS] = said[_PARAMETERS]
        elif isinstance(kind, pa.ExtensionType):
            metadata[_PARAMETERS] = kind.__arrow_ext_serialize__()
        kind = kind.storage_type
    plain = _stored_type(kind, with_metadata, None if words is None else words.type)
    ordered = dict(sorted(metadata.items())) if with_metadata else None
    return pa.field(field.name, plain, field.nullable, ordered or None)


def _stored_type(kind: pa.DataType, with_metadata: bool, words: pa.DataType | None) -> pa.DataType:
    import pyarrow as pa

    def inner(field: pa.Field, place: int) -> pa.Field:
        known = None
        if words is not None and pa.types.is_struct(kind) and pa.types.is_struct(words):
            known = _child(words, field.name)
        elif words is not None and place < words.num_fields:
            known = words.field(place)
        return _stored_field(field, with_metadata, known)

    if isinstance(kind, pa.BaseExtensionType):
        return _stored_type(kind.storage_type, with_metadata, words)
    if pa.types.is_map(kind):
        return pa.map_(kind.key_type, inner(kind.item_field, 1), kind.keys_sorted)
    if pa.types.is_large_list(kind):
        return pa.large_list(inner(kind.value_field, 0))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(inner(kind.value_field, 0), kind.list_size)
    if pa.types.is_list(kind):
        return pa.list_(inner(kind.value_field, 0))
    if pa.types.is_struct(kind):
        return pa.struct([inner(kind.field(i), i) for i in range(kind.num_fields)])
    if pa.types.is_dictionary(kind):
        value = _stored_type(kind.value_type, with_metadata, None)
        return pa.dictionary(kind.index_type, value, kind.ordered)
    return kind
