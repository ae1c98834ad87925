"""Requests read and replies written the same way by every route."""

from __future__ import annotations

from typing import TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from evstream.domain.errors import EvstreamError, LimitError, TransientError
from evstream.wire.messages import decode, encode
from evstream.wire.problems import MEDIA_TYPE, status_of, to_problem

T = TypeVar("T")

BODY_BYTES_MAX = 64 << 20


async def read(request: Request, kind: type[T]) -> T:
    """Read a request's message.

    Raises
    ------
    LimitError
        The body is larger than any message should be.
    RequestError
        It is not a message of this kind.
    """
    body = bytearray()
    try:
        async for piece in request.stream():
            body += piece
            if len(body) > BODY_BYTES_MAX:
                raise LimitError(
                    f"the body exceeds {BODY_BYTES_MAX} bytes",
                    hint="send it in several requests",
                )
    except ClientDisconnect as error:
        raise TransientError("the client went away") from error
    return decode(bytes(body), kind)


def reply(message: object, status: int = 200) -> Response:
    """Return a message as a response."""
    return Response(encode(message), status, media_type="application/json")


def problem_reply(error: EvstreamError, status: int | None = None) -> Response:
    """Return an error as an RFC 9457 response, with its own status or another."""
    status = status_of(error) if status is None else status
    headers = {}
    if isinstance(error, TransientError):
        headers["Retry-After"] = str(error.fields.get("retry_after_s", 1))
    return Response(encode(to_problem(error, status)), status, headers, media_type=MEDIA_TYPE)
