"""Chunks and units cover what is wanted, once, on one grid."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evstream.domain.errors import LimitError, RequestError
from evstream.domain.names import Lfn
from evstream.domain.splitting import (
    EVENTS_PER_RANGE_MAX,
    RANGES_PER_CHUNK,
    Chunk,
    check_events_per_range,
    count_units,
    in_runs,
    plan_chunks,
    units_end,
    units_of,
)

GRIDS = st.integers(0, 50)
STEPS = st.integers(1, 20)
PLACES = st.tuples(st.integers(0, 100), st.integers(1, 100))


@given(GRIDS, STEPS, PLACES)
def test_units_tile_an_interval_on_the_grid(
    grid_start: int, step: int, place: tuple[int, int]
) -> None:
    start = grid_start + place[0]
    interval = (start, start + place[1])
    units = list(units_of(interval, grid_start, step))
    assert (units[0][0], units[-1][1]) == interval
    assert all(left[1] == right[0] for left, right in pairwise(units))
    # Every inner boundary is the grid's, whoever looks.
    assert all((start - grid_start) % step == 0 for start, _ in units[1:])
    assert all(0 < stop - start <= step for start, stop in units)
    assert count_units(interval, grid_start, step) == len(units)


@given(GRIDS, STEPS, PLACES, st.integers(1, 30))
def test_the_end_of_the_first_units(
    grid_start: int, step: int, place: tuple[int, int], wanted: int
) -> None:
    start = grid_start + place[0]
    interval = (start, start + place[1])
    units = list(units_of(interval, grid_start, step))
    assert units_end(interval, grid_start, step, wanted) == units[:wanted][-1][1]


def test_an_empty_interval_has_no_units() -> None:
    assert count_units((5, 5), 0, 10) == 0
    assert list(units_of((5, 5), 0, 10)) == []


def test_chunks_follow_files_and_intervals() -> None:
    wanted = [(Lfn("b"), [(0, 10)]), (Lfn("a"), [(5, 7), (9, 9), (20, 30)]), (Lfn("c"), [])]
    assert plan_chunks(wanted, 100) == [
        Chunk(0, Lfn("b"), 0, 10),
        Chunk(1, Lfn("a"), 5, 7),
        Chunk(2, Lfn("a"), 20, 30),
    ]


def test_long_intervals_are_cut_into_chunks() -> None:
    span = 2 * RANGES_PER_CHUNK
    chunks = plan_chunks([(Lfn("a"), [(3, 3 + 2 * span + 1)])], 2)
    assert [(c.entry_start, c.entries) for c in chunks] == [
        (3, span),
        (3 + span, span),
        (3 + 2 * span, 1),
    ]
    assert [c.number for c in chunks] == [0, 1, 2]


@pytest.mark.parametrize("wanted", [[], [(Lfn("a"), [])], [(Lfn("a"), [(4, 4)])]])
def test_nothing_to_do_is_refused(wanted: list[tuple[Lfn, list[tuple[int, int]]]]) -> None:
    with pytest.raises(RequestError, match="zero entries"):
        plan_chunks(wanted, 10)


@pytest.mark.parametrize("number", [0, -1, EVENTS_PER_RANGE_MAX + 1])
def test_events_per_range_has_limits(number: int) -> None:
    with pytest.raises(LimitError) as caught:
        check_events_per_range(number)
    assert caught.value.fields["events_per_range"] == number
    with pytest.raises(LimitError):
        plan_chunks([(Lfn("a"), [(0, 1)])], number)


@pytest.mark.parametrize("number", [1, EVENTS_PER_RANGE_MAX])
def test_the_limits_themselves_are_allowed(number: int) -> None:
    assert check_events_per_range(number) == number


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 30)), max_size=30), st.integers(0, 100))
def test_runs_hold_adjoining_units_and_no_more_entries_than_allowed(
    steps: list[tuple[int, int]], entries_max: int
) -> None:
    units, end = [], 0
    for gap, length in steps:
        units.append((end + gap, end + gap + length))
        end += gap + length
    runs = list(in_runs(units, entries_max))
    assert [unit for run in runs for unit in run] == units
    for run in runs:
        assert all(left[1] == right[0] for left, right in pairwise(run))
        assert len(run) == 1 or run[-1][1] - run[0][0] <= entries_max
    for left, right in pairwise(runs):
        assert left[-1][1] != right[0][0] or right[0][1] - left[0][0] > entries_max
