"""Locks of tasks that every head of a database heeds."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from evstream.domain.names import TaskId


class TaskLocks(Protocol):
    """A lock for each task, which one head of a database holds at a time."""

    def of(self, task: TaskId) -> AbstractAsyncContextManager[None]:
        """Return the lock of a task, to be held with ``async with``; not twice at once by one head.

        Raises
        ------
        TransientError
            Another head has held it for long, or the database does not answer.
        """
        ...
