"""Fixtures of the tests that start pilots by engines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.spine.commands import CommandLine, write_events


@pytest.fixture
def command(tmp_path: Path) -> Iterator[CommandLine]:
    """Run evstream commands in a folder of the test's own."""
    line = CommandLine(tmp_path)
    yield line
    line.end_all()


@pytest.fixture
def events(tmp_path: Path) -> Path:
    """A file with 600 events."""
    return write_events(tmp_path / "a.root", 600)
