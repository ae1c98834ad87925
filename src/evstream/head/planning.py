"""Plans of tasks: what a request comes to, before anything is begun."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from evstream.domain.dataset import Dataset, SourceFile
from evstream.domain.errors import RequestError
from evstream.domain.granularity import CELLS_PER_CHUNK, Extent, Granularity, Grid, choose_grid
from evstream.domain.intervals import Interval
from evstream.domain.names import DatasetName, Lfn, TaskId
from evstream.domain.outputs import OutputRecord
from evstream.domain.splitting import RANGES_PER_CHUNK, Chunk, count_units, plan_chunks
from evstream.domain.states import TaskState
from evstream.domain.streams import MERGEABLE_SUFFIXES, OutputStream
from evstream.domain.task import TASK_SCOPE, TakenOutputs, Task, TaskSpec, process_book
from evstream.head.secondary import FoundSecondary, find_secondary, warn_of_secondary
from evstream.head.slices import choose_branches, choose_tree
from evstream.ports import Catalogue, FileIndex, Formats, Ledger
from evstream.wire import messages as m

FILES_LOOKED_AT_MAX = 100
"""Clusters and bytes of branches are taken from so many files; the rest will be like them."""
RANGES_MANY = 1_000_000
RANGE_BYTES_FEW = 100_000
RANGE_S_SHORT = 1.0


@dataclass(frozen=True, slots=True)
class PlannedTask:
    """What a request comes to."""

    spec: TaskSpec
    dataset: Dataset
    chunks: list[Chunk]
    grid: Grid
    secondary: tuple[FoundSecondary, ...] = ()

    @property
    def events(self) -> int:
        """Events in all."""
        return sum(chunk.entries for chunk in self.chunks)

    @property
    def ranges(self) -> int:
        """Ranges in all; at most, where they go by time."""
        step = self.spec.events_per_range
        return sum(
            count_units((c.entry_start, c.entry_stop), c.entry_start, step) for c in self.chunks
        )


class TaskPlanner:
    """Checks requests against their datasets and splits them."""

    def __init__(self, catalogue: Catalogue, ledger: Ledger, formats: Formats) -> None:
        self._catalogue = catalogue
        self._ledger = ledger
        self._formats = formats

    async def plan(self, new: m.NewTask) -> PlannedTask:
        """Check a request and split its dataset; nothing is written.

        Raises
        ------
        RequestError
            Something in it cannot work; it names what, and what would.
        """
        if new.takes:
            return await self._plan_chained(new)
        if not new.dataset or new.dataset.startswith(f"{TASK_SCOPE}:"):
            raise RequestError(
                f"{new.dataset} is what a task takes of others" if new.dataset else "no input",
                hint="give a dataset, or the tasks whose outputs are to be taken",
                field="dataset",
            )
        dataset = await self._catalogue.dataset(DatasetName(new.dataset))
        tree = choose_tree(dataset, new.tree)
        branches = await choose_branches(
            self._catalogue, self._formats, dataset.files[0], tree, new.branches
        )
        new.granularity.check()
        beside = await self._find_secondary(new)
        grid = choose_grid(new.granularity, await self.extents(new.granularity, dataset, tree))
        spec = TaskSpec(
            name=new.name,
            dataset=dataset.name,
            tree=tree,
            payload=new.payload,
            branches=branches,
            granularity=new.granularity,
            events_per_range=grid.events_per_range,
            outputs=new.outputs,
            limits=new.limits,
            scheduling=new.scheduling,
            secondary=tuple(found.asked for found in beside),
            bundle_bytes=new.bundle_bytes,
        )
        spec.check()
        for file in dataset.files[1:]:
            await choose_branches(self._catalogue, self._formats, file, tree, new.branches)
        per_chunk = RANGES_PER_CHUNK if new.granularity.seconds is None else CELLS_PER_CHUNK
        chunks = plan_chunks(wanted_of(dataset, tree), spec.events_per_range, per_chunk)
        return PlannedTask(spec, dataset, chunks, grid, beside)

    async def _plan_chained(self, new: m.NewTask) -> PlannedTask:
        if new.dataset:
            raise RequestError(
                "the task has a dataset, and takes outputs of tasks", hint="give one of them"
            )
        new.granularity.check()
        takes, tree = [], new.tree
        for taken in new.takes:
            parent = await self._catalogue.task(TaskId(taken.task))
            takes.append(TakenOutputs(parent.id, stream_to_take(parent, taken.stream).name))
            tree = tree or parent.spec.tree
        if globs := [name for name in new.branches if set(name) & set("*?[")]:
            raise RequestError(
                f"{globs[0]} is no branch's name: what a chained task takes is not known yet",
                hint="give branches by their whole names, or none for all",
                field="branches",
            )
        beside = await self._find_secondary(new)
        by_bytes = new.granularity.bytes is not None
        grid = choose_grid(Granularity() if by_bytes else new.granularity, [])
        spec = TaskSpec(
            name=new.name,
            dataset=DatasetName(""),
            tree=tree,
            payload=new.payload,
            branches=tuple(sorted(new.branches)) or None,
            granularity=new.granularity,
            events_per_range=grid.events_per_range,
            outputs=new.outputs,
            limits=new.limits,
            scheduling=new.scheduling,
            secondary=tuple(found.asked for found in beside),
            bundle_bytes=new.bundle_bytes,
            takes=tuple(takes),
        )
        spec.check()
        return PlannedTask(spec, Dataset(DatasetName(""), ()), [], grid, beside)

    async def _find_secondary(self, new: m.NewTask) -> tuple[FoundSecondary, ...]:
        found = [await find_secondary(self._catalogue, self._formats, one) for one in new.secondary]
        return tuple(found)

    async def preview_chained(
        self,
        task: PlannedTask,
        outputs: Sequence[OutputRecord],
        going: Sequence[Task],
        refused: Sequence[str],
    ) -> m.TaskPreview:
        """Tell what a chained task would come to by what it could take now.

        Parameters
        ----------
        going : sequence of Task
            Parents that may still give more.
        refused : sequence of str
            Why what parents left cannot be worked on.
        """
        tree, source_bytes = task.spec.tree, sum(output.size for output in outputs)
        chunks = [
            Chunk(number, Lfn(output.name), 0, output.entries[tree])
            for number, output in enumerate(outputs)
            if output.entries.get(tree)
        ]
        task = replace(task, chunks=chunks)
        seconds, output_bytes = await self._experience(task)
        warnings = [
            f"task {parent.id} is {parent.state.value}: more outputs of it may come"
            for parent in going
        ]
        lacking = [
            output.name for output in outputs if output.entries and tree not in output.entries
        ]
        warnings += [f"{name} has no tree {tree}: the task would fail" for name in lacking[:3]]
        warnings += [f"{why}: the task would fail" for why in refused]
        if outputs and not (task.chunks or lacking):
            warnings.append(f"none of {len(outputs)} outputs holds events in {tree}")
        warnings += _warn_of_payload(task.spec)
        warnings += _warn_of_secondary(task)
        if not going:
            warnings += _warn_of_ranges(task, source_bytes, seconds)
        return m.TaskPreview(
            spec=task.spec,
            files=len(outputs),
            events=task.events,
            ranges=None if task.spec.granularity.seconds is not None else task.ranges,
            bytes_of_source=source_bytes,
            bytes_to_read=source_bytes + await self._bytes_beside(task),
            cpu_s=seconds,
            bytes_of_output=output_bytes,
            warnings=warnings,
        )

    async def preview(self, new: m.NewTask) -> m.TaskPreview:
        """Tell what a request would come to.

        Raises
        ------
        RequestError
        """
        task = await self.plan(new)
        indexes = await self._indexes(task.dataset.files)
        by_time = task.spec.granularity.seconds is not None
        seconds, output_bytes = await self._experience(task)
        wanted = Counter[Lfn]()
        for chunk in task.chunks:
            wanted[chunk.lfn] += chunk.entries
        source_bytes = _bytes_to_read(
            task.dataset, task.spec.tree, task.spec.branches, wanted, indexes
        )
        return m.TaskPreview(
            spec=task.spec,
            files=len({chunk.lfn for chunk in task.chunks}),
            events=task.events,
            ranges=None if by_time else task.ranges,
            bytes_of_source=sum(file.fingerprint.size for file in task.dataset.files),
            bytes_to_read=source_bytes + await self._bytes_beside(task),
            cpu_s=seconds,
            bytes_of_output=output_bytes,
            warnings=[
                *_warn_of_input(task, indexes),
                *_warn_of_ranges(task, source_bytes, seconds),
                *_warn_of_secondary(task),
            ],
        )

    async def _bytes_beside(self, task: PlannedTask) -> int:
        """Return about how many bytes of other datasets are asked for."""
        total = 0.0
        for found in task.secondary:
            dataset, asked = found.dataset, found.asked
            every = Counter({file.lfn: file.trees[asked.tree] for file in dataset.files})
            size = _bytes_to_read(
                dataset,
                asked.tree,
                asked.branches or None,
                every,
                await self._indexes(dataset.files),
            )
            total += size * found.count(task.events) / every.total()
        return round(total)

    async def extents(self, granularity: Granularity, dataset: Dataset, tree: str) -> list[Extent]:
        """Return what a granularity needs to know of files; nothing where it needs none."""
        if granularity.bytes is None and granularity.seconds is None:
            return []
        indexes = await self._indexes(dataset.files)
        return [
            Extent(file.trees[tree], file.fingerprint.size, _cluster(indexes[file.lfn], tree))
            for file in dataset.files
            if file.lfn in indexes
        ]

    async def _indexes(self, files: Iterable[SourceFile]) -> dict[Lfn, FileIndex]:
        """Return what is known of the first files; an index that has been lost is left out."""
        found: dict[Lfn, FileIndex] = {}
        for file in list(files)[:FILES_LOOKED_AT_MAX]:
            blob = await self._catalogue.source_index(file.fingerprint.digest)
            if blob is not None:
                found[file.lfn] = self._formats.named(file.format).load(blob)
        return found

    async def _experience(self, task: PlannedTask) -> tuple[float | None, int | None]:
        """Return seconds and bytes to expect, by the last task that ran the same payload."""
        ended = await self._catalogue.tasks([TaskState.DONE, TaskState.FINISHED])
        for past in reversed(ended):
            if past.spec.payload.command == task.spec.payload.command:
                progress = await self._ledger.progress(process_book(past.id))
                commits = await self._ledger.commits(process_book(past.id))
                size = sum(o.size for commit in commits for o in commit.success.outputs)
                share = task.events / max(progress.finished, 1)
                return progress.cpu_s * share, round(size * share)
        return None, None


def stream_to_take(parent: Task, name: str) -> OutputStream:
    """Return the stream of a task that another one is to take: the one named, or the first.

    Raises
    ------
    RequestError
        There is none, nobody can read it, or nothing will come of it.
    """
    if parent.spec.preparation is not None:
        raise RequestError(
            f"{parent.id} is a request: it leaves products at edges, and no outputs",
            hint="work on its dataset instead",
            field="takes",
        )
    streams = {stream.name: stream for stream in parent.spec.outputs}
    stream = streams.get(name) if name else parent.spec.outputs[0]
    if stream is None:
        raise RequestError(
            f"task {parent.id} has no output stream {name!r}",
            hint=f"it has {', '.join(streams)}",
            field="takes",
        )
    if stream.suffix not in MERGEABLE_SUFFIXES:
        raise RequestError(
            f"outputs of task {parent.id} in {stream.suffix} cannot be cut into ranges",
            hint=f"take outputs in {', '.join(MERGEABLE_SUFFIXES)}",
            field="takes",
        )
    if parent.state in (TaskState.FAILED, TaskState.ABORTED):
        raise RequestError(
            f"task {parent.id} is {parent.state.value}: what takes its outputs would fail with it",
            hint=f"have it done first: evstream task retry {parent.id}",
            field="takes",
        )
    return stream


def wanted_of(dataset: Dataset, tree: str) -> Iterable[tuple[Lfn, Iterable[Interval]]]:
    """Yield the wanted intervals of each file, in the dataset's order."""
    for file in dataset.files:
        yield file.lfn, file.wanted(tree)


def _cluster(index: FileIndex, tree: str) -> int:
    """Return how many entries the clusters of a tree hold, 0 if that differs."""
    sizes = np.diff(index.trees[tree].clusters)
    if len(sizes) == 1:
        return int(sizes[0])
    alike = len(sizes) > 0 and (sizes[:-1] == sizes[0]).all() and sizes[-1] <= sizes[0]
    return int(sizes[0]) if alike else 0


def _bytes_to_read(
    dataset: Dataset,
    tree: str,
    names: tuple[str, ...] | None,
    wanted: Counter[Lfn],
    indexes: dict[Lfn, FileIndex],
) -> int:
    """Return about how many bytes of the sources hold what is asked for.

    Parameters
    ----------
    names : tuple of str or None
        Of the branches; None for all.
    wanted : Counter of Lfn
        Entries of each file.
    """
    looked_at = total = unknown = 0
    for file in dataset.files:
        if not wanted[file.lfn]:
            continue
        share = wanted[file.lfn] / file.trees[tree]
        index = indexes.get(file.lfn)
        if names is None or index is None or not index.trees[tree].branches:
            size = file.fingerprint.size
            unknown += round(size * share) if names is not None and index is None else 0
            total += round(size * share) if names is None or index is not None else 0
            continue
        chosen = set(names)
        branches = index.trees[tree].branches
        total += round(share * sum(b.compressed_bytes for b in branches if b.name in chosen))
        looked_at += round(share * file.fingerprint.size)
    # Files that were not looked at are like those that were.
    return total + round(unknown * total / looked_at) if looked_at else total + unknown


def _warn_of_input(task: PlannedTask, indexes: dict[Lfn, FileIndex]) -> list[str]:
    """Say what looks wrong with a task's files."""
    spec, warnings = task.spec, []
    files = task.dataset.files
    empty = [file.lfn for file in files if not file.trees[spec.tree]]
    if empty:
        warnings.append(f"{_some(empty)}: no events in {spec.tree}")
    contents = Counter(file.fingerprint.digest for file in files)
    doubled = [file.lfn for file in files if contents[file.fingerprint.digest] > 1]
    if doubled:
        warnings.append(f"{_some(doubled)}: the same content, its events would be counted twice")
    notes = Counter(
        note
        for index in indexes.values()
        if spec.tree in index.trees
        for note in index.trees[spec.tree].notes
    )
    warnings += [f"of {count} files, cuts leave behind: {note}" for note, count in notes.items()]
    return warnings + _warn_of_payload(spec)


def _warn_of_payload(spec: TaskSpec) -> list[str]:
    if spec.payload.kind != "command" or "{input}" in spec.payload.command:
        return []
    return ["the payload never names {input}: it may not look at its events"]


def _warn_of_secondary(task: PlannedTask) -> list[str]:
    return [
        warning
        for found in task.secondary
        for warning in warn_of_secondary(found, task.events, task.spec.payload)
    ]


def _warn_of_ranges(task: PlannedTask, source_bytes: int, cpu_s: float | None) -> list[str]:
    """Say what looks wrong with a task's granularity."""
    spec, ranges, warnings = task.spec, max(task.ranges, 1), []
    if task.grid.note:
        warnings.append(task.grid.note)
    if spec.granularity.seconds is not None:
        longest = spec.granularity.seconds
    else:
        longest = (cpu_s or 0.0) / ranges
        if ranges > RANGES_MANY:
            warnings.append(f"{ranges} ranges: more events in each would cost less bookkeeping")
        if ranges > 1 and source_bytes / ranges < RANGE_BYTES_FEW:
            size = source_bytes // ranges
            warnings.append(
                f"a range reads {size} bytes only: its start may cost more than its work"
            )
        if ranges == 1:
            warnings.append("there is one range: one worker will do it all")
        elif cpu_s is not None and longest < RANGE_S_SHORT:
            warnings.append(f"a range takes about {longest:.2g} s only, by the last such task")
    if longest > spec.payload.wall_s_max:
        warnings.append(
            f"a range takes about {longest:.0f} s, and counts as hung after "
            f"{spec.payload.wall_s_max:.0f} s"
        )
    return warnings


def _some(names: list[Lfn]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
