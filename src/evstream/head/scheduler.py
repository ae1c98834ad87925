"""Which tasks a claim looks at first, and how much of what is left it gets."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from evstream.domain.ledger import LeasedInterval, Progress
from evstream.domain.names import TaskId, WorkerId
from evstream.domain.scheduling import Candidate, fair_units, in_turn
from evstream.domain.task import Task, process_book
from evstream.ports import Ledger

TAIL_PART = 0.05
"""Of a task's entries: when no more are left, it waits for each of the last."""
LOOK_EVERY_S = 1.0
"""Progress is looked at so often at most; what is claimed between is added up here."""


class Scheduler:
    """Orders tasks by the shares of their queues, and divides what is left of them.

    Parameters
    ----------
    shares : mapping of str to float
        Share of each queue; 1 where none is given.
    """

    def __init__(self, ledger: Ledger, shares: Mapping[str, float]) -> None:
        self._ledger = ledger
        self.shares = shares
        self._progress: dict[int, Progress] = {}
        self._looked = float("-inf")
        self._claimed = Counter[int]()
        self._wanted: dict[WorkerId, tuple[float, int]] = {}
        self._wanted_by_all = 0
        self._forgot = float("-inf")

    async def in_turn(self, tasks: Sequence[Task]) -> list[Task]:
        """Return active tasks in the order in which a claim looks at them."""
        if len({task.spec.scheduling for task in tasks}) <= 1:
            return list(tasks)
        await self.look(tasks)
        by_id = {task.id: task for task in tasks}
        candidates = [
            Candidate(task.id, task.spec.scheduling, self._known(task.id)) for task in tasks
        ]
        return [by_id[number] for number in in_turn(candidates, self.shares)]

    async def units(
        self, worker: WorkerId, wanted: int, lease_s: float, tasks: Sequence[Task]
    ) -> int:
        """Return how many units of some tasks a worker gets; none of them spans several."""
        wanted_by_all = self._want(worker, wanted, lease_s)
        if wanted <= 1 or wanted == wanted_by_all:
            return wanted
        await self.look(tasks)
        ready = sum(-(-self._known(task.id).ready // task.spec.events_per_range) for task in tasks)
        return fair_units(wanted, ready, wanted_by_all)

    def _want(self, worker: WorkerId, wanted: int, lease_s: float) -> int:
        """Note what a worker wants; return what all want that have asked of late."""
        now = asyncio.get_running_loop().time()
        if now - self._forgot >= LOOK_EVERY_S:
            # Not at each claim: there may be ten thousand workers.
            self._forgot = now
            self._wanted = {who: said for who, said in self._wanted.items() if said[0] >= now}
            self._wanted_by_all = sum(units for _, units in self._wanted.values())
        _, before = self._wanted.get(worker, (0.0, 0))
        self._wanted[worker] = (now + lease_s, wanted)
        self._wanted_by_all += wanted - before
        return self._wanted_by_all

    def note(self, rows: Iterable[LeasedInterval]) -> None:
        """Note what a claim has taken."""
        for row in rows:
            self._claimed[row.book] += row.entries

    def at_its_end(self, task: TaskId) -> bool:
        """Whether a task has little left, as it was at the last look."""
        progress = self._progress.get(process_book(task), Progress())
        left = progress.ready + progress.sent + progress.running
        return 0 < left <= TAIL_PART * progress.entries

    def _known(self, task: TaskId) -> Progress:
        book = process_book(task)
        progress = self._progress.get(book, Progress())
        claimed = min(self._claimed[book], progress.ready)
        return replace(progress, sent=progress.sent + claimed)

    async def look(self, tasks: Sequence[Task]) -> None:
        """Look how far tasks are, unless that was done a moment ago."""
        now = asyncio.get_running_loop().time()
        books = [process_book(task.id) for task in tasks]
        if now - self._looked < LOOK_EVERY_S and all(book in self._progress for book in books):
            return
        self._looked = now
        self._claimed.clear()
        self._progress = await self._ledger.progress_of(books)
