"""What waits to leave for the store, and may no longer be computed on top of: so much, no more."""

from __future__ import annotations

import asyncio
from collections import deque


class StageRoom:
    """Room for outputs on their way, in number and in bytes, given out as it is asked for.

    When there is nothing on its way, whatever comes next may be, however large.
    """

    def __init__(self, number_max: int, bytes_max: int) -> None:
        self._number_max, self._bytes_max = number_max, bytes_max
        self._waiting: deque[tuple[int, asyncio.Future[Room]]] = deque()
        self.number = 0
        self.bytes = 0

    async def take(self, size: int) -> Room:
        """Wait for room; whoever asked first has it first."""
        room: asyncio.Future[Room] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, room))
        self._admit()
        try:
            return await room
        except asyncio.CancelledError:
            if room.done() and not room.cancelled():
                room.result().free()
            self._admit()
            raise

    def _admit(self) -> None:
        while self._waiting:
            size, room = self._waiting[0]
            if room.cancelled():
                self._waiting.popleft()
                continue
            full = self.number >= self._number_max or self.bytes + size > self._bytes_max
            if self.number and full:
                return
            self._waiting.popleft()
            self._change(1, size)
            room.set_result(Room(self, size))

    def _change(self, number: int, size: int) -> None:
        self.number += number
        self.bytes += size

    def _free(self, size: int) -> None:
        self._change(-1, -size)
        self._admit()


class Room:
    """A part of it, held until the outputs are stored."""

    def __init__(self, of: StageRoom, size: int) -> None:
        self._of, self._size = of, size
        self._held = True

    def free(self) -> None:
        """Give it back; again is no error."""
        if self._held:
            self._held = False
            self._of._free(self._size)
