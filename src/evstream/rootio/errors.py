"""What can go wrong with ROOT files and with requests for parts of them.

::

    DataError
    ├── NotARootFileError         the first bytes are not ROOT's
    ├── CorruptFileError          a length, position or record contradicts another
    ├── UnsupportedFeatureError   sound, but written in a way that is not handled yet
    └── SchemaMismatchError       files that cannot be joined; names the differences
    RequestError
    ├── NoSuchTreeError           lists the trees that are there
    ├── UnknownBranchError        suggests the nearest names
    └── EntryRangeError           outside the tree
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Generator
from functools import wraps
from typing import ParamSpec, TypeVar

from evstream.domain.errors import DataError, RequestError

_P = ParamSpec("_P")
_T = TypeVar("_T")
_Y = TypeVar("_Y")
_S = TypeVar("_S")


class NotARootFileError(DataError):
    """The bytes do not begin as a ROOT file does."""

    code = "not_a_root_file"


class CorruptFileError(DataError):
    """The file contradicts itself: truncated, damaged, or changed while being read."""

    code = "corrupt_file"


class UnsupportedFeatureError(DataError):
    """The file may be sound, but something in it cannot be carried over correctly."""

    code = "unsupported_feature"


class SchemaMismatchError(DataError):
    """Inputs of a join do not have the same shape; ``names`` says where."""

    code = "schema_mismatch"


class NoSuchTreeError(RequestError):
    """The file holds no tree of that name; ``trees`` lists those it has."""

    code = "no_such_tree"


class UnknownBranchError(RequestError):
    """No branch of that name or pattern; ``nearest`` suggests others."""

    code = "unknown_branch"


class EntryRangeError(RequestError):
    """An entry range that does not lie within the tree."""

    code = "entry_range"


# What Python raises when structured bytes do not hold what their lengths promise.
_SYMPTOMS = (
    struct.error,
    IndexError,
    KeyError,
    ValueError,
    OverflowError,
    RecursionError,
    MemoryError,
)


def corrupt_if_broken(parse: Callable[_P, _T]) -> Callable[_P, _T]:
    """Turn the symptoms of damaged input inside a parser into `CorruptFileError`."""

    @wraps(parse)
    def guarded(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return parse(*args, **kwargs)
        except _SYMPTOMS as problem:
            raise _translated(parse.__name__, problem) from problem

    return guarded


def corrupt_steps_if_broken(
    parse: Callable[_P, Generator[_Y, _S, _T]],
) -> Callable[_P, Generator[_Y, _S, _T]]:
    """Do the same as `corrupt_if_broken` for a parser that asks for its bytes."""

    @wraps(parse)
    def guarded(*args: _P.args, **kwargs: _P.kwargs) -> Generator[_Y, _S, _T]:
        try:
            return (yield from parse(*args, **kwargs))
        except _SYMPTOMS as problem:
            raise _translated(parse.__name__, problem) from problem

    return guarded


def _translated(where: str, problem: BaseException) -> CorruptFileError:
    return CorruptFileError(
        f"the file's structure is damaged ({where}: {problem})",
        hint="compare its size and checksum with the original's",
        during=where,
    )
