"""Sets of entries as sorted, disjoint, half-open intervals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Self

Interval = tuple[int, int]
"""``(entry_start, entry_stop)``, half-open, ``entry_start < entry_stop``."""


@dataclass(frozen=True, slots=True)
class IntervalSet:
    """An immutable set of entries, kept as the fewest intervals that hold it.

    Build it with `of`, which sorts and merges; the constructor trusts its input.
    """

    intervals: tuple[Interval, ...] = ()

    @classmethod
    def of(cls, intervals: Iterable[Interval]) -> Self:
        """Return the union of intervals given in any order; empty ones vanish."""
        merged: list[Interval] = []
        for start, stop in sorted((a, b) for a, b in intervals if a < b):
            if merged and start <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
            else:
                merged.append((start, stop))
        return cls(tuple(merged))

    def __iter__(self) -> Iterator[Interval]:
        return iter(self.intervals)

    def __bool__(self) -> bool:
        return bool(self.intervals)

    def __len__(self) -> int:
        """Return the number of entries, not of intervals."""
        return sum(stop - start for start, stop in self.intervals)

    def __or__(self, other: IntervalSet) -> IntervalSet:
        return IntervalSet.of((*self.intervals, *other.intervals))

    def __and__(self, other: IntervalSet) -> IntervalSet:
        found: list[Interval] = []
        mine, theirs = iter(self.intervals), iter(other.intervals)
        a, b = next(mine, None), next(theirs, None)
        while a is not None and b is not None:
            start, stop = max(a[0], b[0]), min(a[1], b[1])
            if start < stop:
                found.append((start, stop))
            if a[1] <= b[1]:
                a = next(mine, None)
            else:
                b = next(theirs, None)
        return IntervalSet(tuple(found))

    def __sub__(self, other: IntervalSet) -> IntervalSet:
        kept: list[Interval] = []
        holes = iter((self & other).intervals)
        hole = next(holes, None)
        for begin, stop in self.intervals:
            start = begin
            # Each hole lies within one of my intervals.
            while hole is not None and hole[1] <= stop:
                if start < hole[0]:
                    kept.append((start, hole[0]))
                start = hole[1]
                hole = next(holes, None)
            if start < stop:
                kept.append((start, stop))
        return IntervalSet(tuple(kept))


def overlaps(intervals: Iterable[Interval]) -> list[Interval]:
    """Return the entries that more than one of the intervals holds, as intervals."""
    doubled: list[Interval] = []
    reached: int | None = None
    for start, stop in sorted(intervals):
        if reached is not None and start < reached:
            doubled.append((start, min(stop, reached)))
        reached = stop if reached is None else max(reached, stop)
    return list(IntervalSet.of(doubled))
