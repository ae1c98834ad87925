"""Tokens for origins: shown to the host that they are for, over TLS, and to nobody else."""

from __future__ import annotations

import http.server
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from evstream.adapters.source.fsspec import FsspecOpener
from evstream.adapters.source.origin_tokens import OriginTokens
from evstream.adapters.source.xrootd import translated
from evstream.domain.errors import AccessError, ConfigError
from tests.certificates import Authority

FIRST, SECOND = "the-first-token", "the-second-token"


class _Handler(http.server.BaseHTTPRequestHandler):
    seen: list[tuple[str, str, str]] = []
    asks = ""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        shown = self.headers.get("Authorization", "")
        self.seen.append((self.headers["Host"].partition(":")[0], self.path, shown))
        if self.path.startswith("/to/"):
            self.send_response(307)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(401 if self.asks and shown != f"Bearer {self.asks}" else 200)
        self.send_header("Content-Length", "4")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(b"root")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def serving(context: ssl.SSLContext | None) -> Iterator[int]:
    _Handler.seen.clear()
    _Handler.asks = ""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as made:
        if context is not None:
            made.socket = context.wrap_socket(made.socket, server_side=True)
        thread = threading.Thread(target=made.serve_forever, args=(0.05,))
        thread.start()
        yield int(made.server_address[1])
        made.shutdown()
        thread.join()


@pytest.fixture
def secure(authority: Authority) -> Iterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("origin", "localhost", "127.0.0.1"))
    yield from serving(context)


@pytest.fixture
def plain() -> Iterator[int]:
    yield from serving(None)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "token").write_text(FIRST)
    return tmp_path / "token"


def opener(authority: Authority, text: str) -> FsspecOpener:
    return FsspecOpener(ca_file=str(authority.ca_file), tokens=OriginTokens.parse(text))


def read(opener: FsspecOpener, pfn: str) -> bytes:
    with opener.open(pfn) as source:
        return bytes(source.read_ranges([(0, 4)])[0])


@pytest.mark.server
def test_a_token_is_shown_and_read_again_when_it_was_renewed(
    secure: int, authority: Authority, file: Path
) -> None:
    _Handler.asks = FIRST
    opened = opener(authority, f"localhost={file}")
    url = f"https://localhost:{secure}/a.root"
    with opened.open(url) as source:
        assert bytes(source.read_ranges([(0, 4)])[0]) == b"root"
        _Handler.asks = SECOND
        with pytest.raises(AccessError) as refused:
            source.read_ranges([(0, 4)])
        assert FIRST not in str(refused.value)
        file.write_text(f"{SECOND}\n")
        assert bytes(source.read_ranges([(0, 4)])[0]) == b"root"
    assert opened.signature(url)


@pytest.mark.server
def test_other_hosts_are_shown_none_nor_is_one_behind_a_redirect(
    secure: int, authority: Authority, file: Path
) -> None:
    opened = opener(authority, f"localhost:{secure}={file}")
    assert read(opened, f"https://127.0.0.1:{secure}/a.root") == b"root"
    away = f"https://localhost:{secure}/to/https://127.0.0.1:{secure}/b.root"
    assert read(opened, away) == b"root"
    back = f"https://127.0.0.1:{secure}/to/https://localhost:{secure}/c.root"
    assert read(opened, back) == b"root"
    shown = {(host, path[:3]): token for host, path, token in _Handler.seen}
    token = f"Bearer {FIRST}"
    assert shown == {
        ("127.0.0.1", "/a."): "",
        ("localhost", "/to"): token,
        ("127.0.0.1", "/b."): "",
        ("127.0.0.1", "/to"): "",
        ("localhost", "/c."): token,
    }


@pytest.mark.server
def test_nothing_is_shown_without_tls(plain: int, authority: Authority, file: Path) -> None:
    opened = opener(authority, f"localhost={file}")
    assert read(opened, f"http://localhost:{plain}/a.root") == b"root"
    assert {token for _, _, token in _Handler.seen} == {""}


def test_urls_of_xrootd_show_it_to_the_named_host_over_tls_alone(file: Path) -> None:
    tokens = OriginTokens.parse(f"storage.example={file} [2001:db8::1]:1095={file}")
    for url in ("roots://storage.example//a", "roots://STORAGE.example:1094//a?x=1"):
        shown = tokens.with_token(url)
        assert shown.startswith(url)
        assert f"authz=Bearer%20{FIRST}" in shown
    assert FIRST in tokens.with_token("roots://[2001:db8::1]:1095//a")
    for url in (
        "root://storage.example//a",
        "roots://other.example//a",
        "roots://storage.example.org//a",
        "roots://storage.example@other.example//a",
        "roots://[2001:db8::1]//a",
        "roots://[//a",
    ):
        assert tokens.with_token(url) == url


def test_what_xrootd_says_of_a_url_holds_no_token() -> None:
    secret = "authz=Bearer%20secret"
    told = f"[ERROR] no rights: roots://a//b?{secret}&x=1, /b?{secret}"
    numbers = dict.fromkeys(
        (
            *("errNotFound", "errAuthFailed", "errLoginFailed", "errCheckSumError"),
            *("errDataError", "errInvalidArgs", "errInvalidAddr"),
        ),
        1,
    )
    status = SimpleNamespace(message=told, code=400, errno=3010, **numbers)
    assert "secret" not in translated(status, "roots://a//b").message


@pytest.mark.parametrize(
    "text", ["host", "host=token", "=/a", "a/b=/c", "a@b=/c", "a:b=/c", "a=/b a=/c"]
)
def test_what_names_no_host_and_file_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="origin_tokens"):
        OriginTokens.parse(text)


def test_a_token_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        OriginTokens.parse(f"host={tmp_path}/none").of("https://host/a")
