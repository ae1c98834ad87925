"""Whether something still comes: who waits in vain is told, and may ask anew."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from evstream.client.ways import Way
from evstream.domain.errors import TransientError
from evstream.ports import Clock

LOOK_S = 0.25
STALE_S = 0.5
"""Where a way was broken, what has been silent for so long when it is whole again is lost."""


@dataclass(eq=False, slots=True)
class Line:
    """One request that is waited for.

    Attributes
    ----------
    last : float
        When something came last, or it was begun.
    limit_s : float
        How long nothing may come.
    """

    way: Way
    task: asyncio.Task[Any]
    last: float
    limit_s: float
    given_up: bool = False


class Watch:
    """Looks after all requests at once; time is the clock's, so that a simulator can move it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lines: dict[Line, None] = {}
        self._looking: asyncio.Task[None] | None = None

    @contextmanager
    def over(self, way: Way, limit_s: float) -> Iterator[Line]:
        """Watch over what this task waits for meanwhile.

        Raises
        ------
        TransientError
            Nothing came for longer than may be.
        """
        task = asyncio.current_task()
        assert task is not None
        line = Line(way, task, self._clock.monotonic(), limit_s)
        self._lines[line] = None
        if self._looking is None:
            self._looking = asyncio.ensure_future(self._look())
        before = task.cancelling()
        try:
            yield line
        except asyncio.CancelledError:
            if not line.given_up or task.uncancel() > before:
                raise
            silent_s = self._clock.monotonic() - line.last
            raise TransientError(
                f"nothing came for {silent_s:.1f} s",
                hint="check the network, and whether the server is overloaded",
                silent_s=silent_s,
            ) from None
        except BaseException:
            if line.given_up:
                task.uncancel()
            raise
        finally:
            self._lines.pop(line, None)
            if not self._lines and self._looking is not None:
                self._looking.cancel()
                self._looking = None

    def renew(self, way: Way) -> None:
        """Have asked anew whatever was lost while a way was broken: something came from there."""
        way.mended()
        before = self._clock.monotonic() - STALE_S
        # What came, came to this task: one that cancels itself may end before it hears of it.
        here = asyncio.current_task()
        for line in self._lines:
            if line.way is way and line.last < before and line.task is not here:
                self._give_up(line)

    async def _look(self) -> None:
        while True:
            await self._clock.sleep(LOOK_S)
            now = self._clock.monotonic()
            for line in self._lines:
                if now >= line.last + line.limit_s:
                    self._give_up(line)

    @staticmethod
    def _give_up(line: Line) -> None:
        if not line.given_up:
            line.given_up = True
            line.task.cancel()
