"""Depth tunes itself: computing does not wait for fetches, and little is held that may be lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evstream.pilot.depth import COVERED_S_MAX, FIRST_AHEAD, Depth
from evstream.testing.virtual_time import run_virtual
from tests.unit.pilot.fakes import FakeRunner, FakeService, range_units, run_pilot


class Seen:
    """What a pilot did with units, on virtual time."""

    def __init__(
        self,
        tmp_path: Path,
        units: int,
        fetch_s: float,
        wall_s: float,
        fetch_s_of: Callable[[int], float] | None = None,
        **settings: Any,
    ) -> None:
        self.service = service = FakeService(range_units(units))
        self.held: list[int] = []
        service.fetch_s = fetch_s

        async def note(which: int) -> None:
            if fetch_s_of is not None:
                service.fetch_s = fetch_s_of(which)
            self.held.append(units - len(service.ready) - which)

        runner = FakeRunner(wall_s=wall_s, before=note)
        self.summary = run_virtual(lambda: run_pilot(service, runner, tmp_path, **settings))
        assert self.summary.units_done == units
        self.waited_s = self.summary.wall_s - units * wall_s / settings.get("cores", 1)
        self.claims = [entry[1] for entry in service.log if entry[0] == "claim"]


def test_first_claim_brings_a_few_units_whose_fetches_overlap(tmp_path: Path) -> None:
    seen = Seen(tmp_path, 40, fetch_s=1.0, wall_s=1.0)
    assert seen.claims[0] == 1 + FIRST_AHEAD
    # The first fetch, and the pause in which an idle pilot leaves.
    assert seen.waited_s == pytest.approx(1.0, abs=0.6)


def test_slow_link_is_covered_by_as_many_units_as_it_takes(tmp_path: Path) -> None:
    seen = Seen(tmp_path, 200, fetch_s=3.0, wall_s=0.5)
    # While nothing is known, more is learnt in two round trips.
    assert seen.waited_s < 3.0 + 4.0
    assert max(seen.held) <= 1 + 2 * 3.0 / 0.5


def test_fast_link_needs_little_in_hand(tmp_path: Path) -> None:
    seen = Seen(tmp_path, 100, fetch_s=0.02, wall_s=0.5)
    assert seen.waited_s < 1.0
    assert max(seen.held[10:]) <= 1 + 2.0 / 0.5 + 1


def test_long_units_are_fetched_shortly_before_they_are_needed(tmp_path: Path) -> None:
    seen = Seen(tmp_path, 30, fetch_s=2.0, wall_s=600.0)
    assert seen.waited_s < 2.0 + 1.0
    assert seen.claims[1:5] == [1, 1, 1, 1]
    assert max(seen.held[1 + FIRST_AHEAD :]) == 1


def test_short_units_come_in_large_claims(tmp_path: Path) -> None:
    seen = Seen(tmp_path, 1000, fetch_s=0.1, wall_s=0.005)
    assert seen.waited_s < 3.0
    # As fast as units are computed, two seconds of them are held; a claim brings half of that.
    assert len(seen.claims) < 30
    assert max(seen.held) <= 512


def test_work_that_hardly_computes_fills_what_can_be_on_its_way(tmp_path: Path) -> None:
    seen = Seen(tmp_path, 400, fetch_s=0.5, wall_s=0.001, fetches_max=16)
    assert seen.service.fetching_most == 16
    assert seen.summary.wall_s < 1.3 * 400 / 16 * 0.5


def test_link_that_becomes_slow_is_waited_for_once(tmp_path: Path) -> None:
    seen = Seen(tmp_path, 200, 0.05, 1.0, fetch_s_of=lambda which: 0.05 if which < 50 else 8.0)
    # Two seconds of work were there when it changed.
    assert seen.waited_s < 13.0
    assert max(seen.held[100:]) >= 8


class Time:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def fetch(self, depth: Depth, seconds: float) -> None:
        with depth.fetching(self):
            self.now += seconds


def test_what_took_long_once_is_forgotten_by_and_by() -> None:
    depth, time = Depth(1, 2.0, 32, 512, 1 << 30), Time()
    for _ in range(500):
        time.fetch(depth, 0.1)
    assert depth.covered_s(time.now) == pytest.approx(0.1, abs=0.01)
    time.fetch(depth, 6.0)
    assert depth.covered_s(time.now) == pytest.approx(6.0)
    for _ in range(4000):
        time.fetch(depth, 0.1)
    assert depth.covered_s(time.now) < 0.3
    time.fetch(depth, 1000.0)
    assert depth.covered_s(time.now) == COVERED_S_MAX


def test_a_fetch_on_its_way_is_as_slow_as_it_is_old() -> None:
    depth, time = Depth(1, 2.0, 32, 512, 1 << 30), Time()
    time.fetch(depth, 0.1)
    with depth.fetching(time), depth.fetching(time):
        time.now += 7.0
        assert depth.covered_s(time.now) == 7.0
    # Both have come by now, and are forgotten as they fade.
    time.now += 600.0
    assert depth.covered_s(time.now) < 7.0 + 5.0


def test_disk_bounds_the_units() -> None:
    depth, time = Depth(2, 2.0, 32, 512, 10_000_000), Time()
    for _ in range(100):
        time.fetch(depth, 0.01)
        depth.computed(time.now, 0.02)
    assert depth.bounds(time.now, [])[1] > 20
    depth.arrived(1_000_000)
    assert depth.bounds(time.now, [])[1] == 10
    depth.arrived(1 << 40)
    # One for each core, and one that is on its way: they take their turns for the disk.
    assert depth.bounds(time.now, [])[1] == 4
