"""A pilot on a node whose only way out is an HTTPS proxy."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.certificates import Authority
from tests.spine.commands import CommandLine
from tests.stack.connect_proxy import connect_proxy

pytestmark = pytest.mark.server


def test_a_task_by_a_proxy_that_alone_knows_the_service(
    command: CommandLine, tmp_path: Path, events: list[Path]
) -> None:
    data, authority = tmp_path / "data", Authority(tmp_path / "ca")
    cert, key = authority.issue("server", "localhost", "127.0.0.1", "head.test")
    place = ["--listen", "127.0.0.1:0", "--tls-cert", cert, "--tls-key", key]
    command.serve(data, *place, EVSTREAM_SOURCE_ROOTS=str(tmp_path))
    url = json.loads((data / "address.json").read_text())["url"]
    here = {"EVSTREAM_CA_FILE": str(authority.ca_file), "EVSTREAM_TOKEN_FILE": str(data / "token")}
    words = ["--payload", "cp {input} {output}", "--url", url]
    task = command.run("submit", events[0], *words, env=here).stdout.strip()
    with connect_proxy({"head.test": urlsplit(url).port or 443}) as proxy:
        there = {**here, "EVSTREAM_URL": "https://head.test", "HTTPS_PROXY": proxy.url}
        there |= {"EVSTREAM_PILOT_IDLE_S_MAX": "0"}
        command.run("pilot", env=there)
        assert set(proxy.asked) == {"CONNECT head.test:443"}
        # What the proxy does not let through is told as what it is.
        there |= {"EVSTREAM_URL": "https://other.test", "EVSTREAM_PILOT_PATIENCE_S": "0"}
        refused = command.run("pilot", env={**there, "EVSTREAM_PATIENCE_S": "0"}, status=1)
        assert "proxy" in refused.stderr
    state = json.loads(command.run("status", task, "--json", "--url", url, env=here).stdout)
    assert state["state"] == "done"
