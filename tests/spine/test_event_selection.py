"""From event numbers to exactly these events: index, selection, products and tasks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import uproot

from tests.spine.commands import CommandLine

pytestmark = pytest.mark.server

COPY = "cp {input} {output}"
# The files' runs are 1 and 2; their events are numbered by their entries.
WANTED = [(1, 3), (1, 4), (1, 599), (2, 0), (2, 17), (2, 18), (2, 399)]


def test_selected_events_are_delivered_and_processed(
    command: CommandLine, tmp_path: Path, events: list[Path]
) -> None:
    data = tmp_path / "data"
    door = ["--data", data]
    command.serve(data)
    command.run("dataset", "add", "user:two", *events, *door)
    built = command.json("index", "build", "user:two", *door)
    assert (built["added"], built["events"]) == (2, 1000)
    lines = "".join(f"{run} {event}\n" for run, event in [*WANTED, (3, 1)])
    (tmp_path / "events.txt").write_text(lines)
    # The service that runs is asked, where one is named by its address.
    address = json.loads((data / "address.json").read_text())["url"]
    words = ["--dataset", "user:two", "--selection", "s.json", "--url", address]
    found = command.json("index", "lookup", "events.txt", *words)
    assert [tuple(place[::2]) for place in found["places"]] == [
        (run, event, event) for run, event in WANTED
    ]
    assert found["missing"] == [[3, None, 1]]

    picked = command.json("get", "s.json", "picked.root", *door)
    assert len(picked["keys"]) == 2
    assert events_of(tmp_path / "picked.root") == WANTED

    task = command.json("submit", "s.json", "--payload", COPY, "--merge", *door)
    command.start("pilot", *door)
    command.run("status", task["id"], "--watch", *door)
    command.run("task", "outputs", task["id"], "results", *door)
    assert events_of(tmp_path / "results" / "merged.root") == WANTED
    receipt = json.loads((tmp_path / "results" / "receipt.json").read_text())
    done = [(lfn, start, stop) for lfn, start, stop, *_ in receipt["commits"]]
    entries = [(lfn, entry) for lfn, start, stop in done for entry in range(start, stop)]
    files = {1: "a.root", 2: "b.root"}
    assert sorted(entries) == [(files[run], event) for run, event in WANTED]
    levels = command.json("verify", "results/receipt.json")
    assert [level["holds"] for level in levels] == [True] * 4, levels


def events_of(path: Path) -> list[tuple[int, int]]:
    with uproot.open(path) as file:
        columns = file["Events"].arrays(["run", "event"], library="np")
    return list(zip(columns["run"].tolist(), columns["event"].tolist(), strict=True))
