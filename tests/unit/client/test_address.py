"""A service's address is trusted while the service lives, and not a moment longer."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from evstream.client import Address
from evstream.client.address import ADDRESS_FILE
from evstream.domain.errors import ConfigError, NotFoundError

HERE = Address("http://127.0.0.1:1", "secret")


def test_an_address_is_found_while_its_service_lives(tmp_path: Path) -> None:
    with HERE.published(tmp_path):
        assert Address.read(tmp_path) == HERE
        assert Address.read(tmp_path) == HERE
        assert (tmp_path / ADDRESS_FILE).stat().st_mode & 0o077 == 0
    assert not list(tmp_path.iterdir())
    with pytest.raises(NotFoundError, match="no service runs"):
        Address.read(tmp_path)


def test_what_a_killed_service_left_is_not_trusted(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, sys; from evstream.client import Address\n"
        "with Address('http://127.0.0.1:1', 'secret').published(pathlib.Path(sys.argv[1])):\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert (tmp_path / ADDRESS_FILE).exists()
    with pytest.raises(NotFoundError, match="no service runs"):
        Address.read(tmp_path)
    with HERE.published(tmp_path):
        assert Address.read(tmp_path) == HERE


def leave_a_killed_services_address(data: Path) -> None:
    (data / ADDRESS_FILE).write_text(json.dumps({"url": HERE.url, "token": HERE.token}))


def test_a_killed_service_is_waited_for(tmp_path: Path) -> None:
    leave_a_killed_services_address(tmp_path)

    async def look() -> tuple[bool, Address]:
        found = asyncio.create_task(Address.find(tmp_path, 600.0))
        # Its first look is over, in vain, once it waits.
        await asyncio.sleep(0)
        waits = not found.done()
        with HERE.published(tmp_path):
            return waits, await found

    assert asyncio.run(look()) == (True, HERE)


def test_a_killed_service_is_not_waited_for_without_end(tmp_path: Path) -> None:
    leave_a_killed_services_address(tmp_path)
    with pytest.raises(NotFoundError, match="no service runs"):
        asyncio.run(Address.find(tmp_path, 0.0))


def test_nobody_waits_where_no_service_was_killed(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no service runs"):
        asyncio.run(Address.find(tmp_path, 600.0))


def test_a_living_process_of_the_same_number_is_no_proof(tmp_path: Path) -> None:
    left = {"url": HERE.url, "token": HERE.token, "pid": os.getpid()}
    (tmp_path / ADDRESS_FILE).write_text(json.dumps(left))
    with pytest.raises(NotFoundError):
        Address.read(tmp_path)


def test_what_is_no_address_is_told(tmp_path: Path) -> None:
    (tmp_path / ADDRESS_FILE).write_text("[]")
    with pytest.raises(ConfigError, match="cannot read"):
        Address.read(tmp_path)
