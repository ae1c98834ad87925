"""Nudges: somebody says that a task may have come further, and somebody looks."""

from __future__ import annotations

import asyncio

from evstream.domain.names import TaskId


class Nudges:
    """Tasks to be looked at. Whoever loses one in a crash loses nothing: see `Finishing`."""

    def __init__(self) -> None:
        self._nudged: set[TaskId] = set()
        self._wake = asyncio.Event()

    def nudge(self, task: TaskId) -> None:
        """Say that a task may have come further; cheap."""
        self._nudged.add(task)
        self._wake.set()

    async def wait(self) -> set[TaskId]:
        """Wait for nudges; return the tasks that they were for."""
        await self._wake.wait()
        self._wake.clear()
        nudged, self._nudged = self._nudged, set()
        return nudged
