"""Lists of a task's events: those set aside, and the lumi blocks that are done."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from msgspec import structs

from evstream.client.event_numbers import (
    COUNTER,
    EVENT_NUMBERS,
    LUMI_BLOCKS,
    LocalSources,
    Names,
    NoNumbersError,
    Numbers,
    no_numbers,
    read_numbers,
)
from evstream.client.service import Service
from evstream.domain.errors import DataError, EvstreamError, RequestError
from evstream.domain.intervals import Interval, IntervalSet
from evstream.domain.task import TakenOutputs
from evstream.ports import Formats
from evstream.rootio import UnknownBranchError
from evstream.wire.messages import DeliveryPlan, FileEntries, FileView, NewSlice, TaskView

LumiList = dict[str, list[list[int]]]
"""``{"run": [[first, last], …]}``, both inclusive: CMS's JSON of certified lumi blocks."""


@dataclass(frozen=True, slots=True)
class SetAside:
    """An event that was set aside.

    Attributes
    ----------
    numbers : dict of str to int
        Run, lumi block and event number, by the names of their branches.
    unknown : str
        Why there are none.
    """

    lfn: str
    entry: int
    error: str
    numbers: dict[str, int]
    unknown: str = ""


@dataclass(frozen=True, slots=True)
class _Input:
    """An input file of a task, and what became of its entries."""

    dataset: str
    tree: str
    file: FileView
    entries: FileEntries


@dataclass(slots=True)
class _Lumis:
    """Pairs of run and lumi block: those with events that are done, and with others."""

    done: set[tuple[int, int]] = field(default_factory=set)
    missing: set[tuple[int, int]] = field(default_factory=set)


class _DamagedError(NoNumbersError):
    """Some entries cannot be read; others of the file may well be."""


class EventLists:
    """Lists the events of a task by their numbers.

    Numbers are read from what the service delivers: their branches alone, or whole events
    of a format that has no branches. So a source is read wherever it is.

    Parameters
    ----------
    folder : Path, optional
        Where copies of sources are looked for first, by whatever name.
    names : tuple of str
        Branches that number events, or lumi blocks; by default, those that usually do.
    """

    def __init__(
        self, service: Service, formats: Formats, folder: Path | None = None, names: Names = ()
    ) -> None:
        self._service = service
        self._formats = formats
        self._local = None if folder is None else LocalSources(formats, folder)
        self._names = names

    async def set_aside(self, task: int) -> list[SetAside]:
        """Return every event of a task that is set aside, by file and entry."""
        choices = [self._names] if self._names else EVENT_NUMBERS
        found: list[SetAside] = []
        for each in await self._inputs(await self._service.task(task)):
            rows = each.entries.set_aside
            numbers = await self._numbers(each, [(start, stop) for start, stop, _ in rows], choices)
            for (start, stop, error), known in zip(rows, numbers, strict=True):
                for entry in range(start, stop):
                    named, why = {}, ""
                    if isinstance(known, Numbers):
                        values = known.rows[entry - start].tolist()
                        named = dict(zip(known.names, values, strict=True))
                    else:
                        why = str(known)
                    found.append(SetAside(each.file.lfn, entry, error, named, why))
        return found

    async def lumis(self, task: int) -> LumiList:
        """Return the lumi blocks all of whose wanted events are committed.

        An event that is set aside, withdrawn, cancelled or not done yet takes its lumi
        block with it, in whatever file; that of a chained task also in those of its parents,
        and theirs.

        Raises
        ------
        DataError
            The lumi blocks of a source file cannot be told.
        RequestError
            The names given are not two.
        """
        if self._names and len(self._names) != 2:
            raise RequestError(
                f"{' '.join(self._names)} cannot name lumi blocks",
                hint="give two branches: those of the run and of the lumi block",
            )
        view = await self._service.task(task)
        lumis = _Lumis()
        inputs = await self._inputs(view)
        for each in inputs:
            await self._add_lumis(each, each.entries.committed, lumis)
        await self._add_parents(view, {each.file.lfn for each in inputs}, lumis)
        return lumi_list(lumis.done - lumis.missing)

    async def _add_parents(self, view: TaskView, taken: set[str], lumis: _Lumis) -> None:
        """Add the lumi blocks of what a task's parents were to do, and theirs.

        What a parent has not committed, its taker never sees, nor what it left and was not
        taken yet. A range that kept no event has lumi blocks all the same.
        """
        for parent, streams in _streams_by_task(view.spec.takes).items():
            above = await self._service.task(parent)
            inputs = await self._inputs(above)
            waiting: dict[str, list[Interval]] = defaultdict(list)
            for output in await self._service.outputs(parent):
                if output.stream in streams and output.name not in taken:
                    for lfn, start, stop in output.covers:
                        waiting[lfn].append((start, stop))
            for each in inputs:
                through = IntervalSet.of(each.entries.committed)
                through -= IntervalSet.of(waiting[each.file.lfn])
                try:
                    await self._add_lumis(each, list(through), lumis)
                except DataError:
                    if through != IntervalSet.of(each.entries.wanted):
                        raise
            await self._add_parents(above, {each.file.lfn for each in inputs}, lumis)

    async def _add_lumis(self, each: _Input, done: Sequence[Interval], lumis: _Lumis) -> None:
        """Add the lumi blocks of a file's wanted entries: of those done, and of others."""
        choices = [self._names] if self._names else LUMI_BLOCKS
        wanted = IntervalSet.of(each.entries.wanted)
        numbers = await self._numbers(each, list(wanted), choices)
        for interval, known in zip(wanted, numbers, strict=True):
            if not isinstance(known, Numbers):
                raise DataError(
                    f"the lumi blocks of {each.file.lfn} cannot be told: {known}",
                    hint="--numbers names the branches of run and lumi block",
                    lfn=each.file.lfn,
                )
            piece = IntervalSet((interval,))
            through = piece & IntervalSet.of(done)
            lumis.done |= _lumis(known, interval[0], through)
            lumis.missing |= _lumis(known, interval[0], piece - through)

    async def _inputs(self, view: TaskView) -> list[_Input]:
        dataset = await self._service.dataset(view.dataset)
        entries = {each.lfn: each for each in await self._service.entries(view.id)}
        return [
            _Input(view.dataset, view.spec.tree, file, entries[file.lfn])
            # Files of a chained task may have come or gone between.
            for file in dataset.files
            if file.lfn in entries
        ]

    async def _numbers(
        self, source: _Input, intervals: Sequence[Interval], choices: Sequence[Names]
    ) -> list[Numbers | NoNumbersError]:
        """Return what numbers the events of each interval of a file, or why nothing does."""
        if len(intervals) > 1 and not self._formats.named(source.file.format).whole:
            # Branches of numbers are small: one request fetches what lies between, too.
            first, last = intervals[0][0], intervals[-1][1]
            try:
                known = await self._numbers_of(source, (first, last), choices)
            except NoNumbersError:
                pass  # What was set aside may be what is damaged: each for itself, then.
            else:
                return [
                    Numbers(known.names, known.rows[start - first : stop - first])
                    for start, stop in intervals
                ]
        found: list[Numbers | NoNumbersError] = []
        lost: NoNumbersError | None = None
        for interval in intervals:
            try:
                found.append(lost or await self._numbers_of(source, interval, choices))
            except _DamagedError as error:
                found.append(error)
            except NoNumbersError as error:
                lost = error
                found.append(error)
        return found

    async def _numbers_of(
        self, source: _Input, interval: Interval, choices: Sequence[Names]
    ) -> Numbers:
        file, (start, stop) = source.file, interval
        if self._local is not None:
            copy = (file.lfn, file.pfns, file.fingerprint.canonical())
            if self._local.find(*copy) is not None:
                known = self._local.read(*copy, source.tree, choices)
                return Numbers(known.names, known.rows[start:stop])
        plan, chosen = await self._plan(source, interval, choices)
        with tempfile.TemporaryDirectory(prefix="evstream-") as scratch:
            path = Path(scratch) / f"events.{file.format}"
            try:
                await self._service.fetch_product(plan, path)
            except DataError as error:
                raise _DamagedError(f"{file.lfn} cannot be read: {error}") from error
            except EvstreamError as error:
                raise NoNumbersError(f"{file.lfn} cannot be read: {error}") from error
            return read_numbers(self._formats, path, source.tree, [chosen], name=file.lfn)

    async def _plan(
        self, source: _Input, interval: Interval, choices: Sequence[Names]
    ) -> tuple[DeliveryPlan, Names]:
        """Return the plan for some entries' numbers, and their names."""
        file, (start, stop) = source.file, interval
        slice_ = NewSlice(source.dataset, file.lfn, source.tree, entry_start=start, entry_stop=stop)
        if self._formats.named(file.format).whole:
            if COUNTER not in choices:
                raise no_numbers(file.lfn, choices)
            return await self._service.describe_slice(slice_), COUNTER
        for chosen in choices:
            wanted = structs.replace(slice_, branches=list(chosen))
            try:
                return await self._service.describe_slice(wanted), chosen
            except UnknownBranchError:
                continue
        raise no_numbers(file.lfn, choices)


def lumi_list(lumis: Iterable[tuple[int, int]]) -> LumiList:
    """Return (run, lumi block) pairs as ranges of lumi blocks by run."""
    by_run: dict[int, list[Interval]] = defaultdict(list)
    for run, lumi in lumis:
        by_run[run].append((lumi, lumi + 1))
    return {
        str(run): [[first, last - 1] for first, last in IntervalSet.of(blocks)]
        for run, blocks in sorted(by_run.items())
    }


def _streams_by_task(takes: Iterable[TakenOutputs]) -> dict[int, set[str]]:
    found: dict[int, set[str]] = defaultdict(set)
    for taken in takes:
        found[taken.task].add(taken.stream)
    return found


def _lumis(known: Numbers, first: int, entries: IntervalSet) -> set[tuple[int, int]]:
    """Return the lumi blocks of some entries, of those whose rows begin at ``first``."""
    import numpy as np

    found: set[tuple[int, int]] = set()
    for start, stop in entries:
        rows = np.unique(known.rows[start - first : stop - first], axis=0)
        found |= {(run, lumi) for run, lumi in rows.tolist()}
    return found
