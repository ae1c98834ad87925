"""Sources of others: what leads inwards is refused where the connection is made."""

from __future__ import annotations

import http.server
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evstream.adapters.source.fsspec import FsspecOpener
from evstream.domain.errors import AccessError, EvstreamError
from evstream.domain.source_rules import SourceRules
from tests.certificates import Authority
from tests.stack.connect_proxy import connect_proxy

pytestmark = pytest.mark.server


class _Handler(http.server.BaseHTTPRequestHandler):
    asked: list[str] = []

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Length", "4")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(b"root")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


@pytest.fixture
def server() -> Iterator[http.server.ThreadingHTTPServer]:
    _Handler.asked.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.05,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def read(opener: FsspecOpener, pfn: str) -> bytes:
    with opener.open(pfn) as source:
        return bytes(source.read_ranges([(0, 4)])[0])


def test_this_machine_is_not_read_for_others(server: http.server.ThreadingHTTPServer) -> None:
    port = server.server_address[1]
    strict = FsspecOpener(rules=SourceRules.parse("", "", own=False))
    for host in ("127.0.0.1", "localhost", "2130706433", "0x7f000001", "127.1"):
        with pytest.raises(EvstreamError):
            read(strict, f"http://{host}:{port}/a.root")
    assert _Handler.asked == []
    named = FsspecOpener(rules=SourceRules.parse("", "127.0.0.0/8 ::1/128", own=False))
    assert read(named, f"http://127.0.0.1:{port}/a.root") == b"root"


def test_a_redirect_leads_no_further(server: http.server.ThreadingHTTPServer) -> None:
    port = server.server_address[1]
    # It is allowed where it begins, and not where it leads.
    rules = SourceRules.parse("", "127.0.0.1/32", own=False)
    inwards = f"http://127.0.0.1:{port}/to/http://127.0.0.2:{port}/a.root"
    with pytest.raises(AccessError, match=r"127\.0\.0\.2"):
        read(FsspecOpener(rules=rules), inwards)
    assert _Handler.asked
    assert all(path.startswith("/to/") for path in _Handler.asked)


def test_local_files_are_read_below_their_roots(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    for folder in (inside, outside):
        folder.mkdir()
        (folder / "a.root").write_bytes(b"root")
    (inside / "link.root").symlink_to(outside / "a.root")
    opener = FsspecOpener(rules=SourceRules.parse(str(inside), "", own=False))
    assert read(opener, str(inside / "a.root")) == b"root"
    assert read(opener, f"file://{inside}/a.root") == b"root"
    for pfn in (
        f"{outside}/a.root",
        f"file://{outside}/a.root",
        f"{inside}/../out/a.root",
        f"file://{inside}/%2e%2e/out/a.root",
        f"{inside}/link.root",
        "/etc/passwd",
    ):
        with pytest.raises(AccessError):
            read(opener, pfn)
        with pytest.raises(AccessError):
            opener.signature(pfn)


def test_all_networks_do_not_open_all_files(tmp_path: Path) -> None:
    inside = tmp_path / "in"
    inside.mkdir()
    (tmp_path / "a.root").write_bytes(b"root")
    opener = FsspecOpener(rules=SourceRules.parse(str(inside), "any", own=False))
    for protocol in (
        "local://",
        "simplecache::",
        "filecache::file://",
        "FILE://",
        "dir::",
    ):
        with pytest.raises(AccessError):
            read(opener, f"{protocol}{tmp_path}/a.root")
    with pytest.raises(AccessError):
        read(opener, f"memory://{tmp_path}/a.root")


@pytest.mark.server
def test_an_origin_is_shown_the_certificate_and_nobody_without_it_is_served(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    own, key = authority.issue("reader", "reader.example.org")
    proxy = tmp_path / "proxy.pem"
    proxy.write_bytes(own.read_bytes() + key.read_bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("origin"))
    context.load_verify_locations(authority.ca_file)
    context.verify_mode = ssl.CERT_REQUIRED
    _Handler.asked.clear()
    with _Secured(("127.0.0.1", 0), _Handler) as made:
        made.socket = context.wrap_socket(
            made.socket, server_side=True, do_handshake_on_connect=False
        )
        thread = threading.Thread(target=made.serve_forever, args=(0.05,))
        thread.start()
        url = f"https://localhost:{made.server_address[1]}/a.root"
        ca = str(authority.ca_file)
        try:
            for opener in (FsspecOpener(ca_file=ca), FsspecOpener(cert_file=str(proxy))):
                with pytest.raises(EvstreamError):
                    read(opener, url)
            assert _Handler.asked == []
            assert read(FsspecOpener(ca_file=ca, cert_file=str(proxy)), url) == b"root"
        finally:
            made.shutdown()
            thread.join()


@pytest.mark.server
def test_a_source_is_read_by_a_proxy_for_its_user_and_never_by_a_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("origin", "source.test"))
    with _Secured(("127.0.0.1", 0), _Handler) as made:
        made.socket = context.wrap_socket(
            made.socket, server_side=True, do_handshake_on_connect=False
        )
        thread = threading.Thread(target=made.serve_forever, args=(0.05,))
        thread.start()
        url, ca = "https://source.test/a.root", str(authority.ca_file)
        try:
            with connect_proxy({"source.test": made.server_address[1]}) as proxy:
                monkeypatch.setenv("HTTPS_PROXY", proxy.url)
                assert read(FsspecOpener(ca_file=ca), url) == b"root"
                assert set(proxy.asked) == {"CONNECT source.test:443"}
                proxy.asked.clear()
                strict = FsspecOpener(rules=SourceRules.parse("", "", own=False), ca_file=ca)
                with pytest.raises(EvstreamError):
                    read(strict, url)
                assert proxy.asked == []
        finally:
            made.shutdown()
            thread.join()


class _Secured(http.server.ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: some are refused."""
