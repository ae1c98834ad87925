"""What can be wrong with a source, whatever opens it: one error of ours for each kind of trouble.

Each way to open files has a table of its own from what it meets to these kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

from evstream.domain.errors import (
    AccessError,
    DataError,
    EvstreamError,
    NotFoundError,
    RequestError,
    TransientError,
)
from evstream.domain.names import without_secrets

Trouble = Literal["missing", "forbidden", "damaged", "truncated", "misnamed", "refused", "silent"]

_ERRORS: dict[Trouble, tuple[type[EvstreamError], str, str]] = {
    "missing": (NotFoundError, "there is no file {name}", "check its name"),
    "forbidden": (AccessError, "{name} may not be read: {what}", "check rights and credentials"),
    "damaged": (DataError, "{name} is damaged: {what}", "fetch the file again"),
    "truncated": (DataError, "{name} is truncated: {what}", "fetch the file again"),
    "misnamed": (RequestError, "{name} cannot be opened: {what}", "check its name"),
    "refused": (RequestError, "{name} is refused: {what}", "check its URL"),
    "silent": (
        TransientError,
        "{name} does not answer: {what}",
        "try again; if it goes on, use another replica",
    ),
}


def failure(trouble: Trouble, pfn: str, what: str) -> EvstreamError:
    """Return the error that says what is wrong with a source.

    Parameters
    ----------
    pfn : str
        What was being opened or read.
    what : str
        What the server or the system said, without secrets.
    """
    kind, message, hint = _ERRORS[trouble]
    name = without_secrets(pfn)
    return kind(message.format(name=name, what=what), hint=hint, pfn=name)


@contextmanager
def errors_of(pfn: str, translate: Callable[[Exception, str], EvstreamError]) -> Iterator[None]:
    """Raise errors of ours for foreign ones; ours pass as they are."""
    try:
        yield
    except EvstreamError:
        raise
    except Exception as error:
        raise translate(error, pfn) from error
