"""Archived tasks: nothing of what they made or failed at is lost, and the database is smaller."""

from __future__ import annotations

import json
import sqlite3
import sys
from pathlib import Path

import pytest

from tests.spine.commands import CommandLine

pytest.importorskip("pyarrow")
pytestmark = pytest.mark.server

UNTIL_DONE = {"EVSTREAM_PILOT_IDLE_S_MAX": "0"}
FAILS_ONCE = """
import pathlib, shutil, sys
if sys.argv[3] == "250" and not pathlib.Path(sys.argv[4]).exists():
    pathlib.Path(sys.argv[4]).touch()
    sys.exit("the first time always fails")
shutil.copyfile(sys.argv[1], sys.argv[2])
"""


@pytest.mark.parametrize("merge", [False, True])
def test_an_archived_task_is_as_before(
    command: CommandLine, tmp_path: Path, events: list[Path], merge: bool
) -> None:
    data = tmp_path / "data"
    script = tmp_path / "payload.py"
    script.write_text(FAILS_ONCE)
    payload = f"{sys.executable} {script} {{input}} {{output}} {{entry_start}} {tmp_path}/failed"
    service = command.serve(data)
    words = ["--payload", payload, "--events-per-range", 50, *(["--merge"] if merge else [])]
    command.run("submit", *events, *words, "--data", data)
    assert "is running" in command.run("task", "archive", 1, "--data", data, status=1).stderr
    command.run("pilot", "--data", data, env=UNTIL_DONE)

    def seen() -> list[object]:
        verbs = (["status", 1], ["task", "show", 1], ["task", "set-aside", 1])
        return [command.json(*verb, "--data", data) for verb in verbs]

    before = seen()
    command.run("task", "outputs", 1, "first", "--data", data)
    (archived,) = command.json("task", "archive", 1, "--data", data)
    # Twenty ranges, one failed attempt, two chunks; with the merge its own chunk and commit.
    assert archived == {"task": 1, "rows": 25 if merge else 23}
    (again,) = command.json("task", "archive", 1, "--data", data)
    assert again.get("rows", 0) == 0

    command.end(service, 15)
    database = sqlite3.connect(data / "ledger.sqlite")
    for table in ("book", "chunk", "done", "failed", "closed", "free", "lease"):
        assert database.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table
    database.close()

    # The sweeper runs at once, and takes nothing.
    command.serve(data)
    assert seen() == before
    command.run("task", "outputs", 1, "second", "--data", data)
    names = sorted(path.name for path in (tmp_path / "first").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "second").iterdir())
    command.run("verify", "second/receipt.json", "--complete")
    for verb in (["reprocess", 1, events[0]], ["withdraw", 1, events[0]]):
        refused = command.run("task", *verb, "--data", data, status=1)
        assert "task 1 is archived" in refused.stderr, refused.stderr
    document = json.loads((data / "archive/task-1/task.json").read_text())
    assert document["receipt"] == json.loads((tmp_path / "first/receipt.json").read_text())


def test_a_task_whose_outputs_are_still_taken_stays(
    command: CommandLine, tmp_path: Path, events: list[Path]
) -> None:
    data = tmp_path / "data"
    command.serve(data)
    copy = ["--payload", "cp {input} {output}", "--events-per-range", 500]
    command.run("submit", events[0], *copy, "--data", data)
    command.run("submit", "--takes", 1, *copy, "--data", data)
    command.run("pilot", "--task", 1, "--data", data, env=UNTIL_DONE)
    refused = command.run("task", "archive", 1, "--data", data, status=1)
    assert "task 2 takes outputs of task 1" in refused.stderr
    command.run("pilot", "--data", data, env=UNTIL_DONE)
    command.run("task", "archive", 1, 2, "--data", data)
    command.run("task", "outputs", 1, "parent", "--data", data)
    command.run("task", "outputs", 2, "child", "--data", data)
    command.run("verify", "child/receipt.json", "--parents", "parent/receipt.json", "--complete")


def test_old_tasks_are_archived_by_themselves(
    command: CommandLine, tmp_path: Path, events: list[Path]
) -> None:
    from tests.spine.commands import wait_until

    data = tmp_path / "data"
    command.start(
        "serve",
        "--data",
        data,
        EVSTREAM_ARCHIVE_AFTER_S="0.001",
        EVSTREAM_SWEEP_EVERY_S="1",
        EVSTREAM_ARCHIVE_DIR=str(tmp_path / "kept"),
    )
    wait_until((data / "address.json").exists, "the service's address")
    command.run("submit", events[0], "--payload", "cp {input} {output}", "--data", data)
    command.run("pilot", "--data", data, env=UNTIL_DONE)
    wait_until((tmp_path / "kept/task-1/task.json").exists, "the archive")
    assert command.json("status", 1, "--data", data)["process"]["finished"] == 600
