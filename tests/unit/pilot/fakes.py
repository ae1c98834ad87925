"""A service, payloads and a world for one pilot, all in memory and on virtual time."""

# ruff: noqa: ASYNC240 - small files on a local disk, and no other work waits

from __future__ import annotations

import hashlib
import zlib
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

from evstream.adapters.formats import KnownFormats
from evstream.adapters.offload import InPlace
from evstream.adapters.source.fsspec import FsspecOpener
from evstream.client import Service
from evstream.client.download import Fits
from evstream.domain.errors import EvstreamError, NotFoundError, TooLargeError, TransientError
from evstream.domain.ledger import LeasedInterval
from evstream.domain.names import LeaseId, WorkerId
from evstream.domain.payload import Payload
from evstream.domain.states import Answer
from evstream.pilot import Pilot, PilotSettings, PilotSummary, Tools
from evstream.ports import Notices, PayloadCall, PayloadResult
from evstream.testing.seeded_ids import SeededIds
from evstream.testing.virtual_time import EPOCH, VirtualClock
from evstream.wire import messages as m
from evstream.wire import work_messages as w

WORKER = WorkerId("worker-1")
STEP = 10

Work = w.RangeUnit | w.MergeUnit


def range_units(count: int, suffix: str = ".txt") -> list[w.RangeUnit]:
    """Make units 0, 1, … of ten entries each; product ``k`` has key ``"k"``."""
    return [
        w.RangeUnit(
            ref=w.UnitRef(2, 0, k * STEP, (k + 1) * STEP, 1),
            task=1,
            range_id=f"1-2-0-{k * STEP}-{(k + 1) * STEP}-1",
            lfn="a.root",
            parts=[
                w.RangePart(
                    k * STEP,
                    (k + 1) * STEP,
                    m.DeliveryPlan(str(k), {}, [f"/v1/products/{k}"]),
                    None,
                )
            ],
            payload=Payload("run {input} {output}", wall_s_max=60.0),
            outputs=[w.OutputSlot("output", suffix, f"out-{k}", f"/store/out-{k}")],
            log=f"log-{k}",
            log_url=f"/store/log-{k}",
        )
        for k in range(count)
    ]


def merge_unit(contents: list[bytes], suffix: str = ".txt") -> w.MergeUnit:
    """Make a merge whose inputs are ``in-0``, ``in-1``, …"""
    return w.MergeUnit(
        ref=w.UnitRef(3, 0, 0, 1, 1),
        task=1,
        range_id="1-3-0-0-1-1",
        inputs=[
            w.MergeInput(
                f"in-{k}",
                f"/store/in-{k}",
                len(part),
                hashlib.sha256(part).hexdigest(),
                f"entries {k * STEP}:{(k + 1) * STEP} of a.root",
            )
            for k, part in enumerate(contents)
        ],
        output=w.OutputSlot("output", suffix, "merged", "/store/merged"),
        log="merge-log",
        log_url="/store/merge-log",
    )


def number(unit: Work | w.UnitReport) -> int:
    """Return which of `range_units` it is."""
    return unit.ref.entry_start // STEP


class FakeService:
    """Answers as the head, the edge and the output store would.

    Attributes
    ----------
    away : bool
        Nothing answers.
    fetch_s, upload_s : float
        Virtual seconds that a transfer takes.
    errors : dict of str to EvstreamError
        What a request answers instead: ``"fetch KEY"``, ``"upload URL"``, ``"claim 1"``.
    stay : int
        Tasks that are active although there is no work.
    log : list of tuple
        What was asked, in order.
    """

    def __init__(self, works: list[Any], products: dict[str, bytes] | None = None) -> None:
        self.clock = VirtualClock()
        self.ready: deque[Work] = deque(works)
        self.leases: dict[str, dict[w.UnitRef, Work]] = {}
        self.products = products or {}
        self.store: dict[str, bytes] = {}
        self.errors: dict[str, EvstreamError] = {}
        self.answers: dict[int, list[Answer]] = {}
        self.reports: list[w.UnitReport] = []
        self.batches: list[int] = []
        self.renewals: list[w.RenewRequest] = []
        self.released: list[Work] = []
        self.log: list[tuple[Any, ...]] = []
        self.away = False
        self.lose_claim_answers = 0
        self.stay = 0
        self.fetch_s = self.upload_s = 0.0
        self.fetching = self.fetching_most = 0

    def _reach(self, *event: Any) -> None:
        self.log.append(event)
        if self.away:
            raise TransientError("away")
        if error := self.errors.get(f"{event[0]} {event[1]}"):
            raise error

    async def claim(self, request: w.ClaimRequest, lease: LeaseId) -> w.ClaimAnswer:
        self._reach("claim", request.units)
        if lease not in self.leases:
            count = min(request.units, len(self.ready))
            units = [self.ready.popleft() for _ in range(count)]
            self.leases[lease] = {unit.ref: unit for unit in units}
        if self.lose_claim_answers:
            self.lose_claim_answers -= 1
            raise TransientError("the answer was lost")
        units = list(self.leases[lease].values())
        active = self.stay or int(any(self.leases.values()))
        return w.ClaimAnswer(lease, request.lease_s, units, active, poll_s=0.5)

    async def renew(self, lease: LeaseId, request: w.RenewRequest) -> w.HeldAnswer:
        self._reach("renew", lease)
        self.renewals.append(request)
        rows = [
            LeasedInterval(
                LeaseId(lease),
                WORKER,
                ref.book,
                ref.chunk,
                ref.entry_start,
                ref.entry_stop,
                ref.attempt,
                0,
                0,
                timedelta(seconds=request.lease_s),
                EPOCH + timedelta(days=1),
            )
            for ref in self.leases.get(lease, {})
        ]
        return w.HeldAnswer(rows)

    async def release(self, lease: LeaseId, worker: WorkerId) -> w.HeldAnswer:
        self._reach("release", lease)
        self.released += self.leases.pop(lease, {}).values()
        return w.HeldAnswer([])

    async def report(self, reports: list[w.UnitReport]) -> list[Answer]:
        self._reach("report", len(reports))
        self.batches.append(len(reports))
        return [self._answer(report) for report in reports]

    def _answer(self, report: w.UnitReport) -> Answer:
        if self.leases.get(report.lease, {}).pop(report.ref, None) is None:
            answer = Answer.SUPERSEDED
        else:
            answer = Answer.ACCEPTED
            self.reports.append(report)
        self.answers.setdefault(number(report), []).append(answer)
        return answer

    async def register_product(self, descriptor: dict[str, Any]) -> m.DeliveryPlan:
        (source,) = descriptor["sources"]
        key = "own {}-{}".format(*source["entries"][0])
        self._reach("register", key)
        return m.DeliveryPlan(key, descriptor, [f"/v1/products/{key}"])

    async def fetch_product(
        self,
        plan: m.DeliveryPlan,
        path: Path,
        bytes_max: int | None = None,
        fits: Fits | None = None,
    ) -> Counter[str]:
        self._reach("fetch", plan.key)
        self.fetching += 1
        self.fetching_most = max(self.fetching_most, self.fetching)
        try:
            await self.clock.sleep(self.fetch_s)
        finally:
            self.fetching -= 1
        content = self.products.get(plan.key, f"product {plan.key}".encode())
        if bytes_max is not None and len(content) > bytes_max:
            raise TooLargeError(f"{len(content)} bytes")
        path.write_bytes(content)
        self.log.append(("fetched", plan.key))
        return Counter(head=len(content))

    async def fetch_output(self, url: str, path: Path) -> str:
        self._reach("fetch", url)
        if url not in self.store:
            raise NotFoundError(f"no {url}")
        path.write_bytes(self.store[url])
        return hashlib.sha256(self.store[url]).hexdigest()

    async def upload(self, url: str, path: Path) -> w.StoredAnswer:
        self._reach("upload", url)
        await self.clock.sleep(self.upload_s)
        content = path.read_bytes()
        self.store[url] = content
        digest = hashlib.sha256(content).hexdigest()
        return w.StoredAnswer(path.name, len(content), digest, f"{zlib.adler32(content):08x}")

    def lose(self, unit: Work) -> None:
        """Take one unit back, as an expiry would."""
        for units in self.leases.values():
            units.pop(unit.ref, None)

    def outcome(self, unit: int) -> w.UnitReport:
        """Return the accepted report on a unit."""
        (report,) = [report for report in self.reports if number(report) == unit]
        return report


def copying(call: PayloadCall) -> None:
    """Do what the plainest payload does."""
    Path(call.values["output"]).write_bytes(Path(call.values["input"]).read_bytes())


@dataclass
class FakeRunner:
    """Runs a function as the payload.

    Attributes
    ----------
    wall_s : float
        Virtual seconds that it takes.
    before : callable
        Awaited with the unit's number, once the payload has begun.
    """

    function: Callable[[PayloadCall], None] = copying
    wall_s: float = 0.0
    before: Callable[[int], Awaitable[None]] | None = None
    calls: list[PayloadCall] = field(default_factory=list)
    cancelled: list[int] = field(default_factory=list)
    running: int = 0
    running_most: int = 0

    async def run(self, call: PayloadCall, on_cpu: Callable[[float], None]) -> PayloadResult:
        self.calls.append(call)
        which = int(call.values["entry_start"]) // STEP
        self.running += 1
        self.running_most = max(self.running_most, self.running)
        finished = False
        try:
            on_cpu(0.25)
            if self.before is not None:
                await self.before(which)
            await VirtualClock().sleep(self.wall_s)
            self.function(call)
            finished = True
        finally:
            self.running -= 1
            if not finished:
                self.cancelled.append(which)
        return PayloadResult(cpu_s=0.5, wall_s=self.wall_s)

    def prepare(self, payload: Payload, staged: Mapping[str, str], directory: Path) -> None:
        """Nothing is to be begun before there is a unit."""

    async def close(self) -> None:
        pass


def make_pilot(
    service: FakeService,
    runner: FakeRunner,
    directory: Path,
    disk_is_full: Callable[[Path], bool] = lambda _: False,
    notices: tuple[Notices, ...] = (),
    **settings: Any,
) -> Pilot:
    """Make a pilot that leaves when there is no task, and stores outputs before it reports."""
    return Pilot(
        cast("Service", service),
        Tools(runner, KnownFormats(), InPlace(), FsspecOpener(), disk_is_full, None, notices),
        VirtualClock(),
        SeededIds(1),
        PilotSettings(**{"idle_s_max": 0.0, "inline_bytes_max": 0, **settings}),
        directory / "scratch",
        WORKER,
    )


async def run_pilot(
    service: FakeService, runner: FakeRunner, directory: Path, **settings: Any
) -> PilotSummary:
    """Run a pilot until it leaves, and see that it left nothing on disk."""
    summary = await make_pilot(service, runner, directory, **settings).run()
    assert list((directory / "scratch").iterdir()) == []
    return summary
