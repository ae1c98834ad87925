"""Lists of a task's events: those set aside, and the lumi blocks that are done."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evstream.client.event_numbers import Names, source_numbers
from evstream.client.service import Service
from evstream.domain.errors import DataError
from evstream.domain.intervals import Interval, IntervalSet
from evstream.wire.messages import FileEntries, FileView

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LUMI_BRANCHES: Names = ("run", "luminosityBlock", "event")
LumiList = dict[str, list[list[int]]]
"""``{"run": [[first, last], …]}``, both inclusive: CMS's JSON of certified lumi blocks."""


@dataclass(frozen=True, slots=True)
class SetAside:
    """An event that was set aside.

    Attributes
    ----------
    numbers : dict of str to int
        Run, lumi block and event number, by the names of their branches; empty where the
        source is not at hand or does not say.
    """

    lfn: str
    entry: int
    error: str
    numbers: dict[str, int]


async def set_aside_events(service: Service, task: int, folder: Path | None) -> list[SetAside]:
    """Return every event of a task that is set aside, by file and entry.

    Parameters
    ----------
    folder : Path, optional
        Where source files are looked for besides the paths that they were registered with.
    """
    found: list[SetAside] = []
    tree, files = await _files(service, task)
    for file, entries in files:
        if not entries.set_aside:
            continue
        numbers = _numbers(tree, file, folder)
        for start, stop, error in entries.set_aside:
            for entry in range(start, stop):
                row = {} if numbers is None else _row(numbers, entry)
                found.append(SetAside(file.lfn, entry, error, row))
    return found


async def processed_lumis(service: Service, task: int, folder: Path | None) -> LumiList:
    """Return the lumi blocks all of whose wanted events are committed.

    An event that is set aside, withdrawn, cancelled or not done yet takes its lumi block
    with it, in whatever file.

    Raises
    ------
    DataError
        A source file is not at hand, or has no runs and lumi blocks.
    """
    done: set[tuple[int, int]] = set()
    missing: set[tuple[int, int]] = set()
    tree, files = await _files(service, task)
    for file, entries in files:
        wanted, committed = IntervalSet.of(entries.wanted), IntervalSet.of(entries.committed)
        if not wanted:
            continue
        numbers = _numbers(tree, file, folder)
        if numbers is None or numbers[0] != LUMI_BRANCHES:
            raise DataError(
                f"the lumi blocks of {file.lfn} cannot be read",
                hint=f"it needs branches {', '.join(LUMI_BRANCHES)}; --sources names a folder"
                " to look for it",
                lfn=file.lfn,
            )
        done |= _lumis(numbers[1], committed)
        missing |= _lumis(numbers[1], wanted - committed)
    return lumi_list(done - missing)


def lumi_list(lumis: Iterable[tuple[int, int]]) -> LumiList:
    """Return (run, lumi block) pairs as ranges of lumi blocks by run."""
    by_run: dict[int, list[Interval]] = defaultdict(list)
    for run, lumi in lumis:
        by_run[run].append((lumi, lumi + 1))
    return {
        str(run): [[first, last - 1] for first, last in IntervalSet.of(blocks)]
        for run, blocks in sorted(by_run.items())
    }


async def _files(service: Service, task: int) -> tuple[str, list[tuple[FileView, FileEntries]]]:
    view = await service.task(task)
    dataset = await service.dataset(view.spec.dataset)
    entries = {each.lfn: each for each in await service.entries(task)}
    return view.spec.tree, [(file, entries[file.lfn]) for file in dataset.files]


def _numbers(
    tree: str, file: FileView, folder: Path | None
) -> tuple[Names, NDArray[np.int64]] | None:
    return source_numbers(tree, file.lfn, file.pfns, file.fingerprint.canonical(), folder)


def _row(numbers: tuple[Names, NDArray[np.int64]], entry: int) -> dict[str, int]:
    names, rows = numbers
    return dict(zip(names, rows[entry].tolist(), strict=True))


def _lumis(rows: NDArray[np.int64], entries: IntervalSet) -> set[tuple[int, int]]:
    import numpy as np

    found: set[tuple[int, int]] = set()
    for start, stop in entries:
        found |= {(run, lumi) for run, lumi in np.unique(rows[start:stop, :2], axis=0).tolist()}
    return found
