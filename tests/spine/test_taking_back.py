"""Tasks that are paused, retried, reprocessed; files that are withdrawn; lists of events."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot

from tests.spine.commands import CommandLine

pytestmark = pytest.mark.server


def numbers_of(folder: Path) -> list[tuple[int, int]]:
    """Return (run, event) of all events in a folder of results, in their files' order."""
    found: list[tuple[int, int]] = []
    for path in sorted(folder.glob("*.root")):
        with uproot.open(path) as file:
            arrays = [file["Events"][name].array(library="np") for name in ("run", "event")]
            found += zip(*(array.tolist() for array in arrays), strict=True)
    return found


def fetch(command: CommandLine, task: int, folder: Path, data: Path) -> dict[str, Any]:
    """Have a task done, fetch its results, verify them; return the receipt."""
    command.start("pilot", "--data", data, "--cores", 2)
    command.run("status", task, "--watch", "--data", data)
    command.run("task", "outputs", task, folder, "--data", data)
    levels = command.json("verify", folder / "receipt.json")
    assert all(level["holds"] for level in levels[:3]), levels
    receipt: dict[str, Any] = json.loads((folder / "receipt.json").read_text())
    return receipt


def test_a_task_is_mended_after_its_end(
    command: CommandLine, tmp_path: Path, events: list[Path]
) -> None:
    data, payload, broken = tmp_path / "data", tmp_path / "picky.py", tmp_path / "broken"
    payload.write_text(
        "import os, shutil, sys\n"
        f"bad = os.path.exists({str(broken)!r}) and open(sys.argv[1], 'rb').read()\n"
        "start, stop = int(sys.argv[3]), int(sys.argv[4])\n"
        "if bad and start <= 555 < stop:\n    sys.exit('555 is bad')\n"
        "shutil.copyfile(sys.argv[1], sys.argv[2])\n"
    )
    broken.touch()
    command.serve(data)
    places = "{input} {output} {entry_start} {entry_stop}"
    words = ["--payload", f"{sys.executable} {payload} {places}", "--events-per-range", 100]
    task = command.json("submit", *events, *words, "--merge", "--data", data)["id"]
    assert command.json("task", "pause", task, "--data", data)["state"] == "paused"
    assert command.json("task", "resume", task, "--data", data)["state"] == "running"
    receipt = fetch(command, task, tmp_path / "first", data)
    assert receipt["counts"]["set_aside"] == 1
    (event,) = command.json("task", "set-aside", task, "--data", data)
    assert (event["lfn"], event["entry"], event["numbers"]["event"]) == ("a.root", 555, 555)
    assert "555 is bad" in event["error"] or "status 1" in event["error"]
    expected = numbers_of(tmp_path / "first")
    assert len(expected) == len(set(expected)) == 999

    broken.unlink()
    view = command.json("task", "retry", task, "--failed", "--data", data)
    assert view["taken_back"]["redone"] == 1
    assert view["taken_back"]["merged_with"] == 999, "all was merged into one file"
    receipt = fetch(command, task, tmp_path / "second", data)
    assert (receipt["task"]["state"], receipt["counts"]["committed"]) == ("done", 1000)
    whole = numbers_of(tmp_path / "second")
    assert len(whole) == len(set(whole)) == 1000
    done = command.run("task", "retry", task, "--failed", "--data", data, status=1)
    assert "nothing of task 1 was set aside" in done.stderr

    view = command.json("task", "withdraw", task, events[1], "--data", data)
    assert view["taken_back"]["withdrawn"] == 400
    receipt = fetch(command, task, tmp_path / "third", data)
    assert (receipt["task"]["state"], receipt["counts"]["withdrawn"]) == ("finished", 400)
    assert [row[0] for row in receipt["withdrawn"]] == ["b.root"]
    assert numbers_of(tmp_path / "third") == whole[:600]

    view = command.json("task", "reprocess", task, "b.root", "--data", data)
    assert view["taken_back"]["redone"] == 400
    receipt = fetch(command, task, tmp_path / "fourth", data)
    assert receipt["task"]["state"] == "done"
    assert numbers_of(tmp_path / "fourth") == whole
    assert (
        "no file c.root"
        in command.run("task", "withdraw", task, "c.root", "--data", data, status=2).stderr
    )


def test_a_run_goes_on_after_work_was_taken_back(
    command: CommandLine, tmp_path: Path, events: list[Path]
) -> None:
    out, data = tmp_path / "out", tmp_path / "out/.evstream"
    words = ["--payload", "cp {input} {output}", "--events-per-range", 200, "--merge-files"]
    run = ["run", *events, *words, "--output", out, "--workers", 1]
    command.run(*run)
    whole, first = numbers_of(out), (out / "merged.00000.root").read_bytes()
    service = command.serve(data)
    assert command.json("task", "withdraw", 1, "a.root", "--data", data)["taken_back"]
    command.end(service, signal.SIGTERM)
    (out / "merged.00000.root").write_bytes(first + b"mine")
    done = command.run(*run, status=1)
    assert "merged.00000.root is there and is not" in done.stderr
    (out / "merged.00000.root").write_bytes(first)
    done = command.run(*run, status=3)
    assert "is not of this job" not in done.stderr
    assert numbers_of(out) == whole[600:]
    receipt = json.loads((out / "receipt.json").read_text())
    assert receipt["counts"]["withdrawn"] == 600
    assert all(level["holds"] for level in command.json("verify", out / "receipt.json")[:3])


def test_lumi_blocks_that_are_done_whole_are_listed(command: CommandLine, tmp_path: Path) -> None:
    data, payload = tmp_path / "data", tmp_path / "picky.py"
    for name, first in (("a", 0), ("b", 90)):
        with uproot.recreate(tmp_path / f"{name}.root") as file:
            event = np.arange(first, first + 90)
            run, lumi = np.where(event < 120, 7, 8), 1 + event // 30
            rows = {"run": run, "luminosityBlock": lumi, "event": event}
            file.mktree("Events", dict.fromkeys(rows, "int64")).extend(rows)
    payload.write_text(
        "import shutil, sys\n"
        "start, stop = int(sys.argv[3]), int(sys.argv[4])\n"
        "if start <= 40 < stop:\n    sys.exit('bad')\n"
        "shutil.copyfile(sys.argv[1], sys.argv[2])\n"
    )
    command.serve(data)
    places = "{input} {output} {entry_start} {entry_stop}"
    words = ["--payload", f"{sys.executable} {payload} {places}", "--events-per-range", 45]
    files = [tmp_path / "a.root", tmp_path / "b.root"]
    task = command.json("submit", *files, *words, "--data", data)["id"]
    assert command.json("task", "lumis", task, "--data", data) == {}
    command.start("pilot", "--data", data, "--cores", 2)
    command.run("status", task, "--watch", "--data", data)
    # Entry 40 is event 40 of lumi block 2 in a, event 130 of block 5 in b.
    assert command.json("task", "lumis", task, "--data", data) == {
        "7": [[1, 1], [3, 4]],
        "8": [[6, 6]],
    }
    aside = command.json("task", "set-aside", task, "--data", data)
    assert [(e["lfn"], e["numbers"]) for e in aside] == [
        ("a.root", {"run": 7, "luminosityBlock": 2, "event": 40}),
        ("b.root", {"run": 8, "luminosityBlock": 5, "event": 130}),
    ]
