"""Splitting: from the entries that are wanted to chunks and units of work.

A *chunk* is a contiguous run of a file's entries that the ledger keeps one row for.
Its *units* (event ranges) are not stored: they are the cells of a grid that starts
at the chunk's first entry, so that any interval of the chunk falls into the same
units whoever looks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from evstream.domain.errors import LimitError, RequestError
from evstream.domain.intervals import Interval
from evstream.domain.names import Lfn

EVENTS_PER_RANGE_MAX = 100_000_000
RANGES_PER_CHUNK = 4096
"""One row holds the claims of this many ranges; more rows, less waiting on one."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Entries ``[entry_start, entry_stop)`` of one file, leased piece by piece."""

    number: int
    lfn: Lfn
    entry_start: int
    entry_stop: int

    @property
    def entries(self) -> int:
        """Number of entries."""
        return self.entry_stop - self.entry_start


def check_events_per_range(events_per_range: int) -> int:
    """Return the number if it lies within its limits, else raise `LimitError`."""
    if not 1 <= events_per_range <= EVENTS_PER_RANGE_MAX:
        raise LimitError(
            f"events per range is {events_per_range}",
            hint=f"choose between 1 and {EVENTS_PER_RANGE_MAX}",
            events_per_range=events_per_range,
        )
    return events_per_range


def plan_chunks(
    wanted: Iterable[tuple[Lfn, Iterable[Interval]]],
    events_per_range: int,
    ranges_per_chunk: int = RANGES_PER_CHUNK,
) -> list[Chunk]:
    """Lay chunks over the wanted intervals of files, in the order given.

    Raises
    ------
    LimitError
        Events per range out of bounds.
    RequestError
        Nothing is wanted: there are no entries.
    """
    span = check_events_per_range(events_per_range) * ranges_per_chunk
    chunks: list[Chunk] = []
    for lfn, intervals in wanted:
        for start, stop in intervals:
            for chunk_start in range(start, stop, span):
                chunk_stop = min(chunk_start + span, stop)
                chunks.append(Chunk(len(chunks), lfn, chunk_start, chunk_stop))
    if not chunks:
        raise RequestError("the input has zero entries", hint="give files whose tree holds events")
    return chunks


def units_of(interval: Interval, grid_start: int, events_per_range: int) -> Iterator[Interval]:
    """Yield the units within an interval: the grid's cells, clipped to it."""
    start, stop = interval
    while start < stop:
        cell_stop = start + events_per_range - (start - grid_start) % events_per_range
        yield start, min(cell_stop, stop)
        start = cell_stop


def in_runs(units: Iterable[Interval], entries_max: int) -> Iterator[list[Interval]]:
    """Yield adjoining units together, as many as do not exceed so many entries."""
    run: list[Interval] = []
    for start, stop in units:
        if run and (start != run[-1][1] or stop - run[0][0] > entries_max):
            yield run
            run = []
        run.append((start, stop))
    if run:
        yield run


def units_end(interval: Interval, grid_start: int, events_per_range: int, units: int) -> int:
    """Return where the first `units` units of an interval end."""
    start, stop = interval
    first_cell = start - (start - grid_start) % events_per_range
    return min(first_cell + units * events_per_range, stop)


def count_units(interval: Interval, grid_start: int, events_per_range: int) -> int:
    """Return how many units an interval holds."""
    start, stop = interval
    first = (start - grid_start) // events_per_range
    last = (stop - 1 - grid_start) // events_per_range
    return last - first + 1 if start < stop else 0
