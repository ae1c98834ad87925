"""Bringing an index up to date with files: those that it lacks are read and added."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from evstream.domain.errors import EvstreamError
from evstream.eventindex.building import open_builder
from evstream.eventindex.extraction import Extracted, Readers, WantedFile, extract_all


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
    told: Callable[[Updated], None] = lambda _: None,
) -> Updated:
    """Add files to the index of a folder; those whose content it has are not read again.

    Parameters
    ----------
    told : callable
        Called after each file.

    Raises
    ------
    ConflictError
        Another builder is at work.
    ConfigError
        The folder cannot be written.
    """
    done = Updated()
    with open_builder(folder) as builder:
        known = frozenset(file.content for file in builder.manifest.files)
        for result in extract_all(make_readers, wanted, known, processes):
            if isinstance(result, EvstreamError):
                done.failed.append(result)
            elif isinstance(result, Extracted) and not builder.known(*result.file.content):
                builder.add(result.file, result.runs, result.lumis, result.events)
                done.added += 1
                done.events += result.file.entries
            else:
                builder.note(result.file if isinstance(result, Extracted) else result)
                done.known += 1
            told(done)
    return done
