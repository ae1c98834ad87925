"""Granularity: by number, by bytes and by time, along clusters where that is wise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evstream.domain.errors import LimitError, RequestError
from evstream.domain.granularity import (
    CELL_EVENTS_MAX,
    GROWTH_MAX,
    Extent,
    Granularity,
    cells_per_range,
    choose_grid,
)
from evstream.domain.ledger import Progress

# 100 bytes an event.
ALIKE = [Extent(10_000, 1_000_000, 1000), Extent(5_000, 500_000, 1000)]


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (Granularity(events=1, bytes=1), RequestError),
        (Granularity(events=0), LimitError),
        (Granularity(bytes=0), LimitError),
        (Granularity(seconds=0.0), LimitError),
        (Granularity(seconds=float("nan")), LimitError),
        (Granularity(seconds=1e6), LimitError),
    ],
)
def test_what_cannot_work_is_refused(given: Granularity, error: type[Exception]) -> None:
    with pytest.raises(error):
        given.check()


def test_a_number_of_events_is_taken_as_it_is() -> None:
    assert choose_grid(Granularity(events=777), ALIKE).events_per_range == 777
    assert choose_grid(Granularity(), []).events_per_range == 10_000


@pytest.mark.parametrize(
    ("wanted", "events", "aligned"),
    [
        (350_000, 3000, True),  # whole clusters, rounded down
        (60_000, 1000, True),  # up to twice as large as asked for
        (40_000, 400, False),  # a cluster would be 2.5 times as large
        (1, 1, False),
    ],
)
def test_bytes_become_whole_clusters_unless_that_oversizes(
    wanted: int, events: int, aligned: bool
) -> None:
    grid = choose_grid(Granularity(bytes=wanted), ALIKE)
    assert (grid.events_per_range, grid.aligned) == (events, aligned)
    assert bool(grid.note) == (not aligned)


def test_clusters_that_differ_are_told() -> None:
    grid = choose_grid(Granularity(bytes=350_000), [*ALIKE, Extent(100, 10_000, 0)])
    assert (grid.events_per_range, grid.aligned) == (3500, False)
    assert "differ" in grid.note


@pytest.mark.parametrize(("cluster", "cell"), [(1000, 10), (14, 7), (13, 1), (0, CELL_EVENTS_MAX)])
def test_cells_of_tasks_by_time_divide_clusters(cluster: int, cell: int) -> None:
    extents = [Extent(10_000, 1_000_000, cluster)]
    assert choose_grid(Granularity(seconds=600.0), extents).events_per_range == cell


def test_ranges_by_time_grow_with_what_is_known() -> None:
    assert cells_per_range(600.0, 10, Progress(entries=10**6), workers=4) == 1
    begun = Progress(entries=10**6, finished=40, ranges_finished=4, wall_s=4.0)
    assert cells_per_range(600.0, 10, begun, workers=4) == GROWTH_MAX
    later = Progress(entries=10**6, finished=60_000, ranges_finished=10, wall_s=6000.0)
    assert cells_per_range(600.0, 10, later, workers=4) == 600


def test_what_is_left_is_shared_among_all() -> None:
    late = Progress(entries=60_800, finished=60_000, ranges_finished=10, wall_s=6000.0)
    assert cells_per_range(600.0, 10, late, workers=4) == 10


@given(
    seconds=st.floats(0.001, 86_400.0),
    cell=st.integers(1, 10),
    finished=st.integers(0, 10**9),
    left=st.integers(0, 10**9),
    ranges=st.integers(0, 10**6),
    wall_s=st.floats(0.0, 1e12),
    workers=st.integers(0, 10**5),
)
def test_a_range_holds_something(
    seconds: float,
    cell: int,
    finished: int,
    left: int,
    ranges: int,
    wall_s: float,
    workers: int,
) -> None:
    progress = Progress(
        entries=finished + left, finished=finished, ranges_finished=ranges, wall_s=wall_s
    )
    cells = cells_per_range(seconds, cell, progress, workers)
    assert cells >= 1
    assert cells == 1 or cells * cell <= max(left, 1)
