"""Bringing an index up to date with files: those that it lacks are read and added."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from evstream.domain.errors import EvstreamError
from evstream.eventindex.building import Builder, open_builder
from evstream.eventindex.extraction import Extracted, Readers, Result, WantedFile, extract_all


@dataclass(slots=True)
class Updated:
    """What became of the files.

    Attributes
    ----------
    added, known : int
        Files that were read, and files that the index had.
    events : int
        Of those that were added.
    failed : list of EvstreamError
        One for each file that cannot be indexed.
    """

    added: int = 0
    known: int = 0
    events: int = 0
    failed: list[EvstreamError] = field(default_factory=list)


def update_index(
    folder: Path,
    wanted: Sequence[WantedFile],
    make_readers: Callable[[], Readers],
    processes: int,
) -> Updated:
    """Add files to the index of a folder; those whose content it has are not read again.

    Raises
    ------
    ConflictError
        Another builder is at work.
    ConfigError
        The folder cannot be written.
    """
    done = Updated()
    with open_builder(folder) as builder:
        while wanted:
            results = extract_all(make_readers, wanted, builder.known, processes)
            with closing(_keeping(builder, results)) as kept:
                wanted = [again for result in kept if (again := _take(builder, result, done))]
    return done


def _keeping(builder: Builder, results: Iterable[Result]) -> Generator[Result, None, None]:
    """Yield what came of files; an interrupt while the next is awaited loses none before it."""
    try:
        yield from results
    except KeyboardInterrupt:
        builder.flush()
        raise


def _take(builder: Builder, result: Result, done: Updated) -> WantedFile | None:
    """Add what came of a file; return what has to be read after all, if it has."""
    if isinstance(result, EvstreamError):
        done.failed.append(result)
    elif isinstance(result, Extracted) and not builder.has(result.file):
        builder.add(result.file, result.runs, result.lumis, result.events)
        done.added += 1
        done.events += result.file.entries
    else:
        file = result.file if isinstance(result, Extracted) else result
        if not builder.has(file):
            # It was known until another file took its place: it has moved to where it is now.
            dataset = "".join(file.datasets)
            digest = file.digest if dataset else ""
            return WantedFile(file.pfns[0], file.lfn, dataset, file.tree, file.numbers, digest)
        builder.note(file)
        done.known += 1
    return None
