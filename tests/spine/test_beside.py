"""Whole jobs count what is beside the events once: ranges and the merge together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import uproot

from tests.spine.commands import CommandLine

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
