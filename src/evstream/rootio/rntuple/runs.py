"""Runs: which elements of a column are wanted, as stretches that do not touch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from evstream.rootio.errors import CorruptFileError
from evstream.rootio.rntuple.tables import stretches

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Runs:
    """Stretches ``[start, stop)`` of elements, ascending, with gaps between them."""

    start: Int64
    stop: Int64

    @classmethod
    def between(cls, start: Int64, stop: Int64) -> Runs:
        """Make runs of stretches that may be empty, or touch each other."""
        some = stop > start
        start, stop = start[some], stop[some]
        if not len(start):
            return cls(start, stop)
        apart = start[1:] != stop[:-1]
        return cls(
            start[np.append(True, apart)],
            stop[np.append(apart, True)],
        )

    @classmethod
    def one(cls, start: int, stop: int) -> Runs:
        """Make one run, or none if it is empty."""
        return cls.between(np.array([start], np.int64), np.array([stop], np.int64))

    @classmethod
    def of(cls, numbers: Int64) -> Runs:
        """Make runs of ascending numbers."""
        return cls.between(numbers, numbers + 1)

    @cached_property
    def sizes(self) -> Int64:
        """Elements in each."""
        return self.stop - self.start

    @property
    def count(self) -> int:
        """Elements in all of them."""
        return int(self.sizes.sum())

    @cached_property
    def _ends(self) -> Int64:
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(self.sizes)])

    def times(self, factor: int) -> Runs:
        """Count in elements of which there are so many each."""
        return self if factor == 1 else Runs.between(self.start * factor, self.stop * factor)

    def covers(self, total: int) -> bool:
        """Tell whether all elements are wanted, of so many."""
        return self.count == total

    def check(self, total: int, name: str) -> None:
        """Refuse runs that reach beyond what there is."""
        if len(self.stop) and (int(self.stop[-1]) > total or int(self.start[0]) < 0):
            raise CorruptFileError(
                f"field {name!r} has {total} elements, and {int(self.stop[-1])} are counted"
            )

    def before(self, places: Int64) -> Int64:
        """Count wanted elements before each of some places."""
        if not len(self.start):
            return np.zeros(len(places), np.int64)
        whole = np.searchsorted(self.stop, places, side="right")
        inside = np.minimum(whole, len(self.start) - 1)
        part = np.where(whole < len(self.start), places - self.start[inside], 0)
        counts: Int64 = self._ends[whole] + np.maximum(part, 0)
        return counts

    def within(self, begin: int, end: int) -> tuple[Int64, Int64]:
        """List the wanted places of ``[begin, end)``, and the run of each."""
        first = int(np.searchsorted(self.stop, begin, side="right"))
        last = int(np.searchsorted(self.start, end, side="left"))
        start = np.maximum(self.start[first:last], begin)
        size = np.minimum(self.stop[first:last], end) - start
        runs = np.repeat(np.arange(first, last), size)
        return stretches(start, size), runs
