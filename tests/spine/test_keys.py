"""API keys at a real service: what a pilot's key opens, and when it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.spine.commands import CommandLine, wait_until

pytestmark = pytest.mark.server


def test_a_pilots_key_claims_and_submits_not(
    command: CommandLine, tmp_path: Path, events: list[Path]
) -> None:
    data = tmp_path / "data"
    command.serve(data, "--port", 0)
    url = json.loads((data / "address.json").read_text())["url"]
    made = command.json("key", "create", "Lyon", "--role", "pilot", "--data", data)
    door = ["--url", url, "--token", made["key"]]
    refused = command.run("submit", events[0], "--payload", "cp {input} {output}", *door, status=2)
    assert "Lyon may not" in refused.stderr
    people = command.json("key", "create", "anna", "--role", "submitter", "--data", data)
    hers = ["--url", url, "--token", people["key"]]
    task = command.json("submit", events[0], "--payload", "cp {input} {output}", *hers)
    command.start("pilot", *door)
    command.run("status", task["id"], "--watch", *hers)
    assert command.json("status", task["id"], *hers)["state"] == "done"
    assert command.run("key", "list", *hers, status=2).stderr.count("operator") == 1
    listed = command.json("key", "list", "--data", data)
    assert {key["name"]: "last_used" in key for key in listed} == {"Lyon": True, "anna": True}
    assert made["key"] not in (data / "ledger.sqlite").read_bytes().decode("latin-1")
    command.run("key", "revoke", people["id"], "--data", data)
    wait_until(lambda: command.run("status", *hers, status=None).returncode == 2, "the key to end")
    assert "credentials" in command.run("status", *hers, status=2).stderr
