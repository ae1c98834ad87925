"""The ledger of intervals: its words. `evstream.domain.ledger_model` is their meaning.

A *book* is a set of chunks that is worked off together: the ranges of a task are
one book, its merges another. Work is leased as intervals; only what deviates from
"not yet claimed" or "done" has a row. State of a chunk::

      0          high-water mark             entries
      ├──────────────┼──────────────────────────┤
       done, leased,        never claimed
       free, or closed
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from evstream.domain.names import LeaseId, WorkerId
from evstream.domain.outputs import OutputRecord
from evstream.domain.states import RangeState

COUNTED_KINDS = frozenset({"payload", "input", "output", "internal"})
"""Kinds of failure that are the range's own; ``node`` costs it nothing, ``lost`` is apart."""
FINAL_KINDS = frozenset({"merge"})
"""Joining the same files once more would be refused once more: the first failure counts."""
FAILURE_KINDS = COUNTED_KINDS | FINAL_KINDS | {"node", "lost"}


SUSPECT_LOSSES = 3
"""An interval that was lost so often while it ran is a suspect.

A worker that dies takes what runs beside the culprit with it. So no worker holds two
suspects at once: the innocent ones soon run without the culprit, and are cleared.
"""
NUMBER_MAX = 1 << 40
"""Seconds or bytes of one unit, at most; the sum of eight million stays below 2**63."""
ERROR_CHARS_MAX = 2000
"""Of a failure's reason; what is longer is cut. Logs hold the rest."""


@dataclass(frozen=True, slots=True)
class BookRules:
    """How a book is worked off.

    Attributes
    ----------
    failures_max : int
        A range that has failed so often by itself is set aside.
    losses_max : int
        A range whose worker was lost so often while it ran is set aside: it may be
        what kills its workers.
    """

    events_per_range: int
    failures_max: int = 3
    losses_max: int = 30


@dataclass(frozen=True, slots=True)
class LeasedInterval:
    """An interval of a chunk that a worker holds; one or more units of work.

    Attributes
    ----------
    failures, losses : int
        How many earlier attempts failed by themselves, or were lost while they ran.
    duration : timedelta
        For how long it was claimed or last renewed.
    """

    lease: LeaseId
    worker: WorkerId
    book: int
    chunk: int
    entry_start: int
    entry_stop: int
    attempt: int
    failures: int
    losses: int
    duration: timedelta
    expires: datetime
    running: bool = False
    cpu_s: float = 0.0

    @property
    def entries(self) -> int:
        """Number of entries."""
        return self.entry_stop - self.entry_start


@dataclass(frozen=True, slots=True)
class RunningUnit:
    """A unit that a worker says it has begun, with the CPU seconds spent so far."""

    book: int
    chunk: int
    entry_start: int
    entry_stop: int
    cpu_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Success:
    """A unit's outputs are in the store."""

    outputs: tuple[OutputRecord, ...]
    cpu_s: float = 0.0
    wall_s: float = 0.0
    bytes_in: int = 0


@dataclass(frozen=True, slots=True)
class Failure:
    """A unit failed.

    Attributes
    ----------
    kind : str
        ``payload``, ``input``, ``output`` or ``internal`` (a fault of evstream's): the
        range's own; ``merge``: outputs that cannot be joined; ``node``: this worker could
        not do it, another may; ``lost``: the worker is gone.
    log : str
        Name of the attempt's log in the output store; empty if there is none.
    """

    kind: str
    error: str
    log: str = ""
    cpu_s: float = 0.0
    wall_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What becomes of an interval whose attempt came to nothing.

    Attributes
    ----------
    failures, losses : int
        Of all its attempts so far.
    error : str
        Why it is set aside; empty if it goes out again.
    """

    failures: int
    losses: int
    error: str = ""


def aftermath(row: LeasedInterval, failure: Failure, rules: BookRules) -> Aftermath:
    """Decide whether an interval goes out again. What never began cannot have killed anyone."""
    failures = row.failures + (failure.kind in COUNTED_KINDS)
    losses = row.losses + (failure.kind == "lost" and row.running)
    error = ""
    if failures >= rules.failures_max or failure.kind in FINAL_KINDS:
        error = failure.error or f"a failure of kind {failure.kind}"
    elif losses >= rules.losses_max:
        error = f"{losses} workers were lost while they ran it; it may need more memory or time"
    return Aftermath(failures, losses, error)


@dataclass(frozen=True, slots=True)
class RangeReport:
    """A worker's word on one unit."""

    lease: LeaseId
    worker: WorkerId
    book: int
    chunk: int
    entry_start: int
    entry_stop: int
    attempt: int
    outcome: Success | Failure


@dataclass(frozen=True, slots=True)
class Commit:
    """An interval that is done, and what it left."""

    book: int
    chunk: int
    entry_start: int
    entry_stop: int
    attempt: int
    lease: LeaseId
    worker: WorkerId
    success: Success


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """An attempt that came to nothing; history, kept for people."""

    book: int
    chunk: int
    entry_start: int
    entry_stop: int
    attempt: int
    lease: LeaseId
    worker: WorkerId
    running: bool
    failure: Failure


@dataclass(frozen=True, slots=True)
class ClosedInterval:
    """Entries that will not be done: ``FATAL`` (set aside) or ``CANCELLED``."""

    book: int
    chunk: int
    entry_start: int
    entry_stop: int
    state: RangeState
    error: str


@dataclass(frozen=True, slots=True)
class Progress:
    """Entries of a book by state, and sums over its attempts."""

    entries: int = 0
    sent: int = 0
    running: int = 0
    finished: int = 0
    fatal: int = 0
    cancelled: int = 0
    ranges: int = 0
    ranges_finished: int = 0
    attempts: int = 0
    failed_attempts: int = 0
    cpu_s: float = 0.0
    lost_cpu_s: float = 0.0
    wall_s: float = 0.0
    bytes_in: int = 0

    @property
    def ready(self) -> int:
        """Entries that wait to be claimed."""
        held = self.sent + self.running + self.finished + self.fatal + self.cancelled
        return self.entries - held

    @property
    def complete(self) -> bool:
        """Whether every entry is finished, set aside or cancelled."""
        return self.finished + self.fatal + self.cancelled == self.entries
