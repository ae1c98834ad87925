"""Payloads: what is run on each unit of work, and what it may use."""

from __future__ import annotations

import re
import shlex

from msgspec import Struct

from evstream.domain.errors import LimitError, RequestError

PLACEHOLDERS = ("input", "output", "entry_start", "entry_stop", "range_id")
_PLACEHOLDER = re.compile(r"\{(\w+(?::[A-Za-z0-9._-]+)?)\}")
"""Behind a colon stands the name of an output stream."""
WALL_S_MAX = 31_536_000.0
"""A year; whoever allows a unit more has mistaken the unit of time."""


class Payload(Struct, frozen=True, forbid_unknown_fields=True):
    """A task's payload.

    Attributes
    ----------
    command : str
        Command line with ``{input}``, ``{output}`` or ``{output:STREAM}``,
        ``{entry_start}``, ``{entry_stop}`` and ``{range_id}``, run once per range without
        a shell.
    wall_s_max : float
        Wall seconds after which it counts as hung.
    """

    command: str
    wall_s_max: float = 3600.0

    def check(self) -> None:
        """Refuse what cannot work, naming the field.

        Raises
        ------
        LimitError, RequestError
        """
        split_command(self.command)
        if not 0 < self.wall_s_max <= WALL_S_MAX:
            raise LimitError(
                f"the payload's wall_s_max is {self.wall_s_max}",
                hint=f"give seconds above 0 and up to {WALL_S_MAX:.0f}",
                field="payload.wall_s_max",
            )


def split_command(command: str) -> list[str]:
    """Split a payload's command line as a shell splits words, without running one.

    Raises
    ------
    RequestError
        It is empty, or its quotes are not closed.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise RequestError(
            f"payload {command!r} is no command line: {error}", hint="close its quotes"
        ) from error
    if not words:
        raise RequestError("the payload is empty", hint="give a command line")
    return words


def check_output_named(command: str, first_stream: str) -> None:
    """Refuse a command line that is never told where its first output goes.

    Raises
    ------
    RequestError
    """
    if not any(name in command for name in ("{output}", f"{{output:{first_stream}}}")):
        raise RequestError(
            "the payload never names {output}",
            hint="pass it where the program takes its output file, as in 'cp {input} {output}'",
        )


def fill_command(words: list[str], values: dict[str, str]) -> list[str]:
    """Put values in the place of ``{name}``; other braces stay as they are."""
    # In one pass: a value that holds braces is no placeholder.
    return [_PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), word) for word in words]
