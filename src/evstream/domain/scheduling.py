"""Scheduling: which task's work a claim gets, and how much near the end."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from msgspec import Struct

from evstream.domain.errors import ConfigError, LimitError, RequestError
from evstream.domain.ledger import Progress
from evstream.domain.names import TaskId

PRIORITY_MAX = 1_000_000
DEFAULT_QUEUE = "default"
_QUEUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Scheduling(Struct, frozen=True, forbid_unknown_fields=True):
    """A task's place among others.

    Attributes
    ----------
    queue : str
        Queues share the workers, by their `queue_shares`.
    priority : int
        Within its queue, a task of higher priority is worked off first; of equal ones, the older.
    """

    queue: str = DEFAULT_QUEUE
    priority: int = 0

    def check(self) -> None:
        """Refuse what cannot work, naming the field.

        Raises
        ------
        RequestError, LimitError
        """
        if not _QUEUE.fullmatch(self.queue):
            raise RequestError(
                f"{self.queue!r} cannot name a queue",
                hint="use at most 64 letters, digits, '.', '_' and '-'",
                field="scheduling.queue",
            )
        if abs(self.priority) > PRIORITY_MAX:
            raise LimitError(
                f"the priority is {self.priority}",
                hint=f"choose between -{PRIORITY_MAX} and {PRIORITY_MAX}",
                field="scheduling.priority",
            )


@dataclass(frozen=True, slots=True)
class Candidate:
    """An active task, as scheduling sees it.

    Attributes
    ----------
    progress : Progress
        Of the events of the task, not of its merges.
    """

    task: TaskId
    scheduling: Scheduling
    progress: Progress

    def cpu_s_per_event(self) -> float | None:
        """Return what an event has cost so far; None if none is done."""
        done = self.progress
        return done.cpu_s / done.finished if done.finished and done.cpu_s else None


def parse_shares(text: str) -> dict[str, float]:
    """Read ``production=3 analysis=1``.

    Raises
    ------
    ConfigError
        It is none of that, or a share is not above 0.
    """
    shares: dict[str, float] = {}
    for word in text.replace(",", " ").split():
        queue, _, number = word.partition("=")
        try:
            share = float(number)
        except ValueError:
            share = 0.0
        if not (_QUEUE.fullmatch(queue) and 0 < share <= PRIORITY_MAX):
            raise ConfigError(
                f"queue_shares: {word!r} is no share of a queue",
                hint="write NAME=NUMBER for each, as in 'production=3 analysis=1'",
            )
        shares[queue] = share
    return shares


def in_turn(candidates: Sequence[Candidate], shares: Mapping[str, float]) -> list[TaskId]:
    """Return tasks in the order in which a claim looks at them.

    The queue that lies furthest below its share comes first. What a queue has is the work that
    is leased for it now, in CPU seconds by what its events cost so far: so queues of short
    and of long events get equal parts of the workers, not of the events.
    """
    costs = {c.task: c.cpu_s_per_event() for c in candidates}
    known = [cost for cost in costs.values() if cost is not None]
    usual = sum(known) / len(known) if known else 1.0
    loads: dict[str, float] = defaultdict(float)
    for one in candidates:
        leased = one.progress.sent + one.progress.running
        cost = costs[one.task]
        loads[one.scheduling.queue] += leased * (usual if cost is None else cost)
    for queue in loads:
        loads[queue] /= shares.get(queue, 1.0)

    def place(one: Candidate) -> tuple[float, str, int, int]:
        queue = one.scheduling.queue
        return loads[queue], queue, -one.scheduling.priority, one.task

    return [one.task for one in sorted(candidates, key=place)]


def fair_units(wanted: int, ready: int, wanted_by_all: int) -> int:
    """Return how many of the units that are left a worker gets.

    While there is enough for all, what it wants; near the end, its part, so that nobody
    waits while another has a store of work.

    Parameters
    ----------
    ready : int
        Units that nobody has claimed.
    wanted_by_all : int
        What all workers want, this one included.
    """
    if ready >= wanted_by_all or wanted <= 1:
        return wanted
    return max(1, ready * wanted // wanted_by_all)
