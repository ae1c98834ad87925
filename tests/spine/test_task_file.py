"""A task file runs the job that the flags would."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.spine.commands import CommandLine, write_events

pytestmark = pytest.mark.server

TASK = """
inputs: [data]
name: copying
branches: [run, event, x]
payload: {command: "cp {input} {output}"}
granularity: {events: 100}
outputs: [{merge: true}]
"""


def test_a_file_runs_from_anywhere_and_flags_outweigh_it(
    command: CommandLine, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    (work / "data").mkdir(parents=True)
    write_events(work / "data/events.root", 400)
    (work / "task.yaml").write_text(TASK)
    command.run("run", "--task-file", "work/task.yaml", "--output", "out")
    receipt = json.loads((tmp_path / "out/receipt.json").read_text())
    assert receipt["task"]["name"] == "copying"
    assert receipt["counts"]["ranges_committed"] == 4
    assert (tmp_path / "out/merged.root").exists()

    data = tmp_path / "service"
    command.serve(data)
    words = ["submit", "--task-file", "work/task.yaml", "--data", data]
    view = command.json(*words, "--events-per-range", 50, "--name", "other")
    assert (view["process"]["ranges"], view["spec"]["name"]) == (8, "other")


def test_neither_file_nor_payload_is_one_line(command: CommandLine, tmp_path: Path) -> None:
    write_events(tmp_path / "events.root", 10)
    done = command.run("run", "events.root", "--output", "out", status=2)
    assert "no payload is given; give --payload or --task-file" in done.stderr
    assert not (tmp_path / "out").exists()
