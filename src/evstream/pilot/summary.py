"""What a pilot has done, in numbers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from evstream.domain.ledger import Failure, Success
from evstream.domain.states import Answer
from evstream.pilot.times import UnitTimes, added


@dataclass(frozen=True, slots=True)
class PilotSummary:
    """What became of a pilot's units, and what they took.

    Attributes
    ----------
    units_superseded : int
        Reported, but the work was no longer ours.
    units_abandoned : int
        Not reported: the lease was lost, given back, or time ran out.
    cpu_s : float
        CPU seconds of payloads, those that failed included.
    wall_s : float
        Life of the pilot.
    bytes_in, bytes_out : int
        Bytes fetched, repeats included, and bytes of outputs that were accepted.
    received : dict of str to int
        Bytes fetched, by where they came from: ``edge``, ``replica``, ``head``, ``node`` or
        ``store``.
    times : UnitTimes
        Of all units that were answered for, together.
    """

    units_done: int = 0
    units_failed: int = 0
    units_superseded: int = 0
    units_abandoned: int = 0
    cpu_s: float = 0.0
    wall_s: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0
    received: dict[str, int] = field(default_factory=dict)
    times: UnitTimes = field(default_factory=UnitTimes)

    def __str__(self) -> str:
        return (
            f"{self.units_done} units done, {self.units_failed} failed, "
            f"{self.units_superseded} superseded, {self.units_abandoned} abandoned; "
            f"{self.cpu_s:.1f} CPU s in {self.wall_s:.1f} s, "
            f"{self.times.starved_s:.1f} s of cores waiting for input; "
            f"{self.bytes_in} bytes in, {self.bytes_out} out"
        )


class Tally:
    """Counts while the pilot works."""

    def __init__(self) -> None:
        self.summary = PilotSummary()

    def answered(self, times: UnitTimes, outcome: Success | Failure, answer: Answer) -> None:
        """Count a unit that the service has answered for."""
        was = self.summary
        self.summary = replace(was, cpu_s=was.cpu_s + outcome.cpu_s, times=added(was.times, times))
        if answer is Answer.SUPERSEDED:
            self.summary = replace(self.summary, units_superseded=was.units_superseded + 1)
        elif isinstance(outcome, Success):
            size = sum(output.size for output in outcome.outputs)
            self.summary = replace(
                self.summary, units_done=was.units_done + 1, bytes_out=was.bytes_out + size
            )
        else:
            self.summary = replace(self.summary, units_failed=was.units_failed + 1)

    def abandoned(self) -> None:
        """Count a unit that was given up."""
        count = self.summary.units_abandoned + 1
        self.summary = replace(self.summary, units_abandoned=count)

    def received(self, by_source: Counter[str]) -> None:
        """Count bytes fetched."""
        was = self.summary
        self.summary = replace(
            was,
            bytes_in=was.bytes_in + by_source.total(),
            received=dict(Counter(was.received) + by_source),
        )
