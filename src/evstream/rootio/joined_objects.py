"""Joins of what is beside the events: objects and metadata trees, by their rules."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache

import numpy as np
import numpy.typing as npt

from evstream.domain.errors import DataError
from evstream.rootio.added import ObjectSum, can_be_added, cannot_be_added
from evstream.rootio.assembly import FileAssembly
from evstream.rootio.baskets import Basket, decode_basket, decode_embedded, slice_basket
from evstream.rootio.beside import Rule, Rules
from evstream.rootio.clashes import OBJECT, SUM, Named
from evstream.rootio.class_plan import Plans
from evstream.rootio.compression import decompress
from evstream.rootio.container import Window, read_record
from evstream.rootio.errors import corrupt_steps_if_broken
from evstream.rootio.index import CARRIED_CLASSES, AnyTree, ObjectInfo, Record, SourceIndex
from evstream.rootio.references import led_to
from evstream.rootio.rntuple.ntuple_index import NTupleIndex
from evstream.rootio.rntuple.ntuple_join import content_steps
from evstream.rootio.source import ByteSource, Steps, drive, fetch
from evstream.rootio.splice import batches, expect_entries, with_offsets
from evstream.rootio.streamer_info import StreamerInfos
from evstream.rootio.tree_index import TreeIndex


class JoinedObjects:
    """The objects of several files that are no trees, and the rule for each.

    Parameters
    ----------
    sources, indices, infos : one a file
    shifts : sequence of int
        How far the numbers of each file's process ids move.
    names : sequence of str
        What errors call the files.
    rules : Rules
    """

    def __init__(
        self,
        sources: Sequence[ByteSource],
        indices: Sequence[SourceIndex],
        infos: Sequence[StreamerInfos],
        shifts: Sequence[int],
        names: Sequence[str],
        rules: Rules,
    ) -> None:
        self._sources = sources
        # Files of one program share their descriptions, and so what is made of them.
        plans = {id(i): Plans(i) for i in infos}
        self._plans = [plans[id(i)] for i in infos]
        self._shifts = shifts
        self._names = names
        self._rules = rules
        self._held: dict[str, list[tuple[int, ObjectInfo]]] = {}
        self._left: dict[str, None] = {}
        rule_of = cache(rules.of_object)
        for number, index in enumerate(indices):
            # Oldest cycles first, as they came about.
            for info in sorted(index.objects, key=lambda info: info.cycle):
                if info.class_name in CARRIED_CLASSES and not info.folder:
                    continue
                if rule_of(info.path, info.class_name) == Rule.NONE:
                    self._left[info.path] = None
                else:
                    self._held.setdefault(info.path, []).append((number, info))

    def things(self) -> list[Named]:
        """List what is kept, of each path every class and directory once."""
        found = []
        for path, held in self._held.items():
            kinds = {(i.class_name, i.folder): number for number, i in reversed(held)}
            for (class_name, folder), number in kinds.items():
                added = self._rules.of_object(path, class_name) == Rule.ADD
                kind = SUM if added else OBJECT
                found.append(Named(path, folder, kind, class_name, number))
        return sorted(found, key=lambda one: one.source)

    def add_to(self, assembly: FileAssembly, outcomes: dict[str, list[str]]) -> None:
        """Write them, and say under which outcome each path goes.

        Raises
        ------
        SchemaMismatchError, UnsupportedFeatureError
            Objects that should be added and cannot; the error names the path.
        """
        if self._left:
            outcomes.setdefault("left", []).extend(self._left)
        for path, held in self._held.items():
            outcome = self._one(assembly, path, held)
            outcomes.setdefault(outcome, []).append(path)

    def _one(
        self, assembly: FileAssembly, path: str, held: Sequence[tuple[int, ObjectInfo]]
    ) -> str:
        rule = self._rules.of_object(path, held[0][1].class_name)
        folder = held[0][1].folder
        if rule == Rule.FIRST or len(held) == 1:
            newest = [one for one in held if one[0] == held[0][0]][-1]
            assembly.copy_record(self._led(path, *newest), folder)
            return "first"
        if rule == Rule.ADD:
            return self._add(assembly, path, held)
        distinct: dict[tuple[str, str, int, bytes], Record] = {}
        for number, info in held:
            record = self._led(path, number, info)
            key = record.key
            # Equal bytes refer to different things where process ids differ.
            content = bytes(decompress(record.payload, key.object_bytes))
            distinct.setdefault((key.class_name, key.title, key.pids, content), record)
        # ROOT takes the first of a name in the list for the newest cycle.
        for cycle, record in reversed(list(enumerate(distinct.values(), 1))):
            assembly.copy_record(record, folder, cycle)
        return "once" if len(distinct) == 1 else "all"

    def _add(
        self, assembly: FileAssembly, path: str, held: Sequence[tuple[int, ObjectInfo]]
    ) -> str:
        if not can_be_added(held[0][1].class_name):
            raise cannot_be_added(path, held[0][1].class_name)
        first = self._led(path, *held[0])
        total: ObjectSum | None = None
        for number, info in held:
            record = self._read(number, info)
            key = record.key
            data = decompress(record.payload, key.object_bytes)
            plans = self._plans[number]
            with self._named(path, number):
                if total is None:
                    total = ObjectSum(path, key.class_name, data, key.key_bytes, plans)
                else:
                    total.add(key.class_name, data, key.key_bytes, plans)
        if total is not None:
            data = total.record(first.key.key_bytes)
            assembly.add_computed(held[0][1].folder, first, data)
        return "added"

    @contextmanager
    def _named(self, path: str, number: int) -> Iterator[None]:
        """Say in an error which object of which file it is about, and which rule helps."""
        try:
            yield
        except DataError as error:
            told = error.message if repr(path) in error.message else f"{path!r}: {error.message}"
            raise type(error)(
                f"{told} (in {self._names[number]})",
                hint=error.hint or f"keep one with the rule {path}=first, or all with =all",
                **error.fields,
            ) from error

    def _led(self, path: str, number: int, info: ObjectInfo) -> Record:
        """Read a record whose references say what they mean in the joined file."""
        return led_to(self._read(number, info), self._shifts[number], path)

    def _read(self, number: int, info: ObjectInfo) -> Record:
        source = self._sources[number]
        ((key, payload),) = drive(read_record(Window(source.size), [info.key]), source)
        return Record(key, bytes(payload))


def distinct_trees(
    holders: Sequence[tuple[int, AnyTree]], sources: Sequence[ByteSource], rules: Rules
) -> tuple[list[tuple[int, AnyTree]], list[int]]:
    """Keep each of some trees once; a tree with only some branches of another is that one.

    Parameters
    ----------
    holders : sequence of (number of the source, TreeIndex)
    rules : Rules
        Branches that they leave out are not looked at.

    Returns
    -------
    kept : list of the same, at least one, in their order
    left : list of int
        Sources whose trees say something else and lack branches that others have, as
        slices do that lead nothing: they cannot stand in one tree with those.
    """
    kept: list[tuple[int, AnyTree, set[tuple[str, str]]]] = []
    for number, tree in holders:
        source = sources[number]
        if isinstance(tree, NTupleIndex):
            steps = content_steps(tree, source.size)
        else:
            steps = _content(tree, source.size)
        wanted = rules.joined_branches(tree)
        content = {one for one in drive(steps, source).items() if _is_of(one[0], wanted)}
        if any(content <= other for _, _, other in kept):
            continue
        within = [k for k, (_, _, other) in enumerate(kept) if other <= content]
        kept = [one for k, one in enumerate(kept) if k not in within[1:]]
        if within:
            kept[within[0]] = (number, tree, content)
        else:
            kept.append((number, tree, content))
    names = [
        {b.name for b in tree.branches if _is_of(b.name, rules.joined_branches(tree))}
        for _, tree, _ in kept
    ]
    fullest = max(names, key=len)
    left = [kept[k][0] for k, mine in enumerate(names) if mine < fullest]
    return [(number, tree) for number, tree, _ in kept if number not in left], left


def _is_of(name: str, wanted: Sequence[str] | None) -> bool:
    """Whether a branch, or what is below it, is one of those wanted at the top; "" always is."""
    if wanted is None or not name:
        return True
    return any(name == one or name.startswith((f"{one}/", f"{one}.", f"{one} ")) for one in wanted)


@corrupt_steps_if_broken
def _content(tree: TreeIndex, size: int) -> Steps[dict[str, str]]:
    """Digest what each branch of a tree holds: its entries' bytes, and how many each has.

    Entries may be in other baskets, unless they name classes: what follows then says where in
    the basket.
    """
    table = tree.baskets
    signatures = tree.table.signatures
    digests = [hashlib.sha256(s.encode("utf-8", "surrogateescape")) for s in signatures]
    sizes = [hashlib.sha256() for _ in signatures]
    for batch in batches(np.arange(len(table.seek)), table.nbytes):
        on_file = [n for n in batch.tolist() if table.seek[n] > 0]
        ranges = [(int(table.seek[n]), int(table.nbytes[n])) for n in on_file]
        records = dict(zip(on_file, (yield from fetch(ranges, size)), strict=True))
        for n in batch.tolist():
            basket = (
                decode_basket(records[n], int(table.nbytes[n]))
                if n in records
                else decode_embedded(tree.embedded[n])
            )
            branch, count = int(table.branch[n]), int(table.stop[n] - table.start[n])
            if basket.generated:
                basket = yield from with_offsets(tree, branch, n, basket, size)
            expect_entries(basket, count)
            held = slice_basket(basket, 0, count, pinned=False)
            digests[branch].update(held.data)
            sizes[branch].update(_sizes(held).tobytes())
    found = {"": str(tree.entries)}
    for info, *both in zip(tree.branches, digests, sizes, strict=False):
        found[info.name] = " ".join(digest.hexdigest() for digest in both)
    return found


def _sizes(basket: Basket) -> npt.NDArray[np.int64]:
    if basket.offsets is None:
        return np.full(basket.entries, basket.entry_bytes, np.int64)
    return np.diff(basket.offsets)
