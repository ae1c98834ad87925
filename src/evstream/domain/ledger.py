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

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from msgspec import Struct, structs

from evstream.domain.accounts import SAID, Account, UnitAccount
from evstream.domain.names import LeaseId, WorkerId
from evstream.domain.outputs import OutputRecord
from evstream.domain.states import RangeState
from evstream.domain.words import counted, storable

SOURCE = "source"
"""Kind of a failure that a whole source file has: halves of a range would fail alike."""
COUNTED_KINDS = frozenset({"payload", "input", SOURCE, "output", "internal"})
"""Kinds of failure that are the range's own; ``node`` costs it nothing, ``lost`` is apart."""
NODE = "node"
"""Kind of a failure that is its worker's: another may do it."""
FINAL_KINDS = frozenset({"merge"})
"""Joining the same files once more would be refused once more: the first failure counts."""
FAILURE_KINDS = COUNTED_KINDS | FINAL_KINDS | {NODE, "lost"}
RETRACTED = "retracted"
"""Kind of an attempt that was committed and is no part of the result any more; ours alone."""
NOT_REPORTED = frozenset({"lost", RETRACTED})
"""Kinds of attempts whose end no worker has told."""


SUSPECT_LOSSES = 3
"""An interval that was lost so often while it ran is a suspect.

A worker that dies takes what runs beside the culprit with it. So no worker holds two
suspects at once: the innocent ones soon run without the culprit, and are cleared.
"""
NUMBER_MAX = 1 << 40
"""Seconds or bytes of one unit, at most; the sum of eight million stays below 2**63."""
ERROR_CHARS_MAX = 2000
"""Of a failure's reason; what is longer is cut. Logs hold the rest."""
CANCELLED = "cancelled"
"""The reason of what somebody cancelled."""
PART_TRIES = 2
"""Attempts that a bisected range's part has, if it is not to be bisected further."""
PART_LOSSES = 3
"""Losses of a part that was bisected as a suspect, after which it is bisected again."""

Within = Mapping[int, Collection[int] | None]
"""Which chunks of which books a claim may take from: None stands for all of a book's chunks,
and a book that is left out holds nothing."""


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
    bisections_max : int
        So often a range that would be set aside is bisected instead: its halves go out
        again, down to the event that fails. Then ranges are set aside whole.
    """

    events_per_range: int
    failures_max: int = 3
    losses_max: int = 30
    bisections_max: int = 0


class LeasedInterval(Struct, frozen=True):
    """An interval of a chunk that a worker holds; one or more units of work.

    Attributes
    ----------
    failures, losses : int
        How many earlier attempts failed by themselves, or were lost while they ran;
        counted anew for each part of a range that was bisected.
    duration : timedelta
        For how long it was claimed or last renewed.
    bisected : bool
        It is a part of a range that used up its attempts.
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
    bisected: bool = False

    @property
    def entries(self) -> int:
        """Number of entries."""
        return self.entry_stop - self.entry_start


class RunningUnit(Struct, frozen=True):
    """A unit that a worker says it has begun, with the CPU seconds spent so far."""

    book: int
    chunk: int
    entry_start: int
    entry_stop: int
    cpu_s: float = 0.0


class Success(Struct, frozen=True):
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
        range's own; ``source``: its whole file's, which is gone or another; ``merge``:
        outputs that cannot be joined; ``node``: this worker could not do it, another may;
        ``lost``: the worker is gone.
    log : str
        Name of the attempt's log in the output store; empty if there is none.
    """

    kind: str
    error: str
    log: str = ""
    cpu_s: float = 0.0
    wall_s: float = 0.0

    def __post_init__(self) -> None:
        # What payloads print may hold anything.
        if "\0" in self.error:
            object.__setattr__(self, "error", storable(self.error))


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What becomes of an interval whose attempt came to nothing.

    Attributes
    ----------
    failures, losses : int
        That it goes out again with.
    bisected : bool
        Whether it goes out as a part of a bisected range.
    split_at : int or None
        The entry at which it is bisected before it goes out.
    error : str
        Why it is set aside; empty if it goes out again.
    """

    failures: int
    losses: int
    bisected: bool = False
    split_at: int | None = None
    error: str = ""

    def pieces(self, row: LeasedInterval) -> tuple[tuple[int, int], ...]:
        """Return the intervals that go out again or are set aside: one, or two halves."""
        if self.split_at is None:
            return ((row.entry_start, row.entry_stop),)
        return (row.entry_start, self.split_at), (self.split_at, row.entry_stop)


def aftermath(
    row: LeasedInterval, failure: Failure, rules: BookRules, bisections: int
) -> Aftermath:
    """Decide whether an interval goes out again, in halves, or not at all.

    What never began cannot have killed anyone.

    Parameters
    ----------
    bisections : int
        That the book has made so far.
    """
    failures = row.failures + (failure.kind in COUNTED_KINDS)
    losses = row.losses + (failure.kind == "lost" and row.running)
    whole = failure.kind == SOURCE
    divisible = row.entries > 1 and bisections < rules.bisections_max and not whole
    failures_max, losses_max = rules.failures_max, rules.losses_max
    if row.bisected:
        # The range has failed often enough; only which half it is has to be found out.
        failures_max = min(failures_max, 1 if divisible else PART_TRIES)
        losses_max = min(losses_max, SUSPECT_LOSSES + PART_LOSSES)
    error = ""
    if failures >= failures_max or failure.kind in FINAL_KINDS:
        error = failure.error or f"a failure of kind {failure.kind}"
    elif losses >= losses_max:
        workers = counted(losses, "worker was", "workers were")
        error = f"{workers} lost while they ran it; it may need more memory or time"
    if not error:
        return Aftermath(failures, losses, row.bisected)
    if divisible and failure.kind not in FINAL_KINDS:
        middle = (row.entry_start + row.entry_stop) // 2
        # Whoever is suspected of killing workers stays so, and is not set aside unheard.
        return Aftermath(0, min(losses, SUSPECT_LOSSES, rules.losses_max - 1), True, middle)
    if row.entries > 1 and 0 < rules.bisections_max <= bisections and not whole:
        error += f" (set aside whole: the task has made its {bisections} bisections)"
    return Aftermath(failures, losses, row.bisected, error=error)


class RangeReport(Struct, frozen=True):
    """A worker's word on one unit."""

    lease: LeaseId
    worker: WorkerId
    book: int
    chunk: int
    entry_start: int
    entry_stop: int
    attempt: int
    outcome: Success | Failure
    account: UnitAccount = UnitAccount()

    @property
    def accounts(self) -> tuple[Account, ...]:
        """What it adds to the sums, once it is accepted."""
        said, outcome = self.account, self.outcome
        times = {name: getattr(said, name) for name in SAID}
        ended = Account(self.book, said.site, said.ended, **times)
        if isinstance(outcome, Success):
            ended = structs.replace(
                ended,
                done=1,
                entries=self.entry_stop - self.entry_start,
                cpu_s=outcome.cpu_s,
                wall_s=outcome.wall_s,
                bytes_out=sum(output.size for output in outcome.outputs),
            )
        else:
            ended = structs.replace(ended, failed=1, lost_cpu_s=outcome.cpu_s)
        return ended, Account(self.book, said.site, said.begun, started=1)


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
    """Entries that will not be done.

    Attributes
    ----------
    state : RangeState
        ``FATAL`` (set aside), ``CANCELLED``, or ``DISCARDED`` (withdrawn).
    attempt : int
        The last one that any of them had; 0 if none.
    """

    book: int
    chunk: int
    entry_start: int
    entry_stop: int
    state: RangeState
    error: str
    attempt: int = 0

    @property
    def withdrawn(self) -> bool:
        """Whether it was taken out of the book, rather than not come to an end."""
        return self.state is RangeState.DISCARDED


Place = tuple[int, int, int]
"""``(chunk, entry_start, entry_stop)`` of a book, half-open."""

BookPlace = tuple[int, int, int, int]
"""``(book, chunk, entry_start, entry_stop)``, half-open."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Entries of a book by state, and sums over its attempts.

    Attributes
    ----------
    ranges_finished : int
        Commits; each part of a bisected range has its own.
    attempts, failed_attempts : int
        Of those that began; what was committed and taken back is neither.
    own_failures : int
        Failed attempts that counted against their ranges; since the task was opened
        again, if it was. So do `bisections`.
    withdrawn : int
        Entries of inputs that were withdrawn.
    """

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
    own_failures: int = 0
    bisections: int = 0
    withdrawn: int = 0

    @property
    def ready(self) -> int:
        """Entries that wait to be claimed."""
        return self.entries - self.sent - self.running - self._ended

    @property
    def complete(self) -> bool:
        """Whether every entry is finished, set aside, cancelled or withdrawn."""
        return self._ended == self.entries

    @property
    def _ended(self) -> int:
        return self.finished + self.fatal + self.cancelled + self.withdrawn


def joined(pieces: Iterable[tuple[Place, int]]) -> list[tuple[Place, int]]:
    """Return intervals with their attempts in order, those that adjoin as one.

    The attempt is the highest one, so that no entry's ever repeats.
    """
    made: list[tuple[Place, int]] = []
    for (chunk, start, stop), attempt in sorted(pieces):
        before, last = made[-1] if made else ((-1, 0, 0), 0)
        if (before[0], before[2]) == (chunk, start):
            made[-1] = (chunk, before[1], stop), max(last, attempt)
        else:
            made.append(((chunk, start, stop), attempt))
    return made
