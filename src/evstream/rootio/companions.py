"""What comes along with a cut: metadata trees and objects, by rule, and what does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evstream.rootio.assembly import FileAssembly
from evstream.rootio.beside import (
    COUNTED_ONCE,
    NOT_FOR_ATHENA,
    NOT_FOR_ATHENA_TITLE,
    Rule,
    Rules,
    is_pool,
)
from evstream.rootio.container import Window, read_record
from evstream.rootio.errors import UnsupportedFeatureError
from evstream.rootio.index import CARRIED_CLASSES, ObjectInfo, Record, SourceIndex
from evstream.rootio.primitives import I2, U4, write_string
from evstream.rootio.rewriting import object_header
from evstream.rootio.rntuple.ntuple_cut import cut_pages
from evstream.rootio.rntuple.ntuple_index import NTupleIndex
from evstream.rootio.rntuple.ntuple_pages import NTuplePages
from evstream.rootio.rntuple.ntuple_writing import add_entries
from evstream.rootio.rntuple.subset import kept_fields
from evstream.rootio.selection import kept_branches
from evstream.rootio.source import Steps
from evstream.rootio.splice import Piece, Splice
from evstream.rootio.streamer_info import BYTE_COUNT
from evstream.rootio.tree_index import TreeIndex

NO_ATHENA = "POOL's tokens name entries that have moved, so the file is not for Athena"


@dataclass(frozen=True, slots=True)
class Companions:
    """What a product holds beside the tree that was cut, and what stays behind.

    Attributes
    ----------
    paths : tuple of str
        Trees and objects that come along.
    left_behind : tuple of str
        What does not, in words.
    """

    paths: tuple[str, ...]
    left_behind: tuple[str, ...]
    _index: SourceIndex
    _trees: tuple[Splice | NTuplePages, ...]
    _objects: tuple[ObjectInfo, ...]
    _marked: bool

    @property
    def folders(self) -> list[str]:
        """Paths of the directories that list them."""
        return [one.index.folder for one in self._trees] + [one.folder for one in self._objects]

    @property
    def boundary_bytes(self) -> int:
        """How many bytes of the source are read before the product has its layout."""
        objects = sum(info.nbytes for info in self._objects)
        return objects + sum(splice.boundary_bytes for splice in self._trees)

    def prepare_steps(self) -> Steps[list[Record]]:
        """Read the objects, and encode anew what has to be; return the objects' records."""
        size = self._index.size
        for splice in self._trees:
            yield from splice.prepare_steps(0, size)
        keys = [info.key for info in self._objects]
        found = yield from read_record(Window(size), keys)
        return [Record(key, bytes(payload)) for key, payload in found]

    def add_to(self, assembly: FileAssembly, records: Sequence[Record]) -> None:
        """Write them; the directories must be there."""
        for info, record in zip(self._objects, records, strict=True):
            assembly.copy_record(record, info.folder, info.cycle)
        if self._marked:
            mark(assembly)
        for splice in self._trees:
            add_entries(assembly, splice, [self._index.size])


def companions(index: SourceIndex, tree: str, rules: Rules, *, leads: bool) -> Companions:
    """Decide what comes along with a cut of a tree.

    Parameters
    ----------
    tree : str
        Path of the tree that is cut.
    leads : bool
        Whether the product holds what is counted once.
    """
    trees: list[Splice | NTuplePages] = []
    objects: list[ObjectInfo] = []
    elsewhere: list[str] = []
    left = list(index.unreadable)
    for other in index.trees.values():
        if other.path == tree:
            continue
        rule = rules.of_tree(other)
        if rule in (Rule.EVENTS, Rule.NONE):
            left.append(other.path)
        elif rule in COUNTED_ONCE and not leads:
            elsewhere.append(other.path)
        else:
            names = rules.branches(other, leads=leads)
            if names is not None:
                (elsewhere if not leads else left).append(f"branches of {other.path}")
            trees.append(_whole(other, names))
    for info in index.objects:
        if info.class_name in CARRIED_CLASSES:
            continue
        rule = rules.of_object(info.path, info.class_name)
        if rule in (Rule.EVENTS, Rule.NONE):
            left.append(info.path)
        elif rule in COUNTED_ONCE and not leads:
            elsewhere.append(info.path)
        else:
            objects.append(info)
    notes = []
    if left:
        notes.append(f"by their rules: {listed(left)}")
    if elsewhere:
        notes.append(f"counted once, in the slice with the first entry: {listed(elsewhere)}")
    unfit = file_notes(index)
    notes += unfit
    paths = [splice.index.path for splice in trees] + [info.path for info in objects]
    marked = bool(unfit) and NOT_FOR_ATHENA not in paths
    return Companions(
        tuple(paths), tuple(notes), index, tuple(trees), tuple(objects), marked
    )  # fmt: skip


def file_notes(index: SourceIndex) -> tuple[str, ...]:
    """Say what no product of a file is good for, in words."""
    return (NO_ATHENA,) if is_pool([index]) else ()


def _whole(tree: TreeIndex | NTupleIndex, names: list[str] | None) -> Splice | NTuplePages:
    try:
        if isinstance(tree, NTupleIndex):
            return cut_pages(tree, kept_fields(tree, names), 0, tree.entries)
        return Splice([Piece(0, tree, kept_branches(tree, names), 0, tree.entries)])
    except UnsupportedFeatureError as error:
        raise UnsupportedFeatureError(
            f"metadata tree {tree.path!r} cannot come along: {error.message}",
            hint=f"leave it behind with the rule {tree.path}={Rule.NONE}",
            tree=tree.path,
        ) from error


def mark(assembly: FileAssembly) -> None:
    """Write a TNamed that says that a product is not for Athena."""
    body = object_header() + write_string(NOT_FOR_ATHENA) + write_string(NOT_FOR_ATHENA_TITLE)
    data = U4.pack(BYTE_COUNT | (len(body) + 2)) + I2.pack(1) + body
    assembly.add_object(
        "", "TNamed", NOT_FOR_ATHENA, NOT_FOR_ATHENA_TITLE, data, len(data), assembly.date
    )


def listed(names: Sequence[str], at_most: int = 10) -> str:
    """Return names as people read them, with a count instead of those beyond some."""
    more = len(names) - at_most
    text = ", ".join(names[:at_most])
    return f"{text} and {more} more" if more > 0 else text
