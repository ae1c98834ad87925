"""Turns: what reads a task and then changes it has the task to itself meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from evstream.domain.names import TaskId
from evstream.ports import TaskLocks


class Turns:
    """A lock for each task.

    The end of a task, its merges, the sweep of its outputs, and taking back its work each
    follow from what was read just before. Reports and claims need no turn: the ledger fences
    them.

    Parameters
    ----------
    among_heads : TaskLocks, optional
        Where other heads may work on the same tasks.
    """

    def __init__(self, among_heads: TaskLocks | None = None) -> None:
        self._locks: WeakValueDictionary[TaskId, asyncio.Lock] = WeakValueDictionary()
        self._among_heads = among_heads

    @asynccontextmanager
    async def of(self, task: TaskId) -> AsyncIterator[None]:
        """Hold the lock of a task."""
        async with self._locks.setdefault(task, asyncio.Lock()):
            if self._among_heads is None:
                yield
            else:
                async with self._among_heads.of(task):
                    yield
