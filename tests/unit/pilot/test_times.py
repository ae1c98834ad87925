"""How long steps took, and how long cores stood still, is told of each pilot."""

from __future__ import annotations

from pathlib import Path

import pytest

from evstream.testing.virtual_time import run_virtual
from tests.unit.pilot.fakes import FakeRunner, FakeService, range_units, run_pilot


def test_times_of_steps_add_up(tmp_path: Path) -> None:
    service = FakeService(range_units(10))
    service.fetch_s, service.upload_s = 3.0, 2.0
    summary = run_virtual(lambda: run_pilot(service, FakeRunner(wall_s=4.0), tmp_path))
    times = summary.times
    assert times.compute_s == pytest.approx(40.0)
    assert times.stage_s == pytest.approx(20.0, abs=0.5)
    # Only the first fetch was waited for: the others came while payloads computed.
    assert times.starved_s == pytest.approx(3.0, abs=0.1)
    assert times.fetch_s >= 30.0
    assert times.ready_s > 0.0
    assert summary.received == {"head": summary.bytes_in}
    # What one core did while the pilot lived, but for the last unit's output.
    core_s = times.compute_s + times.starved_s + times.idle_s
    assert core_s == pytest.approx(summary.wall_s, abs=3.0)


def test_slow_fetches_starve_cores(tmp_path: Path) -> None:
    service = FakeService(range_units(10))
    service.fetch_s = 10.0
    runner = FakeRunner(wall_s=1.0)
    summary = run_virtual(lambda: run_pilot(service, runner, tmp_path, fetches_max=1))
    assert summary.times.starved_s == pytest.approx(100.0 - 9.0, abs=5.0)
    # One after the other: nobody waits for its turn while it is fetched.
    assert summary.times.fetch_s == pytest.approx(100.0)
    assert summary.times.queue_s > 0.0
    assert summary.times.idle_s == pytest.approx(0.0, abs=5.0)


def test_every_core_is_counted(tmp_path: Path) -> None:
    service = FakeService(range_units(20))
    service.fetch_s = 2.0
    runner = FakeRunner(wall_s=5.0)
    summary = run_virtual(lambda: run_pilot(service, runner, tmp_path, cores=4))
    assert summary.times.compute_s == pytest.approx(100.0)
    # Four cores waited for the first four inputs.
    assert summary.times.starved_s == pytest.approx(8.0, abs=1.0)
