"""What the formats beside ROOT say of their files, and how they read requests for entries."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import msgspec
import numpy as np
import numpy.typing as npt

from evstream.domain.errors import ConfigError
from evstream.domain.intervals import Interval
from evstream.ports.format import BranchInfo, FileIndex
from evstream.rootio import CorruptFileError, EntryRangeError, NoSuchTreeError, UnknownBranchError

INDEX_VERSION = 1
EVENTS = "events"
"""What the one tree of a format is called that has no names for such."""

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Branch:
    """A column or a dataset; its name is its path within the tree."""

    name: str
    type: str
    compressed_bytes: int
    baskets: int
    title: str = ""


@dataclass(frozen=True, slots=True)
class Tree:
    """Something with entries; ``cluster_starts`` ends with their number."""

    path: str
    cluster_starts: tuple[int, ...]
    branches: tuple[BranchInfo, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def entries(self) -> int:
        """Number of entries."""
        return self.cluster_starts[-1]

    @property
    def clusters(self) -> Int64:
        """First entries of what is stored together, and the number of entries."""
        return np.array(self.cluster_starts, np.int64)


@dataclass(frozen=True, slots=True)
class LeftObject:
    """Something that belongs to no tree."""

    path: str
    class_name: str
    nbytes: int


@dataclass(frozen=True, kw_only=True)
class Index:
    """What is known of a file; formats add what their cuts need."""

    size: int
    fingerprint: str
    trees: Mapping[str, Tree]
    unreadable: Mapping[str, str] = field(default_factory=dict)
    objects: tuple[LeftObject, ...] = ()
    uuid: str = ""

    def tree(self, path: str) -> Tree:
        """Return a tree.

        Raises
        ------
        NoSuchTreeError
            None of that name; the error lists those that are there.
        CorruptFileError
            It is there, but cannot be cut.
        """
        if path in self.trees:
            return self.trees[path]
        why = self.unreadable.get(path)
        known = sorted(self.trees)
        raise NoSuchTreeError(
            f"{path!r} cannot be cut: {why}" if why else f"the file has no tree {path!r}",
            hint=f"it has {', '.join(known)}" if known else "it has no tree at all",
            trees=known,
        )

    def to_bytes(self) -> bytes:
        """Encode what `IndexedFormat.load` needs: trees and branches, not where their bytes are."""
        trees = [
            _StoredTree(tree.path, tree.entries, [(b.name, b.type) for b in tree.branches])
            for tree in self.trees.values()
        ]
        return msgspec.msgpack.encode(_Stored(INDEX_VERSION, self.size, self.fingerprint, trees))


class IndexedFormat:
    """What every format beside ROOT answers from an index alone."""

    name: str

    def load(self, data: bytes) -> Index:
        """Return what is known without the file: good for choosing branches, not for cuts."""
        return _load(data)

    def summed(self, index: FileIndex) -> dict[str, int]:
        """Return the entries of all trees."""
        return {name: tree.entries for name, tree in index.trees.items()}

    def for_output(self, name: str) -> Self:
        """Return this one, whatever the name."""
        return self

    def select(self, index: FileIndex, tree: str, globs: Sequence[str]) -> list[str]:
        """List branches; ``jet`` stands for all that is below it."""
        assert isinstance(index, Index)
        return _select(index.tree(tree), globs, self.name)


class _StoredTree(msgspec.Struct, array_like=True, frozen=True):
    path: str
    entries: int
    branches: list[tuple[str, str]]


class _Stored(msgspec.Struct, array_like=True, frozen=True):
    version: int
    size: int
    fingerprint: str
    trees: list[_StoredTree]


def _load(data: bytes) -> Index:
    """Return an index from `Index.to_bytes`: good for selecting branches, not for cuts.

    Raises
    ------
    CorruptFileError
    """
    try:
        stored = msgspec.msgpack.decode(data, type=_Stored)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise CorruptFileError(
            f"a kept index is damaged: {error}", hint="register the dataset again"
        ) from error
    if stored.version != INDEX_VERSION:
        raise CorruptFileError(
            f"a kept index has version {stored.version}", hint="register the dataset again"
        )
    return Index(
        size=stored.size,
        fingerprint=stored.fingerprint,
        trees={
            tree.path: Tree(
                tree.path,
                (0, tree.entries),
                tuple(Branch(name, kind, 0, 0) for name, kind in tree.branches),
            )
            for tree in stored.trees
        },
    )


def _select(tree: Tree, globs: Sequence[str], format_name: str) -> list[str]:
    """List the branches that match any of some patterns, in the tree's order.

    A pattern that matches a name takes what lies below it too: ``jet`` for ``jet.pt``
    and ``jet/pt``.

    Raises
    ------
    UnknownBranchError
        A pattern that matches nothing; ``nearest`` holds similar names.
    """
    names = [branch.name for branch in tree.branches]
    if not names:
        raise UnknownBranchError(
            f"{format_name} files have no branches to choose from",
            hint="leave --branches out: events come whole",
        )
    chosen: set[str] = set()
    for glob in globs:
        found = {name for name in names if any(fnmatch.fnmatchcase(n, glob) for n in _paths(name))}
        if not found:
            nearest = difflib.get_close_matches(glob.strip("*"), names, 5)
            raise UnknownBranchError(
                f"{tree.path} has no branch {glob!r}",
                hint=f"did you mean {', '.join(nearest)}" if nearest else "list its branches first",
                name=glob,
                nearest=nearest,
            )
        chosen |= found
    return [name for name in names if name in chosen]


def _paths(name: str) -> list[str]:
    """Return a name and those of all that holds it."""
    ends = [i for i, character in enumerate(name) if character in "./"]
    return [name, *(name[:end] for end in ends)]


def kept_branches(tree: Tree, names: Sequence[str] | None) -> tuple[str, ...] | None:
    """Return the named branches in the tree's order; None where that is all of them.

    Raises
    ------
    UnknownBranchError
    """
    if names is None:
        return None
    known = [branch.name for branch in tree.branches]
    wanted = set(names)
    if wanted - set(known):
        missing = sorted(wanted - set(known))[0]
        raise UnknownBranchError(
            f"{tree.path} has no branch {missing!r}", hint="list its branches first", name=missing
        )
    return None if wanted == set(known) else tuple(name for name in known if name in wanted)


def rows_of(columns: Sequence[npt.NDArray[np.generic]]) -> Int64 | None:
    """Return columns beside each other; None unless each has one whole number an entry."""
    if not all(column.dtype.kind in "iu" and column.ndim == 1 for column in columns):
        return None
    # They may use all 64 bits; equality survives the change of sign.
    return np.stack([column.astype(np.uint64).view(np.int64) for column in columns], axis=1)


def check_range(tree: Tree, entry_start: int, entry_stop: int) -> tuple[Interval, ...]:
    """Return a range of entries as runs: one, or none.

    Raises
    ------
    EntryRangeError
    """
    if not 0 <= entry_start <= entry_stop <= tree.entries:
        raise EntryRangeError(
            f"entries {entry_start} to {entry_stop} do not lie within"
            f" the {tree.entries} of {tree.path}",
            hint="ranges are half-open and count from 0",
            entry_start=entry_start,
            entry_stop=entry_stop,
            entries=tree.entries,
        )
    return ((entry_start, entry_stop),) if entry_start < entry_stop else ()


def runs_of(tree: Tree, entries: npt.ArrayLike) -> tuple[Interval, ...]:
    """Return scattered entries, a mask or ascending numbers, as runs of neighbours.

    Raises
    ------
    EntryRangeError
    """
    given = np.asarray(entries)
    if given.ndim != 1 or given.dtype.kind not in "biu":
        raise EntryRangeError(
            f"{given.dtype} of shape {given.shape} is no selection of entries",
            hint="give a boolean mask or a list of entries",
        )
    if given.dtype.kind == "b":
        if len(given) != tree.entries:
            raise EntryRangeError(
                f"the mask has {len(given)} items, {tree.path} has {tree.entries} entries",
                hint="give one item an entry",
            )
        given = np.flatnonzero(given)
    if not len(given):
        raise EntryRangeError("no entry is selected", hint="select at least one")
    if int(given.min()) < 0 or int(given.max()) >= tree.entries:
        raise EntryRangeError(
            f"entries {given.min()} to {given.max()} do not lie within"
            f" the {tree.entries} of {tree.path}",
            hint="entries count from 0",
        )
    chosen = given.astype(np.int64)
    steps = np.diff(chosen)
    if (steps <= 0).any():
        raise EntryRangeError(
            "the entries are not ascending, or some occur twice",
            hint="sort them and leave out repetitions, as numpy.unique does",
        )
    ends = np.flatnonzero(steps > 1)
    starts = chosen[np.concatenate([[0], ends + 1])]
    stops = chosen[np.concatenate([ends, [len(chosen) - 1]])] + 1
    return tuple(zip(starts.tolist(), stops.tolist(), strict=True))


@dataclass(frozen=True, slots=True)
class Joined:
    """What came out of a join."""

    entries: Mapping[str, int]
    size: int
    objects: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def not_installed(format_name: str, extra: str, error: ImportError) -> ConfigError:
    """Return the error that says which extra reads a format."""
    return ConfigError(
        f"{format_name} files need a library that is not installed: {error.name}",
        hint=f"pip install 'evstream[{extra}]'",
    )
