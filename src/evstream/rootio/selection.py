"""Which branches are meant: exact names, patterns, and what must come with them."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Sequence

from evstream.rootio.errors import UnknownBranchError
from evstream.rootio.tree_index import TreeIndex

_NEAREST = 5


def select_branches(tree: TreeIndex, globs: Sequence[str]) -> list[str]:
    """List the branches that match any of some patterns, in the tree's order.

    Parameters
    ----------
    tree : TreeIndex
    globs : sequence of str
        Names or patterns such as ``Muon_*``. Those without "/" look at top-level
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
        if not found and "/" not in glob:
            found = {n for n in names if fnmatch.fnmatchcase(n.rpartition("/")[2], glob)}
        if not found:
            raise _unknown(glob, names)
        chosen |= found
    return [name for name in dict.fromkeys(names) if name in chosen]


def _unknown(name: str, names: Sequence[str]) -> UnknownBranchError:
    folded = {n.casefold(): n for n in names}
    close = difflib.get_close_matches(name.casefold().strip("*"), folded, _NEAREST, 0.5)
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
    numbers: dict[str, int] = {}
    for i, branch in enumerate(tree.branches):
        numbers.setdefault(branch.name, i)
    pending = []
    for name in names:
        if name not in numbers:
            raise _unknown(name, list(numbers))
        pending.append(numbers[name])
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
