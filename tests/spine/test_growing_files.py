"""Files of several ranges through a whole job, and closed early when a pilot leaves."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import uproot

from tests.spine.commands import CommandLine, wait_until, write_events

pytestmark = pytest.mark.server

PAYLOAD = """
import os, sys, time
import numpy as np, uproot
from evstream.payload import GrowingFile, serve

def opened(path):
    file = uproot.recreate(path)
    file.mktree("Events", {"run": "int32", "event": "int64", "worker": "int64"})
    file.mktree("Runs", {"ranges": "int64"})
    file.ranges = 0
    return file

def close(file):
    file["Runs"].extend({"ranges": np.array([file.ranges])})
    file.close()

growing = GrowingFile(opened, close)

def skim(unit):
    gate = os.environ.get("GATE")
    if gate and unit.entry_start == 20:
        open(gate + ".begun", "w").close()
        end = time.monotonic() + 60
        while not os.path.exists(gate) and time.monotonic() < end:
            time.sleep(0.01)
    with uproot.open(unit.input) as file:
        events = file["Events"].arrays(["run", "event"], library="np")
        assert len(events["event"]) == unit.entry_stop - unit.entry_start
    if 2 in events["run"] and 33 in events["event"]:
        raise ValueError("a poisoned event")
    with growing.of(unit) as file:
        file["Events"].extend({**events, "worker": np.full(len(events["run"]), os.getpid())})
        file.ranges += 1

if __name__ == "__main__":
    serve(skim)
"""


def task_of(tmp_path: Path, ranges: int, **environment: str) -> dict[str, Any]:
    (tmp_path / "skim.py").write_text(PAYLOAD)
    command = f"{sys.executable} skim.py"
    payload = {"command": command, "kind": "long-lived", "ranges_per_file": ranges}
    return {
        "payload": {**payload, "environment": environment},
        "granularity": {"events": 10},
        "outputs": [{"entries": "as input"}],
        "limits": {"failures_max": 1},
    }


def files_of(receipt: dict[str, Any], folder: Path) -> list[tuple[str, int, int, int]]:
    """Return (LFN, start, stop, ranges) of each output, whose events are compared."""
    found = []
    for lfn, start, stop, _, (index,) in sorted(receipt["commits"]):
        with uproot.open(folder / receipt["outputs"][index]["file"]) as file:
            events = file["Events"].arrays(library="np")
            (ranges,) = file["Runs"]["ranges"].array(library="np")
        assert events["event"].tolist() == list(range(start, stop))
        assert len(set(events["worker"])) == 1
        found.append((lfn, start, stop, int(ranges)))
    return found


def test_a_file_holds_several_ranges_and_never_those_of_two_inputs(
    command: CommandLine, tmp_path: Path
) -> None:
    write_events(tmp_path / "a.root", 120, run=1)
    write_events(tmp_path / "b.root", 47, run=2)
    (tmp_path / "task.yaml").write_text(json.dumps(task_of(tmp_path, 5)))
    words = ["run", "a.root", "b.root", "--task-file", "task.yaml", "--workers", 2]
    command.run(*words, "--output", "out", status=3)
    receipt = json.loads((tmp_path / "out" / "receipt.json").read_bytes())
    assert receipt["counts"]["ranges"] == 17
    files = files_of(receipt, tmp_path / "out")
    assert files[:3] == [("a.root", 0, 50, 5), ("a.root", 50, 100, 5), ("a.root", 100, 120, 2)]
    # A file with a bad event in it is bisected, down to the event.
    assert [row[:3] for row in receipt["set_aside"]] == [["b.root", 33, 34]]
    assert sum(stop - start for _, start, stop, _ in files[3:]) == 46
    command.run("verify", "out/receipt.json")


def test_a_pilot_that_leaves_closes_its_file_and_gives_the_rest_back(
    command: CommandLine, tmp_path: Path
) -> None:
    write_events(tmp_path / "a.root", 500)
    gate = tmp_path / "gate"
    (tmp_path / "task.yaml").write_text(json.dumps(task_of(tmp_path, 50, GATE=str(gate))))
    data = tmp_path / "data"
    command.serve(data)
    words = ["submit", "a.root", "--task-file", "task.yaml", "--data", data]
    task = command.run(*words).stdout.strip()
    leaving = command.start("pilot", "--data", data)
    wait_until((tmp_path / "gate.begun").exists, "the third range")
    leaving.send_signal(signal.SIGTERM)
    gate.touch()
    leaving.wait(60)
    process = command.json("status", task, "--data", data)["process"]
    done = process["finished"]
    assert (process["sent"], process["running"], done % 10) == (0, 0, 0)
    # The range that ran, at least one after which the file was to be closed, and not all.
    assert 40 <= done < 500
    command.run("pilot", "--data", data, env={"EVSTREAM_PILOT_IDLE_S_MAX": "0"})
    command.run("task", "outputs", task, "out", "--data", data)
    receipt = json.loads((tmp_path / "out" / "receipt.json").read_bytes())
    assert files_of(receipt, tmp_path / "out") == [
        ("a.root", 0, done, done // 10),
        ("a.root", done, 500, 50 - done // 10),
    ]
    assert receipt["task"]["state"] == "done"
