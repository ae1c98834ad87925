"""Bytes with a length and an ETag, sent as whoever asks for them wants them (RFC 9110).

GET and HEAD, conditions, one range or several, digests (RFC 9530, and RFC 3230 for older
clients); the bytes themselves from memory, from a file without a copy, or as they come.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from evstream.web.byte_ranges import Spans, parse_ranges

OCTETS = "application/octet-stream"
WHOLE_BYTES_MAX = 1 << 20
"""Up to this size a body is sent at once: a stream costs more than it saves."""
SENDFILE = "evstream.sendfile"
"""The ASGI extension of servers that send a part of a file themselves."""
SENDFILE_BYTES_MIN = 512 << 10
"""Less is read here: to set up a transfer costs more than to copy so much."""
_ACCEL_ASKED = "X-Accel-Redirect"
ACCEL_HEADER = (b"x-sendfile-type", _ACCEL_ASKED.encode())
"""By this a web server before us says that it sends files."""


class Digested(Protocol):
    """What is known of all of something.

    Attributes
    ----------
    sha256, adler32 : str
        Hex digests of all of it, empty where they are not known.
    """

    @property
    def size(self) -> int: ...
    @property
    def sha256(self) -> str: ...
    @property
    def adler32(self) -> str: ...


class Representation(Digested, Protocol):
    """What is sent.

    Attributes
    ----------
    etag : str
        Strong, with its quotes.
    fd : int or None
        An open file that holds all of it and nothing else.
    place : str or None
        Where that file is below the folder that a web server before us may read.
    """

    @property
    def etag(self) -> str: ...
    @property
    def fd(self) -> int | None: ...
    @property
    def place(self) -> str | None: ...
    @property
    def read(self) -> Callable[[int, int], AsyncIterator[bytes]]:
        """What yields bytes ``[start, stop)``."""
        ...

    @property
    def close(self) -> Callable[[], None]:
        """Called once, when all is sent or nobody wants it any more."""
        ...


@dataclass(frozen=True, slots=True)
class Stored:
    """A representation that has nothing to close."""

    size: int
    etag: str
    read: Callable[[int, int], AsyncIterator[bytes]]
    sha256: str = ""
    adler32: str = ""
    fd: int | None = None
    place: str | None = None

    @property
    def close(self) -> Callable[[], None]:
        """Nothing to do."""
        return _nothing


def _nothing() -> None:
    """Close nothing."""


async def answer(request: Request, about: Representation, accel: str = "") -> Response:
    """Return the answer to GET or HEAD; it closes the representation.

    Parameters
    ----------
    accel : str
        Where a web server before us has the folder of `Representation.place`; empty for
        none. Used for requests that say, by ``X-Sendfile-Type``, that one stands before us.

    Raises
    ------
    EvstreamError
        The first bytes cannot be had: it is told while there is a status to tell it.
    """
    closes = about.close
    try:
        response, later = await _answer(request, about, accel)
    except BaseException:
        closes()
        raise
    if not later:
        closes()
    return response


async def _answer(request: Request, about: Representation, accel: str) -> tuple[Response, bool]:
    """Return the answer, and whether it closes the representation when it is sent."""
    headers = _told_always(about, about.etag)
    headers |= _wanted_digests(request, about)
    if not _matches(request.headers.get("If-Match"), about.etag, weak=False, absent=True):
        return Response(status_code=412, headers=headers), False
    if _matches(request.headers.get("If-None-Match"), about.etag, weak=True, absent=False):
        return Response(status_code=304, headers=headers), False
    if accel and about.place and request.headers.get("X-Sendfile-Type") == _ACCEL_ASKED:
        # The web server looks at the ranges itself.
        headers[_ACCEL_ASKED] = _accel_path(accel, about.place)
        return Response(status_code=200, headers=headers, media_type=OCTETS), False
    spans = None
    if request.headers.get("If-Range", about.etag) == about.etag:
        spans = parse_ranges(request.headers.get("Range"), about.size)
    if spans is not None and not spans:
        headers["Content-Range"] = f"bytes */{about.size}"
        return Response(status_code=416, headers=headers), False
    if spans is not None and len(spans) > 1:
        return await _several(request, about, headers, spans)
    status, (start, stop) = 200, (0, about.size)
    if spans is not None:
        status, (start, stop) = 206, spans[0]
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{about.size}"
    headers["Content-Length"] = str(stop - start)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=OCTETS), False
    if about.fd is not None and stop - start < SENDFILE_BYTES_MIN:
        # As sendfile would, it waits for the disk where the bytes are not in memory.
        content = os.pread(about.fd, stop - start, start)
        if len(content) == stop - start:
            return Response(content, status, headers, media_type=OCTETS), False
    elif about.fd is not None and SENDFILE in request.scope.get("extensions", {}):
        return _FilePart(about, start, stop, status, headers), True
    return await _sent(about.read(start, stop), stop - start, about, status, headers, OCTETS)


async def _sent(
    rest: AsyncIterator[bytes],
    size: int,
    about: Representation,
    status: int,
    headers: dict[str, str],
    media_type: str,
) -> tuple[Response, bool]:
    if size <= WHOLE_BYTES_MAX:
        content = b"".join([piece async for piece in rest])
        return Response(content, status, headers, media_type=media_type), False
    # Whatever is wrong with the source is told while there still is a status to tell it.
    first = await anext(rest)
    return _Stream(_chain(first, rest), about, status, headers, media_type), True


async def _chain(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece


async def _several(
    request: Request, about: Representation, headers: dict[str, str], spans: Spans
) -> tuple[Response, bool]:
    """Answer with several ranges, in the order in which they were asked for."""
    asked = repr((about.etag, spans)).encode()
    boundary = f"evstream-{hashlib.sha256(asked).hexdigest()[:32]}"
    heads = [
        f"\r\n--{boundary}\r\nContent-Type: {OCTETS}\r\n"
        f"Content-Range: bytes {start}-{stop - 1}/{about.size}\r\n\r\n".encode()
        for start, stop in spans
    ]
    end = f"\r\n--{boundary}--\r\n".encode()
    size = sum(map(len, heads)) + sum(stop - start for start, stop in spans) + len(end)
    headers["Content-Length"] = str(size)
    media_type = f"multipart/byteranges; boundary={boundary}"
    if request.method == "HEAD":
        return Response(status_code=206, headers=headers, media_type=media_type), False

    async def parts() -> AsyncIterator[bytes]:
        for head, (start, stop) in zip(heads, spans, strict=True):
            body = about.read(start, stop)
            # The first bytes come before the first head: errors are told by the status.
            first = await anext(body)
            yield head
            yield first
            async for piece in body:
                yield piece
        yield end

    return await _sent(parts(), size, about, 206, headers, media_type)


def _matches(header: str | None, etag: str, *, weak: bool, absent: bool) -> bool:
    """Say whether a list of ETags holds ours (RFC 9110, 8.8.3.2 and 13.1)."""
    if header is None:
        return absent
    if header.strip() == "*":
        return True
    listed = [given.strip() for given in _split_tags(header)]
    return etag in (given.removeprefix("W/") if weak else given for given in listed)


def _split_tags(header: str) -> list[str]:
    """Split a list at the commas that stand outside of quotes."""
    found, quoted = [""], False
    for character in header:
        quoted ^= character == '"'
        if character == "," and not quoted:
            found.append("")
        else:
            found[-1] += character
    return found


def headers_of_whole(about: Digested, etag: str) -> tuple[tuple[bytes, bytes], ...]:
    """Return the headers of all of it, for whoever asks for nothing but that."""
    headers = _told_always(about, etag)
    headers["Content-Length"] = str(about.size)
    return tuple(Response(status_code=200, headers=headers, media_type=OCTETS).raw_headers)


def headers_of_placed(
    about: Digested, etag: str, accel: str, place: str
) -> tuple[tuple[bytes, bytes], ...]:
    """Return the headers by which a web server before us sends the file of all of it."""
    headers = _told_always(about, etag)
    headers[_ACCEL_ASKED] = _accel_path(accel, place)
    return tuple(Response(status_code=200, headers=headers, media_type=OCTETS).raw_headers)


def _accel_path(accel: str, place: str) -> str:
    return quote(f"{accel.rstrip('/')}/{place}")


def _told_always(about: Digested, etag: str) -> dict[str, str]:
    """Return what every answer tells; the digest of all of it, where that is known."""
    digest = {"Repr-Digest": f"sha-256=:{_base64(about.sha256)}:"} if about.sha256 else {}
    return {"ETag": etag, "Accept-Ranges": "bytes", **digest}


def _wanted_digests(request: Request, about: Digested) -> dict[str, str]:
    """Return the header of the digests that an older client asks for, where they are known."""
    asked = request.headers.get("Want-Digest")
    if not asked or not about.sha256:
        return {}
    known = {"sha-256": f"SHA-256={_base64(about.sha256)}", "adler32": f"adler32={about.adler32}"}
    wanted = [known[name] for name in _preferred(asked) if name in known]
    return {"Digest": ",".join(wanted)} if wanted else {}


def _base64(digest: str) -> str:
    return base64.b64encode(bytes.fromhex(digest)).decode()


def _preferred(header: str) -> list[str]:
    """Return the algorithms that are wanted, the best liked first (RFC 3230)."""
    weighed = []
    for item in header.split(","):
        name, _, weight = item.partition(";q=")
        try:
            liked = float(weight or 1)
        except ValueError:
            continue
        if liked > 0:
            weighed.append((liked, name.strip().lower()))
    return [name for _, name in sorted(weighed, key=lambda each: -each[0])]


class _Stream(StreamingResponse):
    """Bytes as they come; closes what they come from."""

    def __init__(
        self,
        content: AsyncIterator[bytes],
        about: Representation,
        status: int,
        headers: dict[str, str],
        media_type: str,
    ) -> None:
        super().__init__(content, status, headers, media_type=media_type)
        self._content = content
        self._closes = about.close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._closes()


class _FilePart(Response):
    """A part of a file, which the server sends without bringing it here."""

    def __init__(
        self, about: Representation, start: int, stop: int, status: int, headers: dict[str, str]
    ) -> None:
        super().__init__(status_code=status, headers=headers, media_type=OCTETS)
        assert about.fd is not None
        self._fd = about.fd
        self._span = start, stop
        self._closes = about.close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start, stop = self._span
        head = {"type": "http.response.start", "status": self.status_code}
        try:
            await send({**head, "headers": self.raw_headers})
            await send({"type": SENDFILE, "fd": self._fd, "offset": start, "count": stop - start})
        finally:
            self._closes()
