"""Doors are made only where a service can stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from evstream.adapters.catalogue import data_directory
from evstream.assembly import door_token
from evstream.domain.errors import ConfigError


def test_nothing_is_made_on_a_network_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = Path("/proc/self/mountinfo").read_text()
    kind = data_directory.file_system_of(tmp_path.resolve(), mounts)
    monkeypatch.setattr(data_directory, "NETWORK_FILE_SYSTEMS", {kind})
    with pytest.raises(ConfigError, match="choose a data directory on a local disk"):
        door_token(tmp_path / "data")
    assert not list(tmp_path.iterdir())
