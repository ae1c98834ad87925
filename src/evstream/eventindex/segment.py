"""Segments, read as memory maps: where events are in one of them."""

from __future__ import annotations

import mmap
import os
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from evstream.domain.errors import LimitError
from evstream.eventindex.rows import NO_LUMI, Array, Rows
from evstream.eventindex.segment_format import DTYPES, Packing, damaged, read_header

Intervals = Sequence[tuple[int, int]]

PIECE_EVENTS = 1 << 21
"""Events that are worked on at once: memory stays bounded, however large a segment is."""
EVENTS_READ_MAX = 10_000_000
"""So many events are read for one question, in whatever files: memory stays bounded."""
_HEADER_BYTES_MAX = 1 << 20


class Segment:
    """An open segment. Threads may share it.

    Raises
    ------
    DataError
        The file is damaged. Its larger sections are looked at by `check` alone.
    UnsupportedFormatError
        It is no segment, or was written by a later version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            self._header = read_header(file.read(_HEADER_BYTES_MAX), path)
            for name, section in self._header.sections.items():
                stop = section.offset + section.count * np.dtype(DTYPES[name]).itemsize
                if section.offset < 0 or section.count < 0 or stop > size:
                    raise damaged(path, f"{name} reaches beyond the file's end")
            # The map outlives the file's descriptor, and its name.
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.runs = self._small("runs")
        self.run_starts = self._small("run_starts")
        self.lumis = self._small("lumis")
        self.files = self._small("files")
        self.events = self._view("events")
        self.places = self._view("places")
        self._packing = Packing(self._header.file_bits, self._header.entry_bits)
        self._check_shape()

    def __len__(self) -> int:
        return len(self.events)

    @cached_property
    def nbytes(self) -> int:
        """Size of the file."""
        return len(self._map)

    @property
    def entry_bits(self) -> int:
        """Bits of the largest entry."""
        return self._header.entry_bits

    def check(self) -> None:
        """Compare every byte of the sections with its checksum, and see that events ascend.

        Raises
        ------
        DataError
        """
        for name in DTYPES:
            if zlib.crc32(self._view(name).data) != self._header.sections[name].crc32:
                raise damaged(self.path, f"{name} has another checksum than was written")
        for start, stop in zip(self.run_starts[:-1], self.run_starts[1:], strict=True):
            for first in range(int(start), int(stop), PIECE_EVENTS):
                piece = self.events[first : min(first + PIECE_EVENTS + 1, int(stop))]
                if (piece[1:] < piece[:-1]).any():
                    raise damaged(self.path, "its events do not ascend")

    def find(
        self, runs: Array, events: Array, found_max: int = EVENTS_READ_MAX
    ) -> tuple[Array, Array]:
        """Find events, every one wherever it is.

        Parameters
        ----------
        runs : uint32, shape (n,)
        events : uint64, shape (n,)

        Returns
        -------
        keys : int64, shape (m,)
            Positions in the arguments; as often as the event is there.
        positions : int64, shape (m,)
            Positions in the segment.

        Raises
        ------
        LimitError
            There are more than `found_max`.
        """
        at = np.searchsorted(self.runs, runs)
        known = np.flatnonzero(at < len(self.runs))
        known = known[self.runs[at[known]] == runs[known]]
        wanted = events[known]
        start, stop = self.run_starts[at[known]], self.run_starts[at[known] + 1]
        first = self._bisect(start.copy(), stop, wanted)
        here = first < stop
        here[here] = self.events[first[here]] == wanted[here]
        keys, first, stop, wanted = known[here], first[here], stop[here], wanted[here]
        counts = np.ones(len(keys), np.int64)
        again = first + 1 < stop
        again[again] = self.events[first[again] + 1] == wanted[again]
        if again.any():
            # Of events that are there several times, the end is looked for too. The largest
            # number has none above it: its run ends with it.
            top = again & (wanted == np.uint64(0xFFFF_FFFF_FFFF_FFFF))
            rest = again & ~top
            counts[top] = (stop - first)[top]
            last = self._bisect(first[rest], stop[rest], wanted[rest] + np.uint64(1))
            counts[rest] = last - first[rest]
        if counts.sum() > found_max:
            raise too_many_read()
        return np.repeat(keys, counts), _runs_from(first, counts)

    def rows(self, positions: Array | slice) -> Rows:
        """Return what is at some positions."""
        places = self.places[positions]
        if isinstance(positions, slice):
            positions = np.arange(positions.start, positions.stop)
        at_run = np.searchsorted(self.run_starts, positions, side="right") - 1
        return Rows(
            self.runs[at_run],
            self._named(self.lumis, self._packing.lumis(places)),
            np.asarray(self.events[positions]),
            self._named(self.files, self._packing.files(places)),
            self._packing.entries(places),
        )

    def in_lumis(self, wanted: Mapping[int, Intervals]) -> Iterator[Rows]:
        """Yield the events of some lumi blocks, piece by piece.

        Parameters
        ----------
        wanted : mapping of run to intervals
            Half-open intervals of lumi block numbers.
        """
        for number, (start, stop) in enumerate(
            zip(self.run_starts[:-1].tolist(), self.run_starts[1:].tolist(), strict=True)
        ):
            intervals = wanted.get(int(self.runs[number]), ())
            chosen = np.zeros(len(self.lumis), bool)
            for low, high in intervals:
                chosen[slice(*np.searchsorted(self.lumis, np.array([low, high], np.uint64)))] = True
            chosen &= self.lumis != NO_LUMI
            if not chosen.any():
                continue
            for first in range(start, stop, PIECE_EVENTS):
                places = self.places[first : min(first + PIECE_EVENTS, stop)]
                inside = self._named(chosen, self._packing.lumis(places))
                if inside.any():
                    yield self.rows(first + np.flatnonzero(inside))

    def without_lumis(self, runs: Collection[int]) -> Array:
        """Return the numbers of the files that hold events of some runs in no lumi block."""
        holds = np.zeros(len(self.files), bool)
        none = np.flatnonzero(self.lumis == NO_LUMI)
        for run in runs if len(none) else ():
            start, stop = self.interval_of(run)
            for rows in self.pieces(start, stop):
                holds |= np.isin(self.files, rows.files[rows.lumis == NO_LUMI])
        return self.files[holds]

    def pieces(self, start: int, stop: int) -> Iterator[Rows]:
        """Yield the rows of an interval of positions, some at a time."""
        for first in range(start, stop, PIECE_EVENTS):
            yield self.rows(slice(first, min(first + PIECE_EVENTS, stop)))

    def span(self, run: int, first: int, last: int) -> tuple[int, int]:
        """Return the positions of a run's events from one number to another, both included."""
        start, stop = self.interval_of(run)
        events = self.events[start:stop]
        low = np.searchsorted(events, np.uint64(first), side="left")
        high = np.searchsorted(events, np.uint64(last), side="right")
        return start + int(low), start + int(high)

    def interval_of(self, run: int) -> tuple[int, int]:
        """Return the positions of a run; an empty interval if it is not there."""
        at = int(np.searchsorted(self.runs, run))
        if at == len(self.runs) or self.runs[at] != run:
            return 0, 0
        return int(self.run_starts[at]), int(self.run_starts[at + 1])

    def _named(self, items: Array, numbers: Array) -> Array:
        """Return the items that places name; compared without a sign, as they are written."""
        if numbers.size and int(numbers.max()) >= len(items):
            raise damaged(self.path, "a place names what is not there")
        found: Array = items[numbers.astype(np.intp)]
        return found

    def _bisect(self, low: Array, high: Array, wanted: Array) -> Array:
        """Return the first position in each ``[low, high)`` whose event is not below its key."""
        high = high.copy()
        while (open_ := np.flatnonzero(low < high)).size:
            middle = (low[open_] + high[open_]) >> 1
            below = self.events[middle] < wanted[open_]
            low[open_[below]] = middle[below] + 1
            high[open_[~below]] = middle[~below]
        return low

    def _small(self, name: str) -> Array:
        found = self._view(name)
        if zlib.crc32(found.data) != self._header.sections[name].crc32:
            raise damaged(self.path, f"{name} has another checksum than was written")
        return found

    def _view(self, name: str) -> Array:
        section = self._header.sections[name]
        return np.frombuffer(
            self._map, np.dtype(DTYPES[name]), count=section.count, offset=section.offset
        )

    def _check_shape(self) -> None:
        fits = (
            len(self.run_starts) == len(self.runs) + 1
            and len(self.places) == len(self.events)
            and self.run_starts[0] == 0
            and self.run_starts[-1] == len(self.events)
            and all(map(_ascends, (self.runs, self.run_starts, self.lumis)))
        )
        if not fits:
            raise damaged(self.path, "its sections do not fit together")


def _ascends(numbers: Array) -> bool:
    return bool((numbers[1:] > numbers[:-1]).all())


def too_many_read() -> LimitError:
    """Return what a question is refused with whose answer is too large to look for."""
    return LimitError(
        f"more than {EVENTS_READ_MAX} events of the index would be read",
        hint="ask for fewer at once, or for lumi blocks, whose events are told as intervals",
    )


def _runs_from(first: Array, counts: Array) -> Array:
    """Return ``first[i], first[i] + 1, …``, `counts[i]` of them, for each i."""
    total = int(counts.sum())
    shifts: Array = first - (np.cumsum(counts) - counts)
    found: Array = np.arange(total) + np.repeat(shifts, counts)
    return found
