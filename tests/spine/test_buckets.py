"""A head and an edge whose source is in a bucket of a real S3 gateway."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import uproot

from tests.s3_gateway import gateway
from tests.spine.commands import CommandLine, wait_until, write_events

pytestmark = pytest.mark.server


def address(data: Path) -> dict[str, Any]:
    """Return where a process that was started with this folder is."""
    published = data / "address.json"
    wait_until(published.exists, f"the address in {data}")
    found: dict[str, Any] = json.loads(published.read_text())
    return found


def test_an_edge_cuts_what_is_in_a_bucket(command: CommandLine, tmp_path: Path) -> None:
    path = write_events(tmp_path / "a.root", 600)
    with gateway() as bucket, pytest.MonkeyPatch.context() as patch:
        for name, value in bucket.environment.items():
            patch.setenv(name, value)
        from obstore.store import S3Store

        store = S3Store.from_url(bucket.url, client_options={"allow_http": True})
        store.put("some/a.root", path.read_bytes())
        path.rename(tmp_path / "kept.root")

        reads = {**bucket.environment, "EVSTREAM_SOURCE_NETWORKS": "127.0.0.0/8"}
        command.start("head", "--data", tmp_path / "head", "--port", 0, **reads)
        url = address(tmp_path / "head")["url"]
        token = (tmp_path / "head" / "token").read_text()
        door = ("--url", url, f"--token={token}")
        edge = ("edge", "--head", url, "--name", "near", "--data", tmp_path / "edge", "--port", 0)
        command.start(*edge, EVSTREAM_TOKEN=token, **reads)
        address(tmp_path / "edge")
        command.run("dataset", "add", "user:a", f"{bucket.url}/some/a.root", *door)
        # Heads make nothing: what comes was cut by the edge.
        command.run("get", "user:a", tmp_path / "cut.root", "--entries", "100:200", *door)
    with uproot.open(tmp_path / "cut.root") as cut, uproot.open(tmp_path / "kept.root") as whole:
        wanted = whole["Events"].arrays(entry_start=100, entry_stop=200)
        assert cut["Events"].arrays().tolist() == wanted.tolist()
