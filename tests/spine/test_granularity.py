"""Ranges by bytes and by time in whole jobs; plans before running."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import uproot

from evstream.assembly import verify_receipt
from tests.spine.commands import CommandLine, write_events

pytestmark = pytest.mark.server

COPY = "cp {input} {output}"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "events.root"
    write_events(path, 4000, run=1)
    return path


def ranges_of(folder: Path) -> list[tuple[int, int]]:
    receipt = json.loads((folder / "receipt.json").read_text())
    return [(start, stop) for _, start, stop, _, _ in receipt["commits"]]


@pytest.mark.parametrize("words", [["--seconds-per-range", 30.0], ["--bytes-per-range", 5000]])
def test_a_job_by_time_or_bytes_is_whole(
    words: list[object], command: CommandLine, tmp_path: Path, source: Path
) -> None:
    command.run("run", source, "--payload", COPY, *words, "--merge", "--output", "out")
    levels = verify_receipt(tmp_path / "out/receipt.json", outputs=tmp_path / "out")
    assert all(level.holds for level in levels), levels
    ranges = ranges_of(tmp_path / "out")
    assert [stop for _, stop in ranges] == [start for start, _ in ranges[1:]] + [4000]
    assert 1 < len(ranges) < 400
    with uproot.open(tmp_path / "out/merged.root") as merged, uproot.open(source) as before:
        for name in before["Events"].keys():  # noqa: SIM118 - a tree is no dict
            same = merged["Events"][name].array() == before["Events"][name].array()
            assert np.all(same.to_numpy() if same.ndim == 1 else same)


def test_ranges_by_time_begin_small_and_grow(
    command: CommandLine, tmp_path: Path, source: Path
) -> None:
    words = ["--seconds-per-range", 30.0, "--workers", 1]
    command.run("run", source, "--payload", COPY, *words, "--output", "out")
    sizes = [stop - start for start, stop in ranges_of(tmp_path / "out")]
    assert sizes[0] <= 10
    assert max(sizes) > 10 * sizes[0]


def test_a_dry_run_tells_and_begins_nothing(
    command: CommandLine, tmp_path: Path, source: Path
) -> None:
    data = tmp_path / "service"
    command.serve(data)
    words = ["submit", source, "--payload", COPY, "--data", data, "--events-per-range", 4]
    view = command.json(*words, "--dry-run")
    assert (view["files"], view["events"], view["ranges"]) == (1, 4000, 1000)
    assert 0 < view["bytes_to_read"] <= view["bytes_of_source"] == source.stat().st_size
    assert any("bytes only" in warning for warning in view["warnings"])
    assert command.json("status", "--data", data) == []
    task = command.json(*words)
    command.start("pilot", "--data", data)
    command.run("status", task["id"], "--watch", "--data", data)
    after = command.json(*words, "--dry-run")
    assert after["cpu_s"] > 0
    assert after["bytes_of_output"] > 0
    said = command.run(*words, "--dry-run", "--branches", "run")
    assert "bytes to read" in said.stdout
    assert "warning: " in said.stderr
