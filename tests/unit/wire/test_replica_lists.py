"""Plans for other software: read by XML parsers, and by a metalink client that fetches."""

from __future__ import annotations

import hashlib
import http.server
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID
from xml.etree import ElementTree as ET

import pytest

from evstream.wire.delivery_messages import Endpoint, PlanView
from evstream.wire.replica_lists import guid_of, links, metalink, pool_file_catalog

KEY = "ab" * 32
NASTY = """a<b>&"c'.root"""
SIGNED = "https://e1.example.org:8443/v1/products/abab?e=1&k=2&s=x%2F"
SPACE = {"m": "urn:ietf:params:xml:ns:metalink"}


def plan(name: str = NASTY, **more: object) -> PlanView:
    endpoints = [Endpoint(SIGNED, "LYON", "FR"), Endpoint("http://h/v1/products/abab")]
    return PlanView(KEY, name, {"format": "root"}, endpoints, **more)  # type: ignore[arg-type]


def test_a_metalink_says_what_the_plan_says() -> None:
    root = ET.fromstring(metalink([plan(size=7, sha256="cd" * 32), plan("b.root")]))
    assert root.tag == "{urn:ietf:params:xml:ns:metalink}metalink"
    first, second = root.findall("m:file", SPACE)
    assert first.get("name") == NASTY
    assert first.findtext("m:size", namespaces=SPACE) == "7"
    digest = first.find("m:hash", SPACE)
    assert digest is not None
    assert (digest.get("type"), digest.text) == ("sha-256", "cd" * 32)
    urls = [
        (url.get("priority"), url.get("location"), url.text)
        for url in first.findall("m:url", SPACE)
    ]
    assert urls == [("1", "fr", SIGNED), ("2", None, "http://h/v1/products/abab")]
    # Nobody has made it: nothing is said of its bytes.
    assert second.find("m:hash", SPACE) is None
    assert second.find("m:size", SPACE) is None


def test_a_pool_file_catalogue_has_the_shape_that_frameworks_read() -> None:
    text = pool_file_catalog([plan()])
    assert '<!DOCTYPE POOLFILECATALOG SYSTEM "InMemory">' in text
    (file,) = ET.fromstring(text).findall("File")
    assert UUID(file.get("ID")) == UUID(guid_of(KEY))
    assert [pfn.get("name") for pfn in file.findall("physical/pfn")] == [
        SIGNED,
        "http://h/v1/products/abab",
    ]
    assert {pfn.get("filetype") for pfn in file.findall("physical/pfn")} == {"ROOT_All"}
    assert [lfn.get("name") for lfn in file.findall("logical/lfn")] == [NASTY]


def test_a_products_guid_is_a_uuid_of_its_key() -> None:
    one, other = UUID(guid_of(KEY)), UUID(guid_of("00" + KEY[2:]))
    assert one != other
    assert (one.version, one.variant) == (8, "specified in RFC 4122")


def test_copies_are_told_in_headers() -> None:
    assert links(plan().endpoints) == [
        f"<{SIGNED}>; rel=duplicate; pri=1; geo=fr",
        "<http://h/v1/products/abab>; rel=duplicate; pri=2",
    ]


class _Body(http.server.BaseHTTPRequestHandler):
    """Serves one body, and nothing under /gone."""

    body = b"events" * 1000

    def do_GET(self) -> None:
        found = not self.path.startswith("/gone")
        self.send_response(200 if found else 503)
        self.send_header("Content-Length", str(len(self.body) if found else 0))
        self.end_headers()
        if found:
            self.wfile.write(self.body)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Body) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{serving.server_port}"
        finally:
            serving.shutdown()
            thread.join()


@pytest.mark.server
@pytest.mark.skipif(shutil.which("aria2c") is None, reason="needs aria2 (apt-get install aria2)")
@pytest.mark.parametrize("right", [True, False])
def test_a_metalink_client_fetches_by_priority_and_checks(
    server: str, right: bool, tmp_path: Path
) -> None:
    """It goes on at the second URL where the first has nothing, and refuses other bytes."""
    digest = hashlib.sha256(_Body.body if right else b"other").hexdigest()
    endpoints = [Endpoint(f"{server}/gone?s=1&e=2"), Endpoint(f"{server}/here?s=1&e=2", "", "FR")]
    found = PlanView(KEY, "cut.root", {}, endpoints, len(_Body.body), digest)
    (tmp_path / "cut.meta4").write_text(metalink([found]))
    done = subprocess.run(
        ["aria2c", "--dir", tmp_path, "--no-conf", "--max-tries=1", tmp_path / "cut.meta4"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode == 0) is right, done.stdout + done.stderr
    if right:
        assert (tmp_path / "cut.root").read_bytes() == _Body.body
