"""Lanes at work: makers wait for their turn here, or are sent away at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from evstream.domain.edges import LaneLoad
from evstream.domain.errors import OverloadError
from evstream.domain.lanes import Ask, Lane, LaneRules, Lanes, LaneState, Ticket, Turn
from evstream.ports import Clock


class MakingLanes:
    """The gate before an edge's makers.

    Parameters
    ----------
    rules : LaneRules
        Whoever makes needs threads for `LaneRules.at_once_max` of them.
    """

    def __init__(self, rules: LaneRules, clock: Clock) -> None:
        self.rules = rules
        self._lanes = Lanes(rules)
        self._clock = clock
        self._turns: dict[Ticket, asyncio.Future[None]] = {}
        self._keys: dict[str, Ticket] = {}

    def check(self, ask: Ask) -> None:
        """Send away at once who would be if they asked for a maker now.

        Raises
        ------
        OverloadError
        """
        self._lanes.check(ask)

    @asynccontextmanager
    async def admit(self, ask: Ask, key: str = "") -> AsyncIterator[None]:
        """Wait for a maker's turn; hold it while the context lasts.

        Parameters
        ----------
        key : str
            Of what is made; by it others may hasten it while it waits.

        Raises
        ------
        OverloadError
            At once if the lane is full; later if somebody more urgent took the place.
        """
        ticket, turn = self._lanes.enter(ask, self._clock.monotonic())
        future = self._turns[ticket] = asyncio.get_running_loop().create_future()
        if key:
            self._keys[key] = ticket
        try:
            self._tell(turn)
            await future
            yield
        finally:
            del self._turns[ticket]
            if self._keys.get(key) is ticket:
                del self._keys[key]
            self._tell(self._lanes.leave(ticket, self._clock.monotonic()))

    def hasten(self, key: str, ask: Ask) -> None:
        """Let what waits to be made be as urgent as one more who asks for it.

        Raises
        ------
        OverloadError
            It waits in a later lane, and the asker's own is full: it stays where it is.
        """
        ticket = self._keys.get(key)
        if ticket is not None:
            self._tell(self._lanes.hasten(ticket, ask, self._clock.monotonic()))

    def states(self) -> list[LaneState]:
        """Return every lane as it is now: for beats and metrics."""
        return self._lanes.states()

    def loads(self) -> dict[str, LaneLoad]:
        """Return how busy each lane is, for beats."""
        rules = self.rules
        return {
            one.lane.value: LaneLoad(
                running=one.making,
                waiting=one.waiting,
                makers_max=rules.makers,
                depth_max=rules.depth if one.lane is Lane.ON_DEMAND else rules.waiting_max,
                make_s=one.make_s,
            )
            for one in self.states()
        }

    def _tell(self, turn: Turn) -> None:
        for ticket in turn.begin:
            self._settle(ticket, None)
        for ticket in turn.displaced:
            self._settle(ticket, self._lanes.overload(ticket.ask.lane))

    def _settle(self, ticket: Ticket, error: OverloadError | None) -> None:
        future = self._turns[ticket]
        # Whoever waited may have gone away in this very moment; its place is given back then.
        if future.done():
            return
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
