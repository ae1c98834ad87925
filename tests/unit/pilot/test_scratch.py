"""Scratch folders: removed at the end, and by the next pilot when theirs was killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from evstream.pilot.scratch import PREFIX, scratch_folder, sweep

KILLED_IN_IT = """
import os, signal, sys
from pathlib import Path
from evstream.pilot.scratch import scratch_folder
with scratch_folder(Path(sys.argv[1])) as folder:
    (folder / "input.root").write_bytes(b"much")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_folder_goes_at_the_end(tmp_path: Path) -> None:
    with scratch_folder(tmp_path) as folder:
        (folder / "sub").mkdir()
        assert folder.parent == tmp_path
    assert not list(tmp_path.iterdir())


def test_what_a_killed_pilot_left_goes_with_the_next_one(tmp_path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED_IN_IT, str(tmp_path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    [left] = tmp_path.iterdir()
    with scratch_folder(tmp_path) as folder:
        assert list(tmp_path.iterdir()) == [folder]
        assert folder != left


def test_the_living_and_other_things_stay(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / f"{PREFIX}notes.txt").write_text("mine")
    (tmp_path / f"{PREFIX}link").symlink_to(tmp_path / "data")
    with scratch_folder(tmp_path) as one, scratch_folder(tmp_path) as other:
        sweep(tmp_path)
        assert one.is_dir()
        assert other.is_dir()
    kept = {"data", f"{PREFIX}notes.txt", f"{PREFIX}link"}
    assert {path.name for path in tmp_path.iterdir()} == kept
