"""Errors on the wire: RFC 9457 problem details, there and back."""

from __future__ import annotations

from typing import Any

import msgspec

from evstream.domain.errors import (
    AccessError,
    ConflictError,
    CredentialsError,
    DataError,
    EvstreamError,
    MediaTypeError,
    NotFoundError,
    RequestError,
    TooLargeError,
    TransientError,
    error_class,
)
from evstream.wire.messages import Problem

MEDIA_TYPE = "application/problem+json"

_STATUS: list[tuple[type[EvstreamError], int]] = [
    (NotFoundError, 404),
    (CredentialsError, 401),
    (AccessError, 403),
    (TooLargeError, 413),
    (MediaTypeError, 415),
    (RequestError, 400),
    (ConflictError, 409),
    (TransientError, 503),
    (DataError, 422),
]


_OF_GATEWAYS = {404, 408, 425, 429}
"""What proxies answer for a service that is not there, or has too much to do, for the moment."""


def status_of(error: EvstreamError) -> int:
    """Return the HTTP status of an error: the first branch of the tree that it is on."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def to_problem(error: EvstreamError, status: int) -> Problem:
    """Describe an error for the wire. Fields that JSON does not know become text."""
    plain = {
        name: value if isinstance(value, str | int | float | bool | list | dict) else str(value)
        for name, value in error.fields.items()
    }
    return Problem(
        title=type(error).__name__,
        status=status,
        detail=error.message,
        code=error.code,
        hint=error.hint,
        fields=plain,
    )


def from_problem(body: bytes, status: int) -> EvstreamError:
    """Return the error that a reply stands for, whoever sent it."""
    try:
        problem = msgspec.json.decode(body, type=Problem)
    except msgspec.DecodeError:
        passing = status >= 500 or status in _OF_GATEWAYS
        kind: type[EvstreamError] = TransientError if passing else RequestError
        text = body[:200].decode("utf-8", "replace").strip()
        return kind(f"HTTP {status}: {text or 'no body'}", status=status)
    fields: dict[str, Any] = dict(problem.fields)
    fields["status"] = status
    return error_class(problem.code)(problem.detail, hint=problem.hint, **fields)
