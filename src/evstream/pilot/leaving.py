"""Leaving: what has not begun goes back at once, what is finished goes out, the rest is ended."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Sequence

from evstream.client import Service
from evstream.domain.errors import EvstreamError, first_error
from evstream.domain.names import LeaseId, WorkerId
from evstream.pilot.concurrency import either, for_each, in_time
from evstream.pilot.depth import Depth
from evstream.pilot.in_hand import InHand, Stage, Unit
from evstream.pilot.settings import PilotSettings
from evstream.ports import Clock, Notices

_LOG = logging.getLogger(__name__)

STORE_S_MAX = 3.0
"""How long outputs that are on their way may go on once payloads are ended."""
RELEASE_S_MAX = 2.0
"""How long a leaving pilot then tries to give work back; after that its leases run out."""
LEAVE_S = STORE_S_MAX + RELEASE_S_MAX
NOTICE_EVERY_S = 5.0
"""As AWS advises; notices come 30 s before the end at the least."""
ANSWER_S_MAX = 5.0


class Departure:
    """Knows when to leave, and how.

    Parameters
    ----------
    abandon : callable
        Ends a unit and forgets it.
    depth : Depth
        Told until when units may be computed.

    Attributes
    ----------
    begun : asyncio.Event
        Set once it is time to leave.
    """

    def __init__(
        self,
        service: Service,
        clock: Clock,
        settings: PilotSettings,
        worker: WorkerId,
        hand: InHand,
        abandon: Callable[[Unit], None],
        depth: Depth,
    ) -> None:
        self._service = service
        self._clock = clock
        self._drain_s = settings.drain_s
        self._worker = worker
        self._hand = hand
        self._abandon = abandon
        self._depth = depth
        depth.until = clock.monotonic() + settings.walltime_s - self._drain_s - LEAVE_S
        self._last_payload = math.inf
        self._sooner = asyncio.Event()
        self.begun = asyncio.Event()

    # --- when -----------------------------------------------------------------------

    def begin(self, within_s: float = math.inf) -> None:
        """Leave now; payloads may go on for `drain_s`, and no longer than is said here."""
        now = self._clock.monotonic()
        self._last_payload = min(self._last_payload, now + min(self._drain_s, max(within_s, 0.0)))
        self.begun.set()
        self._sooner.set()

    async def watch(self, notices: Sequence[Notices]) -> None:
        """Begin to leave when a notice says so, or when time is over; for ever otherwise."""
        with first_error():
            async with asyncio.TaskGroup() as group:
                for one in notices:
                    group.create_task(self._watch_one(one))
                group.create_task(self._watch_time())

    async def _watch_time(self) -> None:
        while not self.begun.is_set():
            left = self._depth.until - self._clock.monotonic()
            if left <= 0:
                _LOG.warning("time is nearly over: leaving")
                self.begin()
                return
            self._sooner.clear()
            if left == math.inf:
                await self._sooner.wait()
            else:
                await either(self._sooner.wait(), self._clock.sleep(left))

    async def _watch_one(self, notices: Notices) -> None:
        silent = False
        # Also while leaving: it may have to be sooner.
        while True:
            try:
                await in_time(self._clock, ANSWER_S_MAX, self._look(notices))
                silent = False
            except EvstreamError as error:
                if not silent:
                    _LOG.warning("no notice of eviction can be had: %s; trying on", error)
                silent = True
            await self._clock.sleep(NOTICE_EVERY_S)

    async def _look(self, notices: Notices) -> None:
        notice = await notices.look()
        if notice is None:
            return
        if notice.evicted:
            before = self._last_payload
            self.begin(notice.seconds - LEAVE_S)
            if self._last_payload < before - NOTICE_EVERY_S:
                _LOG.warning("this node is to be left: %s s remain", notice.seconds)
            return
        until = self._clock.monotonic() + notice.seconds - self._drain_s - LEAVE_S
        if until < self._depth.until:
            self._depth.until = until
            self._sooner.set()

    # --- how ------------------------------------------------------------------------

    async def leave(self) -> None:
        """Give back what has not begun; let the rest end, as long as there is time."""
        self._hand.leaving = True
        self.begin()
        owed = {lease for lease in self._hand.leases() if self._unfinished(lease)}
        for unit in self._hand.units():
            if unit.stage is Stage.AHEAD:
                self._abandon(unit)
        if not len(self._hand):
            await in_time(self._clock, RELEASE_S_MAX, self._give_back(owed))
            return
        if await either(self._give_back(owed), self._payloads_time()):
            return
        for unit in self._hand.units():
            if unit.stage is Stage.RUNNING:
                owed.add(unit.lease)
                self._abandon(unit)
        if await in_time(self._clock, STORE_S_MAX, self._give_back(owed)):
            return
        owed.update(self._hand.leases())
        for unit in self._hand.units():
            self._abandon(unit)
        await in_time(self._clock, RELEASE_S_MAX, self._give_back(owed))

    async def _payloads_time(self) -> None:
        """Wait until payloads may go on no longer, which may become sooner meanwhile."""
        while (left := self._last_payload - self._clock.monotonic()) > 0:
            self._sooner.clear()
            await either(self._sooner.wait(), self._clock.sleep(left))

    async def _give_back(self, owed: set[LeaseId]) -> None:
        """Give leases back as soon as nothing of them is worked on, and see all reports off."""

        async def give_back(lease: LeaseId) -> None:
            # A release takes all that its lease holds, so it waits for what runs.
            await self._hand.until(lambda: not self._hand.units(lease))
            await self._release(lease)
            owed.discard(lease)

        await for_each(sorted(owed), max(1, len(owed)), give_back)
        await self._hand.until(lambda: not len(self._hand))

    def _unfinished(self, lease: LeaseId) -> bool:
        """Whether a lease has work to give back, or may have: its answer never came."""
        units = self._hand.units(lease)
        return not units or any(unit.stage is Stage.AHEAD or unit.several for unit in units)

    async def _release(self, lease: LeaseId) -> None:
        try:
            await self._service.release(lease, self._worker)
        except EvstreamError as error:
            _LOG.warning("lease %s was not given back, so it runs out: %s", lease, error)
