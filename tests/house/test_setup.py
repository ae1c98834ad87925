"""What `tools/setup` leaves behind where it fails: nothing that says it went well."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_what_cannot_be_installed_is_tried_again(tmp_path: Path) -> None:
    """Without a package index it fails, each time, and says what it could not install."""
    for name in ("pyproject.toml", "constraints.txt", "tools/setup"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    # Nothing is to be installed on this machine, should it go on.
    commands = tmp_path / "commands"
    commands.mkdir()
    (commands / "apt-get").write_text("#!/bin/sh\nexit 100\n")
    (commands / "apt-get").chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
        "PYTHON": sys.executable,
        "PIP_NO_INDEX": "1",
    }
    for _ in range(2):
        tried = subprocess.run(
            [tmp_path / "tools" / "setup", "test"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert tried.returncode != 0
        assert "hatchling" in tried.stderr, tried.stderr
        assert not list((tmp_path / ".venv").glob(".stamp-*"))
