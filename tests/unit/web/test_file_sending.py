"""Files that the system sends, and TLS that writes to the socket itself."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import os
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import httpx2
import pytest
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from evstream.web import file_sending, tls_transport
from evstream.web.file_sending import FileSendingProtocol
from evstream.web.representations import SENDFILE
from evstream.web.tls_transport import TlsAcceptor

pytestmark = [pytest.mark.anyio, pytest.mark.server]
CONTENT = Random(7).randbytes(6_000_000)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "file").write_bytes(CONTENT)
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    yield fd
    os.close(fd)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


class Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serving(
    fd: int, certificate: Path | None, at_once: Any = None
) -> AsyncIterator[tuple[str, Any]]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        head = {"type": "http.response.start", "status": 200}
        if scope["path"] == "/echo":
            body = b""
            while True:
                message = await receive()
                body += message.get("body", b"")
                if not message.get("more_body"):
                    break
            headers = [(b"content-length", str(len(body)).encode())]
            await send({**head, "headers": headers})
            for at in range(0, len(body), 100_000):
                part = {"body": body[at : at + 100_000], "more_body": True}
                await send({"type": "http.response.body", **part})
            await send({"type": "http.response.body"})
            return
        if scope["path"] == "/broken":
            await send({**head, "headers": [(b"content-length", b"5")]})
            raise ValueError("nothing comes of it")
        start, stop, size = map(int, scope["path"][1:].split("-"))
        assert SENDFILE in scope["extensions"]
        await send({**head, "headers": [(b"content-length", str(size).encode())]})
        await send({"type": SENDFILE, "fd": fd, "offset": start, "count": stop - start})

    http: Any = partial(FileSendingProtocol, at_once=at_once)
    verify: Any = True
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        verify = ssl.create_default_context(cafile=str(certificate))

        def http(**parts: Any) -> TlsAcceptor:
            return TlsAcceptor(context, FileSendingProtocol(**parts, at_once=at_once))

    door = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, http=http, log_config=None, lifespan="off", access_log=False)
    server = Server(config)
    running = asyncio.create_task(server.serve(sockets=[door]))
    scheme = "http" if certificate is None else "https"
    try:
        yield f"{scheme}://localhost:{door.getsockname()[1]}", verify
    finally:
        server.should_exit = True
        await running
        door.close()


@pytest.fixture(params=["plain", "tls"])
def tls(request: pytest.FixtureRequest, certificate: Path) -> Path | None:
    return certificate if request.param == "tls" else None


async def test_parts_of_a_file_on_one_connection(file: int, tls: Path | None) -> None:
    async with (
        serving(file, tls) as (url, verify),
        httpx2.AsyncClient(base_url=url, verify=verify) as client,
    ):
        for start, stop in [(0, 6_000_000), (5, 6), (1_000_000, 4_500_000), (5_999_999, 6_000_000)]:
            response = await client.get(f"/{start}-{stop}-{stop - start}")
            assert response.content == CONTENT[start:stop]
        os.fstat(file)


async def test_bodies_go_both_ways(file: int, tls: Path | None) -> None:
    async with (
        serving(file, tls) as (url, verify),
        httpx2.AsyncClient(base_url=url, verify=verify) as client,
    ):
        answers = await asyncio.gather(
            *(client.post("/echo", content=CONTENT[: 200_000 * n]) for n in range(1, 6))
        )
        for number, answer in enumerate(answers, 1):
            assert answer.content == CONTENT[: 200_000 * number]


async def test_many_read_at_once(file: int, tls: Path | None) -> None:
    async with (
        serving(file, tls) as (url, verify),
        httpx2.AsyncClient(base_url=url, verify=verify) as client,
    ):
        answers = await asyncio.gather(*(client.get("/0-3000000-3000000") for _ in range(12)))
        assert all(answer.content == CONTENT[:3_000_000] for answer in answers)


async def test_heads_go_with_small_bodies_in_order(file: int, tls: Path | None) -> None:
    async with serving(file, tls) as (url, verify):
        host, port = url.rpartition("/")[2].split(":")
        context = verify if tls is not None else None
        reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
        bodies = [b"x" * size for size in (1, 0, 2, 90_000, 3, 150_000, 4)]
        # All at once: the next request of a connection begins when an answer ends.
        for body in bodies:
            length = f"content-length: {len(body)}\r\n"
            writer.write(f"POST /echo HTTP/1.1\r\nhost: x\r\n{length}\r\n".encode() + body)
        for body in bodies:
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            assert await reader.readexactly(len(body)) == body
        writer.close()


async def test_a_small_answer_is_one_write(file: int, monkeypatch: pytest.MonkeyPatch) -> None:
    joined: list[bytes] = []
    join = file_sending._Joining._join

    def note(self: Any, body: bytes) -> None:
        joined.append(body)
        join(self, body)

    monkeypatch.setattr(file_sending._Joining, "_join", note)
    async with serving(file, None) as (url, _), httpx2.AsyncClient(base_url=url) as client:
        assert (await client.post("/echo", content=b"small")).content == b"small"
        assert joined == [b"small"]
        assert (await client.post("/echo", content=CONTENT[:200_000])).content == CONTENT[:200_000]
        assert joined == [b"small"]


async def test_what_breaks_before_its_body_is_an_error(file: int) -> None:
    async with serving(file, None) as (url, _), httpx2.AsyncClient(base_url=url) as client:
        assert (await client.get("/broken")).status_code == 500


async def test_a_file_that_is_short_breaks_the_connection(file: int, tls: Path | None) -> None:
    async with (
        serving(file, tls) as (url, verify),
        httpx2.AsyncClient(base_url=url, verify=verify) as client,
    ):
        with pytest.raises(httpx2.RemoteProtocolError):
            await client.get("/5000000-7000000-2000000")
        assert (await client.get("/0-9-9")).content == CONTENT[:9]


async def test_clients_that_go_away_leave_nothing_behind(file: int, tls: Path | None) -> None:
    before = open_files()
    async with serving(file, tls) as (url, verify):
        for _ in range(5):
            async with (
                httpx2.AsyncClient(base_url=url, verify=verify) as client,
                client.stream("GET", "/0-6000000-6000000") as response,
            ):
                await anext(response.aiter_bytes())
        async with httpx2.AsyncClient(base_url=url, verify=verify) as client:
            assert (await client.get("/0-9-9")).content == CONTENT[:9]
    assert open_files() <= before + 1


async def test_answers_at_once_come_in_order_and_wait_for_who_is_slow(
    file: int, certificate: Path, tls: Path | None
) -> None:
    asked: list[str] = []

    def at_once(scope: Any) -> tuple[int, bytes, bytes] | None:
        asked.append(scope["path"])
        if not scope["path"].startswith("/known"):
            return None
        return 200, b"content-length: 500000\r\n", CONTENT[:500_000]

    def of(path: str, more: str = "") -> bytes:
        return f"GET {path} HTTP/1.1\r\nHost: x\r\n{more}\r\n".encode()

    # Without a limit on what is written ahead, all of these would be in memory at once.
    requests = [of(f"/known{number}") for number in range(40)]
    async with serving(file, tls, at_once) as (url, _):
        context = None if tls is None else ssl.create_default_context(cafile=str(certificate))
        reader, writer = await asyncio.open_connection(
            "localhost", int(url.rsplit(":", 1)[1]), ssl=context
        )
        try:
            for request in (of("/known"), of("/5-8-3"), *requests):
                writer.write(request)
            # Whoever wants the connection closed is told so, by the application.
            writer.write(of("/7-9-2", "Connection: close\r\n"))
            for path, size in (("/known", 500_000), ("/5-8-3", 3)):
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200"), path
                assert b"\r\ndate: " in head
                body = await reader.readexactly(size)
                assert body == (CONTENT[:size] if path == "/known" else CONTENT[5:8])
        finally:
            writer.transport.abort()
    assert asked[:2] == ["/known", "/5-8-3"]
    assert "/7-9-2" not in asked


async def test_answers_at_once_do_not_nest(file: int) -> None:
    asked: list[str] = []

    def at_once(scope: Any) -> tuple[int, bytes, bytes] | None:
        asked.append(scope["path"])
        return None if len(asked) == 1 else (200, b"content-length: 1\r\n", b"x")

    count = 1500
    async with serving(file, None, at_once) as (url, _):
        reader, writer = await asyncio.open_connection("localhost", int(url.rsplit(":", 1)[1]))
        try:
            # The first is a task's, so that all others stand in a row behind it.
            writer.write(b"GET /5-6-1 HTTP/1.1\r\nHost: x\r\n\r\n")
            writer.write(b"GET /5-6-1 HTTP/1.1\r\n\r\n" * count)
            for _ in range(count + 1):
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200")
                await reader.readexactly(1)
        finally:
            writer.transport.abort()


async def test_an_answer_at_once_closes_for_who_wants_it(
    file: int, certificate: Path, tls: Path | None
) -> None:
    asked: list[str] = []

    def at_once(scope: Any) -> tuple[int, bytes, bytes] | None:
        asked.append(scope["path"])
        return 503, b"content-length: 300000\r\n", CONTENT[:300_000]

    async with serving(file, tls, at_once) as (url, _):
        context = None if tls is None else ssl.create_default_context(cafile=str(certificate))
        reader, writer = await asyncio.open_connection(
            "localhost", int(url.rsplit(":", 1)[1]), ssl=context
        )
        try:
            writer.write(b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\n")
            last = b"GET /2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            writer.write(last + b"GET /3 HTTP/1.1\r\nHost: x\r\n\r\n")
            for closes in (False, True):
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 503 ")
                assert (b"\r\nconnection: close\r\n" in head) is closes
                assert await reader.readexactly(300_000) == CONTENT[:300_000]
            assert await reader.read() == b""
        finally:
            writer.transport.abort()
        assert asked == ["/1", "/2"]
        # HTTP/1.0 is answered once for each connection, whatever it says.
        reader, writer = await asyncio.open_connection(
            "localhost", int(url.rsplit(":", 1)[1]), ssl=context
        )
        try:
            old = b"GET /%d HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
            writer.write(b"".join(old % number for number in range(4, 9)))
            with contextlib.suppress(ConnectionError):
                assert (await reader.read()).count(b"HTTP/1.1 503") == 1
        finally:
            writer.transport.abort()
        assert asked == ["/1", "/2", "/4"]


async def test_what_is_no_tls_is_closed(
    file: int, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_transport, "HANDSHAKE_S_MAX", 0.05)
    async with serving(file, certificate) as (url, _):
        port = int(url.rsplit(":", 1)[1])
        for said in (b"GET / HTTP/1.1\r\n\r\n", b""):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(said)
            # An alert at most, and the end; who says nothing is not waited for.
            with contextlib.suppress(ConnectionError):
                assert len(await reader.read()) < 100
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
