"""``evstream catalogue``: backups of ledger and catalogue."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from evstream.cli.printing import print_json, size_text
from evstream.cli.service import Json, settings_of
from evstream.settings import Settings

Data = Annotated[Path | None, Parameter(help="Folder of the service.")]


def backup(
    file: Annotated[Path, Parameter(help="File to write.")],
    *,
    data: Data = None,
    json: Json = False,
) -> None:
    """Write ledger and catalogue, as they are at one instant, to a file; the service goes on.

    For example:

        evstream catalogue backup /backup/ledger.sqlite --data ~/evstream
    """
    from evstream.assembly import back_up_catalogue

    size = back_up_catalogue(_settings(data), file.absolute())
    if json:
        print_json({"path": str(file.absolute()), "bytes": size})
    else:
        print(f"{file}: {size_text(size)}")


def restore(
    file: Annotated[Path, Parameter(help="File that 'evstream catalogue backup' wrote.")],
    *,
    data: Data = None,
    json: Json = False,
) -> None:
    """Put a backup in place of ledger and catalogue; the service must not run.

    For example:

        evstream catalogue restore /backup/ledger.sqlite --data ~/evstream
    """
    from evstream.assembly import restore_catalogue

    replaced = restore_catalogue(_settings(data), file.absolute())
    if json:
        print_json({"replaced": None if replaced is None else str(replaced)})
    elif replaced is not None:
        print(f"what was there is {replaced}")


def _settings(data: Path | None) -> Settings:
    return settings_of(data_dir=data.absolute() if data else None)
