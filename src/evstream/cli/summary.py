"""What a job took, from its receipt: numbers for programs, a table for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from evstream.cli.printing import size_text


@dataclass(frozen=True)
class Summary:
    """What a job took.

    Attributes
    ----------
    cpu_s, lost_cpu_s : float
        CPU seconds of committed attempts; of failed and killed ones, as far as they last
        told.
    wall_s : float or None
        Seconds from the first claim that could be made to the end; None where nothing
        was computed.
    cpu_efficiency : float or None
        CPU seconds spent in that time on what was committed, over it and the workers.
    """

    events: int
    events_committed: int
    events_set_aside: int
    ranges: int
    ranges_committed: int
    attempts: int
    failed_attempts: int
    cpu_s: float
    lost_cpu_s: float
    bytes_delivered: int
    bytes_of_source: int
    wall_s: float | None
    cpu_efficiency: float | None

    def rows(self) -> list[tuple[str, object]]:
        """Return names and values as people read them."""
        source = self.bytes_of_source
        share = self.bytes_delivered / source if source else None
        return [
            ("events", self.events),
            ("events committed", self.events_committed),
            ("events set aside", self.events_set_aside),
            ("ranges", self.ranges),
            ("ranges committed", self.ranges_committed),
            ("attempts", self.attempts),
            ("failed attempts", self.failed_attempts),
            ("CPU seconds", round(self.cpu_s, 1)),
            ("lost CPU seconds", round(self.lost_cpu_s, 1)),
            ("bytes delivered", size_text(self.bytes_delivered)),
            ("bytes of the source", size_text(source)),
            ("delivered / source", _percent(share)),
            ("wall seconds", "-" if self.wall_s is None else round(self.wall_s, 1)),
            ("CPU efficiency", _percent(self.cpu_efficiency)),
        ]


def summarize(
    receipt: dict[str, Any], wall_s: float | None, workers: int, cpu_s_before: float = 0.0
) -> Summary:
    """Return what a job took.

    Parameters
    ----------
    wall_s : float or None
        Seconds from the first claim that could be made to the end; None if the job had
        been done before.
    cpu_s_before : float
        CPU seconds of what was committed before that time, by a run that was killed.
    """
    counts = receipt["counts"]
    spent = counts["cpu_s"] - cpu_s_before
    return Summary(
        events=counts["events"],
        events_committed=counts["committed"],
        events_set_aside=counts["set_aside"],
        ranges=counts["ranges"],
        ranges_committed=counts["ranges_committed"],
        attempts=counts["attempts"],
        failed_attempts=counts["failed_attempts"],
        cpu_s=counts["cpu_s"],
        lost_cpu_s=counts["lost_cpu_s"],
        bytes_delivered=counts["bytes_delivered"],
        bytes_of_source=counts["bytes_of_source"],
        wall_s=None if wall_s is None else round(wall_s, 3),
        cpu_efficiency=round(spent / (wall_s * workers), 4) if wall_s else None,
    )


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"
