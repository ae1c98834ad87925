"""Small pieces of blocking work, done together: what comes while some are done is done next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from evstream.ports.offload import Offload

T = TypeVar("T")
R = TypeVar("R")


class Together(Generic[T, R]):
    """Hands pieces over in groups, a few groups at a time.

    Whoever is cancelled while theirs waits or is done does not know what became of it.

    Parameters
    ----------
    offload : Offload
        Where a group is done.
    work : callable
        Does a group, and returns what came of each piece, or why nothing did.
    groups_max : int
        So many groups are done beside each other.
    """

    def __init__(
        self,
        offload: Offload,
        work: Callable[[list[T]], Sequence[R | Exception]],
        groups_max: int,
    ) -> None:
        self._offload = offload
        self._work = work
        self._waiting: list[tuple[T, asyncio.Future[R]]] = []
        self._groups_max = groups_max
        self._workers: set[asyncio.Task[None]] = set()

    async def __call__(self, piece: T) -> R:
        """Have a piece done, and return what came of it."""
        end: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((piece, end))
        if len(self._workers) < self._groups_max:
            self._workers.add(asyncio.create_task(self._work_off()))
        return await end

    async def _work_off(self) -> None:
        worker = asyncio.current_task()
        assert worker is not None
        try:
            while self._waiting:
                group, self._waiting = self._waiting, []
                await self._do(group)
        finally:
            # At once, not when its end is told: what comes meanwhile needs another.
            self._workers.discard(worker)

    async def _do(self, group: list[tuple[T, asyncio.Future[R]]]) -> None:
        pieces = [piece for piece, _ in group]
        found: Sequence[R | BaseException]
        try:
            found = await self._offload(lambda: self._work(pieces))
        except Exception as error:  # noqa: BLE001 - it is theirs who wait
            found = [error] * len(group)
        for (_, end), what in zip(group, found, strict=True):
            if end.done():
                continue
            if isinstance(what, BaseException):
                end.set_exception(what)
            else:
                end.set_result(what)
