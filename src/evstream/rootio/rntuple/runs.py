"""Runs: which elements of a column are wanted, as stretches that do not touch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from evstream.rootio.errors import CorruptFileError

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Runs:
    """Stretches ``[start, stop)`` of elements of some clusters, ascending, with gaps between.

    Attributes
    ----------
    start, stop : int64
        Counted from the cluster's first element.
    part : int64
        Which of the clusters each lies in, ascending. Runs of two clusters are two,
        whatever their numbers.
    """

    start: Int64
    stop: Int64
    part: Int64

    @classmethod
    def between(cls, start: Int64, stop: Int64, part: Int64) -> Runs:
        """Make runs of stretches that may be empty, or touch each other."""
        some = stop > start
        start, stop, part = start[some], stop[some], part[some]
        if not len(start):
            return cls(start, stop, part)
        apart = (start[1:] != stop[:-1]) | (part[1:] != part[:-1])
        begins = np.append(True, apart)
        return cls(start[begins], stop[np.append(apart, True)], part[begins])

    @classmethod
    def one(cls, start: int, stop: int) -> Runs:
        """Make one run of a single cluster, or none if it is empty."""
        edges = np.array([[start], [stop]], np.int64)
        return cls.between(edges[0], edges[1], np.zeros(1, np.int64))

    @classmethod
    def of(cls, numbers: Int64, part: Int64 | None = None) -> Runs:
        """Make runs of ascending numbers, of a single cluster unless told of which."""
        return cls.between(numbers, numbers + 1, np.zeros_like(numbers) if part is None else part)

    @classmethod
    def together(cls, clusters: Sequence[Runs]) -> Runs:
        """Put runs of single clusters behind each other."""
        counts = [len(runs.start) for runs in clusters]
        return cls(
            np.concatenate([runs.start for runs in clusters]),
            np.concatenate([runs.stop for runs in clusters]),
            np.repeat(np.arange(len(clusters)), counts),
        )

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
        if factor == 1:
            return self
        return Runs.between(self.start * factor, self.stop * factor, self.part)

    def placed(self, totals: Int64, name: str) -> Runs:
        """Count from the first element of the first cluster, where they follow each other.

        Parameters
        ----------
        totals : int64
            How many elements each cluster has.

        Raises
        ------
        CorruptFileError
            Runs that reach beyond what there is.
        """
        total = totals[self.part]
        if (self.stop > total).any() or (self.start < 0).any():
            worst = int((self.stop - total).argmax())
            raise CorruptFileError(
                f"field {name!r} has {int(total[worst])} elements, "
                f"and {int(self.stop[worst])} are counted"
            )
        before = (np.cumsum(totals) - totals)[self.part]
        return Runs(self.start + before, self.stop + before, self.part)

    def before(self, places: Int64) -> Int64:
        """Count wanted elements before each of some places; runs must be placed."""
        if not len(self.start):
            return np.zeros(len(places), np.int64)
        whole = np.searchsorted(self.stop, places, side="right")
        inside = np.minimum(whole, len(self.start) - 1)
        part = np.where(whole < len(self.start), places - self.start[inside], 0)
        counts: Int64 = self._ends[whole] + np.maximum(part, 0)
        return counts
