"""Small outputs that are stored together: got one by one, merged, taken and archived as others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import uproot

from evstream.assembly import verify_receipt
from tests.spine.commands import CommandLine, wait_until, write_events

pytestmark = pytest.mark.server
ENTRIES, STEP = 400, 20


def test_bundles_are_read_as_their_outputs_and_go_when_none_is_needed(
    command: CommandLine, tmp_path: Path
) -> None:
    data, door = tmp_path / "data", ("--data", tmp_path / "data")
    quick = {"EVSTREAM_PILOT_IDLE_S_MAX": "0"}
    command.serve(data, EVSTREAM_SWEEP_EVERY_S="1")
    source = write_events(tmp_path / "a.root", ENTRIES)
    copy = ("--payload", "cp {input} {output}", "--bundle-bytes", 100_000)
    first = command.json("submit", source, *copy, "--events-per-range", STEP, *door)["id"]
    taking = ("--takes", first, *copy, "--events-per-range", STEP // 2, "--merge")
    merged = command.json("submit", *taking, *door)["id"]
    command.start("pilot", *door, "--cores", 2, **quick)
    command.run("status", merged, "--watch", *door)

    for task in (first, merged):
        command.run("task", "outputs", task, tmp_path / str(task), *door)
        parents = [tmp_path / str(first) / "receipt.json"] if task == merged else []
        levels = verify_receipt(tmp_path / str(task) / "receipt.json", parents=parents)
        assert all(level.holds for level in levels), levels
    results = tmp_path / str(merged) / "merged.root"
    with uproot.open(results) as file:
        assert file["Events"]["event"].array(library="np").tolist() == list(range(ENTRIES))
    receipt = json.loads((tmp_path / str(first) / "receipt.json").read_text())
    outputs = receipt["outputs"]
    assert len(outputs) == ENTRIES // STEP
    store = data / "outputs" / "tasks"
    objects = [path for path in (store / str(first)).rglob("*") if path.is_file()]
    assert len(objects) < len(outputs) / 2
    together = [one for one in outputs if "~" in one["name"]]
    assert len(together) > len(outputs) / 2
    # What was merged is needed by nobody: the bundles go, and the merged file stays.
    wait_until(
        lambda: len([p for p in (store / str(merged)).rglob("*") if p.is_file()]) == 1,
        "the sweep of what was merged",
    )
    command.run("task", "archive", first, *door)
    command.run("task", "outputs", first, tmp_path / "again", *door)
    before = sorted(path.name for path in (tmp_path / str(first)).iterdir())
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == before
