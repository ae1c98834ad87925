"""Heartbeats: keep leases alive, and stop what is no longer ours."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from evstream.client import Service
from evstream.domain.errors import ConflictError, EvstreamError, NotFoundError, first_error
from evstream.domain.ledger import LeasedInterval, RunningUnit
from evstream.domain.names import LeaseId, WorkerId
from evstream.pilot.concurrency import for_each, in_time
from evstream.pilot.in_hand import InHand, Stage, Unit
from evstream.pilot.settings import PilotSettings
from evstream.ports import Clock
from evstream.wire.work_messages import RenewRequest, UnitRef

_LOG = logging.getLogger(__name__)

BEGUN_EVERY_S = 0.2
"""The service is told at once what has begun, but of a flood of short units no more often."""
RENEWALS_AT_ONCE = 8
LINKS_EVERY_S = 30.0
ROUNDS = 3


class Heartbeat:
    """Renews each lease with what runs under it.

    Parameters
    ----------
    lost : callable
        Told of each unfinished unit that its lease no longer holds.
    """

    def __init__(
        self,
        service: Service,
        clock: Clock,
        settings: PilotSettings,
        worker: WorkerId,
        hand: InHand,
        lost: Callable[[Unit], None],
    ) -> None:
        self._service = service
        self._clock = clock
        self._settings = settings
        self._worker = worker
        self._hand = hand
        self._lost = lost
        self._unanswered = False

    async def run(self) -> None:
        """Beat until cancelled."""
        with first_error():
            async with asyncio.TaskGroup() as group:
                group.create_task(self._beat())
                group.create_task(self._tell_what_begins())
                if self._settings.site is not None:
                    group.create_task(self._tell_of_links(self._settings.site))

    async def _tell_what_begins(self) -> None:
        """Renew the leases of what has begun: should it kill us, the service must know."""
        while True:
            await self._hand.until(lambda: bool(self._hand.untold))
            leases = {unit.lease for unit in self._hand.untold}
            await for_each(sorted(leases), RENEWALS_AT_ONCE, self.renew)
            await self._clock.sleep(BEGUN_EVERY_S)

    async def _tell_of_links(self, site: str) -> None:
        """Say how fast edges were, so that plans are better; nothing depends on it."""
        while True:
            await self._clock.sleep(LINKS_EVERY_S)
            try:
                await self._service.plans.tell_links(site)
            except EvstreamError as error:
                _LOG.debug("what was seen of links is not told: %s", error)

    async def _beat(self) -> None:
        while True:
            await self._clock.sleep(self._settings.beat_s)
            leases = [lease for lease in self._hand.leases() if self._hand.units(lease)]
            await for_each(leases, RENEWALS_AT_ONCE, self.renew)

    async def renew(self, lease: LeaseId) -> None:
        """Renew one lease, saying what has begun; gives up before the lease runs out."""
        # An answer may be lost, and a connection that waits for it hangs for long: the
        # renewal is then sent again while there is still a lease to renew.
        seconds = self._settings.lease_s / 2 / ROUNDS
        for _ in range(ROUNDS):
            if await in_time(self._clock, seconds, self._renew_once(lease)):
                return
            self._note_silence(f"no answer to a renewal for {seconds:.1f} s")

    async def _renew_once(self, lease: LeaseId) -> None:
        units = self._hand.units(lease)
        self._hand.untold.difference_update(units)
        running = [
            RunningUnit(ref.book, ref.chunk, ref.entry_start, ref.entry_stop, unit.cpu_s)
            for unit in units
            if unit.stage is not Stage.AHEAD
            for ref in (unit.work.ref,)
        ]
        request = RenewRequest(self._worker, self._settings.lease_s, running)
        try:
            held: Sequence[LeasedInterval] = (await self._service.renew(lease, request)).held
            self._note_answer()
        except (NotFoundError, ConflictError) as error:
            _LOG.warning("lease %s is gone: %s", lease, error)
            held = ()
        except EvstreamError as error:
            # Going on costs nothing: if the lease has expired, the reports will say so.
            self._note_silence(str(error))
            return
        for unit in units:
            # What is reported meanwhile has left the lease by being accepted.
            reported = unit.stage is Stage.REPORTED or not self._hand.holds(unit)
            if not reported and not _covers(held, unit.work.ref):
                _LOG.warning("%s was taken back; stopping it", unit.work.range_id)
                self._lost(unit)

    def _note_silence(self, why: str) -> None:
        """Say that leases are not renewed: once, until they are again."""
        if not self._unanswered:
            _LOG.warning("leases are not renewed: %s; trying on", why)
        self._unanswered = True

    def _note_answer(self) -> None:
        if self._unanswered:
            _LOG.warning("leases are renewed again")
        self._unanswered = False


def _covers(held: Sequence[LeasedInterval], ref: UnitRef) -> bool:
    return any(
        (row.book, row.chunk, row.attempt) == (ref.book, ref.chunk, ref.attempt)
        and row.entry_start <= ref.entry_start
        and ref.entry_stop <= row.entry_stop
        for row in held
    )
