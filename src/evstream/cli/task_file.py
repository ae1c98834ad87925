"""``evstream task init`` and ``schema``: task files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from evstream.cli.printing import print_json
from evstream.client.task_file import schema as task_schema
from evstream.client.task_file import template
from evstream.domain.errors import AccessError, ConflictError


def init(
    file: Annotated[Path, Parameter(help="Where to write it.")] = Path("task.yaml"),
) -> None:
    """Write a task file with every field in it, commented.

    For example:

        evstream task init skim.yaml
    """
    try:
        with file.open("x", encoding="utf-8") as out:
            out.write(template())
    except FileExistsError as error:
        raise ConflictError(f"{file} is there", hint="give another name") from error
    except OSError as error:
        raise AccessError(f"{file} cannot be written: {error.strerror}") from error


def schema() -> None:
    """Print the JSON schema of task files, for editors and checks.

    For example:

        evstream task schema > task.schema.json
    """
    print_json(task_schema())
