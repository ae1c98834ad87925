"""Turns: what reads a task and then changes it has the task to itself meanwhile."""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary

from evstream.domain.names import TaskId


class Turns:
    """A lock for each task.

    The end of a task, the sweep of its outputs, and taking back its work each follow from
    what was read just before. Reports and claims need no turn: the ledger fences them.
    """

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[TaskId, asyncio.Lock] = WeakValueDictionary()

    def of(self, task: TaskId) -> asyncio.Lock:
        """Return the lock of a task, to be held with ``async with``."""
        return self._locks.setdefault(task, asyncio.Lock())
