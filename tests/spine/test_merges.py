"""Merges while a task runs: into which files, by whose command, and what is kept."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot

from evstream.assembly import verify_receipt
from tests.spine.commands import CommandLine, write_events

pytestmark = pytest.mark.server

COPY = "cp {input} {output}"


def events_of(path: Path) -> Any:
    with uproot.open(path) as file:
        return file["Events"]["event"].array(library="np")


def merged_files(out: Path) -> list[Path]:
    return sorted(path for path in out.iterdir() if path.suffix == ".root")


@pytest.mark.parametrize(
    ("flags", "sizes"),
    [
        (["--merge-events", 250], [300, 300, 300, 100]),
        (["--merge-files"], [600, 400]),
        (["--merge-bytes", 1], [100] * 10),
    ],
)
def test_merged_files_end_where_the_rule_says(
    command: CommandLine, tmp_path: Path, flags: list[object], sizes: list[int]
) -> None:
    one = write_events(tmp_path / "one.root", 600, run=1)
    two = write_events(tmp_path / "two.root", 400, run=2)
    words = ["--payload", COPY, "--events-per-range", 100, *flags]
    command.run("run", one, two, *words, "--output", "out", "--workers", 2)
    found = merged_files(tmp_path / "out")
    assert [path.name for path in found] == [f"merged.{n:05d}.root" for n in range(len(sizes))]
    assert [len(events_of(path)) for path in found] == sizes
    np.testing.assert_array_equal(
        np.concatenate([events_of(path) for path in found]),
        np.concatenate([np.arange(600), np.arange(400)]),
    )
    assert [level.holds for level in verify_receipt(tmp_path / "out/receipt.json")] == [True] * 4
    kept = list((tmp_path / "out/.evstream/outputs").rglob("*.root"))
    assert len(kept) == len(sizes), "what was merged is gone"


def test_many_outputs_are_merged_in_levels(command: CommandLine, tmp_path: Path) -> None:
    source = write_events(tmp_path / "events.root", 600)
    words = ["--payload", COPY, "--events-per-range", 25, "--merge", "--workers", 2]
    command.run("run", source, *words, "--output", "out", env={"EVSTREAM_MERGE_INPUTS_MAX": "3"})
    out = tmp_path / "out"
    np.testing.assert_array_equal(events_of(out / "merged.root"), np.arange(600))
    assert [level.holds for level in verify_receipt(out / "receipt.json")] == [True] * 4
    outputs = json.loads((out / "receipt.json").read_bytes())["outputs"]
    assert outputs[0]["file"] == "merged.root"
    # 24 outputs, by three: 8, 3, 1.
    assert sum("part" in output["file"] for output in outputs) == 8 + 3
    depth = 0
    last = outputs[-1]
    while last["merged_into"] is not None:
        last, depth = outputs[last["merged_into"]], depth + 1
    assert (last["file"], depth) == ("merged.root", 3)


MERGE = """
import sys, uproot, numpy as np
output, *inputs = sys.argv[1:]
print("merging", len(inputs))
arrays = [uproot.open(path)["Events"].arrays(["run", "event"], library="np") for path in inputs]
with uproot.recreate(output) as file:
    tree = file.mktree("Events", {"run": "int32", "event": "int64"})
    for part in arrays:
        tree.extend(part)
    file["by"] = "a command of our own"
"""


def test_a_command_of_ones_own_merges(command: CommandLine, tmp_path: Path) -> None:
    source = write_events(tmp_path / "events.root", 300)
    (tmp_path / "merge.py").write_text(MERGE)
    line = f"{sys.executable} merge.py {{output}} {{inputs}}"
    words = ["--payload", COPY, "--events-per-range", 100, "--merge-command", line]
    command.run("run", source, *words, "--output", "out", "--workers", 2)
    with uproot.open(tmp_path / "out/merged.root") as file:
        np.testing.assert_array_equal(file["Events"]["event"].array(), np.arange(300))
        assert file["by"] == "a command of our own"
    levels = verify_receipt(tmp_path / "out/receipt.json")
    assert [level.holds for level in levels] == [True] * 4


COUNT_EVENTS = """
import sys, uproot, numpy as np
output, *inputs = sys.argv[1:]
parts = [uproot.open(path) for path in inputs]
branches = ["run", "event"]
events = [part["Events"].arrays(branches, library="np") for part in parts]
events = {name: np.concatenate([one[name] for one in events]) for name in branches}
books = [part["Book"]["events"].array(library="np") for part in parts if "Book" in part]
seen = sum(book.sum() for book in books) if books else len(events["event"])
with uproot.recreate(output) as file:
    file.mktree("Events", events)
    file.mktree("Book", {"events": np.array([seen])})
"""


def test_a_command_of_ones_own_sums_the_books(command: CommandLine, tmp_path: Path) -> None:
    source = write_events(tmp_path / "events.root", 300)
    (tmp_path / "count.py").write_text(COUNT_EVENTS)
    counting = f"{sys.executable} {tmp_path}/count.py"
    words = ["--payload", f"{counting} {{output}} {{input}}", "--events-per-range", 100]
    words += ["--merge-command", f"{counting} {{output}} {{inputs}}"]
    command.run("run", source, *words, "--output", "out", "--workers", 2)
    with uproot.open(tmp_path / "out/merged.root") as file:
        np.testing.assert_array_equal(file["Events"]["event"].array(), np.arange(300))
        assert file["Book"]["events"].array().tolist() == [300]
    levels = verify_receipt(tmp_path / "out/receipt.json")
    assert [level.holds for level in levels] == [True] * 4


def test_a_merge_that_fails_for_good_fails_the_task_and_keeps_what_it_was_given(
    command: CommandLine, tmp_path: Path
) -> None:
    source = write_events(tmp_path / "events.root", 400)
    (tmp_path / "merge.py").write_text(
        "import sys, shutil, uproot\n"
        "first = uproot.open(sys.argv[2])['Events']['event'].array()[0]\n"
        "assert first != 200, 'not this one'\n" + MERGE
    )
    line = f"{sys.executable} merge.py {{output}} {{inputs}}"
    words = ["--payload", COPY, "--events-per-range", 100, "--merge-command", line]
    done = command.run(
        "run", source, *words, "--merge-events", 200, "--output", "out", "--workers", 2, status=3
    )
    assert "the merge failed, its inputs are kept: payload exited with status 1" in done.stderr
    assert "not this one" in done.stderr
    names = [path.name for path in merged_files(tmp_path / "out")]
    parts = [f"events.00000-{start}-{start + 100}.root" for start in (200, 300)]
    assert names == [*parts, "merged.00000.root"]
    levels = verify_receipt(tmp_path / "out/receipt.json")
    assert [level.holds for level in levels] == [True] * 4
    receipt = json.loads((tmp_path / "out/receipt.json").read_bytes())
    assert receipt["task"]["state"] == "failed"
