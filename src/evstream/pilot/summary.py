"""What a pilot has done, in numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace

from evstream.domain.ledger import Failure, Success
from evstream.domain.states import Answer


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
    """

    units_done: int = 0
    units_failed: int = 0
    units_superseded: int = 0
    units_abandoned: int = 0
    cpu_s: float = 0.0
    wall_s: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0

    def __str__(self) -> str:
        return (
            f"{self.units_done} units done, {self.units_failed} failed, "
            f"{self.units_superseded} superseded, {self.units_abandoned} abandoned; "
            f"{self.cpu_s:.1f} CPU s in {self.wall_s:.1f} s; "
            f"{self.bytes_in} bytes in, {self.bytes_out} out"
        )


class Tally:
    """Counts while the pilot works."""

    def __init__(self) -> None:
        self.summary = PilotSummary()

    def answered(self, outcome: Success | Failure, answer: Answer) -> None:
        """Count a unit that the service has answered for."""
        was = self.summary
        self.summary = replace(was, cpu_s=was.cpu_s + outcome.cpu_s)
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

    def received(self, size: int) -> None:
        """Count bytes fetched."""
        self.summary = replace(self.summary, bytes_in=self.summary.bytes_in + size)
