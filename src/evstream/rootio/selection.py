"""Which entries and branches are meant: names, patterns, and what must come with them."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from evstream.rootio.errors import EntryRangeError, UnknownBranchError
from evstream.rootio.tree_index import BranchInfo, TreeIndex

_NEAREST = 5
# Within a tree's names and within an RNTuple's.
_MARKS = "/."


class Table(Protocol):
    """What holds entries: a tree, or an RNTuple."""

    @property
    def path(self) -> str:
        """Path within the file."""
        ...

    @property
    def entries(self) -> int:
        """Number of entries."""
        ...

    @property
    def branches(self) -> tuple[BranchInfo, ...]:
        """Branches or fields, each before those below it."""
        ...


def select_branches(tree: Table, globs: Sequence[str]) -> list[str]:
    """List the branches that match any of some patterns, in the tree's order.

    Parameters
    ----------
    tree : TreeIndex or NTupleIndex
    globs : sequence of str
        Names or patterns such as ``Muon_*``. Those without "/" or "." look at top-level
        branches first, and at the last part of deeper names if none matches.

    Raises
    ------
    UnknownBranchError
        A pattern that matches nothing; ``nearest`` holds similar names.
    """
    names = [b.name for b in tree.branches]
    top = [b.name for b in tree.branches if b.is_top_level]
    chosen: set[str] = set()
    for glob in globs:
        found = set(fnmatch.filter(top, glob)) | ({glob} & set(names))
        if not found:
            found = set(fnmatch.filter(names, glob))
        for mark in _MARKS:
            if not found and mark not in glob:
                found = {n for n in names if fnmatch.fnmatchcase(n.rpartition(mark)[2], glob)}
        if not found:
            raise unknown_branch(glob, names)
        chosen |= found
    return [name for name in dict.fromkeys(names) if name in chosen]


def unknown_branch(name: str, names: Sequence[str]) -> UnknownBranchError:
    """Say that there is no branch of a name, and suggest others."""
    folded = {n.casefold(): n for n in names}
    close = difflib.get_close_matches(name.casefold().strip("*"), folded, _NEAREST)
    nearest = [folded[c] for c in close]
    return UnknownBranchError(
        f"the tree has no branch {name!r}",
        hint=f"did you mean {', '.join(nearest)}" if nearest else "list its branches first",
        name=name,
        nearest=nearest,
    )


def kept_branches(tree: TreeIndex, names: Sequence[str] | None) -> tuple[int, ...]:
    """Return the positions of the branches that a product must hold.

    With a branch come those below it, those that hold it, and those that count
    its items.

    Parameters
    ----------
    names : sequence of str, or None for all
        Full names, as in `TreeIndex.branches`.

    Raises
    ------
    UnknownBranchError
    """
    table = tree.table
    if names is None:
        return tuple(range(len(table)))
    # Two branches may have one name; whoever asks for it gets both.
    numbers: dict[str, list[int]] = {}
    for i, branch in enumerate(tree.branches):
        numbers.setdefault(branch.name, []).append(i)
    pending = []
    for name in names:
        if name not in numbers:
            raise unknown_branch(name, list(numbers))
        pending += numbers[name]
    below: dict[int, list[int]] = {}
    for i, parent in enumerate(table.parents):
        below.setdefault(parent, []).append(i)
    kept: set[int] = set()
    wanted = set()
    while pending:  # the branches asked for, whole
        i = pending.pop()
        if i not in wanted:
            wanted.add(i)
            pending += below.get(i, ())
    pending = list(wanted)
    while pending:  # what they cannot do without
        i = pending.pop()
        if i not in kept:
            kept.add(i)
            pending += table.requires[i]
            if table.parents[i] >= 0:
                pending.append(table.parents[i])
    visible = {i for i in range(len(table)) if not table.hidden[i]}
    if visible <= kept:
        kept |= set(range(len(table)))
    return tuple(sorted(kept))


def chosen_entries(entries: npt.ArrayLike, tree: Table) -> npt.NDArray[np.int64]:
    """Return the entries that a mask or a list means, ascending.

    Raises
    ------
    EntryRangeError
        None at all, outside the tree, out of order or twice, or a mask of another length.
    """
    given = np.asarray(entries)
    if not given.size:
        raise EntryRangeError("no entry is selected", hint="select at least one")
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
                entries=tree.entries,
            )
        chosen = np.flatnonzero(given).astype(np.int64)
        if not len(chosen):
            raise EntryRangeError("the mask selects no entry", hint="select at least one")
        return chosen
    if int(given.min()) < 0 or int(given.max()) >= tree.entries:
        raise EntryRangeError(
            f"entries {given.min()} to {given.max()} do not lie within"
            f" the {tree.entries} of {tree.path}",
            hint="entries count from 0",
            entries=tree.entries,
        )
    chosen = given.astype(np.int64)
    if (np.diff(chosen) <= 0).any():
        raise EntryRangeError(
            "the entries are not ascending, or some occur twice",
            hint="sort them and leave out repetitions, as numpy.unique does",
        )
    return chosen
