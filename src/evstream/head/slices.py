"""Slices asked for by people: a file, a tree, entries and branches become a plan."""

from __future__ import annotations

from evstream.domain.dataset import Dataset, SourceFile
from evstream.domain.descriptor import Descriptor, scattered_slice_of
from evstream.domain.errors import NotFoundError, RequestError, TransientError
from evstream.domain.intervals import IntervalSet
from evstream.domain.lanes import Asker
from evstream.domain.names import DatasetName
from evstream.head.plans import Planner
from evstream.ports import Catalogue, Formats
from evstream.wire.messages import DeliveryPlan, NewSlice


class Slices:
    """Turns what people say into descriptors, and descriptors into plans."""

    def __init__(self, catalogue: Catalogue, planner: Planner, formats: Formats) -> None:
        self._catalogue = catalogue
        self._formats = formats
        self._planner = planner

    async def plan(self, descriptor: Descriptor) -> DeliveryPlan:
        """Return where a product is, and where its source, if that is known."""
        await self._planner.look()
        try:
            file = await self._catalogue.file(descriptor.sources[0].fingerprint)
        except (IndexError, NotFoundError):
            return self._planner.deliver(descriptor, await self._catalogue.now())
        known = (await self._planner.known([(descriptor, file)])).get(descriptor.key)
        now = await self._catalogue.now()
        return self._planner.deliver(descriptor, now, file, known=known)

    async def edge_urls(self, descriptor: Descriptor, asker: Asker) -> list[str]:
        """Return where edges serve a product to somebody, best first.

        Nowhere if it is made of an output: those are in the heads' store, and edges have no
        way to it.

        Raises
        ------
        TransientError
            There is no edge now.
        """
        await self._planner.look()
        file = await self._catalogue.file(descriptor.sources[0].fingerprint)
        if file.origin is not None:
            return []
        known = (await self._planner.known([(descriptor, file)])).get(descriptor.key)
        now = await self._catalogue.now()
        urls = self._planner.edge_urls(descriptor, now, file, asker, known)
        if not urls:
            raise TransientError("no edge is there to serve products", hint="start one")
        return urls

    async def branches(
        self, file: SourceFile, tree: str, globs: list[str]
    ) -> tuple[str, ...] | None:
        """Return the branches of a file that globs select, sorted; None where that is all.

        Raises
        ------
        RequestError
            A glob selects nothing.
        """
        return await choose_branches(self._catalogue, self._formats, file, tree, globs)

    async def describe(self, new: NewSlice) -> Descriptor:
        """Describe a cut of a file of a registered dataset.

        Raises
        ------
        NotFoundError, RequestError
            No such dataset, file, tree or branch; entries out of range.
        """
        dataset = await self._catalogue.dataset(DatasetName(new.dataset))
        file = find_file(dataset, new.lfn)
        tree = choose_tree(dataset, new.tree)
        if tree not in file.trees:
            raise NotFoundError(f"{file.lfn} has no tree {tree}", hint=f"it has {list(file.trees)}")
        chosen = _entries(new, file.trees[tree])
        branches = await self.branches(file, tree, new.branches)
        return scattered_slice_of(file.fingerprint, tree, chosen, branches, file.format)


def _entries(new: NewSlice, entries: int) -> IntervalSet:
    """Return which of so many entries a slice is of."""
    if new.steps and (new.entry_start, new.entry_stop) != (0, -1):
        raise RequestError("entry_start and entry_stop are given, and steps", hint="give one")
    stop = entries if new.entry_stop == -1 else new.entry_stop
    steps = new.steps or [(new.entry_start, stop)]
    for start, stop in steps:
        if not 0 <= start < stop <= entries:
            raise RequestError(
                f"entries [{start}, {stop}) are not within [0, {entries})",
                hint="give 0 <= entry_start < entry_stop <= entries",
            )
    return IntervalSet.of(steps)


def find_file(dataset: Dataset, lfn: str) -> SourceFile:
    """Return a file by its name, or the only one.

    Raises
    ------
    NotFoundError
    """
    if not lfn and len(dataset.files) == 1:
        return dataset.files[0]
    for file in dataset.files:
        if file.lfn == lfn:
            return file
    names = ", ".join(file.lfn for file in dataset.files[:5])
    raise NotFoundError(
        f"{dataset.name} has no file {lfn!r}" if lfn else f"{dataset.name} has several files",
        hint=f"choose among {names}" + (" …" if len(dataset.files) > 5 else ""),
    )


def choose_tree(dataset: Dataset, tree: str) -> str:
    """Return the tree to work on: the one named, or the only one that there is.

    Raises
    ------
    RequestError
        There is none, there are several, or a file lacks the one named.
    """
    common = set(dataset.files[0].trees)
    for file in dataset.files[1:]:
        common &= set(file.trees)
    names = sorted(common)
    if tree:
        for file in dataset.files:
            if tree not in file.trees:
                has = ", ".join(sorted(file.trees)) or "no tree at all"
                raise RequestError(f"{file.lfn} has no tree {tree!r}", hint=f"it has {has}")
        return tree
    if len(names) == 1:
        return names[0]
    if not names:
        names_of = {file.lfn: ", ".join(sorted(file.trees)) or "none" for file in dataset.files}
        told = [f"{lfn}: {trees}" for lfn, trees in names_of.items()][:3]
        alone = len(told) == 1
        raise RequestError(
            f"{dataset.files[0].lfn} has no tree" if alone else "the files have no tree in common",
            hint=f"give files of one kind with trees in them (trees of {'; '.join(told)})",
        )
    raise RequestError(
        f"the files have several trees: {', '.join(names)}",
        hint="choose one with --tree",
    )


async def choose_branches(
    catalogue: Catalogue, formats: Formats, file: SourceFile, tree: str, globs: list[str]
) -> tuple[str, ...] | None:
    """Return the branches that globs select, sorted; None where that is all of them."""
    if not globs:
        return None
    blob = await catalogue.source_index(file.fingerprint.digest)
    if blob is None:
        raise RequestError(
            f"the index of {file.lfn} has been lost", hint="register the dataset again"
        )
    file_format = formats.named(file.format)
    index = file_format.load(blob)
    chosen = file_format.select(index, tree, globs)
    if set(chosen) == set(file_format.select(index, tree, ["*"])):
        return None
    return tuple(sorted(chosen))
