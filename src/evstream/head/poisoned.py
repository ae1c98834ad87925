"""Workers where every payload fails, told apart from payloads that fail everywhere.

And payloads that no node can begin, told apart from nodes that can begin none.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

from evstream.domain.errors import ConflictError
from evstream.domain.ledger import NODE, Failure, Success
from evstream.domain.names import TaskId, WorkerId
from evstream.head.kept import keep

FAILURES_MAX = 8
"""So many ranges a poisoned worker costs an attempt, at most."""
HOPELESS_WORKERS = 2
"""On so many workers all units of a task fail by their nodes, and on none is one done: it is the
task, which names a program that is nowhere, say."""
WORKERS_KEPT_MAX = 100_000
REPORTS_KEPT_MAX = 20_000
"""Reports come again within seconds, or minutes where the database is away."""
BLAMED = frozenset({"payload", "output"})
"""Kinds of failures that may be a range's or a node's."""


@dataclass(slots=True)
class _Failing:
    """A worker's failures in a task, where it has had no success.

    Attributes
    ----------
    before : int
        Successes of all workers in the task when it failed first.
    """

    before: int
    failures: int = 0


class Poisoned:
    """Judges workers by their own failures and what others do meanwhile in the same task.

    It knows what this head was told since it started, and nothing is written down: a worker
    that is poisoned shows it again soon.
    """

    def __init__(self) -> None:
        self._successes: dict[TaskId, int] = {}
        self._sound: OrderedDict[tuple[WorkerId, TaskId], None] = OrderedDict()
        self._failing: OrderedDict[tuple[WorkerId, TaskId], _Failing] = OrderedDict()
        self._poisoned: OrderedDict[WorkerId, str] = OrderedDict()
        # Of tasks without any success: failures by nodes.
        self._by_nodes: dict[TaskId, Counter[WorkerId]] = {}
        self._noted: OrderedDict[Hashable, bool] = OrderedDict()

    def note(
        self, report: Hashable, worker: WorkerId, task: TaskId, outcome: Success | Failure
    ) -> bool:
        """Take a report on a range; say whether its worker is to blame for the failure.

        Parameters
        ----------
        report : hashable
            Names the report: one that comes again counts once.
        """
        if report not in self._noted:
            blamed = self._judge(worker, task, outcome)
            keep(self._noted, report, blamed, REPORTS_KEPT_MAX)
        return self._noted[report]

    def _judge(self, worker: WorkerId, task: TaskId, outcome: Success | Failure) -> bool:
        place = worker, task
        if isinstance(outcome, Success):
            self._successes[task] = self._successes.get(task, 0) + 1
            self._failing.pop(place, None)
            self._by_nodes.pop(task, None)
            keep(self._sound, place, None, WORKERS_KEPT_MAX)
            return False
        if outcome.kind == NODE and not self._successes.get(task):
            self._by_nodes.setdefault(task, Counter())[worker] += 1
        if outcome.kind not in BLAMED or place in self._sound:
            return False
        successes = self._successes.get(task, 0)
        failing = self._failing.get(place) or _Failing(successes)
        failing.failures += 1
        keep(self._failing, place, failing, WORKERS_KEPT_MAX)
        if failing.failures <= FAILURES_MAX or successes - failing.before < FAILURES_MAX:
            return False
        keep(self._poisoned, worker, outcome.error, WORKERS_KEPT_MAX)
        return True

    def without_hope(self, task: TaskId) -> set[WorkerId]:
        """Return the workers on which all units of a task failed by their nodes.

        Empty where they are too few to blame the task, or a unit of it was done anywhere.
        """
        failed = self._by_nodes.get(task, Counter[WorkerId]())
        found = {worker for worker, times in failed.items() if times >= FAILURES_MAX}
        return found if len(found) >= HOPELESS_WORKERS else set()

    def forget(self, task: TaskId) -> None:
        """Give a task the chances that it had at first."""
        self._by_nodes.pop(task, None)

    def forget_ended(self, active: set[TaskId]) -> None:
        """Forget tasks that have ended."""
        for task in self._successes.keys() - active:
            del self._successes[task]
        for task in self._by_nodes.keys() - active:
            del self._by_nodes[task]

    def check(self, worker: WorkerId) -> None:
        """Refuse a worker that is poisoned.

        Raises
        ------
        ConflictError
            It is.
        """
        error = self._poisoned.get(worker)
        if error is not None:
            raise ConflictError(
                f"payloads fail on {worker} one and all, where others succeed: {error[:500]}",
                hint="see what its node lacks, mend it, and start another pilot",
            )
