"""Which datasets of an HDF5 file hold entries.

A *tree* is a group with datasets, and all that is below it. Its entries are the first
dimension that its datasets share. ``X`` with ``X_offsets`` beside it, integers that rise
from 0 to the length of ``X``, is ragged: it has an entry between each two offsets. Where
datasets of a group differ in length, each of them names a tree: the datasets of the group
that are as long as it. Datasets without dimensions belong to every entry.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from evstream.adapters.formats.hdf5_types import type_name
from evstream.adapters.formats.tables import LeftObject, Tree
from evstream.rootio import UnsupportedFeatureError

if TYPE_CHECKING:
    import h5py

OBJECTS_MAX = 100_000
OFFSETS = "_offsets"
# Filters make at most a thousandth; a dataset that was never written takes nothing at all.
EXPANSION_MAX = 2000
EXPANSION_FREE_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Member:
    """A dataset of a tree.

    Attributes
    ----------
    path : str
        In the file, without a leading slash.
    entries : int
        -1 if it has no dimensions and belongs to all.
    offsets : str
        Path of the dataset that says where its entries begin; "" if each row is one.
    """

    path: str
    name: str
    type: str
    entries: int
    offsets: str
    compressed_bytes: int
    baskets: int
    title: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A tree: where it is, and what belongs to it; ``named_by`` a dataset or its group."""

    path: str
    group: str
    members: tuple[Member, ...]
    entries: int
    notes: tuple[str, ...]

    def as_tree(self) -> Tree:
        """Return it as people see it."""
        branches = tuple(member for member in self.members if member.entries >= 0)
        return Tree(self.path, (0, self.entries), branches, self.notes)


@dataclass(frozen=True, slots=True)
class Layout:
    """The tables of a file, and what belongs to none."""

    tables: Mapping[str, Table]
    objects: tuple[LeftObject, ...]
    mixed: tuple[str, ...]
    """Groups whose datasets differ in length."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A group with its datasets, and the groups in it."""

    path: str
    datasets: dict[str, h5py.Dataset]
    groups: list[_Found]
    notes: list[str]


def layout_of(file: h5py.File) -> Layout:
    """Find the tables of a file.

    Raises
    ------
    CorruptFileError, UnsupportedFeatureError
    """
    root = _walk(file)
    tables: dict[str, Table] = {}
    mixed: list[str] = []
    objects: list[LeftObject] = []
    for group in _topmost(root):
        members, notes = [], []
        for found in _all_below(group):
            members += _members(found, group.path)
            notes += found.notes
        lengths = Counter(member.entries for member in members if member.entries >= 0)
        name = group.path or "/"
        if len(lengths) <= 1:
            entries = next(iter(lengths), 0)
            if lengths:
                tables[name] = Table(name, group.path, tuple(members), entries, tuple(notes))
            else:
                objects += [LeftObject(m.path, m.type, m.compressed_bytes) for m in members]
            continue
        mixed.append(name)
        for member in members:
            if member.entries < 0:
                continue
            own = tuple(m for m in members if m.entries in (member.entries, -1))
            left = tuple(f"{m.path} has {m.entries} entries" for m in members if m not in own)
            tables[member.path] = Table(
                member.path, group.path, own, member.entries, (*notes, *left)
            )
    return Layout(tables, tuple(objects), tuple(mixed))


def _walk(file: h5py.File) -> _Found:
    """Follow hard links from the root, each group once."""
    import h5py

    root = _Found("", {}, [], [])
    bytes_max = EXPANSION_FREE_BYTES + EXPANSION_MAX * file.id.get_filesize()
    pending: list[tuple[h5py.Group, _Found]] = [(file["/"], root)]
    seen = {h5py.h5o.get_info(file["/"].id).addr}
    count = 0
    while pending:
        group, found = pending.pop()
        for name in group:
            count += 1
            if count > OBJECTS_MAX:
                raise UnsupportedFeatureError(f"it has more than {OBJECTS_MAX} objects")
            path = f"{found.path}/{name}" if found.path else name
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                found.notes.append(f"{path} is a link to {link.path}")
                continue
            item = group[name]
            if isinstance(item, h5py.Dataset):
                why = _unsuitable(item, bytes_max)
                if why:
                    found.notes.append(f"{path} {why}")
                else:
                    found.datasets[name] = item
            elif isinstance(item, h5py.Group):
                address = h5py.h5o.get_info(item.id).addr
                if address in seen:
                    found.notes.append(f"{path} is another group's second name")
                    continue
                seen.add(address)
                inner = _Found(path, {}, [], [])
                found.groups.append(inner)
                pending.append((item, inner))
    return root


def _topmost(root: _Found) -> Iterator[_Found]:
    """Yield the groups that have datasets, none within another."""
    pending = [root]
    while pending:
        found = pending.pop()
        if found.datasets:
            yield found
        else:
            pending += reversed(found.groups)


def _all_below(group: _Found) -> Iterator[_Found]:
    pending = [group]
    while pending:
        found = pending.pop()
        yield found
        pending += reversed(found.groups)


def _members(found: _Found, tree: str) -> list[Member]:
    helpers = {
        name + OFFSETS
        for name, dataset in found.datasets.items()
        if _are_offsets(found.datasets.get(name + OFFSETS), dataset)
    }
    members = []
    for name, dataset in found.datasets.items():
        if name in helpers:
            continue
        path = f"{found.path}/{name}" if found.path else name
        ragged = name + OFFSETS in helpers
        shape = dataset.shape
        entries = -1 if not shape else shape[0]
        kind = type_name(dataset.dtype) + "".join(f"[{n}]" for n in (shape or ())[1:])
        if ragged:
            entries = found.datasets[name + OFFSETS].shape[0] - 1
            kind = f"var * {kind}"
        members.append(
            Member(
                path=path,
                name=path.removeprefix(tree).lstrip("/"),
                type=kind,
                entries=entries,
                offsets=path + OFFSETS if ragged else "",
                compressed_bytes=dataset.id.get_storage_size(),
                baskets=_chunks(dataset),
            )
        )
    return members


def _chunks(dataset: h5py.Dataset) -> int:
    if not dataset.chunks:
        return 1
    parts = [
        -(-length // chunk) for length, chunk in zip(dataset.shape, dataset.chunks, strict=True)
    ]
    total = 1
    for part in parts:
        total *= part
    return total


def _are_offsets(offsets: Any, content: h5py.Dataset) -> bool:
    if offsets is None or offsets.ndim != 1 or not len(offsets) or not content.shape:
        return False
    if offsets.dtype.kind not in "iu":
        return False
    values = offsets[()]
    rising = bool((values[1:] >= values[:-1]).all())
    return rising and int(values[0]) == 0 and int(values[-1]) == content.shape[0]


def _unsuitable(dataset: h5py.Dataset, bytes_max: int) -> str:
    """Say why a dataset cannot be cut; "" if it can."""
    import h5py

    if dataset.external:
        return "is stored in another file"
    if dataset.is_virtual:
        return "is made of other datasets"
    if holds_references(dataset.dtype):
        return "holds references"
    if (dataset.size or 0) * max(1, dataset.dtype.itemsize) > bytes_max:
        return f"says that it holds {dataset.size} items, far more than the file can"
    settings = dataset.id.get_create_plist()
    for place in range(settings.get_nfilters()):
        number, _, _, name = settings.get_filter(place)
        if not h5py.h5z.filter_avail(number):
            words = name.decode(errors="replace") or str(number)
            return f"is compressed with {words}, which is not installed"
    return ""


def holds_references(dtype: np.dtype[Any]) -> bool:
    """Whether values point to other objects of their file, however deep."""
    import h5py

    if h5py.check_ref_dtype(dtype) is not None:
        return True
    inner = h5py.check_vlen_dtype(dtype)
    if inner is not None:
        return holds_references(np.dtype(inner))
    if dtype.subdtype is not None:
        return holds_references(dtype.subdtype[0])
    members = [] if dtype.fields is None else list(dtype.fields.values())
    return any(holds_references(member[0]) for member in members)
