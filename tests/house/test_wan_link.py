"""The emulated link of the benchmark `wan`: it delays, counts, and is cut and mended."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.wan_parts.link import FAR, CannotMeasureError, Condition, Link, build, link
from bench.wan_parts.work import added

pytestmark = [pytest.mark.server, pytest.mark.root_user]
FLOOR = [sys.executable, "-m", "bench.wan_parts.floor"]
PORT = 7000


@pytest.fixture
def between(tmp_path: Path) -> Iterator[Link]:
    """Give a link with a server of bytes at its far end."""
    try:
        program = build(tmp_path)
    except CannotMeasureError as missing:
        pytest.skip(str(missing))
    with link(program) as made:
        command = [*made.enter(made.far), *FLOOR, "serve", FAR, str(PORT)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
            assert server.stdout is not None
            assert server.stdout.readline() == b"ready\n"
            yield made
            server.kill()


def test_what_goes_over_it_takes_as_long_as_told_and_is_counted(between: Link) -> None:
    between.set(Condition(1000, 20))
    assert float(between.run(between.near, [*FLOOR, "connect", FAR, PORT])) >= 0.020
    before = between.counts()
    # A bit more than 0.1 s at 100 Mbit/s.
    between.set(Condition(100, 0))
    taken = float(between.run(between.near, [*FLOOR, "copy", FAR, PORT, 1_300_000, 4]))
    moved = between.counts().since(before)
    assert taken >= 0.1
    # What was dropped in the queue never came over.
    assert moved.down >= 1_300_000
    assert moved.up >= 4 * 8


def test_what_is_cut_carries_nothing_until_it_is_mended(between: Link) -> None:
    between.set(Condition(1000, 0))
    between.cut()
    command = [*between.enter(between.near), *FLOOR, "copy", FAR, str(PORT), "100000", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as client:
        while not between.counts().dropped_up:
            assert client.poll() is None
        assert between.counts().down == 0
        between.mend()
        assert client.wait(60) == 0
    assert between.counts().down == 100_000


def test_lost_packets_are_sent_again(between: Link) -> None:
    between.set(Condition(1000, 0, 0.02))
    between.run(between.near, [*FLOOR, "copy", FAR, PORT, 3_000_000, 1])
    assert between.counts().dropped > 0


def test_sums_of_parts_add_up() -> None:
    parts = [{"x": [2, (1 << 64) - 1], "y": [1, 5]}, {"x": [3, 2]}]
    assert added(parts) == {"x": [5, 1], "y": [1, 5]}
