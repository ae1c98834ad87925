"""Granularity: how many events a range holds, by number, by bytes or by time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd

from msgspec import Struct

from evstream.domain.errors import LimitError, RequestError
from evstream.domain.ledger import Progress
from evstream.domain.splitting import check_events_per_range

SECONDS_MAX = 86_400.0
SECONDS_DEFAULT = 600.0
CELL_EVENTS_MAX = 10
"""Events of the smallest range of a task that goes by time: a first guess at no knowledge."""
CELLS_PER_CHUNK = 10_000_000
"""A range does not go beyond its chunk; few cells would keep it short."""
GROWTH_MAX = 8
"""A range is at most so many times as long as those before it: their times hold what a payload
needs to start, which weighs less in longer ones."""
SHARES_PER_WORKER = 2
"""What is left near the end is split into so many ranges for each worker."""
OVERSIZE_MAX = 2.0
"""A range is rounded up to a whole cluster unless that makes it larger by more than this."""


class Granularity(Struct, frozen=True, forbid_unknown_fields=True):
    """How large ranges are; one of its fields, or none for 10 000 events.

    Attributes
    ----------
    events : int, optional
        Events per range, exactly.
    bytes : int, optional
        Bytes of the source files per range, about.
    seconds : float, optional
        Wall seconds per range, about, from what the events before took. Ranges begin
        small, and get smaller again near the end, so that all workers end together.
    """

    events: int | None = None
    bytes: int | None = None
    seconds: float | None = None

    def check(self) -> None:
        """Refuse what cannot work, naming the field.

        Raises
        ------
        LimitError, RequestError
        """
        given = [name for name in self.__struct_fields__ if getattr(self, name) is not None]
        if len(given) > 1:
            raise RequestError(
                f"the granularity is given by {' and '.join(given)}",
                hint="give one of them",
                field="granularity",
            )
        if self.events is not None:
            check_events_per_range(self.events)
        if self.bytes is not None and self.bytes < 1:
            raise LimitError(
                f"bytes per range is {self.bytes}",
                hint="give a number above 0",
                field="granularity.bytes",
            )
        if self.seconds is not None and not 0 < self.seconds <= SECONDS_MAX:
            raise LimitError(
                f"seconds per range is {self.seconds}",
                hint=f"give seconds above 0 and up to {SECONDS_MAX:.0f}",
                field="granularity.seconds",
            )


@dataclass(frozen=True, slots=True)
class Extent:
    """What granularity needs to know of a file.

    Attributes
    ----------
    size : int
        Bytes of the file.
    cluster : int
        Entries of its clusters if they are all alike but the last, else 0.
    """

    entries: int
    size: int
    cluster: int


@dataclass(frozen=True, slots=True)
class Grid:
    """Events per range, and what there is to say of it.

    Attributes
    ----------
    aligned : bool
        Whether ranges end where clusters do.
    """

    events_per_range: int
    aligned: bool
    note: str = ""


def choose_grid(granularity: Granularity, extents: Sequence[Extent]) -> Grid:
    """Choose the number of events in the cells that ranges are made of.

    A number of events is taken as it is. By bytes, ranges are whole clusters where that
    does not make them more than twice as large. By time, cells are small, and several
    go into a range.
    """
    entries = sum(extent.entries for extent in extents)
    cluster = 0
    for extent in extents:
        cluster = gcd(cluster, extent.cluster) if extent.cluster else 1
        if cluster == 1:
            break
    if granularity.seconds is not None:
        cell = max(n for n in range(1, CELL_EVENTS_MAX + 1) if (cluster or 1) % n == 0)
        return Grid(cell if cluster > 1 else CELL_EVENTS_MAX, cluster > 1)
    if granularity.bytes is None:
        events = 10_000 if granularity.events is None else granularity.events
        return Grid(events, cluster > 1 and events % cluster == 0)
    per_event = sum(extent.size for extent in extents) / max(entries, 1)
    wanted = max(1, round(granularity.bytes / max(per_event, 1e-9)))
    if cluster <= 1:
        return Grid(wanted, False, "clusters differ in size: ranges do not end where they do")
    if wanted >= cluster:
        return Grid(wanted // cluster * cluster, True)
    if cluster <= OVERSIZE_MAX * wanted:
        return Grid(cluster, True)
    return Grid(
        wanted,
        False,
        f"a cluster of {cluster} events holds {cluster * per_event / granularity.bytes:.1f} times "
        "the bytes asked for: ranges end within clusters",
    )


def cells_per_range(seconds: float, cell: int, progress: Progress, workers: int) -> int:
    """Return how many cells a range should hold that goes out now.

    Parameters
    ----------
    seconds : float
        How long a range should take.
    cell : int
        Events in a cell.
    progress : Progress
        Of the task so far.
    workers : int
        How many share what is left.
    """
    if not progress.finished:
        return 1
    per_event = progress.wall_s / progress.finished
    before = progress.finished / max(progress.ranges_finished, 1)
    events = min(seconds / max(per_event, 1e-9), GROWTH_MAX * before)
    share = progress.ready / (SHARES_PER_WORKER * max(workers, 1))
    return max(1, int(min(events, share)) // cell)
