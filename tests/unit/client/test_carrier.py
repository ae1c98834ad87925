"""HTTP over aiohttp: bodies, broken connections, sockets, and a proxy as the only way out."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from evstream.client import Address
from evstream.client.carrier import Carrier, proxy_for
from tests.certificates import Authority

pytestmark = pytest.mark.server

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter
BODY = b"events " * 100_000


@asynccontextmanager
async def serving(
    answer: Callable[[Reader, Writer], Awaitable[None]], **how: object
) -> AsyncIterator[int]:
    """Serve TCP on loopback; yields the port."""

    async def serve(reader: Reader, writer: Writer) -> None:
        try:
            await answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, **how)  # type: ignore[arg-type]
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


class Origin:
    """Answers whatever is asked with one body, on connections that stay."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.connections = 0
        self.sends = len(BODY)

    async def __call__(self, reader: Reader, writer: Writer) -> None:
        self.connections += 1
        while head := await reader.readuntil(b"\r\n\r\n"):
            self.asked.append(head)
            lengths = [line for line in head.lower().split(b"\r\n") if b"content-length" in line]
            if lengths:
                self.asked.append(await reader.readexactly(int(lengths[0].split()[1])))
            elif b"chunked" in head.lower():
                self.asked.append(await reader.readuntil(b"0\r\n\r\n"))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY))
            writer.write(BODY[: self.sends])
            await writer.drain()
            if self.sends < len(BODY):
                return


class ConnectProxy:
    """A real proxy of the CONNECT kind. It alone knows where names lead."""

    def __init__(self, ports: dict[str, int]) -> None:
        self._ports = ports
        self.asked: list[str] = []

    async def __call__(self, reader: Reader, writer: Writer) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, place, _ = head.decode().split("\r\n")[0].split()
        self.asked.append(f"{method} {place}")
        port = self._ports.get(place.partition(":")[0])
        if method != "CONNECT" or port is None:
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            return
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        try:
            await asyncio.gather(_pipe(reader, there_writer), _pipe(there_reader, writer))
        finally:
            there_writer.close()


async def _pipe(reader: Reader, writer: Writer) -> None:
    while piece := await reader.read(1 << 16):
        writer.write(piece)
        await writer.drain()
    writer.close()


async def get(transport: httpx2.AsyncBaseTransport, url: str) -> bytes:
    """Return the body at a URL."""
    async with httpx2.AsyncClient(transport=transport) as client:
        return (await client.get(url)).content


def test_one_connection_carries_many_requests() -> None:
    async def main() -> None:
        origin = Origin()
        async with serving(origin) as port, httpx2.AsyncClient(transport=Carrier()) as client:
            url = f"http://127.0.0.1:{port}/v1/products/k?d=a%2Fb%3D&s=%7e"

            async def pieces() -> AsyncIterator[bytes]:
                yield b"one"
                yield b"other"

            assert (await client.get(url)).content == BODY
            assert (await client.post(url, content=b"whole")).content == BODY
            assert (await client.put(url, content=pieces())).content == BODY
        assert origin.connections == 1
        # A signature holds for the spelling that was signed.
        assert origin.asked[0].startswith(b"GET /v1/products/k?d=a%2Fb%3D&s=%7e HTTP/1.1\r\n")
        assert origin.asked[2] == b"whole"
        assert b"one" in origin.asked[4]
        assert b"other" in origin.asked[4]

    asyncio.run(main())


def test_a_body_that_breaks_and_a_server_that_is_gone_are_told() -> None:
    async def main() -> None:
        origin = Origin()
        origin.sends = 1000
        async with serving(origin) as port:
            with pytest.raises(httpx2.TransportError):
                await get(Carrier(), f"http://127.0.0.1:{port}/x")
        with pytest.raises(httpx2.ConnectError):
            await get(Carrier(), f"http://127.0.0.1:{port}/x")

    asyncio.run(main())


def test_what_is_left_unread_costs_its_connection_alone() -> None:
    async def main() -> None:
        origin = Origin()
        async with serving(origin) as port, httpx2.AsyncClient(transport=Carrier()) as client:
            async with client.stream("GET", f"http://127.0.0.1:{port}/x") as response:
                async for _ in response.aiter_raw():
                    break
            assert (await client.get(f"http://127.0.0.1:{port}/x")).content == BODY

    asyncio.run(main())


def test_the_way_out_is_a_proxy_that_alone_knows_the_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority = Authority(tmp_path)
    tls.load_cert_chain(*authority.issue("edge", "localhost.test", "127.0.0.1"))

    async def main() -> None:
        origin = Origin()
        proxy = ConnectProxy({})
        async with serving(origin, ssl=tls) as port, serving(proxy) as at:
            proxy._ports["localhost.test"] = port
            monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{at}")
            address = Address("https://localhost.test", ca_file=str(authority.ca_file))
            for transport in (address.transport(), address.elsewhere()):
                assert await get(transport, "https://localhost.test/x") == BODY
            assert proxy.asked == ["CONNECT localhost.test:443"] * 2
            monkeypatch.setenv("HTTPS_PROXY", f"http://user:secret@127.0.0.1:{at}")
            with pytest.raises(httpx2.ProxyError) as refused:
                await get(address.elsewhere(), "https://another.test/x")
            assert "403" in str(refused.value)
            assert "secret" not in str(refused.value)
            monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{at}")
            # This machine itself is reached without it.
            assert await get(address.elsewhere(), f"https://127.0.0.1:{port}/x") == BODY
            assert len(proxy.asked) == 3

    asyncio.run(main())


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("https://edge.test/x", "http://out:3128"),
        ("http://edge.test/x", None),
        ("https://inside.test/x", None),
        ("https://localhost/x", None),
        ("https://127.0.0.2/x", None),
        ("https://[::1]/x", None),
    ],
)
def test_which_urls_go_by_a_proxy(
    url: str, proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "out:3128")
    monkeypatch.setenv("NO_PROXY", "inside.test")
    assert proxy_for(httpx2.URL(url)) == proxy
    monkeypatch.setenv("ALL_PROXY", "http://any:1")
    assert proxy_for(httpx2.URL("http://edge.test/x")) == "http://any:1"


def test_a_socket_is_the_way_whatever_a_url_says(tmp_path: Path) -> None:
    async def main() -> None:
        origin = Origin()
        server = await asyncio.start_unix_server(origin, tmp_path / "s")
        try:
            transport = Address(f"unix:{tmp_path / 's'}").transport()
            assert await get(transport, "http://evstream.local/x") == BODY
        finally:
            server.close()

    asyncio.run(main())
