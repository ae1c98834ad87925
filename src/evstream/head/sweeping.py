"""Sweeping: what can never become part of a result leaves the output store."""

from __future__ import annotations

import logging
from collections import defaultdict

from evstream.domain.errors import DataError, NotFoundError, RequestError
from evstream.domain.names import TaskId
from evstream.domain.outputs import OutputName
from evstream.domain.states import TaskState
from evstream.domain.task import process_book
from evstream.head.books import books_of
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
        for task, names in by_task.items():
            try:
                keep = await self._keep(task)
            except DataError as error:
                # Unreadable: what belongs to it stays, and others are swept all the same.
                log.warning("outputs of task %s are not swept: %s", task, error)
                continue
            if keep is None:
                continue
            for parsed in names:
                if parsed.lease not in leases and str(parsed) not in keep:
                    await self._store.delete(str(parsed))
                    removed += 1
        return removed

    async def _keep(self, task_id: TaskId) -> set[str] | None:
        """Return the names that are committed and not replaced, and the logs of failures."""
        try:
            task = await self._catalogue.task(task_id)
        except NotFoundError:
            # A ledger restored from an older copy may not know it: keep everything.
            return None
        replaced = task.spec.merge and task.state in (
            TaskState.DONE,
            TaskState.FINISHED,
        )
        keep: set[str] = set()
        for book in await books_of(self._ledger, task):
            for attempt in await self._ledger.failed_attempts(book):
                keep.add(attempt.failure.log)
            if replaced and book == process_book(task_id):
                continue
            for commit in await self._ledger.commits(book):
                keep.update(output.name for output in commit.success.outputs)
        return keep
