"""HDF5 files, by h5py: a group's datasets cut along their first dimension.

`hdf5_layout` says which datasets have entries. Products keep types, filters, chunks,
attributes, and datasets without dimensions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from evstream.adapters.formats.hdf5_layout import Layout, Member, holds_references, layout_of
from evstream.adapters.formats.hdf5_types import are_equal, are_of_one_type
from evstream.adapters.formats.library import Backend
from evstream.adapters.formats.source_file import SourceFile
from evstream.adapters.formats.tables import Int64, LeftObject, Tree, rows_of
from evstream.domain.errors import EvstreamError, bad_data_named
from evstream.domain.intervals import Interval
from evstream.ports import ByteSource
from evstream.rootio import (
    CorruptFileError,
    FileSource,
    SchemaMismatchError,
    UnsupportedFeatureError,
    listed,
)

if TYPE_CHECKING:
    import h5py

WRITER_VERSION = 1
MAGIC = b"\x89HDF\r\n\x1a\n"
BLOCK_BYTES = 16 << 20
_SYMPTOMS = (
    OSError,
    RuntimeError,
    ValueError,
    KeyError,
    TypeError,
    OverflowError,
    MemoryError,
)


def recognises(head: bytes) -> bool:
    """Look for HDF5's signature, at the beginning or behind a user block."""
    return any(head[at : at + 8] == MAGIC for at in (0, 512, 1024, 2048))


def fingerprint(source: ByteSource) -> str:
    """Return the digest of the whole file: its structure is spread all over it."""
    digest = hashlib.sha256()
    for offset in range(0, source.size, BLOCK_BYTES):
        size = min(BLOCK_BYTES, source.size - offset)
        digest.update(source.read_ranges([(offset, size)])[0])
    return digest.hexdigest()


BACKEND = Backend(
    name="hdf5",
    title="HDF5",
    suffixes=(".hdf5", ".h5"),
    module="h5py",
    extra="hdf5",
    recognises=recognises,
    fingerprint=fingerprint,
)


def encoder_id() -> str:
    """Name the writer; the library and its deflate come with h5py."""
    from h5py import version

    return f"evstream-hdf5-{WRITER_VERSION};h5py={version.version};hdf5={version.hdf5_version}"


def inspect(source: ByteSource) -> tuple[list[Tree], list[LeftObject]]:
    """Look through the groups."""
    with _opened(source) as file, _translated():
        layout = layout_of(file)
    return [table.as_tree() for table in layout.tables.values()], list(layout.objects)


def cut(
    source: ByteSource, out: str, tree: str, runs: Sequence[Interval], branches: list[str] | None
) -> None:
    """Write some entries of a table's datasets."""
    with _opened(source) as file, _translated(), _made(out) as product:
        table = layout_of(file).tables[tree]
        _copy_attributes(file, product)
        for member in table.members:
            if branches is None or member.entries < 0 or member.name in branches:
                _copy_groups(file, product, member.path)
                _copy_member(member, [(file, runs)], product)


def numbers(source: ByteSource, tree: str, branches: list[str]) -> Int64 | None:
    """Return whole numbers of a table's entries, from datasets of one dimension."""
    with _opened(source) as file, _translated():
        table = layout_of(file).tables.get(tree)
        members = {} if table is None else {member.name: member for member in table.members}
        if not set(branches) <= set(members):
            return None
        wanted = [members[name] for name in branches]
        if any(member.offsets or member.entries < 0 for member in wanted):
            return None
        return rows_of([file[member.path][()] for member in wanted])


def join(out: str, inputs: Sequence[str], names: Sequence[str]) -> dict[str, int]:
    """Put the entries of each tree behind each other; attributes are the first file's.

    Raises
    ------
    SchemaMismatchError
        Datasets, types or values without entries differ.
    UnsupportedFeatureError
        A group's datasets differ in length, so that it is not known which have entries.
    """
    with ExitStack() as stack:
        files = []
        for path, name in zip(inputs, names, strict=True):
            with bad_data_named(name):
                source = stack.enter_context(FileSource(path))
                files.append(stack.enter_context(_opened(source)))
        with _translated():
            layouts = [layout_of(file) for file in files]
            members = _joinable(names, files, layouts)
            with _made(out) as product:
                _copy_attributes(files[0], product)
                for member in members:
                    _copy_groups(files[0], product, member.path)
                    _copy_member(member, _whole(files, layouts, member), product)
        return {
            name: sum(layout.tables[name].entries for layout in layouts)
            for name in layouts[0].tables
        }


def _whole(
    files: list[h5py.File], layouts: list[Layout], member: Member
) -> list[tuple[h5py.File, list[Interval]]]:
    parts = []
    for file, layout in zip(files, layouts, strict=True):
        entries = next(
            m.entries for t in layout.tables.values() for m in t.members if m.path == member.path
        )
        parts.append((file, [(0, entries)] if entries > 0 else []))
    return parts


def _joinable(names: Sequence[str], files: list[h5py.File], layouts: list[Layout]) -> list[Member]:
    """Return the datasets of a join, the same in all files."""
    found = []
    for name, layout in zip(names, layouts, strict=True):
        if layout.mixed or layout.objects:
            where = layout.mixed[0] if layout.mixed else layout.objects[0].path
            raise UnsupportedFeatureError(
                f"{name}: which datasets of {where} have entries is not known",
                hint="keep datasets of other lengths in groups of their own",
            )
        found.append({m.path: m for table in layout.tables.values() for m in table.members})
    for name, file, members in zip(names, files, found, strict=True):
        differing = {
            path: why
            for path in sorted({**members, **found[0]})
            if (why := _difference(path, file, members, files[0], found[0])) is not None
        }
        if differing:
            shown = [f"{path}{why}" for path, why in differing.items()]
            raise SchemaMismatchError(
                f"{name} and {names[0]} differ in {listed(shown)}",
                hint="join files with the same datasets, types and values without entries",
                names=list(differing),
            )
    return list(found[0].values())


def _difference(
    path: str,
    file: h5py.File,
    members: Mapping[str, Member],
    model: h5py.File,
    model_members: Mapping[str, Member],
) -> str | None:
    """Say, if that needs words, what keeps a dataset from going behind another one's rows."""
    member, wanted = members.get(path), model_members.get(path)
    if member is None or wanted is None:
        return ""
    if (member.type, bool(member.offsets)) != (wanted.type, bool(wanted.offsets)):
        return f" ({member.type}, not {wanted.type})"
    one, other = file[path], model[path]
    if not are_of_one_type(one, other):
        return " (other types of one name)"
    if (member.entries < 0) != (wanted.entries < 0):
        return " (only one has entries)"
    if member.entries < 0 and not (one.shape == other.shape and are_equal(one[()], other[()])):
        return " (other values)"
    return None


def _copy_member(
    member: Member, parts: Sequence[tuple[h5py.File, Sequence[Interval]]], product: h5py.File
) -> None:
    """Copy the rows of a dataset's entries, and its offsets, from one or more files."""
    model = parts[0][0][member.path]
    if member.entries < 0:
        made = _make_dataset(model, product, member.path, model.shape)
        if model.shape is not None and made.size:
            made[()] = model[()]
        return
    if not member.offsets:
        _copy_rows([(file[member.path], runs) for file, runs in parts], product, member.path)
        return
    rows = []
    lengths = []
    for file, runs in parts:
        offsets = file[member.offsets][()].astype(np.int64)
        rows.append((file[member.path], [(int(offsets[a]), int(offsets[b])) for a, b in runs]))
        lengths += [np.diff(offsets[start : stop + 1]) for start, stop in runs]
    _copy_rows(rows, product, member.path)
    ends = np.concatenate([[0], *lengths]).cumsum()
    model = parts[0][0][member.offsets]
    if ends[-1] > np.iinfo(model.dtype).max:
        raise UnsupportedFeatureError(f"{member.offsets}: {ends[-1]} does not fit {model.dtype}")
    made = _make_dataset(model, product, member.offsets, ends.shape)
    made[()] = ends.astype(model.dtype)


def _copy_rows(
    parts: Sequence[tuple[h5py.Dataset, Sequence[Interval]]], product: h5py.File, path: str
) -> None:
    """Copy runs of rows, in blocks of some megabytes that end where chunks do."""
    model = parts[0][0]
    total = sum(stop - start for _, runs in parts for start, stop in runs)
    made = _make_dataset(model, product, path, (total, *model.shape[1:]))
    if not made.size:
        return
    row_bytes = max(1, model.dtype.itemsize * int(np.prod(model.shape[1:], dtype=np.int64)))
    chunk = model.chunks[0] if model.chunks else 1
    step = max(1, BLOCK_BYTES // row_bytes // chunk) * chunk
    at = 0
    for dataset, runs in parts:
        for start, stop in runs:
            first = start
            while first < stop:
                last = min(stop, (first // step + 1) * step)
                _write_rows(made, at, dataset[first:last])
                at += last - first
                first = last


def _write_rows(made: h5py.Dataset, at: int, rows: npt.NDArray[Any]) -> None:
    """Write rows as they are; `h5py.Dataset` guesses at what lists of equal lengths mean."""
    import h5py

    place = made.id.get_space()
    place.select_hyperslab((at, *(0 for _ in rows.shape[1:])), rows.shape)
    rows = np.ascontiguousarray(rows)
    made.id.write(h5py.h5s.create_simple(rows.shape), place, rows)


def _make_dataset(
    model: h5py.Dataset, product: h5py.File, path: str, shape: tuple[int, ...] | None
) -> h5py.Dataset:
    """Make a dataset with the model's type, filters, chunks and attributes."""
    import h5py

    settings = model.id.get_create_plist().copy()
    settings.set_obj_track_times(False)
    if shape is None:
        space = h5py.h5s.create(h5py.h5s.NULL)
    elif not shape:
        space = h5py.h5s.create(h5py.h5s.SCALAR)
    else:
        limits = tuple(
            None if limit is None or (place == 0 and not shape[0]) else length
            for place, (limit, length) in enumerate(zip(model.maxshape, shape, strict=True))
        )
        if model.chunks is None:
            limits = shape
        else:
            # A chunk must not be longer than a dimension that cannot grow.
            chunks = tuple(
                chunk if limit is None else max(1, min(chunk, limit))
                for chunk, limit in zip(model.chunks, limits, strict=True)
            )
            settings.set_chunk(chunks)
        unlimited = tuple(h5py.h5s.UNLIMITED if limit is None else limit for limit in limits)
        space = h5py.h5s.create_simple(shape, unlimited)
    kind = model.id.get_type().copy()
    number = h5py.h5d.create(product.id, path.encode(), kind, space, settings)
    made = h5py.Dataset(number)
    _copy_attributes(model, made)
    return made


def _copy_groups(file: h5py.File, product: h5py.File, path: str) -> None:
    """Make the groups above a dataset, with their attributes."""
    import h5py

    parts = path.split("/")[:-1]
    for depth in range(len(parts)):
        name = "/".join(parts[: depth + 1])
        if name not in product:
            settings = h5py.h5p.create(h5py.h5p.GROUP_CREATE)
            settings.set_obj_track_times(False)
            made = h5py.Group(h5py.h5g.create(product.id, name.encode(), gcpl=settings))
            _copy_attributes(file[name], made)


def _copy_attributes(model: Any, made: Any) -> None:
    """Copy what can be: references would point into another file."""
    for name in sorted(model.attrs):
        kind = model.attrs.get_id(name)
        if holds_references(kind.dtype):
            continue
        made.attrs.create(name, model.attrs[name], dtype=kind.dtype)


@contextmanager
def _made(out: str) -> Iterator[h5py.File]:
    """Make a file as old readers know it, without dates."""
    import h5py

    # The library itself cannot write to a file that has no name any more.
    with Path(out).open("w+b") as opened, h5py.File(opened, "w", libver="earliest") as product:
        yield product


@contextmanager
def _opened(source: ByteSource) -> Iterator[h5py.File]:
    import h5py

    with _translated():
        file = h5py.File(SourceFile(source), "r")
    try:
        yield file
    finally:
        file.close()


@contextmanager
def _translated() -> Iterator[None]:
    """Turn h5py's errors into ours."""
    try:
        yield
    except EvstreamError:
        raise
    except _SYMPTOMS as error:
        line = str(error).split("\n", 1)[0][:200]
        raise CorruptFileError(
            f"h5py cannot read it: {line}",
            hint="compare its size and checksum with the original's",
        ) from error
