"""Parquet files, by pyarrow.

pyarrow cannot copy column chunks as they are stored, so products are written anew, with
the source's schema, metadata, codecs, dictionaries and statistics, and with row groups
where the source has them.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from evstream.adapters.formats.library import Backend
from evstream.adapters.formats.source_file import SourceFile
from evstream.adapters.formats.tables import EVENTS, Branch, Int64, LeftObject, Tree, rows_of
from evstream.domain.errors import EvstreamError, bad_data_named
from evstream.domain.intervals import Interval
from evstream.ports import ByteSource
from evstream.rootio import (
    CorruptFileError,
    FileSource,
    SchemaMismatchError,
    UnsupportedFeatureError,
)

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow import parquet as pq

WRITER_VERSION = 1
MAGIC = b"PAR1"
_VERSIONS = ("1.0", "2.4", "2.6")
_SYMPTOMS = (
    OSError,
    RuntimeError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    OverflowError,
    MemoryError,
)
_DICTIONARY = {"RLE_DICTIONARY", "PLAIN_DICTIONARY"}
_CODECS = {"UNCOMPRESSED": "NONE", "LZ4_RAW": "LZ4"}
# What Parquet puts between a list's name and those of its items.
_WRAPPERS = {"list", "key_value", "map", "bag", "array"}


@dataclass(frozen=True, slots=True)
class _Column:
    """A leaf of the schema.

    Attributes
    ----------
    path : str
        As Parquet writes it: ``Muon_pt.list.element`` for the branch ``Muon_pt``.
    """

    name: str
    type: str
    path: str
    number: int


def fingerprint(source: ByteSource) -> str:
    """Return the digest of the footer, which says where everything is and how long."""
    return hashlib.sha256(_footer(source)).hexdigest()


BACKEND = Backend(
    name="parquet",
    title="Parquet",
    suffixes=(".parquet", ".pq"),
    module="pyarrow",
    extra="parquet",
    recognises=lambda head: head.startswith(MAGIC),
    fingerprint=fingerprint,
)


def encoder_id() -> str:
    """Name the writer; the codecs come with pyarrow."""
    import pyarrow as pa

    return f"evstream-parquet-{WRITER_VERSION};pyarrow={pa.__version__};levels=default"


def inspect(source: ByteSource) -> tuple[list[Tree], list[LeftObject]]:
    """Read the footer's tables."""
    with _opened(source) as file, _translated():
        metadata = file.metadata
        rows = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        if min(rows, default=0) < 0 or sum(rows) != metadata.num_rows:
            raise CorruptFileError(
                f"its row groups have {sum(rows)} rows, the file says {metadata.num_rows}",
                hint="compare its size and checksum with the original's",
            )
        columns = tuple(
            Branch(c.name, c.type, _compressed_bytes(metadata, c.number), len(rows))
            for c in _columns(metadata, file.schema_arrow)
        )
    return [Tree(EVENTS, tuple(accumulate(rows, initial=0)), columns)], []


def cut(
    source: ByteSource, out: str, tree: str, runs: Sequence[Interval], branches: list[str] | None
) -> None:
    """Write row groups with some of their columns, clipped to the wanted rows."""
    with Path(out).open("wb") as opened, _opened(source) as file:
        paths = None
        if branches is not None:
            names = {c.name: c.path for c in _columns(file.metadata, file.schema_arrow)}
            paths = [names[name] for name in branches]
        with _Writer(file, opened) as writer:
            writer.begin(file, paths)
            writer.copy(file, paths, runs)


def numbers(source: ByteSource, tree: str, branches: list[str]) -> Int64 | None:
    """Return whole numbers of the rows, from columns without structure."""
    import pyarrow as pa

    with _opened(source) as file, _translated():
        schema = file.schema_arrow
        if tree != EVENTS or not set(branches) <= set(schema.names):
            return None
        if not all(pa.types.is_integer(schema.field(name).type) for name in branches):
            return None
        table = file.read(columns=branches)
        columns = [table.column(name) for name in branches]
        if any(column.null_count for column in columns):
            return None
        return rows_of([column.to_numpy() for column in columns])


def join(out: str, inputs: Sequence[str], names: Sequence[str]) -> dict[str, int]:
    """Put row groups behind each other; the schema's metadata are the first file's.

    Raises
    ------
    SchemaMismatchError
        Columns or their types differ; the error names them.
    """
    rows = 0
    with ExitStack() as stack:
        with bad_data_named(names[0]):
            first = stack.enter_context(FileSource(inputs[0]))
            model = stack.enter_context(_opened(first))
        opened = stack.enter_context(Path(out).open("wb"))
        writer = stack.enter_context(_Writer(model, opened))
        writer.begin(model, None)
        for path, name in zip(inputs, names, strict=True):
            with bad_data_named(name), FileSource(path) as source, _opened(source) as file:
                _refuse_differences(names[0], model.schema_arrow, name, file.schema_arrow)
                writer.copy(file, None, [(0, file.metadata.num_rows)])
                rows += file.metadata.num_rows
    return {EVENTS: rows}


class _Writer:
    """Writes tables as a model file was written."""

    def __init__(self, model: pq.ParquetFile, out: BinaryIO) -> None:
        self._out = out
        self._writer: pq.ParquetWriter | None = None
        # None once there are rows.
        self._schema: pa.Schema | None = None

    def begin(self, model: pq.ParquetFile, columns: list[str] | None) -> None:
        """Write the head, with the model's schema or some of its columns."""
        from pyarrow import parquet as pq

        with _translated():
            schema = model.schema_arrow
            if columns is not None:
                schema = model.read_row_groups([], columns=columns).schema
            self._writer = pq.ParquetWriter(self._out, schema, **_settings(model))
            self._schema = schema

    def copy(
        self, file: pq.ParquetFile, columns: list[str] | None, runs: Sequence[Interval]
    ) -> None:
        """Write the rows of some runs, row group by row group."""
        import pyarrow as pa

        assert self._writer is not None
        begin = 0
        at = 0
        for group in range(file.metadata.num_row_groups):
            end = begin + file.metadata.row_group(group).num_rows
            pieces = []
            while at < len(runs) and runs[at][0] < end:
                start, stop = max(runs[at][0], begin), min(runs[at][1], end)
                if start < stop:
                    pieces.append((start - begin, stop - start))
                if runs[at][1] > end:
                    break
                at += 1
            if pieces:
                with _translated():
                    table = file.read_row_group(group, columns=columns)
                    if table.num_rows != end - begin:
                        raise CorruptFileError(f"row group {group} has {table.num_rows} rows")
                    chosen = pa.concat_tables([table.slice(*piece) for piece in pieces])
                    self._writer.write_table(chosen, row_group_size=max(1, chosen.num_rows))
                    self._schema = None
            begin = end

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._writer is not None:
            with _translated():
                if self._schema is not None:
                    # Some readers need a row group, though there are no rows.
                    self._writer.write_table(self._schema.empty_table())
                self._writer.close()


def _settings(model: pq.ParquetFile) -> dict[str, Any]:
    """Return how to write so that the file is like the model."""
    metadata = model.metadata
    settings: dict[str, Any] = {
        "version": metadata.format_version if metadata.format_version in _VERSIONS else "2.6",
        "store_schema": b"ARROW:schema" in (metadata.metadata or {}),
    }
    paths = [metadata.schema.column(i).path for i in range(metadata.num_columns)]
    settings["use_compliant_nested_type"] = not any(".list.item" in path for path in paths)
    if not metadata.num_row_groups:
        return settings
    group = metadata.row_group(0)
    chunks = [group.column(i) for i in range(metadata.num_columns)]
    settings["compression"] = {
        path: _CODECS.get(chunk.compression, chunk.compression)
        for path, chunk in zip(paths, chunks, strict=True)
    }
    settings["use_dictionary"] = [
        path for path, c in zip(paths, chunks, strict=True) if _DICTIONARY & set(c.encodings)
    ]
    settings["write_statistics"] = [
        path for path, c in zip(paths, chunks, strict=True) if c.is_stats_set
    ]
    settings["write_page_index"] = any(chunk.has_column_index for chunk in chunks)
    if any(chunk.physical_type == "INT96" for chunk in chunks):
        settings["use_deprecated_int96_timestamps"] = True
    if group.sorting_columns:
        settings["sorting_columns"] = group.sorting_columns
    return settings


def _compressed_bytes(metadata: pq.FileMetaData, column: int) -> int:
    groups = (metadata.row_group(i) for i in range(metadata.num_row_groups))
    return sum(group.column(column).total_compressed_size for group in groups)


def _columns(metadata: pq.FileMetaData, schema: pa.Schema) -> tuple[_Column, ...]:
    """Return the leaves with the names that people use."""
    leaves = [metadata.schema.column(i) for i in range(metadata.num_columns)]
    names = [".".join(_without_wrappers(leaf.path.split("."))) for leaf in leaves]
    paths = Counter(leaf.path for leaf in leaves)
    # Arrow takes a path for all columns at it and below it.
    within = (path[:dot] for path in paths for dot in range(len(path)) if path[dot] == ".")
    twice = [path for path, count in paths.items() if count > 1]
    twice += (path for path in within if path in paths)
    if twice:
        raise UnsupportedFeatureError(
            f"two of its columns are called {twice[0]}", hint="rename one of them"
        )
    shared = Counter([*names, *paths])
    below = Counter(leaf.path.split(".")[0] for leaf in leaves)
    columns = []
    for number, (leaf, short) in enumerate(zip(leaves, names, strict=True)):
        name = leaf.path if shared[short] > 1 else short
        top = leaf.path.split(".")[0]
        position = schema.get_field_index(top)
        alone = below[top] == 1 and position >= 0
        kind = str(schema.field(position).type) if alone else leaf.physical_type.lower()
        columns.append(_Column(name, kind, leaf.path, number))
    return tuple(columns)


def _without_wrappers(parts: list[str]) -> Iterator[str]:
    place = 0
    while place < len(parts):
        if place and parts[place] in _WRAPPERS and place + 1 < len(parts):
            # list.element is nothing but the list; key_value.key is the key.
            place += 1
            if parts[place] in ("key", "value"):
                yield parts[place]
        else:
            yield parts[place]
        place += 1


def _refuse_differences(one: str, model: pa.Schema, other: str, found: pa.Schema) -> None:
    if found.equals(model, check_metadata=False):
        return
    ours = {field.name: field.type for field in model}
    theirs = {field.name: field.type for field in found}
    names = [n for n in {**ours, **theirs} if ours.get(n) != theirs.get(n)] or ["their order"]
    shown = ", ".join(names[:5]) + (" …" if len(names) > 5 else "")
    raise SchemaMismatchError(
        f"{other} and {one} differ in {shown}",
        hint="join files with the same columns",
        names=names,
    )


def _footer(source: ByteSource) -> bytes:
    """Return the footer with the file's last eight bytes.

    Raises
    ------
    CorruptFileError
    """
    size = source.size
    if size < 12:
        raise CorruptFileError(f"{size} bytes are no Parquet file", hint="fetch the file again")
    (end,) = source.read_ranges([(size - 8, 8)])
    tail = bytes(end)
    if tail[4:] == b"PARE":
        raise UnsupportedFeatureError("its footer is encrypted", hint="give it without encryption")
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] != MAGIC or length > size - 12:
        raise CorruptFileError(
            "the Parquet footer is missing or damaged", hint="the file may be cut short"
        )
    (footer,) = source.read_ranges([(size - 8 - length, length + 8)])
    return bytes(footer)


@contextmanager
def _opened(
    source: ByteSource, metadata: pq.FileMetaData | None = None
) -> Iterator[pq.ParquetFile]:
    from pyarrow import parquet as pq

    with _translated():
        file = pq.ParquetFile(SourceFile(source), metadata=metadata, pre_buffer=True)
    try:
        yield file
    finally:
        file.close(force=True)


@contextmanager
def _translated() -> Iterator[None]:
    """Turn pyarrow's errors into ours; those of the source come through as they are."""
    import pyarrow as pa

    try:
        yield
    except EvstreamError:
        raise
    except pa.ArrowNotImplementedError as error:
        raise UnsupportedFeatureError(f"pyarrow cannot do this: {error}") from error
    except (pa.ArrowException, *_SYMPTOMS) as error:
        line = str(error).split("\n", 1)[0][:200]
        raise CorruptFileError(
            f"pyarrow cannot read it: {line}",
            hint="compare its size and checksum with the original's",
        ) from error
