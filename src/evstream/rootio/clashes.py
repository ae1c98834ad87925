"""One name in a file stands for one thing: readers find the newest of a name, and no other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from evstream.rootio.beside import Rule
from evstream.rootio.errors import SchemaMismatchError

TREE, OBJECT, SUM, DIRECTORY = "tree", "object", "sum", "directory"


class Named(NamedTuple):
    """Something that a join would write.

    Attributes
    ----------
    path, folder : str
        What is left of the path behind its directory is the name, slashes included.
    kind : str
        Of one path all must be of one kind.
    class_name : str
    source : int
        The number of the file that has it.
    """

    path: str
    folder: str
    kind: str
    class_name: str
    source: int

    def told(self, names: Sequence[str]) -> str:
        """Say what it is, and in which file."""
        slashed = "/" in self.path[len(self.folder) + 1 if self.folder else 0 :]
        what = f"{self.class_name} with a slash in its name" if slashed else self.class_name
        return f"a {what} in {names[self.source]}"


def refuse_clashes(things: Iterable[Named], names: Sequence[str]) -> None:
    """Refuse different kinds of things under one path.

    Parameters
    ----------
    names : sequence of str
        What errors call the files.

    Raises
    ------
    SchemaMismatchError
        It names the path, and the rule that helps.
    """
    known: dict[str, Named] = {}
    for one in things:
        first = known.setdefault(one.path, one)
        if (first.kind, first.folder) == (one.kind, one.folder):
            continue
        helps = f"leave out what is called so with the rule {one.path}={Rule.NONE}"
        if {first.kind, one.kind} == {OBJECT, SUM} and first.folder == one.folder:
            helps = f"keep one with the rule {one.path}={Rule.FIRST}, or all with ={Rule.ALL}"
        raise SchemaMismatchError(
            f"{one.path!r} is {first.told(names)} and {one.told(names)}:"
            " of one name, readers find one thing in a file",
            hint=f"{helps}, or write them under different names",
            names=[one.path],
        )
