"""Tests are the same ones each time they are collected: workers compare their lists."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_names_of_tests_depend_on_no_clock_and_no_chance(request: pytest.FixtureRequest) -> None:
    """A parameter with a time or a set in it gives another name a second later."""
    collected = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert collected.returncode == 0, collected.stdout + collected.stderr
    again = set(collected.stdout.splitlines())
    assert not [item.nodeid for item in request.session.items if item.nodeid not in again]
