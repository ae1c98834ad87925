"""The socket of a data directory is found at its name, however long the path to it is."""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path

import pytest

from evstream.assembly import SOCKET_NAME, unix_door


@pytest.mark.parametrize("folder", ["short", "long/" + 3 * (60 * "x" + "/")])
def test_a_socket_is_found_in_its_folder_and_replaced(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / folder
    data.mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(data))
    left, address = unix_door(data)
    left.close()
    door, again = unix_door(data)
    with door:
        monkeypatch.chdir(data)
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(SOCKET_NAME)
        place, before = (Path(a.url.removeprefix("unix:")) for a in (again, address))
        assert place.stat().st_mode & 0o777 == 0o600
        assert place == before or not before.parent.exists()
    assert place.is_socket()


def test_a_link_to_something_else_harms_nothing(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (tmp_path / SOCKET_NAME).symlink_to(precious)
    door, _ = unix_door(tmp_path)
    door.close()
    assert precious.read_text() == "mine"
