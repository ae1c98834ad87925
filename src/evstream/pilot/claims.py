"""Claims: how much work to hold, and when to leave."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

from evstream.client import Service
from evstream.domain.names import LeaseId, WorkerId
from evstream.pilot.concurrency import in_time, patiently
from evstream.pilot.in_hand import InHand, Unit
from evstream.pilot.settings import PilotSettings
from evstream.pilot.shared_products import CUT_HERE
from evstream.ports import Clock, Ids
from evstream.wire.work_messages import ClaimAnswer, ClaimRequest

_LOG = logging.getLogger(__name__)

POLL_S_LEAST = 0.01
"""Whatever the service says, an idle pilot does not ask more often."""


class Pace:
    """How fast units are computed, as a moving mean of the time between them.

    Attributes
    ----------
    units : int
        How many were computed so far.
    """

    WEIGHT = 1 / 16

    def __init__(self) -> None:
        self.units = 0
        self._last: float | None = None
        self._between_s = math.inf

    def computed(self, now: float) -> None:
        """Note that a unit was computed."""
        self.units += 1
        if self._last is not None:
            between_s = now - self._last
            if self._between_s == math.inf:
                self._between_s = between_s
            self._between_s += self.WEIGHT * (between_s - self._between_s)
        self._last = now

    def pause(self) -> None:
        """Leave out the time until the next unit: there was nothing to do."""
        self._last = None

    def units_in(self, seconds: float) -> float:
        """Return how many units are computed in a time; 0 before anything is known."""
        return seconds / self._between_s if self._between_s > 0 else math.inf


class Claimer:
    """Claims whenever there is room for more, until there is nothing to wait for.

    Parameters
    ----------
    begin : callable
        Told of the units that were got, in order.
    """

    def __init__(
        self,
        service: Service,
        clock: Clock,
        ids: Ids,
        settings: PilotSettings,
        worker: WorkerId,
        hand: InHand,
        begin: Callable[[list[Unit]], None],
    ) -> None:
        self._service = service
        self._clock = clock
        self._ids = ids
        self._settings = settings
        self._worker = worker
        self._hand = hand
        self._begin = begin
        self.pace = Pace()

    async def run(self) -> None:
        """Claim until no task has been active for `idle_s_max`.

        Raises
        ------
        EvstreamError
            The service refuses, or has been away for too long.
        """
        idle_since: float | None = None
        while True:
            await self._hand.until(lambda: self._room() > 0)
            answer = await self._claim(self._room())
            if answer.units:
                idle_since = None
                continue
            poll_s = max(answer.poll_s, POLL_S_LEAST) * (0.5 + self._ids.jitter())
            if answer.active_tasks or len(self._hand):
                idle_since = None
            else:
                now = self._clock.monotonic()
                idle_since = now if idle_since is None else idle_since
                idle_s = now - idle_since
                if idle_s >= self._settings.idle_s_max:
                    return
                poll_s = min(poll_s, self._settings.idle_s_max - idle_s)
            await self._wait(poll_s)

    async def _wait(self, seconds: float) -> None:
        """Wait before asking again; less if the last unit is answered for meanwhile.

        That unit may have been what the next ones waited for: a merge, for instance.
        """
        self.pace.pause()
        if len(self._hand):
            await in_time(self._clock, seconds, self._hand.until(lambda: not len(self._hand)))
        else:
            await self._clock.sleep(seconds)

    async def _claim(self, units: int) -> ClaimAnswer:
        lease = LeaseId(self._ids.new("lease"))
        settings = self._settings
        request = ClaimRequest(
            self._worker,
            units,
            settings.lease_s,
            settings.task,
            list(CUT_HERE),
            settings.near,
            settings.near_only,
            settings.site,
        )
        # The lease is expected before it is asked for: if the answer never comes, the
        # same question is repeated, and if we leave first, the lease is given back.
        self._hand.expect(lease)
        answer = await patiently(
            self._clock,
            self._ids,
            self._settings.away_s_max,
            lambda: self._service.claim(request, lease),
        )
        _LOG.debug("lease %s: asked for %d units, got %d", lease, units, len(answer.units))
        self._begin(self._hand.take(lease, answer.units))
        return answer

    def _target(self) -> int:
        """Return how many units to have in hand: a little work ahead, at the pace seen."""
        settings = self._settings
        by_pace = settings.cores + self.pace.units_in(settings.ahead_s)
        # The first units may be the shortest: never hold more than have been computed.
        wanted = min(max(2 * settings.cores, by_pace), 2 * settings.cores + self.pace.units)
        return int(min(wanted, settings.units_ahead_max))

    def _room(self) -> int:
        """Return how many units to ask for now; 0 while enough are in hand."""
        settings = self._settings
        target = self._target()
        # Half of what is ahead of the cores is spent before more is asked for.
        enough = target - max(1, (target - settings.cores) // 2)
        if self._hand.to_compute > enough:
            return 0
        # Results that cannot leave, since the store or the service is away, stop claims.
        unanswered_max = 2 * settings.units_ahead_max
        return max(0, min(target - self._hand.to_compute, unanswered_max - len(self._hand)))
