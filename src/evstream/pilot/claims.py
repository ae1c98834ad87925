"""Claims: how much work to hold, and when to leave."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

from evstream.client import Service
from evstream.domain.errors import AccessError, TransientError
from evstream.domain.names import LeaseId, WorkerId
from evstream.pilot.concurrency import in_time, patiently
from evstream.pilot.depth import Depth
from evstream.pilot.in_hand import InHand, Unit
from evstream.pilot.settings import PilotSettings
from evstream.pilot.shared_products import CUT_HERE
from evstream.ports import Clock, Ids
from evstream.wire.work_messages import ClaimAnswer, ClaimRequest

_LOG = logging.getLogger(__name__)

POLL_S_LEAST = 0.01
"""Whatever the service says, an idle pilot does not ask more often."""


class Claimer:
    """Claims whenever there is room for more, until there is nothing to wait for.

    Parameters
    ----------
    begin : callable
        Told of the units that were got, in order.
    depth : Depth
        Says how many units to hold.
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
        depth: Depth,
    ) -> None:
        self._service = service
        self._clock = clock
        self._ids = ids
        self._settings = settings
        self._worker = worker
        self._hand = hand
        self._begin = begin
        self._depth = depth
        self._is_away = False
        self._was_let_in = False

    async def run(self) -> None:
        """Claim until no task has been active for `idle_s_max`, or no unit would end in time.

        Raises
        ------
        EvstreamError
            The service refuses, or has been away for too long.
        """
        idle_since: float | None = None
        while True:
            await self._until_room()
            if self._is_too_late():
                return
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

    async def _until_room(self) -> None:
        """Wait until more is to be claimed, or it is too late: something happens, or it is time."""
        while self._room() <= 0 and not self._is_too_late():
            running = self._hand.running_since()
            look_in_s = self._depth.look_in_s(self._clock.monotonic(), running)
            changed = self._hand.until(
                lambda was=running: (  # type: ignore[misc]
                    self._room() > 0 or self._is_too_late() or self._hand.running_since() != was
                )
            )
            if look_in_s < math.inf:
                await in_time(self._clock, look_in_s, changed)
            else:
                await changed

    async def _wait(self, seconds: float) -> None:
        """Wait before asking again; less if the last unit is answered for meanwhile.

        That unit may have been what the next ones waited for: a merge, for instance.
        """
        self._depth.pace.pause()
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
        asked = self._clock.monotonic()
        answer = await patiently(
            self._clock,
            self._ids,
            self._settings.away_s_max,
            lambda: self._ask(request, lease),
            # Who was let in once may wait for a token that is renewed late.
            passing=(AccessError,) if self._was_let_in else (),
        )
        self._was_let_in = True
        _LOG.debug("lease %s: asked for %d units, got %d", lease, units, len(answer.units))
        plan_s = self._clock.monotonic() - asked
        if answer.units:
            self._depth.claimed(plan_s)
        self._begin(self._hand.take(lease, answer.units, plan_s))
        return answer

    async def _ask(self, request: ClaimRequest, lease: LeaseId) -> ClaimAnswer:
        try:
            answer = await self._service.claim(request, lease)
        except (TransientError, AccessError) as error:
            if not self._is_away and (self._was_let_in or isinstance(error, TransientError)):
                # A wrong address looks the same as a service that is away for a while.
                patience_s = self._settings.away_s_max
                _LOG.warning("no work for now, trying on for %.0f s: %s", patience_s, error)
            self._is_away = True
            raise
        self._is_away = False
        return answer

    def _is_too_late(self) -> bool:
        """Whether nothing is in hand, and nothing more would end in time."""
        return not len(self._hand) and not self._depth.in_time(self._clock.monotonic())

    def _room(self) -> int:
        """Return how many units to ask for now; 0 while enough are in hand."""
        settings = self._settings
        low, high = self._depth.bounds(self._clock.monotonic(), self._hand.running_since())
        if self._hand.to_compute >= low:
            return 0
        # Results that cannot leave, since the store or the service is away, stop claims.
        unanswered_max = 2 * settings.units_ahead_max
        return max(0, min(high - self._hand.to_compute, unanswered_max - len(self._hand)))
