"""How a unit's payload is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from evstream.domain.payload import Payload


@dataclass(frozen=True, slots=True)
class SecondaryFiles:
    """What a unit gets of a secondary input.

    Attributes
    ----------
    paths : tuple of str
        Files with its events, in order; one without entries if it gets no event.
    tree : str
        The tree in them.
    """

    paths: tuple[str, ...]
    tree: str


@dataclass(frozen=True, slots=True)
class PayloadRange:
    """One of several ranges of a unit.

    Attributes
    ----------
    values : dict of str to str
        What the placeholders stand for, where that is not what the call says.
    """

    values: dict[str, str]
    secondary: Mapping[str, SecondaryFiles] = field(default_factory=dict)


def never() -> bool:
    """Return false."""
    return False


@dataclass(frozen=True, slots=True)
class PayloadCall:
    """One unit, ready to run.

    Attributes
    ----------
    payload : Payload
        The task's; its command line with the placeholders still in place.
    values : dict of str to str
        What the placeholders stand for.
    directory : Path
        A directory of the unit's own; the payload's working directory.
    log : Path
        Where its standard output and error go; need not be there if there were none.
    secondary : mapping of str to SecondaryFiles
        By name; empty for a task without.
    ranges : sequence of PayloadRange
        Where the unit is several ranges, which are written into one file: these, in order.
    closing : callable
        Asked before each of them: whether the file is to be closed after it, since the
        pilot is leaving.
    """

    payload: Payload
    values: dict[str, str]
    directory: Path
    log: Path
    secondary: Mapping[str, SecondaryFiles] = field(default_factory=dict)
    ranges: Sequence[PayloadRange] = ()
    closing: Callable[[], bool] = never


@dataclass(frozen=True, slots=True)
class PayloadResult:
    """What a unit took. A failure is raised, not returned.

    Attributes
    ----------
    ranges : int
        How many of its ranges were processed, from the first on: all, unless the file was
        closed before.
    """

    cpu_s: float
    wall_s: float
    ranges: int = 1


class PayloadRunner(Protocol):
    """Runs payloads; several at once."""

    async def run(self, call: PayloadCall, on_cpu: Callable[[float], None]) -> PayloadResult:
        """Run one unit to its end.

        Parameters
        ----------
        on_cpu : callable
            Told now and then how many CPU seconds the unit has spent so far.

        Raises
        ------
        PayloadError
            It could not be started, failed, was killed, or hung; ``cpu_s`` and
            ``wall_s`` are among its fields.
        ConfigError
            This node lacks what it takes to start it; another may have it.
        """
        ...

    def prepare(self, payload: Payload, staged: Mapping[str, str], directory: Path) -> None:
        """Begin what can be begun before the first unit's input is there; returns at once.

        Nothing is lost if it comes to nothing: units are run all the same.

        Parameters
        ----------
        staged : mapping of str to str
            Folders that the payload needs, by placeholder.
        directory : Path
            In which units will have directories of their own.
        """
        ...

    async def close(self) -> None:
        """End what is kept running between units. Nothing is run any more."""
        ...
