"""The schema's numbered steps: ``schema/sqlite/NNNN_name.sql`` and ``schema/postgresql/…``.

A database's version is the number of the last step that it has run. A fresh one runs all, an older
one those that it lacks, each time in one transaction. What has been released is never changed: what
comes later is a step of its own, of the same number and name for both databases.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from evstream.domain.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Step:
    """Statements that bring a database to a version."""

    version: int
    name: str
    statements: str


@cache
def steps(kind: str) -> tuple[Step, ...]:
    """Return the steps of a kind of database, in their order.

    Parameters
    ----------
    kind : str
        ``"sqlite"`` or ``"postgresql"``.
    """
    folder = files(__package__).joinpath("schema", kind)
    found = []
    for file in folder.iterdir():
        number, _, name = file.name.removesuffix(".sql").partition("_")
        found.append(Step(int(number), name, file.read_text(encoding="utf-8")))
    return tuple(sorted(found, key=lambda step: step.version))


def latest(kind: str) -> int:
    """Return the version that this evstream works with."""
    return steps(kind)[-1].version


def missing(kind: str, version: int, what: str) -> tuple[Step, ...]:
    """Return the steps that a database lacks.

    Parameters
    ----------
    version : int
        The database's; 0 for one that is empty.
    what : str
        How to call it in errors.

    Raises
    ------
    ConfigError
        The version is newer than this evstream, or older than it knows.
    """
    known = steps(kind)
    first, last = known[0].version, known[-1].version
    if version > last:
        raise ConfigError(
            f"{what} has schema version {version}; this evstream knows up to {last}",
            hint="use the evstream that wrote it, or a newer one",
            version=version,
        )
    if version and version < first:
        raise ConfigError(
            f"{what} has schema version {version}; this evstream knows {first} and newer",
            hint="use the evstream that wrote it, or begin with an empty one",
            version=version,
        )
    return tuple(step for step in known if step.version > version)
