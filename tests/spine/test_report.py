"""What work took, as the command tells it: of tasks that run, that have ended, and side by side."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.spine.commands import CommandLine

pytestmark = pytest.mark.server


def test_reports_of_tasks(command: CommandLine, tmp_path: Path, events: list[Path]) -> None:
    data, door = tmp_path / "data", ("--data", tmp_path / "data")
    command.serve(data, "--port", 0)
    words = ("--payload", "cp {input} {output}", "--events-per-range", 50, "--merge")
    first = command.json("submit", *events, *words, *door)["id"]
    empty = command.json("report", first, *door)
    assert empty["ranges"] == []
    command.run("pilot", *door, env={"EVSTREAM_PILOT_IDLE_S_MAX": "0", "EVSTREAM_SITE": "lyon"})
    second = command.json("submit", events[0], *words, *door)["id"]
    never = {"EVSTREAM_PILOT_IDLE_S_MAX": "0", "EVSTREAM_OWN_CUTS": "never"}
    command.run("pilot", *door, env=never)
    told = command.json("report", first, *door)
    done = command.json("status", first, *door)["process"]
    assert sum(one["done"] for one in told["ranges"]) == done["ranges_finished"]
    assert sum(one["started"] for one in told["ranges"]) == done["ranges_finished"]
    assert sum(one["entries"] for one in told["ranges"]) == done["finished"]
    assert {one["site"] for one in told["ranges"]} == {"lyon"}
    assert sum(one["replica"] for one in told["ranges"]) == done["bytes_in"]
    for step in ("plan_s", "queue_s", "fetch_s", "wall_s", "stage_s", "commit_s"):
        assert sum(one[step] for one in told["ranges"]) > 0, step
    assert sum(one["store"] for one in told["merges"]) > 0
    both = json.loads(command.run("report", first, "--compare", second, *door, "--json").stdout)
    assert sum(one["head"] for one in both[1]["ranges"]) > 0
    shown = command.run("report", first, "--compare", second, *door).stdout
    assert "time of cores that waited for input" in shown
    assert "ratio" in shown
    assert "at lyon" in command.run("report", first, "--by-site", *door).stdout
    people = command.json("key", "create", "anna", "--role", "submitter", *door)
    address = json.loads((data / "address.json").read_text())["url"]
    hers = ("--url", address, "--token", people["key"])
    third = command.json("submit", events[0], *words, *hers)["id"]
    assert command.json("status", third, *hers)["submitter"] == "anna"
    command.run("pilot", *door, env={"EVSTREAM_PILOT_IDLE_S_MAX": "0", "EVSTREAM_SITE": "bonn"})
    anna, owner = command.json("report", "--by-user", *hers)
    assert (anna["submitter"], anna["tasks"]) == ("anna", 1)
    assert (owner["submitter"], owner["tasks"]) == ("owner", 2)
    assert [(one["site"], one["entries"]) for one in anna["ranges"]] == [("bonn", 600)]
    assert {one["site"]: one["entries"] for one in owner["ranges"]} == {"lyon": 1000, "": 600}
    users = command.run("report", "--by-user", "--by-site", *door).stdout
    for heading in ("anna, 1 task", "anna at bonn", "owner, 2 tasks", "owner at lyon"):
        assert heading in users
    listed = command.run("status", *door).stdout
    assert "submitted by" in listed
    assert "anna" in listed
    assert "of all tasks" in command.run("report", first, "--by-user", *door, status=2).stderr
    missing = command.run("report", 99, *door, status=2)
    assert "99" in missing.stderr
