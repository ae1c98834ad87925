"""Payloads: what is run on each unit of work, and what it may use."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from msgspec import Struct

from evstream.domain.errors import LimitError, RequestError

PayloadKind = Literal["command", "long-lived", "callable"]
"""A command per unit; a process that is given units; a Python function that is."""

PLACEHOLDERS = (
    "input",
    "output",
    "secondary",
    "entry_start",
    "entry_stop",
    "range_id",
    "lfn",
    "tree",
)
_PLACEHOLDER = re.compile(r"\{(\w+(?::[A-Za-z0-9._-]+)?)\}")
"""Behind a colon stands the name of an output stream, or of a secondary input."""
WALL_S_MAX = 31_536_000.0
"""A year; whoever allows a unit more has mistaken the unit of time."""

RANGES_PER_FILE_MAX = 1000
"""Their inputs are all on the pilot's disk when the first is begun."""
SHA256 = r"[0-9a-f]{64}"
_CALLABLE = re.compile(r"(?P<place>.+?):(?P<function>[A-Za-z_]\w*(\.[A-Za-z_]\w*)*)")
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_VARIABLE = re.compile(r"[A-Za-z_]\w*")
_RESERVED = "EVSTREAM_"


class StagedFile(Struct, frozen=True, forbid_unknown_fields=True):
    """A file that a payload needs beside its input.

    Attributes
    ----------
    name : str
        What it is called in the folder ``{files}``.
    pfn : str
        Where pilots have it from: a path, or a URL that they can open.
    sha256 : str
        Of its content, in hexadecimal digits.
    """

    name: str
    pfn: str
    sha256: str

    def check(self) -> None:
        """Refuse what cannot work.

        Raises
        ------
        RequestError
        """
        if "/" in self.name or self.name in ("", ".", "..") or not self.name.isprintable():
            raise RequestError(
                f"{self.name!r} cannot name a file",
                hint="give one without slashes",
                field="payload.files.name",
            )
        if not (self.pfn.startswith("/") or "://" in self.pfn):
            raise RequestError(
                f"{self.pfn[:80]!r} is not found from where pilots work",
                hint="give an absolute path or a URL; in a task file, a path from its folder",
                field="payload.files.pfn",
            )
        if not re.fullmatch(SHA256, self.sha256):
            raise RequestError(
                f"{self.sha256[:80]!r} is no sha256 of {self.name}",
                hint="give the 64 hexadecimal digits that sha256sum prints",
                field="payload.files.sha256",
            )


class Payload(Struct, frozen=True, forbid_unknown_fields=True):
    """A task's payload.

    Attributes
    ----------
    command : str
        What is run, without a shell. Of a `command`, a line with placeholders such as
        ``{input}`` and ``{output}`` or ``{output:STREAM}``, once per unit; of a
        `long-lived` process, a line without; of a `callable`, ``module:function`` or
        ``path/to/file.py:function``.
    wall_s_max : float
        Wall seconds after which a unit counts as hung.
    start_s_max : float
        Wall seconds that a long-lived process or a callable may take to be ready.
    arrays : bool
        A callable is given awkward arrays, not the path of a file alone.
    environment : dict of str to str
        Variables beside those of the pilot.
    memory_bytes_max : int
        Memory of a unit's processes, shared pages by their share; 0 is no limit.
    disk_bytes_max : int
        Bytes in a unit's directory, its input included; 0 is no limit.
    sandbox : str
        The sha256 of an archive that is unpacked once per pilot; ``{sandbox}`` is the
        folder, which is also searched for programs and Python modules.
    container : str
        Image that it runs in, by Apptainer.
    files : tuple of StagedFile
        Copied once per pilot, before its first unit, into the folder ``{files}``.
    ranges_per_file : int
        How many ranges that follow each other in an input file a long-lived process
        writes into one growing file before it is told to close it. They are one unit:
        committed together, and lost together.
    """

    command: str
    wall_s_max: float = 3600.0
    kind: PayloadKind = "command"
    start_s_max: float = 3600.0
    arrays: bool = False
    environment: dict[str, str] = {}
    memory_bytes_max: int = 0
    disk_bytes_max: int = 0
    sandbox: str = ""
    container: str = ""
    files: tuple[StagedFile, ...] = ()
    ranges_per_file: int = 1

    def check(self) -> None:
        """Refuse what cannot work, naming the field.

        Raises
        ------
        LimitError, RequestError
        """
        split_payload(self)
        for name in ("wall_s_max", "start_s_max"):
            if not 0 < getattr(self, name) <= WALL_S_MAX:
                raise LimitError(
                    f"the payload's {name} is {getattr(self, name)}",
                    hint=f"give seconds above 0 and up to {WALL_S_MAX:.0f}",
                    field=f"payload.{name}",
                )
        for name in ("memory_bytes_max", "disk_bytes_max"):
            if getattr(self, name) < 0:
                raise LimitError(
                    f"the payload's {name} is {getattr(self, name)}",
                    hint="give bytes, or 0 for no limit",
                    field=f"payload.{name}",
                )
        if self.sandbox and not re.fullmatch(SHA256, self.sandbox):
            raise RequestError(
                f"{self.sandbox[:80]!r} is no sha256 of a sandbox",
                hint="send the archive to /v1/sandboxes first, and give its digest",
                field="payload.sandbox",
            )
        for file in self.files:
            file.check()
        if len({file.name for file in self.files}) != len(self.files):
            raise RequestError(
                "two files of the payload have one name", hint="rename one", field="payload.files"
            )
        if self.container.startswith("-") or not self.container.isprintable():
            raise RequestError(
                f"{self.container!r} names no image",
                hint="give a path, or a URL for Apptainer",
                field="payload.container",
            )
        if not 1 <= self.ranges_per_file <= RANGES_PER_FILE_MAX:
            raise LimitError(
                f"the payload's ranges_per_file is {self.ranges_per_file}",
                hint=f"give 1 to {RANGES_PER_FILE_MAX}",
                field="payload.ranges_per_file",
            )
        if self.ranges_per_file > 1 and self.kind != "long-lived":
            raise RequestError(
                f"a payload of kind {self.kind} cannot write several ranges into one file",
                hint="make it a long-lived process, or make the ranges larger",
                field="payload.ranges_per_file",
            )
        if self.arrays and self.kind != "callable":
            raise RequestError(
                f"a payload of kind {self.kind} cannot be given arrays",
                hint="name a Python function, or leave the arrays out",
                field="payload.arrays",
            )
        self._check_environment()

    def _check_environment(self) -> None:
        for name in self.environment:
            if not _VARIABLE.fullmatch(name) or name.startswith(_RESERVED):
                raise RequestError(
                    f"{name!r} cannot be a variable of the payload's environment",
                    hint=f"use letters, digits and _, and not {_RESERVED} in front",
                    field="payload.environment",
                )


def sandbox_name(sha256: str) -> str:
    """Return the name that a sandbox has in the output store."""
    return f"sandboxes/{sha256}.tar.gz"


def split_payload(payload: Payload) -> list[str]:
    """Split what a payload runs into its words; a callable is one word.

    Raises
    ------
    RequestError
        It cannot be run as its kind is run.
    """
    if payload.kind == "callable":
        split_callable(payload.command)
        return [payload.command]
    if payload.kind == "command":
        return split_command(payload.command)
    words = split_command(payload.command)
    for word in words:
        for found in placeholders_in(word):
            if found.partition(":")[0] in PLACEHOLDERS:
                raise RequestError(
                    f"a long-lived payload cannot have {{{found}}} in its command",
                    hint="it is told of each unit over its channel",
                )
    return words


def split_callable(text: str) -> tuple[str, str]:
    """Return where a function is, a module or a file, and its name there.

    Raises
    ------
    RequestError
        It does not say so.
    """
    found = _CALLABLE.fullmatch(text)
    if found and (found["place"].endswith(".py") or _MODULE.fullmatch(found["place"])):
        return found["place"], found["function"]
    raise RequestError(
        f"payload {text!r} names no function",
        hint="give module:function, or path/to/file.py:function",
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


def check_merge_command(command: str) -> None:
    """Refuse a merge command that is never told its inputs, or where its output goes.

    Raises
    ------
    RequestError
    """
    words = split_command(command)
    if "{inputs}" not in words or not any("{output}" in word for word in words):
        raise RequestError(
            "the merge command must name {output}, and {inputs} as a word of its own",
            hint="write it as in 'hadd -k {output} {inputs}'",
            field="outputs.merge.command",
        )


def fill_merge_command(command: str, inputs: Iterable[str]) -> str:
    """Return a merge command with its inputs in it, each a word of its own."""
    words: list[str] = []
    for word in split_command(command):
        words += inputs if word == "{inputs}" else [word]
    return shlex.join(words)


def placeholders_in(word: str) -> list[str]:
    """Return what stands in braces in a word and may be a placeholder."""
    return _PLACEHOLDER.findall(word)


def fill_command(
    words: list[str], values: Mapping[str, str], several: Mapping[str, Sequence[str]] | None = None
) -> list[str]:
    """Put values in the place of ``{name}``; other braces stay as they are.

    Parameters
    ----------
    several : mapping of str to sequence of str, optional
        What stands for any number of words, where ``{name}`` is a word of its own.
    """
    filled: list[str] = []
    for word in words:
        if several and (name := word[1:-1]) in several and word == f"{{{name}}}":
            filled += several[name]
        else:
            # In one pass: a value that holds braces is no placeholder.
            filled.append(_PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), word))
    return filled
