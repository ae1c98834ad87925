"""Sweeping: what can never become part of a result leaves the output store."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence

from evstream.domain.errors import DataError, NotFoundError, RequestError
from evstream.domain.ledger import ClosedInterval, Commit
from evstream.domain.names import LeaseId, TaskId
from evstream.domain.outputs import BundleName, OutputName, place_of, task_in
from evstream.domain.task import Task, task_of
from evstream.head.books import books_of, merges_of
from evstream.head.passing import in_pieces
from evstream.head.turns import Turns
from evstream.ports import Catalogue, Ledger, OutputStore

NAMES_AT_ONCE = 2000
"""After so many names others have a turn: there may be millions."""

log = logging.getLogger(__name__)


class Sweeping:
    """Removes uncommitted outputs whose lease is gone, and outputs that a merge replaced.

    Pilots never delete from the store; they cannot know what was committed.
    """

    def __init__(
        self, catalogue: Catalogue, ledger: Ledger, store: OutputStore, turns: Turns
    ) -> None:
        self._turns = turns
        self._catalogue = catalogue
        self._ledger = ledger
        self._store = store
        # Of bundles that nothing committed is in: the leases that were when they were first seen.
        self._waited_for: dict[BundleName, frozenset[LeaseId]] = {}
        # The names that an ended task was found to keep, hashed: as long as they are the
        # same, its commits need not be read again.
        self._settled: dict[TaskId, int] = {}

    async def sweep(self) -> int:
        """Remove what may go; return how many objects went.

        The names are listed before leases and commits are read: what was uploaded
        under a lease that has ended since is committed by then, or never will be.
        """
        by_task: dict[TaskId, list[str]] = defaultdict(list)
        for number, name in enumerate(await self._store.names()):
            if number % NAMES_AT_ONCE == 0:
                await asyncio.sleep(0)
            if (among := task_in(name)) is not None:
                by_task[among].append(name)
        leases: dict[TaskId, set[LeaseId]] = defaultdict(set)
        for lease in await self._ledger.leases():
            leases[task_of(lease.book)].add(lease.lease)
        self._waited_for = {
            one: held
            for one, held in self._waited_for.items()
            if str(one) in by_task.get(one.task, ())
        }
        self._settled = {task: kept for task, kept in self._settled.items() if task in by_task}
        removed = 0
        for task, names in by_task.items():
            # Nothing is taken back between what is read here and what is removed for it.
            async with self._turns.of(task):
                removed += await self._sweep_task(task, names, leases[task])
        return removed

    async def _sweep_task(self, task_id: TaskId, names: list[str], leases: set[LeaseId]) -> int:
        try:
            task = await self._catalogue.task(task_id)
            # Without new names, it may have been opened and have ended again all the same.
            content = hash((tuple(names), task.ended))
            if self._settled.get(task_id) == content:
                return 0
            keep = await self._keep(task)
        except NotFoundError:
            # A ledger restored from an older copy may not know it: keep everything.
            return 0
        except DataError as error:
            # Unreadable: what belongs to it stays, and others are swept all the same.
            log.warning(
                "outputs of task %s are not swept: %s", task_id, error, extra={"task": task_id}
            )
            return 0
        surplus = [one for name in names if name not in keep and (one := _parsed(name)) is not None]
        removable = [name for name in surplus if self._is_over(name, leases)]
        for output in removable:
            await self._store.delete(str(output))
        if task.state.final and not surplus:
            self._settled[task_id] = content
        return len(removable)

    def _is_over(self, name: OutputName | BundleName, leases: set[LeaseId]) -> bool:
        """Whether nothing can be committed any more of what nothing is committed of.

        A bundle was there when it was first seen, so whatever is in it was made under leases
        of that time, or of earlier ones.
        """
        if isinstance(name, OutputName):
            return name.lease not in leases
        waited_for = self._waited_for.setdefault(name, frozenset(leases))
        if waited_for & leases:
            return False
        del self._waited_for[name]
        return True

    async def _keep(self, task: Task) -> set[str]:
        """Return the objects of what is committed and not replaced, and the logs of failures."""
        merges = await merges_of(self._catalogue, self._ledger, task)
        replaced = {record.name for merged in merges for record in merged.group.inputs}
        keep: set[str] = set()
        logs: set[str] = set()
        for book in await books_of(self._ledger, task):
            for attempt in await self._ledger.failed_attempts(book):
                logs.add(attempt.failure.log)
            async for rows in self._finished(task, book):
                for row in rows:
                    if isinstance(row, Commit):
                        keep.update(output.name for output in row.success.outputs)
        return logs | {place_of(name)[0] for name in keep - replaced}

    async def _finished(
        self, task: Task, book: int
    ) -> AsyncIterator[Sequence[Commit | ClosedInterval]]:
        if task.state.final:
            # Once, and it may be in the archive.
            yield await self._ledger.commits(book)
            return
        async for rows in in_pieces(self._ledger, book):
            yield rows


def _parsed(name: str) -> OutputName | BundleName | None:
    """Read the name of an object; None if it is not ours to judge."""
    try:
        return BundleName.parse(name) or OutputName.parse(name)
    except RequestError:
        return None
