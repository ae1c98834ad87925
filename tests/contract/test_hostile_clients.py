"""Clients that mean no good, at a real server on a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
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
from evstream.web import patience, replies

WAIT_S_MAX = 30.0


class _Served:
    def __init__(self) -> None:
        self.app = Starlette(routes=[Route("/", self.answer, methods=["GET", "PUT"])])

    async def answer(self, request: Request) -> Response:
        try:
            size = sum([len(piece) async for piece in replies.pieces(request, 1000)])
        except EvstreamError as error:
            return replies.problem_reply(error)
        return PlainTextResponse(str(size))

    def loops(self) -> list[Any]:
        return []


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[int]:
    door, url = tcp_door(0)
    async with listen(_Served(), door, Address(url, "token"), folder):
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

    async def test_a_tcp_port_without_a_token_is_not_served(
        self, anyio_backend: str, tmp_path: Path
    ) -> None:
        door, url = tcp_door(0)
        with door, pytest.raises(ConfigError, match="without a token"):
            async with listen(_Served(), door, Address(url), tmp_path):
                raise AssertionError
