"""A task goes through a federation whose parts fail on the way: its receipt is exact."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
import uproot

from tests.federation.federation import Federation, federation
from tests.spine.commands import write_events
from tests.stack.processes import wait_until

pytest.importorskip("fsspec_xrootd", reason="no wheel of xrootd for this Python")
pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.root_user]

FILES, ENTRIES = 4, 30_000
RANGE = 300
STALL_S = 20.0
"""Longer than what a client waits between two bytes of an answer it hopes for elsewhere."""
PATIENCE_S = 400.0
GOING_ON = ("", "running", "merging")
"""States of a task that has not ended; none is known while a head is away."""


def register(made: Federation, folder: Path) -> None:
    """Put files on the origin, register them there, and tell of copies that a cache serves."""
    for number in range(FILES):
        path = write_events(folder / f"f{number}.root", ENTRIES, run=number + 1, clusters=20)
        made.origin.add(path, f"/data/{path.name}")
        made.origin.add(path, f"/copies/{path.name}")
    urls = [f"{made.origin.root_url}/data/f{number}.root" for number in range(FILES)]
    made.run("dataset", "add", "test:events", *urls)
    for number in range(FILES):
        copy = f"{made.cache.root_url}/copies/f{number}.root"
        made.run("replica", "add", "test:events", f"f{number}.root", copy)


def spoil(made: Federation, name: str) -> None:
    """Let a file on the origin be of the same size, and something else."""
    path = made.origin.data / "data" / name
    path.write_bytes(bytes(path.stat().st_size))


def submit(made: Federation) -> int:
    words = ("--payload", "cp {input} {output}", "--events-per-range", RANGE)
    words += ("--merge-events", 10_000)
    return int(made.json("submit", "test:events", *words)["id"])


def wait_for(made: Federation, task: int, part: float) -> None:
    """Wait until so much of a task is finished; it must not have ended yet."""
    wanted = part * FILES * ENTRIES

    def far_enough() -> bool:
        state, finished = made.finished(task)
        assert state in GOING_ON, f"{state} before all faults were tried"
        return finished >= wanted

    wait_until(far_enough, f"{part:.0%} of the task", PATIENCE_S, tell=made.logs())


def check(made: Federation, task: int, folder: Path) -> None:
    """Fetch what came out, verify its receipt, and compare it with what went in."""
    made.run("task", "outputs", task, folder / "results")
    receipt = folder / "results" / "receipt.json"
    levels = made.verify(receipt)
    assert all(level["holds"] for level in levels), levels
    told = json.loads(receipt.read_text())
    assert told["set_aside"] == told["cancelled"] == told["withdrawn"] == []
    seen: dict[int, list[np.ndarray]] = {}
    for path in (folder / "results").rglob("*.root"):
        with uproot.open(path) as file:
            found = file["Events"].arrays(["run", "event", "x"], library="np")
            for run in np.unique(found["run"]):
                mine = found["run"] == run
                seen.setdefault(int(run), []).append(
                    np.rec.fromarrays([found["event"][mine], found["x"][mine]], names="event,x")
                )
    assert set(seen) == set(range(1, FILES + 1))
    for run, parts in seen.items():
        got = np.sort(np.concatenate(parts), order="event")
        with uproot.open(folder / f"f{run - 1}.root") as file:
            expected = file["Events"].arrays(["event", "x"], library="np")
        np.testing.assert_array_equal(got["event"], expected["event"])
        np.testing.assert_array_equal(got["x"], expected["x"])


def test_a_task_goes_through_while_parts_fail(tmp_path: Path) -> None:
    with federation(tmp_path) as made:
        register(made, tmp_path)
        task = submit(made)
        for number in range(4):
            made.pilot(f"pilot{number}")

        wait_for(made, task, 0.02)
        made.wipe("disk")
        spoil(made, "f3.root")
        wait_for(made, task, 0.1)
        made.kill("s3")
        wait_for(made, task, 0.2)
        made.kill("head0")
        wait_for(made, task, 0.3)
        made.origin.pause()
        since = time.monotonic()
        wait_until(lambda: time.monotonic() - since >= STALL_S, "the stall")
        assert made.finished(task)[0] in GOING_ON
        made.origin.resume()

        wait_until(
            lambda: made.finished(task)[0] not in GOING_ON,
            "the end of the task",
            PATIENCE_S,
            tell=made.logs(),
        )
        check(made, task, tmp_path)
