"""Clients that mean no good, at a real server on a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from evstream.assembly.listening import listen, tcp_door
from evstream.client import Address
from evstream.domain.errors import ConfigError, EvstreamError
from evstream.testing.contracts.suite import Suite
from evstream.web import patience, replies, representations, tls_transport
from tests.certificates import Authority

WAIT_S_MAX = 30.0
LARGE = 256 << 20


class _Served:
    def __init__(self) -> None:
        self.closed = asyncio.Event()
        self.app = Starlette(
            routes=[
                Route("/", self.answer, methods=["GET", "PUT"]),
                Route("/file", self.large),
                Route("/stream", self.large),
            ]
        )

    async def large(self, request: Request) -> Response:
        file = tempfile.TemporaryFile()  # noqa: SIM115
        file.truncate(LARGE)

        async def read(start: int, stop: int) -> AsyncIterator[bytes]:
            for _ in range(start, stop, 1 << 20):
                yield bytes(1 << 20)

        def close() -> None:
            file.close()
            self.closed.set()

        fd = file.fileno() if request.url.path == "/file" else None
        return await representations.answer(request, _Large(read, close, fd))

    async def answer(self, request: Request) -> Response:
        try:
            size = sum([len(piece) async for piece in replies.pieces(request, 1000)])
        except EvstreamError as error:
            return replies.problem_reply(error)
        return PlainTextResponse(str(size))

    def loops(self) -> list[Any]:
        return []


@dataclass
class _Large:
    read: Callable[[int, int], AsyncIterator[bytes]]
    close: Callable[[], None]
    fd: int | None
    size: int = LARGE
    etag: str = '"large"'
    place: str | None = None
    sha256: str = ""
    adler32: str = ""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@asynccontextmanager
async def served(
    folder: Path, application: _Served | None = None, authority: Authority | None = None
) -> AsyncIterator[int]:
    files = map(str, authority.issue("door", "localhost")) if authority else ()
    door, url = tcp_door(0, "", *files)
    async with listen(application or _Served(), door, Address(url, "token"), folder):
        yield int(url.rpartition(":")[2])


async def said(port: int, *parts: bytes) -> bytes:
    """Return all that the server says to some bytes until it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
        async with asyncio.timeout(WAIT_S_MAX):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


@pytest.mark.server
class TestHostileClients(Suite):
    async def test_who_asks_well_is_answered(self, anyio_backend: str, tmp_path: Path) -> None:
        async with served(tmp_path) as port:
            text = b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc"
            assert (await said(port, text)).endswith(b"3")

    @pytest.mark.parametrize("begun", [b"", b"GET / HTTP/1.1\r\nHost: h\r\nX-A: "])
    async def test_headers_that_never_end_are_not_waited_for(
        self, anyio_backend: str, tmp_path: Path, begun: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(patience, "HEAD_S_MAX", 0.05)
        async with served(tmp_path) as port:
            assert await said(port, begun) == b""

    async def test_a_body_that_comes_too_slowly_is_refused(
        self, anyio_backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(replies, "BODY_S_MIN", 0.05)
        async with served(tmp_path) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 900\r\n\r\nabc")
            async with asyncio.timeout(WAIT_S_MAX):
                assert b" 503 " in await reader.readline()
            writer.close()

    async def test_bodies_beyond_their_limit_are_refused(
        self, anyio_backend: str, tmp_path: Path
    ) -> None:
        async with served(tmp_path) as port:
            for text in (
                b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 1001\r\n\r\n",
                b"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
                b"3e9\r\n" + b"a" * 1001 + b"\r\n",
            ):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(text)
                async with asyncio.timeout(WAIT_S_MAX):
                    assert b" 413 " in await reader.readline()
                writer.close()

    @pytest.mark.parametrize(
        "head",
        [
            b"".join(b"X-%d: a\r\n" % number for number in range(patience.HEADERS_MAX + 1)),
            b"X-A: " + b"a" * (patience.HEAD_BYTES_MAX + 1) + b"\r\n",
            # Two readings of where the body ends: how requests are smuggled.
            b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
            b"Content-Length: 3\r\nContent-Length: 4\r\n",
            b"Content-Length: +3\r\n",
            b"Transfer-Encoding: chunked, identity\r\n",
            b"X-A : b\r\n",
        ],
        ids=["many", "large", "both", "twice", "signed", "coded", "spaced"],
    )
    async def test_odd_headers_are_refused(
        self, anyio_backend: str, tmp_path: Path, head: bytes
    ) -> None:
        async with served(tmp_path) as port:
            text = b"PUT / HTTP/1.1\r\nHost: h\r\n" + head + b"\r\nabcGET / HTTP/1.1\r\n\r\n"
            answer = await said(port, text)
            assert answer.count(b"HTTP/1.1 ") <= 1
            assert b" 200 " not in answer

    async def test_a_body_that_nobody_wants_does_not_keep_a_connection(
        self, anyio_backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(patience, "HEAD_S_MAX", 0.3)
        async with served(tmp_path) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 9999999\r\n\r\n")
            async with asyncio.timeout(WAIT_S_MAX):
                assert b" 413 " in await reader.readline()
                # Not idle any more, and never done.
                writer.write(b"a")
                await reader.read()
            writer.close()

    @pytest.mark.parametrize("path", ["/file", "/stream"])
    @pytest.mark.parametrize("secured", [False, True])
    async def test_whoever_does_not_read_gets_no_more(
        self,
        anyio_backend: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        authority: Authority,
        path: str,
        secured: bool,
    ) -> None:
        monkeypatch.setattr(patience, "READ_S_MAX", 0.2)
        application = _Served()
        async with served(tmp_path, application, authority if secured else None) as port:
            tls = ssl.create_default_context(cafile=str(authority.ca_file)) if secured else None
            reader, writer = await asyncio.open_connection("localhost", port, limit=1, ssl=tls)
            writer.write(b"GET %s HTTP/1.1\r\nHost: h\r\n\r\n" % path.encode())
            async with asyncio.timeout(WAIT_S_MAX):
                await application.closed.wait()
                got = 0
                with contextlib.suppress(ConnectionError):
                    while piece := await reader.read(1 << 20):
                        got += len(piece)
            assert got < LARGE
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()

    async def test_a_handshake_that_stalls_is_not_waited_for(
        self,
        anyio_backend: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        authority: Authority,
    ) -> None:
        monkeypatch.setattr(tls_transport, "HANDSHAKE_S_MAX", 0.1)
        async with served(tmp_path, _Served(), authority) as port:
            for begun in (b"", b"\x16\x03\x01\x02\x00", b"GET / HTTP/1.1\r\n\r\n"):
                assert b"HTTP" not in await said(port, begun)

    async def test_connections_beyond_the_most_are_closed(
        self, anyio_backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(patience, "connections_max", lambda: 2)
        text = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
        async with served(tmp_path) as port:
            first = await asyncio.open_connection("127.0.0.1", port)
            second = await asyncio.open_connection("127.0.0.1", port)
            assert await said(port) == b""
            for reader, writer in (first, second):
                writer.write(text)
                async with asyncio.timeout(WAIT_S_MAX):
                    assert b" 200 " in await reader.read()
                writer.close()
            assert b" 200 " in await said(port, text)

    async def test_nobody_gets_a_web_socket(self, anyio_backend: str, tmp_path: Path) -> None:
        async with served(tmp_path) as port:
            text = (
                b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close, Upgrade\r\nUpgrade: websocket\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            )
            assert b" 101 " not in await said(port, text)

    async def test_a_tcp_port_without_a_token_is_not_served(
        self, anyio_backend: str, tmp_path: Path
    ) -> None:
        door, url = tcp_door(0)
        with door, pytest.raises(ConfigError, match="without a token"):
            async with listen(_Served(), door, Address(url), tmp_path):
                raise AssertionError
