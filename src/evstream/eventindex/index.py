"""Reading an event index: where events are, by their numbers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np

from evstream.domain.errors import ConfigError, DataError, NotFoundError, TransientError
from evstream.eventindex.manifest import IndexedFile, Manifest, read_manifest
from evstream.eventindex.rows import NO_LUMI, Array, Rows
from evstream.eventindex.segment import EVENTS_READ_MAX, PIECE_EVENTS, Intervals, Segment

OPENINGS_MAX = 10
"""A segment may be merged away between reading its name and opening it; then it is looked anew."""


@dataclass(frozen=True, slots=True)
class EventKeys:
    """Events that somebody looks for; arrays of one length.

    Attributes
    ----------
    runs, lumis : uint32
        A lumi block of `NO_LUMI` asks for the event in whatever lumi block.
    events : uint64
    """

    runs: Array
    lumis: Array
    events: Array

    def __len__(self) -> int:
        return len(self.events)

    @classmethod
    def of(cls, keys: Sequence[tuple[int, int | None, int]]) -> Self:
        """Return keys of ``(run, lumi block or None, event)``."""
        return cls(
            np.array([run for run, _, _ in keys], np.uint32),
            np.array([NO_LUMI if lumi is None else lumi for _, lumi, _ in keys], np.uint32),
            np.array([event for _, _, event in keys], np.uint64),
        )

    def at(self, position: int) -> tuple[int, int | None, int]:
        """Return one key as plain numbers."""
        lumi = int(self.lumis[position])
        return (
            int(self.runs[position]),
            None if lumi == NO_LUMI else lumi,
            int(self.events[position]),
        )


@dataclass(frozen=True, slots=True)
class Found:
    """Where events are.

    Attributes
    ----------
    keys : int64
        Which of the keys each row answers, ascending.
    rows : Rows
        In the order of `keys`; of one key, by file and entry.
    """

    keys: Array
    rows: Rows

    def missing(self, count: int) -> Array:
        """Return the positions of the keys, of so many, that are nowhere."""
        there = np.zeros(count, bool)
        there[self.keys] = True
        return np.flatnonzero(~there)

    def repeated(self) -> Array:
        """Return the positions of the keys that are at several places."""
        return np.unique(self.keys[1:][self.keys[1:] == self.keys[:-1]])


class EventIndex:
    """An index as it was when it was opened; builders do not disturb it.

    Parameters
    ----------
    folder : Path
        Of the index.

    Raises
    ------
    NotFoundError
        There is no index.
    DataError
        It is damaged.
    ConfigError
        A file of it may not be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest, self.segments = _open(folder)

    @cached_property
    def files(self) -> dict[int, IndexedFile]:
        """Every file of the index, by its number."""
        return {file.number: file for file in self.manifest.files}

    def __len__(self) -> int:
        """Return the number of entries that are indexed."""
        return sum(file.entries for file in self.manifest.files)

    @property
    def nbytes(self) -> int:
        """Bytes of all segments."""
        return sum(segment.nbytes for segment in self.segments)

    def only(self, dataset: str = "", guid: str = "", tree: str = "") -> Array:
        """Return a flag for each file number: whether it is in the index, and asked for.

        Parameters
        ----------
        dataset : str
            That the files were indexed for; empty for all.
        guid : str
            Of the file; empty for all.
        tree : str
            Whose events were indexed; empty for all.

        Raises
        ------
        NotFoundError
            There is no such file.
        """
        chosen = np.zeros(self.manifest.next_number, bool)
        of_dataset = [f for f in self.files.values() if not dataset or dataset in f.datasets]
        if not of_dataset:
            known = sorted({name for file in self.files.values() for name in file.datasets})
            raise NotFoundError(
                f"no file was indexed for {dataset}",
                hint=f"the index has {', '.join(known) or 'files of no dataset'}",
            )
        asked = [f for f in of_dataset if not guid or f.guid.lower() == guid.lower()]
        if not asked:
            raise NotFoundError(
                f"no file of the index has GUID {guid}", hint="see 'evstream index show'"
            )
        of_tree = [file for file in asked if not tree or file.tree == tree]
        if not of_tree:
            raise NotFoundError(
                f"no events of tree {tree} are in the index",
                hint=f"it has those of {', '.join(sorted({file.tree for file in asked}))}",
            )
        chosen[[file.number for file in of_tree]] = True
        return chosen

    def lookup(self, keys: EventKeys, files: Array, read_max: int = EVENTS_READ_MAX) -> Found:
        """Find events by run and number, and lumi block where the key names one.

        An event of a file without lumi blocks is found whatever lumi block is asked for.

        Parameters
        ----------
        files : bool, shape (next file number,)
            Which files to look at, as `only` gives them.

        Raises
        ------
        LimitError
            More than `read_max` events have these numbers, those of other files included.
        """
        # Keys in order touch each page of a segment once.
        order = np.lexsort((keys.events, keys.runs))
        runs, events = keys.runs[order], keys.events[order]
        pieces: list[Rows] = []
        answered = [np.empty(0, np.int64)]
        for segment in self.segments:
            at, positions = segment.find(runs, events, read_max)
            read_max -= len(positions)
            rows, asked = segment.rows(positions), order[at]
            lumis = keys.lumis[asked]
            fits = (lumis == NO_LUMI) | (rows.lumis == NO_LUMI) | (rows.lumis == lumis)
            fits &= files[rows.files]
            pieces.append(rows.take(fits))
            answered.append(asked[fits])
        found, asked = Rows.concatenate(pieces), np.concatenate(answered)
        final = np.lexsort((found.entries, found.files, asked))
        return Found(asked[final], found.take(final))

    def count_in_span(self, run: int, first: int, last: int) -> int:
        """Return how many events there are from one number to another, in whatever file."""
        spans = (segment.span(run, first, last) for segment in self.segments)
        return sum(stop - start for start, stop in spans)

    def in_span(self, run: int, first: int, last: int, files: Array) -> Rows:
        """Return the events of a run from one number to another, both included.

        They are in the order of number, lumi block, file and entry.
        """
        pieces = []
        for segment in self.segments:
            rows = segment.rows(slice(*segment.span(run, first, last)))
            pieces.append(rows.take(files[rows.files]))
        rows = Rows.concatenate(pieces)
        return rows.take(np.lexsort((rows.entries, rows.files, rows.lumis, rows.events)))

    def in_lumis(self, lumis: Mapping[int, Intervals], files: Array) -> Iterator[Rows]:
        """Yield every event of some lumi blocks, some events at a time.

        Parameters
        ----------
        lumis : mapping of run to half-open intervals of lumi block numbers
        """
        for segment in self.segments:
            for rows in segment.in_lumis(lumis):
                yield rows.take(files[rows.files])

    def without_lumis(self, runs: Iterable[int], files: Array) -> list[int]:
        """Return the numbers of files that hold events of some runs in no lumi block."""
        wanted = frozenset(runs)
        found = {
            number for segment in self.segments for number in segment.without_lumis(wanted).tolist()
        }
        return sorted(number for number in found if files[number])

    def duplicates(self, files: Array) -> Iterator[Rows]:
        """Yield the events that are at several places, all places of an event together.

        An event is a run, a lumi block and a number.
        """
        for rows in merged_rows(self.segments):
            kept = rows.take(files[rows.files])
            if not len(kept):
                continue
            # Few are left of which the number is there again: only these are put in order.
            kept = kept.take(_with_neighbour(kept.events[1:] == kept.events[:-1]))
            kept = kept.take(np.lexsort((kept.entries, kept.files, kept.lumis, kept.events)))
            if not len(kept):
                continue
            same = (kept.events[1:] == kept.events[:-1]) & (kept.lumis[1:] == kept.lumis[:-1])
            if same.any():
                yield kept.take(_with_neighbour(same))

    def check(self) -> None:
        """Read all of the index and compare it with its checksums and with itself.

        Raises
        ------
        DataError
        """
        counts: dict[int, int] = defaultdict(int)
        for segment in self.segments:
            segment.check()
            for rows in segment.pieces(0, len(segment)):
                numbers, found = np.unique(rows.files, return_counts=True)
                for number, count in zip(numbers.tolist(), found.tolist(), strict=True):
                    counts[number] += count
        for number, file in self.files.items():
            if counts[number] != file.entries:
                raise DataError(
                    f"the index holds {counts[number]} of {file.entries} entries of {file.lfn}",
                    hint="remove the index's folder and build it anew",
                )


def merged_rows(segments: Sequence[Segment], pieces_max: int = PIECE_EVENTS) -> Iterator[Rows]:
    """Yield the rows of several segments ordered by run and event, some at a time.

    All rows of one run and number are in one piece.

    Parameters
    ----------
    pieces_max : int
        About how many rows there may be in a piece.
    """
    for run in np.unique(np.concatenate([s.runs for s in segments])) if segments else ():
        parts = [(s, *s.interval_of(int(run))) for s in segments]
        parts = [part for part in parts if part[1] < part[2]]
        total = sum(stop - start for _, start, stop in parts)
        for bounds in _bounds(parts, -(-total // pieces_max)):
            rows = Rows.concatenate([s.rows(slice(a, b)) for s, a, b in bounds])
            yield rows.take(np.argsort(rows.events, kind="stable"))


def _bounds(
    parts: Sequence[tuple[Segment, int, int]], pieces: int
) -> Iterator[list[tuple[Segment, int, int]]]:
    """Divide intervals of segments so that equal events stay together."""
    longest, start, stop = max(parts, key=lambda part: part[2] - part[1])
    at = start + np.arange(1, pieces) * (stop - start) // pieces
    pivots = np.unique(longest.events[at])
    cuts = [[a, *(a + np.searchsorted(s.events[a:b], pivots)).tolist(), b] for s, a, b in parts]
    for number in range(len(pivots) + 1):
        yield [
            (s, cut[number], cut[number + 1]) for (s, _, _), cut in zip(parts, cuts, strict=True)
        ]


def _with_neighbour(same: Array) -> Array:
    """Return a flag for each row: whether it is the same as the one before it or after it.

    Parameters
    ----------
    same : bool, shape (max(rows - 1, 0),)
        Whether each row but the first is the same as the one before it.
    """
    found: Array = np.concatenate([[False], same])
    found[:-1] |= same
    return found


def _open(folder: Path) -> tuple[Manifest, list[Segment]]:
    for _ in range(OPENINGS_MAX):
        manifest = read_manifest(folder)
        if not manifest.files:
            raise NotFoundError(
                f"there is no event index in {folder}",
                hint="build one: evstream index build DATASET or FILES",
            )
        try:
            segments = [Segment(folder / each.name) for each in manifest.segments]
        except FileNotFoundError as error:
            if read_manifest(folder) == manifest:
                raise DataError(
                    f"{error.filename} is missing", hint="remove the folder and build it anew"
                ) from error
            continue
        except OSError as error:
            raise ConfigError(
                f"{error.filename} cannot be read: {error.strerror}",
                hint="check the folder and its mode",
            ) from error
        for segment in segments:
            if len(segment.files) and int(segment.files.max()) >= manifest.next_number:
                raise DataError(
                    f"{segment.path} holds files that the manifest does not know",
                    hint="remove the folder and build it anew",
                )
        return manifest, segments
    raise TransientError(f"the event index {folder} changes all the time", hint="try again")
