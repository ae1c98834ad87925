"""What can be said of a payload's command line before it runs anywhere."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from evstream.client.results import digest_of
from evstream.client.task_file import TaskFile
from evstream.domain.errors import RequestError
from evstream.domain.payload import Payload, split_payload
from evstream.domain.streams import OUTPUT_VARIABLE, OutputStream, unnamed_outputs, variable_of

_QUOTED = re.compile(r"""'[^']*'|"(?:\\.|[^"\\])*"|\\.""", re.DOTALL)
_SHELL = re.compile(r"\d?(>|<).*|\|\|?|&&?|;|~(/.*)?|.*(\$[A-Za-z_({]|`).*")


def look_at_payload(task: TaskFile, *, here: bool) -> None:
    """Refuse a payload that can be seen not to work, and say what looks wrong.

    Parameters
    ----------
    here : bool
        It runs on this machine, rather than where pilots are.

    Raises
    ------
    RequestError
    """
    if here and not task.sandbox:
        check_program(task.payload)
    check_staged_files(task.payload, here=here)
    warn_of_shell_words(task.payload)
    warn_of_unnamed_outputs(task.outputs, task.payload)


def check_program(payload: Payload) -> None:
    """Refuse a payload whose program is not here, or cannot be run.

    A callable's module, and what is in a container, is the workers' to find.

    Raises
    ------
    RequestError
    """
    if payload.kind == "callable" or payload.container:
        return
    program = split_payload(payload)[0]
    if "{" in program or shutil.which(program) is not None:
        return
    if Path(program).is_dir():
        problem, hint = "is a folder", "name the program in it"
    elif Path(program).exists():
        problem, hint = "is not executable", f"chmod +x {program}"
    else:
        problem, hint = "is not found", "give its path, or install it"
    raise RequestError(f"payload {program} {problem}", hint=hint)


def check_staged_files(payload: Payload, *, here: bool) -> None:
    """Refuse files that a payload needs and that are others here than it says.

    Parameters
    ----------
    here : bool
        The payload runs on this machine; else others may have what is not here, and it
        is said that this one has not.

    Raises
    ------
    RequestError
    """
    for file in payload.files:
        if "://" in file.pfn:
            continue
        try:
            found = digest_of(Path(file.pfn))
        except OSError as error:
            problem = f"the payload's file {file.name} is not read: {file.pfn}: {error.strerror}"
            if here:
                raise RequestError(problem, hint="check payload.files in the task file") from error
            print(f"evstream: {problem}; pilots must have it there", file=sys.stderr)
            continue
        if found != file.sha256:
            raise RequestError(
                f"{file.pfn} has the sha256 {found}, not {file.sha256}",
                hint="give the digest of the file as it is, or the file that you mean",
            )


def warn_of_unnamed_outputs(streams: Sequence[OutputStream], payload: Payload) -> None:
    """Say on standard error which outputs a payload may not know that it has to leave."""
    for name in unnamed_outputs(streams, payload):
        variable = f"{OUTPUT_VARIABLE}{variable_of(name)}"
        print(
            f"evstream: the payload never names {{output:{name}}}: unless its program takes "
            f"${variable} from the environment, every range fails without that output",
            file=sys.stderr,
        )


def shell_words(payload: str) -> list[str]:
    """Return the words of a command line that only a shell would understand."""
    return [word for word in _QUOTED.sub("_", payload).split() if _SHELL.fullmatch(word)]


def warn_of_shell_words(payload: Payload) -> None:
    """Say on standard error what a payload will be given as it stands."""
    words = shell_words(payload.command) if payload.kind != "callable" else []
    if words:
        print(
            f"evstream: the payload runs without a shell and is given {' '.join(words)} as it "
            "stands; if you mean a shell, say so: --payload \"sh -c '...'\"",
            file=sys.stderr,
        )
