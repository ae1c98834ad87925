"""Chains end to end: generation, skim and merge, mended after their end."""

from __future__ import annotations

import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from evstream.domain.names import TaskId
from evstream.domain.task import process_book
from tests.spine.commands import CommandLine, wait_until
from tests.spine.test_taking_back import numbers_of

pytestmark = pytest.mark.server


def state_of(data: Path, task: int) -> tuple[str, int]:
    """Return a task's state and how many of its entries are committed, by the ledger."""
    book = process_book(TaskId(task))
    with closing(sqlite3.connect(f"file:{data}/ledger.sqlite?mode=ro", uri=True)) as db:
        ((state,),) = db.execute("SELECT state FROM task WHERE task = ?", (task,)).fetchall()
        ((done,),) = db.execute("SELECT finished FROM book WHERE book = ?", (book,)).fetchall()
    return state, done


def test_a_chain_overlaps_survives_a_worker_and_follows_its_parent(
    command: CommandLine, tmp_path: Path, events: list[Path]
) -> None:
    data, gate, payload = tmp_path / "data", tmp_path / "gate", tmp_path / "gated.py"
    # The second file's events are held back, so that the first task cannot end before.
    payload.write_text(
        "import os, shutil, sys, time\n"
        "held = b'b.root' in sys.argv[3].encode()\n"
        f"while held and not os.path.exists({str(gate)!r}):\n    time.sleep(0.01)\n"
        "shutil.copyfile(sys.argv[1], sys.argv[2])\n"
    )
    command.serve(data)

    def submit(*words: object) -> int:
        number: int = command.json("submit", *words, "--data", data)["id"]
        return number

    gated = f"{sys.executable} {payload} {{input}} {{output}}"
    copy = "cp {input} {output}"
    first = submit(events[0], "--payload", copy, "--events-per-range", 100)
    held = submit(
        events[1], "--payload", f"{gated} b.root", "--events-per-range", 200, "--merge-events", 200
    )
    skim = submit(
        *("--takes", first, "--takes", held, "--payload", copy, "--events-per-range", 40),
        *("--merge-events", 300),
    )
    final = submit("--takes", skim, "--payload", copy, "--merge")
    pilot = command.start("pilot", "--data", data, "--cores", 3, EVSTREAM_LEASE_S="2")
    # It takes the first task's outputs while its other parent has committed nothing.
    wait_until(lambda: state_of(data, skim)[1] >= 600, "outputs of the first parent")
    assert state_of(data, held) == ("running", 0)
    assert state_of(data, skim)[0] == state_of(data, final)[0] == "running"
    command.end(pilot)
    gate.touch()
    command.start("pilot", "--data", data, "--cores", 2)

    receipts = check(command, data, tmp_path / "before", [first, held, skim, final])
    whole = numbers_of(tmp_path / "before" / str(final))
    assert len(whole) == len(set(whole)) == 1000
    assert whole == sorted(whole), "the order of the parents, and of their entries"

    command.run("task", "reprocess", first, "a.root", "--data", data)
    again = check(command, data, tmp_path / "after", [first, held, skim, final])
    assert sorted(numbers_of(tmp_path / "after" / str(final))) == sorted(whole)
    assert again[held] == receipts[held]
    for task in (first, skim, final):
        assert again[task] != receipts[task]
    # What the other parent has made has stayed.
    kept = {file["lfn"] for file in receipts[skim]["files"]} & {
        file["lfn"] for file in again[skim]["files"]
    }
    assert len(kept) == 2


def check(
    command: CommandLine, data: Path, folder: Path, tasks: list[int]
) -> dict[int, dict[str, Any]]:
    """Wait until the tasks are done; verify the last one's receipt with those before it."""
    last = tasks[-1]
    wait_until(lambda: state_of(data, last)[0] == "done", "the end of the chain")
    command.run("task", "outputs", last, folder / str(last), "--data", data)
    receipts: dict[int, dict[str, Any]] = {}
    for task in tasks:
        with closing(sqlite3.connect(f"file:{data}/ledger.sqlite?mode=ro", uri=True)) as db:
            ((text,),) = db.execute("SELECT receipt FROM task WHERE task = ?", (task,)).fetchall()
        receipts[task] = json.loads(text)
        assert receipts[task]["task"]["state"] == "done"
        (folder / f"{task}.json").write_text(text)
    receipt, parents = folder / str(last) / "receipt.json", sorted(folder.glob("*.json"))
    levels = command.json("verify", receipt, "--parents", *parents)
    assert [level["name"] for level in levels][-2:] == ["parents", "complete"]
    assert all(level["holds"] for level in levels), levels
    return receipts
