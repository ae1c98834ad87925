"""The pilot: claims work, fetches ahead, computes, reports; leaves when told or idle."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

from evstream.client import Service
from evstream.domain.errors import ConfigError, EvstreamError, first_error
from evstream.domain.ledger import Failure, Success
from evstream.domain.names import WorkerId
from evstream.domain.states import Answer
from evstream.pilot.claims import Claimer
from evstream.pilot.concurrency import either
from evstream.pilot.depth import Depth
from evstream.pilot.heartbeat import Heartbeat
from evstream.pilot.in_hand import InHand, Stage, Unit
from evstream.pilot.leaving import Departure
from evstream.pilot.merging import Merger
from evstream.pilot.outputs import OutputStage
from evstream.pilot.prefetch import Prefetcher
from evstream.pilot.reporter import Reporter
from evstream.pilot.settings import PilotSettings
from evstream.pilot.stepped import SteppedRunner
from evstream.pilot.summary import PilotSummary, Tally
from evstream.pilot.tools import Tools
from evstream.pilot.units import Processed, Workbench
from evstream.ports import Clock, Ids

_LOG = logging.getLogger(__name__)


class Pilot:
    """One worker. Loses nothing that it was given: all is reported, given back, or expires.

    Parameters
    ----------
    service : Service
        Stays open; whoever made it closes it.
    directory : Path
        Scratch space of this pilot's own; made if it is not there.
    worker : WorkerId
        Unique among all workers, also over restarts.

    Attributes
    ----------
    is_held_up : bool
        After its end: a thread still waits for a source, or a store, that says nothing.
    """

    def __init__(
        self,
        service: Service,
        tools: Tools,
        clock: Clock,
        ids: Ids,
        settings: PilotSettings,
        directory: Path,
        worker: WorkerId,
    ) -> None:
        self._service = service
        self._clock = clock
        self._notices = tools.notices
        self._settings = settings
        self._directory = directory.absolute()
        self._worker = worker
        self._hand = hand = InHand(clock.monotonic)
        self._tally = Tally()
        self._group = asyncio.TaskGroup()
        self._node_failures = 0
        self._broken: ConfigError | None = None
        self._offload = tools.offload
        self._steps = tools.steps
        if tools.steps is not None:
            stepped = SteppedRunner(tools.runner, tools.steps, tools.offload, self._directory)
            tools = replace(tools, runner=stepped)
        self._runner = tools.runner
        self._cutter, self._writer = tools.cutter, tools.writer
        self.is_held_up = False
        self._depth = Depth(
            settings.cores,
            settings.ahead_s,
            settings.fetches_max,
            settings.units_ahead_max,
            settings.prefetch_bytes_max,
        )
        self._prefetcher = Prefetcher(service, clock, ids, tools, settings, self._depth)
        self._bench = Workbench(
            self._prefetcher,
            OutputStage(service, clock, ids, tools, settings),
            Merger(clock, tools),
            tools,
            settings,
            self._directory,
            hand,
            self._announce,
        )
        self._departure = Departure(
            service, clock, settings, worker, hand, self._abandon, self._depth
        )
        self._claimer = Claimer(
            service, clock, ids, settings, worker, hand, self._begin, self._depth
        )
        self._reporter = Reporter(service, clock, ids, settings, worker, hand, self._answered)
        self._heartbeat = Heartbeat(service, clock, settings, worker, hand, self._abandon)

    def stop(self, within_s: float = math.inf) -> None:
        """Claim no more, give back what has not begun, and let `run` end.

        What runs may go on for `drain_s`, or for less if so is said here; what has not ended
        then is ended, and given back too. It may be said again, and sooner. Call it on the
        pilot's own event loop.
        """
        self._departure.begin(within_s)

    async def run(self) -> PilotSummary:
        """Work until told to stop, or until there is nothing left to wait for.

        A pilot runs once. Cancelling it ends its payloads and gives nothing back, as
        a crash would.

        Raises
        ------
        EvstreamError
            The service refused to give work, or was away for longer than `away_s_max`.
        ConfigError
            This node fails every unit: its disk is full, or something is missing on it.
        """
        began = self._clock.monotonic()
        self._make_directory()
        await self._prepare_node()
        try:
            with first_error():
                async with self._group as group:
                    loops = [
                        group.create_task(self._reporter.run()),
                        group.create_task(self._heartbeat.run()),
                        group.create_task(self._departure.watch(self._notices)),
                    ]
                    refused = await self._work()
                    for loop in loops:
                        loop.cancel()
        finally:
            await self._runner.close()
            for held in (self._writer, self._cutter):
                if held is not None and not await held.close():
                    self.is_held_up = True
            await self._tell_leaving()
        if error := self._broken or refused:
            raise error
        return replace(self._tally.summary, wall_s=self._clock.monotonic() - began)

    def _make_directory(self) -> None:
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"{self._directory} cannot be used: {error}",
                hint="give the pilot a directory that it may write to",
            ) from error

    async def _prepare_node(self) -> None:
        if (steps := self._steps) is None:
            return
        preparing = asyncio.ensure_future(
            self._offload(lambda: steps.prepare_node(self._directory))
        )
        try:
            # A step that hangs must not keep the pilot from leaving.
            await self._until_stopped(_unhurt(preparing))
            if not preparing.done():
                self.is_held_up = True
        except Exception as error:
            raise ConfigError(
                f"the pilot's step prepare_node failed: {type(error).__name__}: {error}",
                hint="mend this node, or the steps",
            ) from error

    async def _tell_leaving(self) -> None:
        if self._steps is None:
            return
        try:
            await self._offload(self._steps.leaving)
        except Exception:  # noqa: BLE001 - all work is safe by now
            _LOG.exception("the pilot's step leaving failed")

    async def _work(self) -> EvstreamError | None:
        """Claim and process; returns why the service gave no more, if it refused."""
        refused: EvstreamError | None = None
        try:
            await self._until_stopped(self._claimer.run())
        except EvstreamError as error:
            # What is in hand is still ours to finish.
            refused = error
            if len(self._hand):
                _LOG.warning("no more work is claimed, and what is in hand ends: %s", error)
            await self._until_stopped(self._hand.until(lambda: not len(self._hand)))
        await self._departure.leave()
        return refused

    async def _until_stopped(self, work: Coroutine[Any, Any, object]) -> None:
        await either(work, self._departure.begun.wait())

    def _begin(self, units: list[Unit]) -> None:
        for unit in units:
            unit.task = self._group.create_task(self._process(unit))

    async def _process(self, unit: Unit) -> None:
        processed = await self._bench.process(unit)
        self._tally.received(processed.received)
        if isinstance(processed.outcome, Success):
            # Failing is fast; it must not look like a reason to claim more.
            self._depth.computed(self._clock.monotonic(), processed.outcome.wall_s)
        self._watch_node(processed)
        self._reporter.add(unit, processed)

    async def _announce(self, unit: Unit) -> None:
        """Have the service know what runs now: this unit may be what kills its workers."""
        computed = [other for other in self._hand.units() if other.stage is Stage.REPORTED]
        await self._hand.until(lambda: not any(map(self._hand.holds, computed)))
        await self._heartbeat.renew(unit.lease)

    def _watch_node(self, processed: Processed) -> None:
        if not processed.node_failed:
            self._node_failures = 0
            return
        self._node_failures += 1
        assert isinstance(processed.outcome, Failure)
        if self._node_failures >= self._settings.node_failures_max and not self._broken:
            self._broken = ConfigError(
                f"{self._node_failures} units in a row failed by {processed.outcome.error}",
                hint=f"mend this node, or give another directory than {self._directory}",
            )
            self._departure.begin()

    def _answered(self, unit: Unit, outcome: Success | Failure, answer: Answer) -> None:
        self._tally.answered(unit.times, outcome, answer)

    def _abandon(self, unit: Unit) -> None:
        if self._hand.holds(unit):
            self._tally.abandoned()
            self._hand.drop(unit)
        if unit.task is not None:
            unit.task.cancel()


async def _unhurt(work: asyncio.Future[Any]) -> None:
    """Wait for something that goes on if the waiting is cancelled."""
    await asyncio.shield(work)
