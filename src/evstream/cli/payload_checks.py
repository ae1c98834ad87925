"""What can be said of a payload's command line before it runs anywhere."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

from evstream.domain.errors import RequestError
from evstream.domain.payload import Payload, split_payload

_QUOTED = re.compile(r"""'[^']*'|"(?:\\.|[^"\\])*"|\\.""", re.DOTALL)
_SHELL = re.compile(r"\d?(>|<).*|\|\|?|&&?|;|~(/.*)?|.*(\$[A-Za-z_({]|`).*")


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
