"""A task over TLS, with a key in a file: what crosses the network is nobody else's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.certificates import Authority
from tests.spine.commands import CommandLine

pytestmark = pytest.mark.server


def test_a_task_over_tls(command: CommandLine, tmp_path: Path, events: list[Path]) -> None:
    data, authority = tmp_path / "data", Authority(tmp_path / "ca")
    cert, key = authority.issue("server")
    place = ["--listen", "0.0.0.0:0", "--tls-cert", cert, "--tls-key", key]
    refused = command.run("serve", "--data", data, "--listen", "0.0.0.0:0", status=1)
    assert "without TLS" in refused.stderr
    assert not data.exists()
    trust = {"EVSTREAM_CA_FILE": str(authority.ca_file)}
    command.serve(data, *place, EVSTREAM_SOURCE_ROOTS=str(tmp_path))
    url = json.loads((data / "address.json").read_text())["url"]
    assert url.startswith("https://localhost:")
    token = (data / "token").read_text()
    stranger = command.run(
        "status", "--url", url, "--token", token, status=1, env={"EVSTREAM_PATIENCE_S": "0"}
    )
    assert "certificate" in stranger.stderr.lower()
    command.run("status", "--url", url, env=trust, status=2)
    made = command.run(
        "key", "create", "p", "--role", "operator", "--url", url, "--token", token, env=trust
    )
    file = tmp_path / "key"
    file.write_text(made.stdout)
    mine = {**trust, "EVSTREAM_TOKEN_FILE": str(file), "EVSTREAM_URL": url}
    work = ["--payload", "cp {input} {output}"]
    task = command.run("submit", events[0], *work, env=mine).stdout.strip()
    command.start("pilot", **mine)
    command.run("status", task, "--watch", env=mine)
    state = json.loads(command.run("status", task, "--json", env=mine).stdout)
    assert state["state"] == "done"
