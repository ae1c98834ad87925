"""Which names an output store takes: those that mean the same thing in every backend."""

from __future__ import annotations

import re

from evstream.domain.errors import RequestError

NAME_CHARS_MAX = 900
PIECE_BYTES_MAX = 1 << 20
"""Largest piece that a store yields when it is read."""

# Parts neither empty nor hidden: "..", absolute names and a store's own folders are out.
_PART = r"[^\x00-\x1f\x7f\\/.][^\x00-\x1f\x7f\\/]{0,199}"
_NAME = re.compile(f"{_PART}(?:/{_PART})*")


def check_name(name: str) -> str:
    """Return an object's name if a store can take it.

    Raises
    ------
    RequestError
    """
    if len(name) > NAME_CHARS_MAX or not _NAME.fullmatch(name) or not name.isprintable():
        raise RequestError(
            f"{name[:100]!r} cannot name an object",
            hint="use relative names whose parts are short and do not begin with a dot",
            name=name[:NAME_CHARS_MAX],
        )
    return name


def check_offset(offset: int, size: int | None) -> None:
    """Refuse a range to read that begins before the object or is shorter than nothing."""
    if offset < 0 or (size is not None and size < 0):
        raise RequestError(
            f"there are no bytes at offset {offset}, size {size}", hint="give numbers from 0 up"
        )
