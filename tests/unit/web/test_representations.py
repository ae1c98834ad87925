"""Bytes over HTTP: conditions, ranges, digests, and what a web server before us is told."""

from __future__ import annotations

import base64
import hashlib
import os
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from evstream.domain.errors import TransientError
from evstream.web.representations import SENDFILE, answer

pytestmark = pytest.mark.anyio
CONTENT = Random(5).randbytes(3_000_000)
ETAG = '"key-enc;levels=source,9"'


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass
class Bytes:
    """A representation that counts how often it was closed."""

    content: bytes = CONTENT
    etag: str = ETAG
    sha256: str = hashlib.sha256(CONTENT).hexdigest()
    adler32: str = f"{zlib.adler32(CONTENT):08x}"
    fd: int | None = None
    place: str | None = None
    closed: int = 0
    fails_at: int = 1 << 60
    reads: list[tuple[int, int]] = field(default_factory=list)

    @property
    def size(self) -> int:
        return len(self.content)

    @property
    def read(self) -> Callable[[int, int], AsyncIterator[bytes]]:
        return self._read

    async def _read(self, start: int, stop: int) -> AsyncIterator[bytes]:
        self.reads.append((start, stop))
        for at in range(start, stop, 1 << 20):
            if at >= self.fails_at:
                raise TransientError("the source is away")
            yield self.content[at : min(at + (1 << 20), stop)]

    @property
    def close(self) -> Callable[[], None]:
        return self._close

    def _close(self) -> None:
        self.closed += 1


async def ask(
    about: Bytes, method: str = "GET", accel: str = "", **headers: str
) -> httpx2.Response:
    async def route(request: Request) -> Response:
        return await answer(request, about, accel)

    app = Starlette(routes=[Route("/x", route, methods=["GET"])])
    transport = httpx2.ASGITransport(app)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with httpx2.AsyncClient(transport=transport, base_url="http://x") as client:
        return await client.request(method, "/x", headers=named)


async def test_all_of_it_with_what_is_known() -> None:
    about = Bytes()
    response = await ask(about)
    assert response.status_code == 200
    assert response.content == CONTENT
    assert response.headers["ETag"] == ETAG
    assert response.headers["Accept-Ranges"] == "bytes"
    digest = base64.b64encode(hashlib.sha256(CONTENT).digest()).decode()
    assert response.headers["Repr-Digest"] == f"sha-256=:{digest}:"
    assert "Digest" not in response.headers
    assert about.closed == 1


@pytest.mark.parametrize(
    ("asked", "span"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=10-", (10, 3_000_000)),
        ("bytes=-5", (2_999_995, 3_000_000)),
        ("bytes=-5000000", (0, 3_000_000)),
        ("bytes=2999999-9999999", (2_999_999, 3_000_000)),
        ("Bytes= 5-9 ", (5, 10)),
        ("bytes=5-9,9999999-", (5, 10)),
    ],
)
async def test_one_range(asked: str, span: tuple[int, int]) -> None:
    about = Bytes()
    response = await ask(about, Range=asked)
    assert response.status_code == 206
    assert response.content == CONTENT[slice(*span)]
    assert response.headers["Content-Range"] == f"bytes {span[0]}-{span[1] - 1}/3000000"
    assert about.closed == 1


@pytest.mark.parametrize(
    "asked",
    ["bytes=x", "bytes=", "bytes=-", "bytes=5-4", "items=0-1", "bytes=0-1,x", "", "bytes=,"],
)
async def test_what_is_no_range_stands_for_everything(asked: str) -> None:
    response = await ask(Bytes(), Range=asked)
    assert response.status_code == 200
    assert len(response.content) == 3_000_000


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=3000000-",
        "bytes=-0",
        "bytes=9999999-99999999,3000000-",
        "bytes=0-,0-",
        "bytes=" + ",".join(f"{at}-{at}" for at in range(1025)),
    ],
)
async def test_ranges_that_cannot_be_or_are_too_many_are_refused(asked: str) -> None:
    about = Bytes()
    response = await ask(about, Range=asked)
    assert response.status_code == 416
    assert response.headers["Content-Range"] == "bytes */3000000"
    assert about.closed == 1


@pytest.mark.parametrize(
    "asked", ["0-9,20-29", "2000000-2999999,5-5,-1", "0-999999,1500000-2999999"]
)
async def test_several_ranges_come_as_parts_in_their_order(asked: str) -> None:
    about = Bytes()
    response = await ask(about, Range=f"bytes={asked}")
    assert response.status_code == 206
    assert int(response.headers["Content-Length"]) == len(response.content)
    boundary = response.headers["Content-Type"].split("boundary=")[1].encode()
    pieces = response.content.split(b"\r\n--" + boundary)
    assert pieces[0] == b""
    assert pieces[-1] == b"--\r\n"
    for spec, piece in zip(asked.split(","), pieces[1:-1], strict=True):
        head, _, body = piece.partition(b"\r\n\r\n")
        first, last = spec.split("-")
        start, stop = (int(first), int(last) + 1) if first else (3_000_000 - int(last), 3_000_000)
        assert f"Content-Range: bytes {start}-{stop - 1}/3000000".encode() in head
        assert body == CONTENT[start:stop]
    assert about.closed == 1


async def test_the_head_says_what_get_would() -> None:
    for headers in ({}, {"Range": "bytes=5-9"}, {"Range": "bytes=5-9,20-29"}):
        about = Bytes()
        got, head = await ask(about, **headers), await ask(about, "HEAD", **headers)
        assert head.status_code == got.status_code
        assert head.content == b""
        assert dict(head.headers) == dict(got.headers)
        assert about.closed == 2


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (ETAG, 304),
        (f"W/{ETAG}", 304),
        (f'"other", {ETAG}', 304),
        (f'"a,b" ,W/{ETAG}', 304),
        ("*", 304),
        ('"other"', 200),
        ("key-enc", 200),
    ],
)
async def test_what_one_has_is_not_sent_again(asked: str, status: int) -> None:
    for method in ("GET", "HEAD"):
        about = Bytes()
        response = await ask(about, method, If_None_Match=asked)
        assert response.status_code == status
        assert response.headers["ETag"] == ETAG
        assert about.closed == 1


@pytest.mark.parametrize(
    ("asked", "status"), [(ETAG, 200), ("*", 200), (f"W/{ETAG}", 412), ('"other"', 412)]
)
async def test_another_product_is_not_what_was_meant(asked: str, status: int) -> None:
    assert (await ask(Bytes(), If_Match=asked)).status_code == status


@pytest.mark.parametrize(
    ("asked", "status"),
    [(ETAG, 206), (f"W/{ETAG}", 200), ('"other"', 200), ("Sat, 01 Jan 2028 00:00:00 GMT", 200)],
)
async def test_a_transfer_goes_on_only_with_the_same_bytes(asked: str, status: int) -> None:
    response = await ask(Bytes(), Range="bytes=5-9", If_Range=asked)
    assert response.status_code == status


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ("adler32", ["adler32"]),
        ("SHA-256", ["SHA-256"]),
        ("md5, adler32;q=0.5, sha-256;q=0.3", ["adler32", "SHA-256"]),
        ("md5", []),
        ("adler32;q=0", []),
        ("adler32;q=x", []),
    ],
)
async def test_older_clients_get_the_digests_that_they_want(wanted: str, names: list[str]) -> None:
    response = await ask(Bytes(), "HEAD", Want_Digest=wanted)
    told = response.headers.get("Digest", "")
    assert [item.partition("=")[0] for item in told.split(",") if item] == names
    if "adler32" in names:
        assert f"adler32={zlib.adler32(CONTENT):08x}" in told


async def test_what_is_not_known_is_not_told() -> None:
    response = await ask(Bytes(sha256="", adler32=""), Want_Digest="adler32")
    assert "Repr-Digest" not in response.headers
    assert "Digest" not in response.headers


async def test_a_web_server_before_us_sends_the_file_itself() -> None:
    about = Bytes(place="ab/key.1.2")
    behind = {"X_Sendfile_Type": "X-Accel-Redirect", "Range": "bytes=0-1"}
    response = await ask(about, accel="/kept/", **behind)
    assert response.status_code == 200
    assert response.headers["X-Accel-Redirect"] == "/kept/ab/key.1.2"
    assert response.headers["ETag"] == ETAG
    assert response.content == b""
    assert about.closed == 1
    # Whoever comes past it gets the bytes; so do all where none is configured.
    assert (await ask(about, accel="/kept/")).content == CONTENT
    assert (await ask(about, **behind)).content == CONTENT[:2]
    not_modified = await ask(about, accel="/kept/", If_None_Match=ETAG, **behind)
    assert not_modified.status_code == 304


async def test_errors_are_told_while_there_is_a_status() -> None:
    for headers in ({}, {"Range": "bytes=0-1"}, {"Range": "bytes=0-1,5-6"}):
        about = Bytes(fails_at=0)
        with pytest.raises(TransientError):
            await ask(about, **headers)
        assert about.closed == 1
    about = Bytes(fails_at=1 << 20)
    with pytest.raises(TransientError):
        await ask(about)
    assert about.closed == 1


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "file").write_bytes(CONTENT)
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    yield fd
    os.close(fd)


async def test_little_of_a_file_is_sent_at_once(file: int) -> None:
    about = Bytes(fd=file)
    assert (await ask(about, Range="bytes=7-99999")).content == CONTENT[7:100_000]
    assert about.reads == []
    assert about.closed == 1
    # One that was cut short is not what it says.
    about = Bytes(fd=file, content=CONTENT + b"more", fails_at=0)
    with pytest.raises(TransientError):
        await ask(about, Range="bytes=2999999-3000002")


async def test_a_server_that_sends_files_is_told_which_part(file: int) -> None:
    about = Bytes(fd=file)
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/x",
        "query_string": b"",
        "headers": [(b"range", b"bytes=100000-2099999")],
        "extensions": {SENDFILE: {}},
    }
    response = await answer(Request(scope, receive), about)
    await response(scope, receive, send)
    assert sent[0]["status"] == 206
    assert (b"content-length", b"2000000") in sent[0]["headers"]
    assert sent[1] == {"type": SENDFILE, "fd": file, "offset": 100_000, "count": 2_000_000}
    assert about.closed == 1
    assert about.reads == []
