"""Every error has a code of its own, crosses processes, and says what to do next."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import pytest

from evstream.domain import errors
from evstream.domain.errors import (
    MESSAGE_CHARS_MAX,
    EvstreamError,
    LimitError,
    RequestError,
    error_class,
    first_error,
)


def classes(kind: type[EvstreamError]) -> Iterator[type[EvstreamError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from classes(below)


TREE = [kind for kind in classes(EvstreamError) if kind.__module__ == errors.__name__]


def test_codes_are_their_own() -> None:
    codes = [kind.code for kind in TREE]
    assert len(codes) == len(set(codes))
    assert all(code == code.lower() and code.isidentifier() for code in codes)


@pytest.mark.parametrize("kind", TREE)
def test_codes_find_their_class(kind: type[EvstreamError]) -> None:
    assert error_class(kind.code) is kind


def test_foreign_codes_find_the_root() -> None:
    assert error_class("no_such_code") is EvstreamError


@pytest.mark.parametrize("kind", TREE)
def test_errors_cross_processes(kind: type[EvstreamError]) -> None:
    error = kind("disk of worker 7 is full", hint="free space", worker=7, path="/data")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert (again.message, again.hint, again.fields) == (error.message, error.hint, error.fields)
    assert str(again) == "disk of worker 7 is full; free space"


def test_without_a_hint_the_message_stands_alone() -> None:
    error = LimitError("too many", units=3)
    assert str(error) == "too many"
    assert error.fields == {"units": 3}


def test_of_a_task_groups_errors_ours_comes_out_bare() -> None:
    ours = LimitError("too many")
    group = ExceptionGroup("inner", [KeyError("x"), ours, LimitError("later")])
    with pytest.raises(LimitError, match="too many") as caught, first_error():
        raise ExceptionGroup("outer", [ValueError("foreign"), group])
    assert caught.value is ours


def test_of_foreign_errors_the_first_comes_out_bare() -> None:
    with pytest.raises(ValueError, match="foreign"), first_error():
        raise ExceptionGroup(
            "outer", [ExceptionGroup("inner", [ValueError("foreign")]), KeyError()]
        )


def test_a_message_that_quotes_a_long_name_is_short() -> None:
    error = RequestError(f"{'x' * 100_000} cannot name a task", hint="another")
    assert len(error.message) <= MESSAGE_CHARS_MAX
    assert error.message.startswith("xxx")
    assert str(error).endswith("xxx cannot name a task; another")
    assert RequestError("y" * MESSAGE_CHARS_MAX).message == "y" * MESSAGE_CHARS_MAX
