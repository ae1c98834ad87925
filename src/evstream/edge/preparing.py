"""An edge prepares what requests ask for: it claims ranges as pilots do, and makes products."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from evstream.client import Service
from evstream.domain.descriptor import Descriptor
from evstream.domain.errors import ConflictError, EvstreamError, SourceChangedError, TransientError
from evstream.domain.lanes import Ask, Lane
from evstream.domain.ledger import NODE, SOURCE, Failure, RunningUnit, Success
from evstream.domain.names import LeaseId, WorkerId
from evstream.domain.preparation import edge_worker
from evstream.edge.troubles import Troubles
from evstream.ports import Clock, Ids
from evstream.wire.product_messages import HeldProduct, HeldProducts
from evstream.wire.request_messages import EdgeClaim, PrepareUnit
from evstream.wire.work_messages import RenewRequest, UnitRef, UnitReport

_LOG = logging.getLogger(__name__)

LEASE_S = 60.0
RETRY_S = 1.0
REPORTS_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Made:
    """A product that an edge keeps now.

    Attributes
    ----------
    for_others : bool
        Whether the head is told that it is there.
    """

    encoder_id: str
    size: int
    sha256: str
    for_others: bool = True


Make = Callable[[Descriptor, Ask, float, bool], Awaitable[Made]]
"""Makes a product in the lane of an ask unless it is there, and keeps it for some seconds.

At the end it is said whether the file is to be copied whole before.
"""


@dataclass(frozen=True, slots=True)
class _Done:
    """A unit's outcome; of a success, the product too."""

    lease: LeaseId
    unit: PrepareUnit
    outcome: Success | Failure
    held: HeldProduct | None = None


class Preparing:
    """Works on requests for as long as it runs.

    Parameters
    ----------
    register : callable
        Tells the head of products that are kept.
    takes : callable
        Whether the edge takes new work; one that drains does not.
    units : int
        Products in hand at once: those that are made, and the next ones.
    """

    def __init__(
        self,
        head: Service,
        make: Make,
        clock: Clock,
        ids: Ids,
        *,
        name: str,
        units: int,
        register: Callable[[HeldProducts], Awaitable[None]],
        takes: Callable[[], bool] = lambda: True,
    ) -> None:
        self._head = head
        self._make = make
        self._clock = clock
        self._ids = ids
        self._name = name
        self._worker: WorkerId = edge_worker(name)
        self._units = units
        self._takes = takes
        self._tell_of = register
        self._hand: dict[tuple[LeaseId, UnitRef], asyncio.Task[None]] = {}
        self._done: list[_Done] = []
        self._ended = asyncio.Event()
        self._something_done = asyncio.Event()

    async def run(self) -> None:
        """Claim, make, register and report until cancelled; then give back what is not done."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._renew())
                group.create_task(self._report())
                await self._claim(group)
        finally:
            for lease in {lease for lease, _ in self._hand}:
                # It runs out by itself where the head is away.
                with contextlib.suppress(EvstreamError):
                    await self._head.release(lease, self._worker)

    async def _claim(self, group: asyncio.TaskGroup) -> None:
        troubles = Troubles(_LOG, "no work was to be had of the head", "the head gives work again")
        while True:
            free, poll_s = self._units - len(self._hand), RETRY_S
            if self._takes() and 2 * free >= self._units:
                self._ended.clear()
                lease = LeaseId(self._ids.new("lease"))
                try:
                    answer = await self._head.requests.claim(
                        self._name, EdgeClaim(free, LEASE_S), lease
                    )
                    troubles.worked()
                    poll_s = answer.poll_s
                    for unit in answer.units:
                        making = group.create_task(self._make_unit(lease, unit))
                        self._hand[lease, unit.ref] = making
                except EvstreamError as error:
                    troubles.failed(error)
            if self._hand:
                await self._ended.wait()
                self._ended.clear()
            else:
                await self._clock.sleep(poll_s)

    async def _make_unit(self, lease: LeaseId, unit: PrepareUnit) -> None:
        began = self._clock.monotonic()
        held = None
        try:
            descriptor = Descriptor.from_wire(unit.descriptor)
            ask = Ask(Lane.PREPARED, unit.user, unit.priority)
            made = await self._make(descriptor, ask, unit.life_s, unit.precache)
            if made.for_others:
                held = HeldProduct(unit.descriptor, made.encoder_id, made.size, made.sha256)
            wall_s = self._clock.monotonic() - began
            outcome: Success | Failure = Success((), wall_s=wall_s, bytes_in=made.size)
        except Exception as error:  # noqa: BLE001 - one product must not end the others
            if not isinstance(error, EvstreamError):
                _LOG.exception("evstream: a product of request %s failed", unit.request)
            wall_s = self._clock.monotonic() - began
            outcome = Failure(_kind(error), str(error) or type(error).__name__, wall_s=wall_s)
        self._done.append(_Done(lease, unit, outcome, held))
        self._something_done.set()

    def _drop(self, lease: LeaseId, unit: PrepareUnit) -> None:
        self._hand.pop((lease, unit.ref), None)
        self._ended.set()

    async def _renew(self) -> None:
        while True:
            await self._clock.sleep(LEASE_S / 4)
            for lease in {lease for lease, _ in self._hand}:
                refs = [ref for held, ref in self._hand if held == lease]
                running = [
                    RunningUnit(ref.book, ref.chunk, ref.entry_start, ref.entry_stop)
                    for ref in refs
                ]
                try:
                    answer = await self._head.renew(
                        lease, RenewRequest(self._worker, LEASE_S, running)
                    )
                except EvstreamError as error:
                    _LOG.warning("evstream: lease %s was not renewed: %s", lease, error)
                    continue
                for ref in refs:
                    if (lease, ref) in self._hand and not any(
                        (row.book, row.chunk, row.attempt) == (ref.book, ref.chunk, ref.attempt)
                        and row.entry_start <= ref.entry_start
                        and ref.entry_stop <= row.entry_stop
                        for row in answer.held
                    ):
                        self._give_up(lease, ref)

    def _give_up(self, lease: LeaseId, ref: UnitRef) -> None:
        """Stop making what the head has taken back; what is done is reported all the same."""
        making = self._hand[lease, ref]
        if not making.done():
            del self._hand[lease, ref]
            self._ended.set()
            making.cancel()

    async def _report(self) -> None:
        while True:
            await self._something_done.wait()
            batch, self._done = self._done[:REPORTS_AT_ONCE], self._done[REPORTS_AT_ONCE:]
            if not self._done:
                self._something_done.clear()
            await self._send(batch)

    async def _send(self, batch: list[_Done]) -> None:
        """Register what was made and report it, in this order: what counts as ready is there."""
        while True:
            try:
                await self._register(batch)
                reports = [
                    UnitReport(
                        lease=one.lease,
                        worker=self._worker,
                        ref=one.unit.ref,
                        success=one.outcome if isinstance(one.outcome, Success) else None,
                        failure=one.outcome if isinstance(one.outcome, Failure) else None,
                    )
                    for one in batch
                ]
                await self._head.report(reports)
                break
            except TransientError as error:
                _LOG.warning("evstream: the head takes no report: %s", error)
                await self._clock.sleep(RETRY_S)
            except EvstreamError as error:
                if len(batch) == 1:
                    # Its lease runs out, and somebody else gets it.
                    _LOG.error("evstream: a report was refused: %s", error)
                    break
                # One that is refused must not take the others with it.
                for one in batch:
                    await self._send([one])
                return
        for one in batch:
            self._drop(one.lease, one.unit)

    async def _register(self, batch: list[_Done]) -> None:
        by_life: dict[float, list[HeldProduct]] = {}
        for one in batch:
            if one.held is not None:
                by_life.setdefault(one.unit.life_s, []).append(one.held)
        for life_s, products in by_life.items():
            await self._tell_of(HeldProducts(products, life_s))


def _kind(error: Exception) -> str:
    """Return the kind of a failure: the source's for good, or this edge's."""
    if isinstance(error, SourceChangedError):
        return SOURCE
    if isinstance(error, TransientError | ConflictError) or not isinstance(error, EvstreamError):
        return NODE
    return "input"
