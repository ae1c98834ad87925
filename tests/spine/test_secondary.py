"""Events of another dataset beside each range: those that the page's rule tells, every time."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import uproot

from tests.docs.pages import REPOSITORY, blocks
from tests.spine.commands import CommandLine, write_events

pytestmark = pytest.mark.server

RULE = REPOSITORY / "docs" / "explanation" / "secondary-inputs.md"
COMMAND = """
import os, sys, numpy as np, uproot

source, output, start, *beside = sys.argv[1:]
assert os.environ["EVSTREAM_SECONDARY_PILEUP"].split("\\n") == beside
with uproot.open(source) as file:
    events = file["Events"].arrays(["run", "event"], library="np")
if "attempts" in os.environ and int(start) == 50 and not os.path.exists(os.environ["attempts"]):
    open(os.environ["attempts"], "w").close()
    sys.exit(1)
tags = [[], []]
for path in beside:
    with uproot.open(path) as file:
        found = file["Events"].arrays(library="np")
        assert set(found) == {"run", "event"}
    for tag, name in zip(tags, found):
        tag.extend(found[name])
pairs = np.stack(tags, axis=1).reshape(len(events["event"]), 3, 2)
with uproot.recreate(output) as file:
    file.mktree("Events", {**events, "pileup": pairs.reshape(-1, 6)})
"""
CALLABLE = """
import awkward as ak, uproot

def mix(events, unit, pileup):
    assert len(pileup) == 3 * len(events), unit.secondary["pileup"].files
    run, event = (ak.to_numpy(pileup[name]).reshape(-1, 3) for name in ("run", "event"))
    assert unit.secondary["pileup"].tree == "Events"
    with uproot.recreate(unit.output) as file:
        file.mktree("Events", {"run": events.run, "event": events.event, "pile_run": run,
                               "pile_event": event})
"""


def secondary_events(receipt: dict[str, Any], lfn: str, entry: int) -> list[tuple[str, int]]:
    """Ask the function that the page gives."""
    (block,) = [block for block in blocks(RULE) if block.language == "python"]
    names: dict[str, Any] = {}
    exec(block.text, names)
    found: list[tuple[str, int]] = names["secondary_events"](receipt, "pileup", lfn, entry)
    return found


def check(receipt: dict[str, Any], got: dict[tuple[int, int], list[tuple[int, int]]]) -> None:
    """Compare what events of two files, runs 1 and 2, were given with the rule."""
    runs = {"m.root": 11, "n.root": 12}
    a, b = (file["lfn"] for file in receipt["files"])
    for (run, event), beside in got.items():
        told = secondary_events(receipt, a if run == 1 else b, event)
        assert beside == [(runs[lfn], entry) for lfn, entry in told]
    assert len(got) == 150


def write_inputs(tmp_path: Path) -> None:
    (tmp_path / "minbias").mkdir()
    for name, entries, run in (("a", 100, 1), ("b", 50, 2)):
        write_events(tmp_path / f"{name}.root", entries, run=run)
    for name, entries, run in (("m", 70, 11), ("n", 130, 12)):
        write_events(tmp_path / "minbias" / f"{name}.root", entries, run=run)


def test_each_event_gets_those_of_the_rule_also_when_done_again(
    command: CommandLine, tmp_path: Path
) -> None:
    write_inputs(tmp_path)
    (tmp_path / "mix.py").write_text(COMMAND)
    task = {
        "inputs": ["a.root", "b.root"],
        "branches": ["run", "event"],
        "payload": {
            "command": f"{sys.executable} mix.py {{input}} {{output}} {{entry_start}} "
            "{secondary:pileup}",
            "environment": {"attempts": str(tmp_path / "failed-once")},
        },
        "granularity": {"events": 50},
        "outputs": [{"merge": True, "entries": "as input"}],
        "secondary": [
            {
                "name": "pileup",
                "inputs": ["minbias"],
                "per_event": 3,
                "branches": ["run", "event"],
                "offset": 190,
            }
        ],
    }
    (tmp_path / "task.yaml").write_text(json.dumps(task))
    command.run("run", "--task-file", "task.yaml", "--output", "out", "--workers", 2)
    receipt = json.loads((tmp_path / "out" / "receipt.json").read_bytes())
    assert receipt["counts"]["failed_attempts"] >= 1
    with uproot.open(tmp_path / "out" / "merged.root") as file:
        events = file["Events"].arrays(library="np")
    got = {
        (int(run), int(event)): [tuple(pair) for pair in beside.reshape(3, 2).tolist()]
        for run, event, beside in zip(events["run"], events["event"], events["pileup"], strict=True)
    }
    check(receipt, got)
    command.run("verify", "out/receipt.json", "--complete")


def test_ranges_without_any_still_know_the_branches(command: CommandLine, tmp_path: Path) -> None:
    write_inputs(tmp_path)
    (tmp_path / "some.py").write_text(
        "import uproot\n"
        "def some(events, unit, pileup):\n"
        "    run = pileup.run.to_numpy()\n"
        "    with uproot.recreate(unit.output) as file:\n"
        "        file.mktree('Beside', {'run': run, 'event': pileup.event.to_numpy()})\n"
    )
    words = ["--payload", "some.py:some", "--payload-kind", "callable", "--arrays", "--merge"]
    words += ["--secondary", "pileup=minbias,per_event=0.03", "--events-per-range", 10]
    command.run("run", "a.root", *words, "--output", "out")
    with uproot.open(tmp_path / "out" / "merged.root") as file:
        assert file["Beside"]["event"].array().to_list() == [0, 1, 2]


def test_functions_are_given_them_by_name_also_in_a_chain(
    command: CommandLine, tmp_path: Path
) -> None:
    write_inputs(tmp_path)
    (tmp_path / "mix.py").write_text(CALLABLE)
    data = tmp_path / "data"
    command.serve(data)
    command.run("dataset", "add", "user:minbias", "minbias", "--data", data)
    inputs, copy = ["a.root", "b.root", "--data", data], "cp {input} {output}"
    first = command.run("submit", *inputs, "--payload", copy, "--merge-files").stdout.strip()
    words = ["--payload", "mix.py:mix", "--payload-kind", "callable", "--arrays"]
    words += ["--events-per-range", 40, "--merge"]
    words += ["--secondary", "pileup=user:minbias,per_event=3,tree=Events,offset=190"]
    said = command.run("submit", *inputs, *words, "--dry-run")
    assert "each of its 200 events is used 2.2 times on average" in said.stderr
    chained = ["--takes", first, "--data", data]
    task = command.run("submit", *chained, *words).stdout.strip()
    command.run("pilot", "--data", data, "--cores", 2, env={"EVSTREAM_PILOT_IDLE_S_MAX": "0"})
    command.run("task", "outputs", task, "out", "--data", data)
    receipt = json.loads((tmp_path / "out" / "receipt.json").read_bytes())
    assert receipt["task"]["state"] == "done"
    with uproot.open(tmp_path / "out" / "merged.root") as file:
        events = file["Events"].arrays(library="np")
    got = {
        (int(run), int(event)): list(zip(runs.tolist(), beside.tolist(), strict=True))
        for run, event, runs, beside in zip(
            *(events[name] for name in ("run", "event", "pile_run", "pile_event")), strict=True
        )
    }
    check(receipt, got)
