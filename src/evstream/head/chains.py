"""Chained tasks: what their parents commit becomes their input; what is taken back leaves it.

Every step follows from what parents and task are found to be. So a step that a crash
has cut short is found again, and one that was made finds nothing more to do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from evstream.domain.chains import Taking, bound_of, chunks_of
from evstream.domain.dataset import Dataset, Origin, SourceFile
from evstream.domain.errors import DataError, NotFoundError, RequestError
from evstream.domain.ledger import Place
from evstream.domain.names import Lfn, TaskId
from evstream.domain.outputs import OutputRecord
from evstream.domain.receipt import Parent, receipt_digest
from evstream.domain.states import TaskState
from evstream.domain.task import TakeBack, Task, TaskSpec, process_book
from evstream.head.datasets import INSPECTED_AT_ONCE, Datasets
from evstream.head.merging import Merging
from evstream.head.parents import Link, Look, Parents
from evstream.head.reopening import Reopening
from evstream.head.stored import is_as_recorded
from evstream.ports import Catalogue, Ledger, OutputStore

TAKEN_AT_ONCE = 500
"""Files that are read before they are put into a task: nobody waits for the last of many."""
ALL_WITHDRAWN = "every input was withdrawn"
TAKEN_BACK = "what it was made from was taken back in the task that it takes it from"


@dataclass(frozen=True, slots=True)
class Taken:
    """How a task stands to its parents.

    Attributes
    ----------
    bound : int or None
        Where its input still grows: the number of the next file. None: all is there.
    refused : str
        Why its input cannot be worked on; empty if it can.
    failed : str
        Which parents came to nothing; empty if none did.
    """

    bound: int | None = None
    refused: str = ""
    failed: str = ""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a task could take now.

    Attributes
    ----------
    going : list of Task
        Parents that may still give more.
    refused : list of str
        Why what some parents left cannot be worked on.
    """

    outputs: list[OutputRecord]
    going: list[Task]
    refused: list[str]


@dataclass(frozen=True, slots=True)
class _Fresh:
    number: int
    output: OutputRecord
    parent: Task


class _RefusedError(Exception):
    """An output that the task cannot work on."""


class Chains:
    """Feeds chained tasks. Call it with the turn of the task held."""

    def __init__(
        self,
        catalogue: Catalogue,
        ledger: Ledger,
        merging: Merging,
        reopening: Reopening,
        store: OutputStore,
        datasets: Datasets,
    ) -> None:
        self._catalogue = catalogue
        self._ledger = ledger
        self._merging = merging
        self._reopening = reopening
        self._store = store
        self._datasets = datasets
        self._parents = Parents(catalogue, ledger, merging)
        self._links: dict[TaskId, list[Link]] = {}
        # Tasks that ended before their parents, with how often they were taken back.
        self._apart: dict[TaskId, int] = {}

    async def take(self, task: Task) -> tuple[Task, Taken]:
        """Take what parents have committed since, and give up what they took back.

        A task that ended after its parents is opened again if one of them was. Returns
        the task as it is then.
        """
        progress = await self._ledger.progress(process_book(task.id))
        if progress.cancelled or (task.state.final and not await self._follows(task)):
            self.forget(task.id)
            return task, Taken()
        # Dropped while they are changed: what fails half-way is read anew.
        links = self._links.pop(task.id, None) or await self._read(task)
        looks = [await self._parents.look(link) for link in links]
        gone = [n for k, look in zip(links, looks, strict=True) for n in _gone(k, look)]
        fresh = [
            _Fresh(number, output, look.parent)
            for link, look in zip(links, looks, strict=True)
            for number, output in link.taking.take(look.outputs)
        ]
        anew = any(look.final is not None for look in looks)
        if gone or (fresh and anew) or (task.state.final and await self._is_stale(task, looks)):
            task = await self._take_back(task, gone, fresh)
            for link in links:
                link.taking.drop(gone)
        refused = ""
        try:
            if not await self._feed(task, fresh):
                return task, Taken(bound=0)
        except _RefusedError as error:
            refused = str(error)
        bound = bound_of([k.taking for k in links], [link.complete for link in links])
        self._parents.set_bound(task.id, bound)
        if not refused:
            self._links[task.id] = links
        return task, Taken(bound, refused, _failed([look.parent for look in looks]))

    async def look(self, spec: TaskSpec) -> Outlook:
        """Return what a task could take now."""
        outputs: list[OutputRecord] = []
        going: list[Task] = []
        refused: list[str] = []
        for taken in spec.takes:
            link = Link(taken, Taking(0, Dataset(spec.dataset, ())))
            look = await self._parents.look(link)
            outputs += look.outputs
            going += [] if link.complete else [look.parent]
            # Its others were left by the same payload, and will be like it.
            like = [output for output in look.outputs if output.entries.get(spec.tree)][:1]
            batch = [_Fresh(0, output, look.parent) for output in like]
            # One that is gone is made again when it is to be taken.
            if batch and not await self._damaged(batch):
                found = await self._inspect_one(spec, batch[0])
                refused += [found] if isinstance(found, str) else []
        return Outlook(outputs, going, refused)

    def forget(self, task: TaskId) -> None:
        """Forget how far a task was fed: it has ended."""
        self._links.pop(task, None)

    async def parents(self, task: Task) -> list[Parent] | None:
        """Return the parents of a task with their receipts, those that have ended.

        Returns None if work of one was taken back since it was looked at.
        """
        links = self._links.get(task.id, [])
        found: list[Parent] = []
        for place, taken in enumerate(task.spec.takes):
            parent = await self._catalogue.task(TaskId(taken.task))
            link = links[place] if links else None
            receipt = None
            if link is not None and link.complete:
                if parent.times_taken_back != link.times:
                    return None
                receipt = await self._receipt(parent)
            found.append(Parent(taken, parent.spec.name, parent.state, receipt))
        return found

    async def _read(self, task: Task) -> list[Link]:
        dataset = await self._catalogue.dataset(task.dataset)
        takes = task.spec.takes
        return [Link(taken, Taking(place, dataset)) for place, taken in enumerate(takes)]

    async def _follows(self, task: Task) -> bool:
        """Whether an ended task goes on if its parents do: if it ended after all of them."""
        if task.state is TaskState.ABORTED or self._apart.get(task.id) == task.times_taken_back:
            return False
        receipt = await self._catalogue.receipt(task.id)
        follows = all(parent["receipt"] for parent in receipt["parents"])
        if not follows:
            self._apart[task.id] = task.times_taken_back
        return follows

    async def _is_stale(self, task: Task, looks: Iterable[Look]) -> bool:
        """Whether a parent's receipt is not the one that an ended task's receipt names."""
        receipt = await self._catalogue.receipt(task.id)
        for look, named in zip(looks, receipt["parents"], strict=True):
            held = await self._receipt(look.parent)
            if held is None or receipt_digest(held) != named["receipt"]:
                return True
        return False

    async def _receipt(self, parent: Task) -> dict[str, Any] | None:
        try:
            return await self._catalogue.receipt(parent.id)
        except NotFoundError:
            return None

    async def _take_back(self, task: Task, gone: Sequence[int], fresh: Iterable[_Fresh]) -> Task:
        """Give up files, and make anew the merges that they or new ones belong into."""
        chunks = {chunk.number: chunk for chunk in await self._ledger.chunks(process_book(task.id))}
        left = [chunks[n] for n in gone if n in chunks]
        discard: list[Place] = [(c.number, c.entry_start, c.entry_stop) for c in left]
        key = f"chain {task.times_taken_back + 1}"
        change = TakeBack(
            key, TAKEN_BACK, redo=tuple((f.number, 0, 1) for f in fresh), discard=tuple(discard)
        )
        change = await self._reopening.with_merges(task, change)
        change = replace(change, redo=(), discard=(), retracted=tuple(gone))
        if not (gone or change.merges or task.state.final):
            return task
        try:
            return await self._catalogue.take_back(task.id, change)
        finally:
            # It may have been done, and the answer lost.
            self._merging.forget(task.id)

    async def _feed(self, task: Task, fresh: Sequence[_Fresh]) -> bool:
        """Register files and give them to the task; False if a parent has to do some again.

        Raises
        ------
        _RefusedError
            One cannot be worked on; those before it are there.
        """
        for start in range(0, len(fresh), TAKEN_AT_ONCE):
            batch = fresh[start : start + TAKEN_AT_ONCE]
            damaged = await self._damaged(batch)
            if damaged:
                await self._redo(damaged)
                return False
            files, indexes, refused = await self._inspect(task, batch)
            if files:
                try:
                    await self._catalogue.take_outputs(task.id, files, indexes)
                except BaseException:
                    self._merging.forget(task.id)
                    raise
                self._merging.grow(task.id, chunks_of(files, task.spec.tree))
            if refused:
                raise _RefusedError(refused)
        return True

    async def _damaged(self, batch: Iterable[_Fresh]) -> list[_Fresh]:
        found: list[_Fresh] = []
        for fresh in batch:
            try:
                whole = await is_as_recorded(self._store, fresh.output)
            except NotFoundError:
                whole = False
            if not whole:
                found.append(fresh)
        return found

    async def _redo(self, damaged: Sequence[_Fresh]) -> None:
        """Have outputs made again that are not in the store as they were committed."""
        for parent in {fresh.parent.id: fresh.parent for fresh in damaged}.values():
            now = await self._catalogue.task(parent.id)
            if now.times_taken_back != parent.times_taken_back:
                continue  # They have been taken back, and may be gone for that.
            names = [fresh.output.name for fresh in damaged if fresh.parent.id == parent.id]
            key = f"damaged {names[0]} {parent.times_taken_back}"
            await self._reopening.redo_outputs(parent.id, names, key)

    async def _inspect(
        self, task: Task, batch: Sequence[_Fresh]
    ) -> tuple[list[SourceFile], dict[str, bytes], str]:
        """Return files with their indexes, and why the one behind them is refused."""
        busy = asyncio.Semaphore(INSPECTED_AT_ONCE)

        async def inspect(fresh: _Fresh) -> tuple[SourceFile, bytes] | str:
            async with busy:
                return await self._inspect_one(task.spec, fresh)

        inspections = [asyncio.ensure_future(inspect(fresh)) for fresh in batch]
        try:
            inspected = await asyncio.gather(*inspections)
        finally:
            for inspection in inspections:
                inspection.cancel()
        files: list[SourceFile] = []
        indexes: dict[str, bytes] = {}
        for found in inspected:
            if isinstance(found, str):
                return files, indexes, found
            files.append(found[0])
            indexes[found[0].fingerprint.digest] = found[1]
        return files, indexes, ""

    async def _inspect_one(self, spec: TaskSpec, fresh: _Fresh) -> tuple[SourceFile, bytes] | str:
        name, tree = fresh.output.name, spec.tree
        try:
            described, index = await self._datasets.describe(self._store.pfn(name), Lfn(name))
            # A payload that kept no event may have written no tree at all.
            if described.trees and tree not in described.trees:
                has = ", ".join(described.trees)
                return f"{name} of task {fresh.parent.id} has no tree {tree!r}, it has {has}"
            if described.trees and spec.branches is not None:
                self._datasets.check_branches(described, index, tree, spec.branches)
        except (DataError, RequestError) as error:
            return f"{name} of task {fresh.parent.id}: {error.message}"
        trees = described.trees or {tree: 0}
        origin = Origin(fresh.parent.id, name, fresh.output.sha256, fresh.number)
        sums = {"adler32": fresh.output.adler32, "sha256": fresh.output.sha256}
        return replace(described, trees=trees, origin=origin, checksums=sums), index.to_bytes()


def _gone(link: Link, look: Look) -> list[int]:
    return [] if look.final is None else link.taking.gone(look.final)


def _failed(parents: Iterable[Task]) -> str:
    """Say which parents came to nothing; one whose files were all withdrawn has none to give."""
    words = {TaskState.FAILED: "failed", TaskState.ABORTED: "was aborted"}
    found = {
        p.id: words[p.state] for p in parents if p.state in words and p.reason != ALL_WITHDRAWN
    }
    return "; ".join(f"task {task}, whose outputs it takes, {how}" for task, how in found.items())
