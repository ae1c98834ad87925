"""Whole jobs count what is beside the events once: ranges and the merge together."""

from __future__ import annotations

import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import uproot

from tests.spine.commands import CommandLine
from tests.spine.root_judge import assert_equal_by_root, root_program

ADD_BESIDE = Path(__file__).with_name("add_beside.C")
# file, what is put beside its events, its tree, and where it is cut
KINDS = [
    ("nanoAOD_2015_CMS_Open_Data_ttbar.root", "nano", "Events", [0, 1, 60, 130, 200]),
    ("PHYSLITE_example.root", "daod", "CollectionTree", [0, 30, 31, 77, 100]),
    ("exot_15.root", "daod", "CollectionTree", [0, 4, 10]),
]
BESIDE = {"nano": ["Runs", "LuminosityBlocks", "MetaData"], "daod": ["MetaData"]}

pytestmark = pytest.mark.server


def test_sums_of_two_files_are_counted_once_each(command: CommandLine, tmp_path: Path) -> None:
    folder = tmp_path / "nano"
    folder.mkdir()
    for number in range(2):
        with uproot.recreate(folder / f"{number}.root") as file:
            events = np.arange(100) + 100 * number
            file.mktree("Events", {"event": "i8"}).extend({"event": events})
            sums = {"run": [number], "genEventSumw": [1000.25 + number]}
            file.mktree("Runs", {"run": "u4", "genEventSumw": "f8"}).extend(sums)
            file["cutflow"] = (np.array([500.0, 100.0]), np.arange(3.0))
    words = ["--tree", "Events", "--payload", "cp {input} {output}", "--events-per-range", 30]
    command.run("run", folder, *words, "--merge", "--output", "out", "--workers", 2)
    with uproot.open(tmp_path / "out/merged.root") as file:
        assert file["Events"]["event"].array().tolist() == list(range(200))
        assert file["Runs"]["run"].array().tolist() == [0, 1]
        assert file["Runs"]["genEventSumw"].array().tolist() == [1000.25, 1001.25]
        assert file["cutflow"].values().tolist() == [1000.0, 200.0]


@pytest.fixture
def with_beside(request: pytest.FixtureRequest, shared_data: Path, tmp_path: Path) -> Path:
    """Return a copy of a public file, with what was beside its events."""
    name, kind, *_ = request.param
    source = tmp_path / name
    shutil.copyfile(shared_data / name, source)
    if kind == "daod" and name.startswith("exot"):
        return source  # it has its own
    done = subprocess.run(
        [root_program(), "-b", "-q", "-l", f'{ADD_BESIDE}("{source}", "{kind}")'],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return source


def _assert_counted_once(source: Path, merged: Path, kind: str, folder: Path) -> None:
    """Assert that all that is beside the events is there as it was, once."""
    with uproot.open(source) as one, uproot.open(merged) as two:
        mark = {"evstream_not_for_athena;1"} if kind == "daod" else set()
        assert set(two.keys()) - mark == set(one.keys())
        for key, name in one.classnames().items():
            if name.startswith("TH1"):
                assert two[key].values().tolist() == one[key].values().tolist()
                assert two[key].member("fEntries") == one[key].member("fEntries")
            elif name.startswith("TParameter"):
                assert two[key].members["fVal"] == one[key].members["fVal"]
        counts = {tree: one[tree].num_entries for tree in BESIDE[kind]}
    for tree, entries in counts.items():
        assert_equal_by_root(source, merged, tree, entries, folder)


@pytest.mark.parametrize(
    ("with_beside", "kind", "tree", "edges"),
    [(row, *row[1:]) for row in KINDS],
    ids=[row[0] for row in KINDS],
    indirect=["with_beside"],
)
def test_what_is_beside_real_events_is_counted_once(
    command: CommandLine,
    tmp_path: Path,
    with_beside: Path,
    kind: str,
    tree: str,
    edges: list[int],
) -> None:
    source = with_beside
    words = ["--payload", "cp {input} {output}", "--events-per-range", edges[-1] // 4, "--merge"]
    command.run("run", source, *words, "--tree", tree, "--output", "out", "--workers", 2)
    _assert_counted_once(source, tmp_path / "out/merged.root", kind, tmp_path)
    # Slices that people ask for hold to the same rules: joined, they are the file again.
    data = tmp_path / "served"
    command.serve(data)
    command.run("dataset", "add", "user:one", source, "--data", data)
    parts = []
    for start, stop in pairwise(edges):
        parts.append(tmp_path / f"{start}.root")
        words = ["--tree", tree, "--entries", f"{start}:{stop}", "--data", data]
        command.run("get", "user:one", parts[-1], *words)
    command.run("join", "joined.root", *parts)
    _assert_counted_once(source, tmp_path / "joined.root", kind, tmp_path)
