"""Sweeping: what can never become part of a result leaves the output store."""

from __future__ import annotations

import logging
from collections import defaultdict

from evstream.domain.errors import DataError, NotFoundError, RequestError
from evstream.domain.names import TaskId
from evstream.domain.outputs import OutputName
from evstream.domain.task import Task
from evstream.head.books import books_of, merges_of
from evstream.ports import Catalogue, Ledger, OutputStore

log = logging.getLogger(__name__)


class Sweeping:
    """Removes uncommitted outputs whose lease is gone, and outputs that a merge replaced.

    Pilots never delete from the store; they cannot know what was committed.
    """

    def __init__(self, catalogue: Catalogue, ledger: Ledger, store: OutputStore) -> None:
        self._catalogue = catalogue
        self._ledger = ledger
        self._store = store
        # The names that an ended task was found to keep, hashed: as long as they are the
        # same, its commits need not be read again.
        self._settled: dict[TaskId, int] = {}

    async def sweep(self) -> int:
        """Remove what may go; return how many objects went.

        The names are listed before leases and commits are read: what was uploaded
        under a lease that has ended since is committed by then, or never will be.
        """
        by_task: dict[TaskId, list[OutputName]] = defaultdict(list)
        for name in await self._store.names():
            try:
                parsed = OutputName.parse(name)
            except RequestError:
                continue  # Not ours to judge.
            by_task[parsed.task].append(parsed)
        leases = {lease.lease for lease in await self._ledger.leases()}
        removed = 0
        self._settled = {task: kept for task, kept in self._settled.items() if task in by_task}
        for task_id, names in by_task.items():
            content = hash(tuple(names))
            if self._settled.get(task_id) == content:
                continue
            try:
                task = await self._catalogue.task(task_id)
                keep = await self._keep(task)
            except NotFoundError:
                # A ledger restored from an older copy may not know it: keep everything.
                continue
            except DataError as error:
                # Unreadable: what belongs to it stays, and others are swept all the same.
                log.warning("outputs of task %s are not swept: %s", task_id, error)
                continue
            surplus = [name for name in names if str(name) not in keep]
            for output in surplus:
                if output.lease not in leases:
                    await self._store.delete(str(output))
                    removed += 1
            if task.state.final and not surplus:
                self._settled[task_id] = content
        return removed

    async def _keep(self, task: Task) -> set[str]:
        """Return the names that are committed and not replaced, and the logs of failures."""
        merges = await merges_of(self._catalogue, self._ledger, task)
        replaced = {record.name for merged in merges for record in merged.group.inputs}
        keep: set[str] = set()
        for book in await books_of(self._ledger, task):
            for attempt in await self._ledger.failed_attempts(book):
                keep.add(attempt.failure.log)
            for commit in await self._ledger.commits(book):
                keep.update(output.name for output in commit.success.outputs)
        return keep - replaced
