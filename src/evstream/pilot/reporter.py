"""Reports: what became of units, in batches, repeated until they are answered."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from evstream.client import Service
from evstream.domain.accounts import UnitAccount
from evstream.domain.errors import AccessError
from evstream.domain.ledger import Failure, Success
from evstream.domain.names import WorkerId
from evstream.domain.states import Answer
from evstream.pilot.concurrency import DEFINITE, patiently
from evstream.pilot.in_hand import InHand, Stage, Unit
from evstream.pilot.settings import PilotSettings
from evstream.pilot.units import Processed
from evstream.ports import Clock, Ids
from evstream.wire.work_messages import RangeUnit, UnitReport

_LOG = logging.getLogger(__name__)

Outcome = Success | Failure
CONTENTS_BYTES_MAX = 8 << 20
"""Outputs that go with the reports of one request have no more together."""
LOOK_S = 0.05
_TIMES = ("plan_s", "queue_s", "fetch_s", "ready_s", "starved_s", "idle_s", "stage_s")


def _is_bundled(unit: Unit, processed: Processed) -> bool:
    work = unit.work
    return isinstance(work, RangeUnit) and work.bundle_bytes > 0 and bool(processed.contents)


class Reporter:
    """Sends outcomes; a unit stays in hand until there is an answer.

    The queue is bounded by what is in hand, and that by the claims.

    Parameters
    ----------
    answered : callable
        Told of each unit's outcome and answer, once.
    """

    def __init__(
        self,
        service: Service,
        clock: Clock,
        ids: Ids,
        settings: PilotSettings,
        worker: WorkerId,
        hand: InHand,
        answered: Callable[[Unit, Outcome, Answer], None],
    ) -> None:
        self._service = service
        self._clock = clock
        self._ids = ids
        self._settings = settings
        self._worker = worker
        self._hand = hand
        self._answered = answered
        self._waiting: deque[tuple[Unit, Processed]] = deque()
        self._something = asyncio.Event()
        # What was answered since the last report, whose times that could not know.
        self._commit_s = 0.0

    def add(self, unit: Unit, processed: Processed) -> None:
        """Take what is to be reported; of a unit that was given up there is nothing."""
        if not self._hand.holds(unit):
            return
        unit.times.commit_s = -self._hand.now()
        self._hand.move(unit, Stage.REPORTED)
        self._waiting.append((unit, processed))
        self._something.set()

    async def run(self) -> None:
        """Report until cancelled.

        Raises
        ------
        TransientError
            The service has been away for longer than `away_s_max`.
        """
        while True:
            await self._something.wait()
            await self._clock.sleep(self._settings.report_s)
            while self._waiting:
                await self._wait_for_company()
                await self._send(self._next_batch())
            self._something.clear()

    async def _wait_for_company(self) -> None:
        """Wait longer where all outcomes bring outputs that become one object with others."""
        until = self._clock.monotonic() + self._settings.bundle_s
        while (
            all(_is_bundled(unit, processed) for unit, processed in self._waiting)
            and len(self._waiting) < self._settings.report_batch_max
            and (len(self._waiting) < len(self._hand) or self._hand.is_expecting)
            and not self._hand.leaving
            and not self._hand.is_risky
            and self._clock.monotonic() < until
        ):
            await self._clock.sleep(LOOK_S)

    def _next_batch(self) -> list[tuple[Unit, Processed]]:
        batch: list[tuple[Unit, Processed]] = []
        size = 0
        while self._waiting and len(batch) < self._settings.report_batch_max:
            size += sum(map(len, self._waiting[0][1].contents.values()))
            if batch and size > CONTENTS_BYTES_MAX:
                break
            batch.append(self._waiting.popleft())
        return batch

    async def _send(self, batch: list[tuple[Unit, Processed]]) -> None:
        reports = [self._report(unit, processed) for unit, processed in batch]
        try:
            answers = await patiently(
                self._clock,
                self._ids,
                self._settings.away_s_max,
                lambda: self._service.report(reports),
                # A token that is renewed late must not cost work that is done.
                passing=(AccessError,),
            )
        except DEFINITE as error:
            await self._send_apart(batch, error)
            return
        for (unit, processed), answer in zip(batch, answers, strict=True):
            self._close(unit, processed.outcome, answer)

    async def _send_apart(self, batch: list[tuple[Unit, Processed]], error: Exception) -> None:
        """One report that is refused must not take the others of its batch with it."""
        if len(batch) > 1:
            for item in batch:
                await self._send([item])
            return
        unit, processed = batch[0]
        _LOG.error("the report on %s was refused: %s", unit.work.range_id, error)
        # Its lease runs out, and the unit goes to somebody whose word is taken.
        self._close(unit, processed.outcome, Answer.SUPERSEDED)

    def _close(self, unit: Unit, outcome: Outcome, answer: Answer) -> None:
        if answer is Answer.SUPERSEDED:
            _LOG.info("%s came too late; dropped", unit.work.range_id)
        if self._hand.holds(unit):
            unit.times.commit_s += self._hand.now()
            self._commit_s += unit.times.commit_s
            self._answered(unit, outcome, answer)
            self._hand.drop(unit)

    def _report(self, unit: Unit, processed: Processed) -> UnitReport:
        outcome = processed.outcome
        return UnitReport(
            lease=unit.lease,
            worker=self._worker,
            ref=unit.work.ref,
            success=outcome if isinstance(outcome, Success) else None,
            failure=outcome if isinstance(outcome, Failure) else None,
            contents=processed.contents,
            md5=processed.md5,
            account=self._account(unit, processed),
        )

    def _account(self, unit: Unit, processed: Processed) -> UnitAccount:
        times, site = unit.times, self._settings.site or ""
        taken = {name: getattr(times, name) for name in _TIMES}
        commit_s, self._commit_s = self._commit_s, 0.0
        return UnitAccount(site, **taken, commit_s=commit_s, **processed.received)
