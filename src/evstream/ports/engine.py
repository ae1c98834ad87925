"""How pilots are started somewhere: as processes here, by a batch system, on a cluster.

An engine starts what it is told to and says what has become of it. How many there should be,
when one is replaced and when they leave is decided by `evstream.daemons.keep_pilots` alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from evstream.domain.names import WorkerId


class PilotStage(Enum):
    """Where a pilot is: it waits for a place, it runs, it has ended."""

    PENDING = "pending"
    RUNNING = "running"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class PilotOrder:
    """A pilot to start.

    Attributes
    ----------
    name : WorkerId
        No other pilot ever has it; the batch system gets it as the job's name.
    command : tuple of str
        The command line, which holds no secret.
    environment : mapping of str to str
        Laid over what the place has; no secrets either, but names of files that hold them.
    cores : int
        How many it will use.
    """

    name: WorkerId
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    cores: int = 1


@dataclass(frozen=True, slots=True)
class PilotState:
    """What an engine knows of a pilot.

    Attributes
    ----------
    cause : str
        Why it ended, in the engine's words: ``exit 1``, ``signal 9``, ``TIMEOUT``.
    ok : bool or None
        Whether it ended in order; None if nobody knows.
    said : str
        Its last words; empty if it said nothing or nobody can read them here.
    """

    stage: PilotStage
    cause: str = ""
    ok: bool | None = None
    said: str = ""


class Engine(Protocol):
    """Starts pilots and ends them; one for each group of pilots.

    A keeper that was killed opens an engine again with the same group, and finds the
    pilots that it had: what is known of them lies in the batch system or in files.

    Attributes
    ----------
    look_every_s : float
        How often to ask for states; batch systems do not like to be asked all the time.
    """

    look_every_s: float

    async def open(self) -> None:
        """Get ready.

        Raises
        ------
        ConfigError
            What it needs is not there.
        TransientError
            It does not answer now.
        """
        ...

    async def start(self, order: PilotOrder) -> None:
        """Start a pilot, or hand it to who will.

        Raises
        ------
        ConfigError
            It was refused, and would be again.
        TransientError
            Not now.
        """
        ...

    async def look(self) -> Mapping[WorkerId, PilotState]:
        """Return the state of each pilot of the group that was not forgotten.

        Raises
        ------
        TransientError
            Who should know does not answer.
        """
        ...

    async def end(self, name: WorkerId, *, at_once: bool = False) -> None:
        """Ask a pilot to leave, as SIGTERM does, or end it at once; nothing if it has ended."""
        ...

    async def forget(self, name: WorkerId) -> None:
        """Drop what is kept of a pilot that has ended; its log stays."""
        ...

    async def close(self) -> None:
        """Let go of what was opened; pilots that run go on."""
        ...
