"""Requests read and replies written the same way by every route."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from evstream.domain.errors import CredentialsError, EvstreamError, TooLargeError, TransientError
from evstream.wire.messages import decode, encode
from evstream.wire.problems import MEDIA_TYPE, status_of, to_problem
from evstream.wire.queries import parse_query

T = TypeVar("T")

WHOLE_BODY = "evstream.body"
"""ASGI extension: returns a request's body if all of it has come already, else None."""
ANSWER_WHOLE = "evstream.answer"
"""ASGI extension: sends status, headers and body in one piece, or returns False if it cannot."""
BODY_BYTES_MAX = 64 << 20
BODY_S_MIN = 60.0
BODY_BYTES_PER_S_MIN = 1024
"""A body may take so long, and a second more for so many of its bytes."""


def refuse_declared(request: Request, bytes_max: int) -> None:
    """Refuse a body by the length that it declares, before a byte of it is read.

    Raises
    ------
    TooLargeError
    """
    declared = request.headers.get("Content-Length", "")
    if declared.isascii() and declared.isdecimal() and int(declared) > bytes_max:
        raise _too_large(bytes_max)


async def pieces(request: Request, bytes_max: int) -> AsyncIterator[bytes]:
    """Yield a request's body as it comes, none of it empty.

    Raises
    ------
    TooLargeError
        It is, or says that it is, larger than it may be.
    TransientError
        The client went away, or is too slow: what came so far must not pass for the whole.
    """
    refuse_declared(request, bytes_max)
    left = bytes_max
    try:
        begun = asyncio.get_running_loop().time()
        more = True
        while more:
            due = begun + BODY_S_MIN + (bytes_max - left) / BODY_BYTES_PER_S_MIN
            async with asyncio.timeout_at(due):
                message = await request.receive()
            if message["type"] == "http.disconnect":
                raise TransientError("the client went away")
            piece, more = message.get("body", b""), message.get("more_body", False)
            left -= len(piece)
            if left < 0:
                raise _too_large(bytes_max)
            if piece:
                began_to_wait = asyncio.get_running_loop().time()
                yield piece
                # What we took to store it is not the client's.
                begun += asyncio.get_running_loop().time() - began_to_wait
    except TimeoutError as error:
        raise TransientError(
            f"the body comes slower than {BODY_BYTES_PER_S_MIN} bytes a second",
            hint="send it again, over a better connection",
        ) from error


def _too_large(bytes_max: int) -> TooLargeError:
    return TooLargeError(
        f"the body exceeds {bytes_max} bytes",
        hint="send less at once",
        bytes_max=bytes_max,
    )


async def read(request: Request, kind: type[T], bytes_max: int = BODY_BYTES_MAX) -> T:
    """Read a request's message.

    Raises
    ------
    TooLargeError
        The body is larger than any message of the kind should be.
    RequestError
        It is not a message of this kind.
    """
    assert request.scope["operation"].takes is kind, "the operation declares another message"
    if (body := _whole(request)) is None:
        # Who sends slowly is waited for, within limits.
        body = b"".join([piece async for piece in pieces(request, bytes_max)])
    if len(body) > bytes_max:
        raise _too_large(bytes_max)
    return decode(body, kind)


def _whole(request: Request) -> bytes | None:
    whole: Callable[[], bytes | None] | None
    whole = request.scope.get("extensions", {}).get(WHOLE_BODY)
    return None if whole is None else whole()


def query_of(request: Request, kind: type[T]) -> T:
    """Read a request's query.

    Raises
    ------
    RequestError
        It is not what the operation takes.
    """
    assert request.scope["operation"].query is kind, "the operation declares another query"
    return parse_query(request.query_params.multi_items(), kind)


class _Reply(Response):
    """A message, which is sent in one piece where the server can."""

    media_type = "application/json"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        answer: Callable[[int, list[tuple[bytes, bytes]], bytes | memoryview], bool] | None
        answer = scope.get("extensions", {}).get(ANSWER_WHOLE)
        if answer is None or not answer(self.status_code, self.raw_headers, self.body):
            await super().__call__(scope, receive, send)


def reply(message: object, status: int = 200) -> Response:
    """Return a message as a response."""
    return _Reply(encode(message), status)


def _whole_seconds(asked: object) -> int:
    """Return how long to wait, as the header takes it (RFC 9110, 10.2.3)."""
    return max(1, math.ceil(asked)) if isinstance(asked, int | float) else 1


def problem_reply(error: EvstreamError, status: int | None = None) -> Response:
    """Return an error as an RFC 9457 response, with its own status or another."""
    status = status_of(error) if status is None else status
    headers = {}
    if isinstance(error, TransientError):
        headers["Retry-After"] = str(_whole_seconds(error.fields.get("retry_after_s")))
    if isinstance(error, CredentialsError):
        # RFC 6750, 3: what kind of credentials would do.
        headers["WWW-Authenticate"] = 'Bearer realm="evstream"'
    return Response(encode(to_problem(error, status)), status, headers, media_type=MEDIA_TYPE)
