"""The tree of errors; its branches say what the caller can do now.

::

    EvstreamError
    ├── RequestError         ask differently
    │   ├── NotFoundError        no such dataset, task, product or output
    │   │   └── DescriptorUnknownError   register the descriptor, then ask again
    │   ├── LimitError           a number outside its stated bounds
    │   │   └── TooLargeError        more bytes than a body may have
    │   ├── MediaTypeError       a body of a type that is not taken
    │   └── AccessError          not allowed
    │       └── CredentialsError     credentials are missing, wrong or over
    ├── ConflictError        someone else holds it, or it changed meanwhile
    ├── TransientError       the same again, later
    │   └── OverloadError        too many wait already: after the time given, or elsewhere
    ├── DataError            never again with these bytes; keep the evidence
    │   ├── SourceChangedError   a file is not the one that was registered
    │   ├── UnsupportedFormatError   a file of a kind that nothing here reads
    │   ├── WrongBytesError      what came is not what its sender said
    │   └── VerificationError    a receipt does not hold
    ├── PayloadError         the user's program failed; its log says why
    └── ConfigError          this machine or its settings must be mended first

Every error carries a one-line message, fields for programs, and a hint that
names the next step. Over HTTP it becomes an RFC 9457 problem whose ``code``
finds the same class again on the other side.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from evstream.domain.words import storable

MESSAGE_CHARS_MAX = 2000
"""A name that somebody gave may have any length; a message that quotes it has not."""


def _shortened(message: str) -> str:
    """Return a message without the middle of what is too long for one line."""
    if len(message) <= MESSAGE_CHARS_MAX:
        return message
    half = MESSAGE_CHARS_MAX // 2 - 10
    return f"{message[:half]} [...] {message[-half:]}"


class EvstreamError(Exception):
    """What every error of evstream has in common.

    Parameters
    ----------
    message : str
        One line that says what is wrong, naming the thing.
    hint : str, optional
        What to do next, in the imperative.
    **fields
        Plain values for programs: names, paths, numbers.
    """

    code: ClassVar[str] = "internal_error"

    def __init__(self, message: str, *, hint: str = "", **fields: object) -> None:
        super().__init__(message)
        # Messages are kept as reasons of tasks, and foreign ones may hold anything.
        self.message = storable(_shortened(message))
        self.hint = hint
        self.fields = fields

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process pools; keyword-only fields need help to pickle.
        return (_rebuild, (type(self), self.message, self.hint, self.fields))


def _rebuild(
    kind: type[EvstreamError], message: str, hint: str, fields: dict[str, object]
) -> EvstreamError:
    return kind(message, hint=hint, **fields)


class RequestError(EvstreamError):
    """The request cannot be met as it stands. Ask differently."""

    code = "bad_request"


class NotFoundError(RequestError):
    """What was named does not exist here."""

    code = "not_found"


class DescriptorUnknownError(NotFoundError):
    """No descriptor is known for a product's key. Register it and ask again."""

    code = "descriptor_unknown"


class LimitError(RequestError):
    """A number lies outside its bounds; the fields name it and them."""

    code = "out_of_limits"


class TooLargeError(LimitError):
    """A body has more bytes than are taken; ``bytes_max`` among the fields says how many."""

    code = "too_large"


class MediaTypeError(RequestError):
    """The body is of a type that is not taken there. Say what it is, in ``Content-Type``."""

    code = "unsupported_media_type"


class AccessError(RequestError):
    """Whoever asks may not do this."""

    code = "access_denied"


class CredentialsError(AccessError):
    """Credentials are missing, wrong or expired: show others."""

    code = "credentials_refused"


class ConflictError(EvstreamError):
    """Somebody else holds it, or it is not in the state that this needs."""

    code = "conflict"


class TransientError(EvstreamError):
    """It may work later. ``retry_after_s`` among the fields says when."""

    code = "unavailable"


class OverloadError(TransientError):
    """As many wait as may. Ask again after ``retry_after_s``, or somebody else."""

    code = "overloaded"


class DataError(EvstreamError):
    """These bytes will never do. Keep them as evidence and use others."""

    code = "bad_data"


class SourceChangedError(DataError):
    """A source file differs from what was registered; it is never mixed in."""

    code = "source_changed"


class WrongBytesError(DataError):
    """What came is not what its sender said. It is fetched from elsewhere."""

    code = "wrong_bytes"


class UnsupportedFormatError(DataError):
    """A file of none of the supported formats; the message says what it is."""

    code = "unsupported_format"


class VerificationError(DataError):
    """A receipt, or what it vouches for, does not hold."""

    code = "verification_failed"


class PayloadError(EvstreamError):
    """The payload failed, hung, or left no readable output."""

    code = "payload_failed"


class ConfigError(EvstreamError):
    """The machine or its settings must be mended before anything can work."""

    code = "misconfigured"


def error_class(code: str) -> type[EvstreamError]:
    """Return the class that owns a code, or `EvstreamError` for a foreign one."""
    pending: list[type[EvstreamError]] = [EvstreamError]
    while pending:
        kind = pending.pop()
        if kind.code == code:
            return kind
        pending.extend(kind.__subclasses__())
    return EvstreamError


@contextmanager
def first_error() -> Iterator[None]:
    """Raise the first error of a task group by itself, ours before foreign ones."""
    try:
        yield
    except BaseExceptionGroup as group:
        leaves = list(_leaves(group))
        ours = [error for error in leaves if isinstance(error, EvstreamError)]
        raise (ours or leaves)[0] from None


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


@contextmanager
def bad_data_named(name: str, what: str = "cannot be read") -> Iterator[None]:
    """Say in a `DataError` of one of several inputs which it is, unless it does."""
    try:
        yield
    except DataError as error:
        if name in error.message:
            raise
        told = f"{name} {what}: {error.message}"
        raise type(error)(told, hint=error.hint, **error.fields) from error
