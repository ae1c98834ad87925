"""Secondary inputs: checked with a request, and planned for each unit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate

from msgspec import structs

from evstream.domain.dataset import Dataset, SourceFile
from evstream.domain.descriptor import Descriptor, slice_of
from evstream.domain.errors import RequestError
from evstream.domain.intervals import Interval
from evstream.domain.lanes import Asker
from evstream.domain.names import DatasetName, ProductKey, TaskId
from evstream.domain.payload import Payload
from evstream.domain.secondary import Row, Secondary
from evstream.domain.splitting import Chunk
from evstream.domain.streams import variable_of
from evstream.domain.task import TASK_SCOPE, Task
from evstream.head.brokering import Known
from evstream.head.plans import NOBODY, Planner
from evstream.head.slices import choose_branches, choose_tree
from evstream.ports import Catalogue, Formats
from evstream.wire import work_messages as w


@dataclass(frozen=True, slots=True)
class FoundSecondary:
    """A secondary input whose dataset was looked at.

    Attributes
    ----------
    asked : Secondary
        With the tree and the branches that were chosen.
    """

    asked: Secondary
    dataset: Dataset
    row: Row

    def count(self, events: int) -> int:
        """Return how many entries so many events take."""
        start, stop = self.asked.positions((0, events))
        return stop - start


async def find_secondary(
    catalogue: Catalogue, formats: Formats, asked: Secondary
) -> FoundSecondary:
    """Check a secondary input against its dataset.

    Raises
    ------
    NotFoundError
        There is no such dataset.
    RequestError
        It has no such tree or branches, or too few events; or it is what a chained task takes.
    """
    asked.check()
    if asked.dataset.startswith(f"{TASK_SCOPE}:"):
        raise RequestError(
            f"secondary {asked.name!r}: {asked.dataset} is what a task takes of others,"
            " and may change",
            hint="get the outputs with 'evstream task outputs', and register them as a dataset",
            field="secondary.dataset",
        )
    dataset = await catalogue.dataset(DatasetName(asked.dataset))
    try:
        tree = choose_tree(dataset, asked.tree)
    except RequestError as error:
        raise RequestError(
            f"secondary {asked.name!r}: {error.message}",
            hint=f"say which in its field tree, as in --secondary {asked.name}=…,tree=Events",
        ) from error
    branches = [
        await choose_branches(catalogue, formats, file, tree, list(asked.branches))
        for file in dataset.files
    ]
    row = Row.of(dataset, tree)
    if row.entries < asked.per_event:
        raise RequestError(
            f"secondary {asked.name!r} has {row.entries} events, too few for"
            f" {asked.per_event:g} with each event of the task",
            hint="give it more files, or take fewer",
            field="secondary.per_event",
        )
    chosen = structs.replace(asked, tree=tree, branches=branches[0] or ())
    return FoundSecondary(chosen, dataset, row)


Cuts = list[tuple[Descriptor, SourceFile]]


def _slice_of(one: Secondary, file: SourceFile, piece: Interval) -> Descriptor:
    return slice_of(file.fingerprint, one.tree, piece, one.branches or None, file.format)


class SecondaryPlans:
    """Plans the secondary inputs of units."""

    def __init__(self, catalogue: Catalogue, planner: Planner) -> None:
        self._catalogue = catalogue
        self._planner = planner
        # What never changes once it is written: rows by task and name, and how many
        # events of the task come before each of its chunks; not of chained tasks.
        self._rows: dict[TaskId, dict[str, Row]] = {}
        self._before: dict[TaskId, list[int]] = {}

    async def load(self, task: Task, chunks: list[Chunk]) -> None:
        """Look up what `cuts` needs to know of a task."""
        if not task.spec.secondary:
            return
        if task.id not in self._rows:
            self._rows[task.id] = {
                one.name: Row.of(await self._catalogue.dataset(DatasetName(one.dataset)), one.tree)
                for one in task.spec.secondary
            }
        if task.id not in self._before and not task.spec.takes:
            entries = accumulate((chunk.entries for chunk in chunks), initial=0)
            self._before[task.id] = list(entries)

    def cuts(self, task: Task, chunk: Chunk, source: SourceFile, interval: Interval) -> list[Cuts]:
        """Return what a range takes of each secondary input, by `evstream.domain.secondary`.

        Call it before anything else is waited for after `load`.
        """
        if not task.spec.secondary:
            return []
        numbers = self._numbers(task, chunk, source, interval)
        return [
            [
                (_slice_of(one, file, piece), file)
                for file, piece in self._rows[task.id][one.name].take(*one.positions(numbers))
            ]
            for one in task.spec.secondary
        ]

    def plan(
        self,
        task: Task,
        taken: list[Cuts],
        known: Mapping[ProductKey, Known],
        now: datetime,
        asker: Asker = NOBODY,
    ) -> list[w.SecondaryInput]:
        """Return what a range gets: how each of its `cuts` is had."""
        return [
            w.SecondaryInput(
                one.name,
                one.tree,
                [
                    self._planner.deliver(cut, now, file, asker, known.get(cut.key))
                    for cut, file in cuts
                ],
            )
            for one, cuts in zip(task.spec.secondary, taken, strict=True)
        ]

    def _numbers(
        self, task: Task, chunk: Chunk, source: SourceFile, interval: Interval
    ) -> Interval:
        """Return the numbers of a unit's events among those of the task."""
        if task.spec.takes:
            # Its files come while it runs, and go: no count through them would stay.
            first = int(source.fingerprint.digest, 16)
        else:
            first = self._before[task.id][chunk.number] - chunk.entry_start
        return first + interval[0], first + interval[1]

    def forget_ended(self, active: set[TaskId]) -> None:
        """Forget tasks that are not among the active ones."""
        for task in [task for task in self._rows if task not in active]:
            del self._rows[task]
            self._before.pop(task, None)


def warn_of_secondary(found: FoundSecondary, events: int, payload: Payload) -> list[str]:
    """Say what looks wrong with a secondary input of a task with so many events."""
    name, warnings = found.asked.name, []
    uses = found.count(events) / found.row.entries
    if uses > 1:
        warnings.append(
            f"secondary {name!r}: each of its {found.row.entries} events is used "
            f"{uses:.2g} times on average"
        )
    named = (f"{{secondary:{name}}}", f"EVSTREAM_SECONDARY_{variable_of(name)}")
    if payload.kind == "command" and not any(one in payload.command for one in named):
        warnings.append(f"the payload never names {{secondary:{name}}}")
    return warnings
