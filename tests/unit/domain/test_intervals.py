"""Sets of entries behave as sets of integers do."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evstream.domain.intervals import Interval, IntervalSet, overlaps

INTERVALS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=8)


def entries(intervals: list[Interval]) -> set[int]:
    return {entry for start, stop in intervals for entry in range(start, stop)}


def is_canonical(found: IntervalSet) -> bool:
    """Sorted, disjoint, and as few as can be: no two touch."""
    ends = [end for interval in found for end in interval]
    return ends == sorted(set(ends))


@given(INTERVALS)
def test_a_union_holds_what_its_intervals_hold(intervals: list[Interval]) -> None:
    found = IntervalSet.of(intervals)
    assert entries(list(found)) == entries(intervals)
    assert len(found) == len(entries(intervals))
    assert bool(found) == bool(entries(intervals))
    assert is_canonical(found)


@given(INTERVALS, INTERVALS)
def test_operations_are_those_of_sets(left: list[Interval], right: list[Interval]) -> None:
    a, b = IntervalSet.of(left), IntervalSet.of(right)
    for found, expected in (
        (a | b, entries(left) | entries(right)),
        (a & b, entries(left) & entries(right)),
        (a - b, entries(left) - entries(right)),
    ):
        assert entries(list(found)) == expected
        assert is_canonical(found)


@given(INTERVALS)
def test_overlaps_are_what_more_than_one_holds(intervals: list[Interval]) -> None:
    proper = [(start, stop) for start, stop in intervals if start < stop]
    counts = Counter(entry for start, stop in proper for entry in range(start, stop))
    doubled = {entry for entry, count in counts.items() if count > 1}
    assert entries(overlaps(proper)) == doubled


@pytest.mark.parametrize(
    ("intervals", "expected"),
    [
        ([], ()),
        ([(5, 5)], ()),
        ([(7, 3)], ()),
        ([(3, 5), (5, 7)], ((3, 7),)),
        ([(5, 7), (0, 3)], ((0, 3), (5, 7))),
        ([(0, 10), (2, 3)], ((0, 10),)),
    ],
)
def test_examples(intervals: list[Interval], expected: tuple[Interval, ...]) -> None:
    assert IntervalSet.of(intervals).intervals == expected
