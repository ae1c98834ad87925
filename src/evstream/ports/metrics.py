"""What a service tells of itself, for those who watch over it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol


@dataclass(frozen=True, slots=True)
class Load:
    """What the one writer of ledger and catalogue has to do; sums since it was opened.

    Attributes
    ----------
    waiting : int
        Operations in its queue now.
    operations : int
        Operations that were answered, refused ones included.
    given_up : int
        Transactions that came to nothing: their operations were tried again, or failed.
    commit_s : tuple of (float, int)
        How many groups took how long at most, seconds, from the beginning of their transaction
        until it was durable; each counts those before it too, the last one all.
    commit_s_sum : float
    """

    waiting: int
    operations: int
    given_up: int
    commit_s: tuple[tuple[float, int], ...]
    commit_s_sum: float


@dataclass(frozen=True, slots=True)
class Measure:
    """Something that a part of a service counts, as it is now.

    Attributes
    ----------
    name : str
        With ``evstream_`` before it, and its unit behind; a counter without ``_total``.
    values : mapping of tuple of str to float
        By the values of its labels, in their order; ``{(): value}`` where it has none.
    """

    name: str
    kind: Literal["counter", "gauge"]
    meaning: str
    values: Mapping[tuple[str, ...], float]
    labels: tuple[str, ...] = field(default=())


Measured = Callable[[], Iterable[Measure]]
"""Asks a part of a service for what it has counted; costs nothing that others wait for."""


class Meter(Protocol):
    """Told of each round of a loop."""

    def ran(self, loop: str, seconds: float, items: int, at: datetime) -> None:
        """Count a round that has done its work.

        Parameters
        ----------
        items : int
            What it removed, took back or looked at.
        at : datetime
            When it ended, by the clock of the service.
        """
        ...

    def failed(self, loop: str, seconds: float) -> None:
        """Count a round that ended by an error."""
        ...


class Metrics(Protocol):
    """What was measured, as text for a collector."""

    media_type: str

    def text(self) -> bytes:
        """Return all of it as it is now."""
        ...


Loaded = Callable[[], Load]
"""Asks the writer for its load; costs nothing that the writer would wait for."""
