"""Edges of a simulation: they die, lie, are cut off, wiped and taken out, by a seed."""

from __future__ import annotations

import asyncio
import contextlib
import io
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from evstream.adapters.formats import KnownFormats
from evstream.adapters.offload import InPlace
from evstream.adapters.product_store.memory import MemoryProductStore
from evstream.adapters.source.memory import MemoryOpener
from evstream.assembly.edge import EdgeApplication, EdgeParts
from evstream.client import Connection, Service
from evstream.domain.edges import EdgeState
from evstream.domain.errors import EvstreamError
from evstream.domain.granularity import Granularity
from evstream.domain.products import Edge
from evstream.ports import Ids, KeptProduct, ProductCatalogue
from evstream.settings import Settings
from evstream.testing.edge_checks import EdgeChecks
from evstream.testing.faults import FaultRates, FaultyTransport, Wire
from evstream.testing.hosts import DEAF, FULL, Hosts
from evstream.testing.silent_lies import SilentLies
from evstream.testing.virtual_time import VirtualClock
from evstream.wire.messages import DeliveryPlan, NewSlice
from evstream.wire.request_messages import NewRequest

TROUBLES = (
    "lose",
    "lose",
    "empty",
    "apart",
    "deaf",
    "unseen",
    "slow",
    "wipe",
    "maintenance",
    "draining",
)
"""What happens to edges; each is undone a while later:

- lose, empty: killed, and started again with what its store holds, or with nothing
- apart: the head hears nothing of it; deaf: it hears nothing of the head
- unseen: pilots do not reach it; slow: messages to it take long
- wipe: its store is emptied while it runs
- maintenance, draining: an operator takes it out
"""
WHILE_S_MAX = 90.0
BEAT_S = 5.0
OPERATORS = "what opens edges to their operator"
PREPARED_S_MAX = 2_000.0
READ_ON_S = 150.0
SETTLED_S = 75.0
"""By then edges have beaten, looked through their stores and told what changed."""


@dataclass(frozen=True, slots=True)
class EdgeScenario:
    """What happens to a simulation's edges.

    Attributes
    ----------
    count : int
        How many there are; without any, the head serves products itself.
    troubles : int
        How often something of `TROUBLES` happens to one.
    damaged : bool
        The first edge's store damages what it is given: digests tell.
    wrong : bool
        The first edge makes wrong bytes, and says so truly: only another edge's can tell.
    silent : bool
        The first edge tells the right digests, sends other bytes, and no digest with them.
    cross_check_every : int
        Of so many products two edges make one.
    requests : int
        Requests to prepare that run beside the task.
    makers, depth : int
        Of each edge; small ones are full often.
    """

    count: int = 0
    troubles: int = 6
    damaged: bool = False
    wrong: bool = False
    silent: bool = False
    cross_check_every: int = 4
    requests: int = 0
    makers: int = 2
    depth: int = 1

    @property
    def lies(self) -> bool:
        """Whether something is wrong with the first edge."""
        return self.damaged or self.wrong or self.silent

    @property
    def deceives(self) -> bool:
        """Whether it may send wrong bytes that nobody can tell from right ones."""
        return self.wrong or self.silent


@dataclass(frozen=True, slots=True)
class EdgeSurroundings:
    """What all edges of a simulation share.

    Attributes
    ----------
    files : mapping of str to bytes
        Sources by name.
    products : callable
        Returns the head's books, of the database that is open now.
    """

    hosts: Hosts
    clock: VirtualClock
    ids: Ids
    files: Mapping[str, bytes]
    folder: Path
    products: Callable[[], ProductCatalogue]
    rates: FaultRates = field(default_factory=FaultRates)


class _DamagingStore(MemoryProductStore):
    """Damages what it is given, and does not know it."""

    async def put(self, kept: KeptProduct, spool: Path) -> None:
        _damage(spool)
        await super().put(kept, spool)


def _damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


class SimulatedEdge:
    """One edge: its process, which comes and goes, and its store, which may stay."""

    def __init__(
        self, name: str, around: EdgeSurroundings, scenario: EdgeScenario, rng: random.Random
    ) -> None:
        self.name = name
        self.host = f"{name}.example"
        self.application: EdgeApplication | None = None
        self.lies = name.endswith("-1") and scenario.lies
        self._around = around
        self._scenario = scenario
        self._lying = random.Random(rng.getrandbits(64) if scenario.silent else 0)
        self._folder = around.folder / name
        self.store = self._new_store()
        self.wire = Wire(random.Random(rng.getrandbits(64)), around.clock, around.rates)
        self._loops: list[asyncio.Task[None]] = []
        self._transport = FaultyTransport(around.hosts.seen_from(name))
        around.hosts.add(self.host, self.wire)

    @property
    def url(self) -> str:
        """Where clients reach it."""
        return f"https://{self.host}"

    def _new_store(self) -> MemoryProductStore:
        damages = self.lies and self._scenario.damaged
        kind = _DamagingStore if damages else MemoryProductStore
        return kind(self._folder / "spool", self._around.clock.now)

    async def start(self, checks: EdgeChecks, *, empty: bool = False) -> None:
        """Start its process, with what its store holds or with a new disk."""
        around, wrong = self._around, self.lies and self._scenario.wrong
        if empty:
            self.store = self._new_store()
            for path in self._folder.glob("*.json"):
                path.unlink()
        settings = Settings(
            data_dir=str(self._folder),
            edge_name=self.name,
            beat_s=BEAT_S,
            cache_bytes_max=1 << 30,
            makers=self._scenario.makers,
            on_demand_depth=self._scenario.depth,
        )
        sources = {name: damaged(content) for name, content in around.files.items()}
        opener = MemoryOpener(sources if wrong else around.files)
        self._transport = transport = FaultyTransport(around.hosts.seen_from(self.name))
        connection = Connection(
            transport, around.clock, around.ids, patience_s=2.0, elsewhere=lambda: transport
        )
        parts = EdgeParts(
            around.clock, around.ids, InPlace(), opener, KnownFormats(), store=self.store
        )
        application = EdgeApplication(
            Service(connection), parts, settings, self.url, token=OPERATORS
        )
        await application.cache.open()
        loop = asyncio.get_running_loop()
        self._loops = [loop.create_task(each) for each in application.loops()]
        self.application = application
        way: httpx2.AsyncBaseTransport = httpx2.ASGITransport(application.app)
        if self.lies and self._scenario.silent:
            way = SilentLies(way, self._lying)
        self.wire.connect(checks.watched(self, way))

    async def kill(self) -> None:
        """End its process where it stands."""
        application, self.application = self.application, None
        if application is None:
            return
        self._transport.die()
        await self.wire.cut()
        while running := [each for each in self._loops if not each.done()]:
            for each in running:
                each.cancel()
            await asyncio.wait(running, timeout=0.001)
        await application.close()

    async def wipe(self) -> None:
        """Empty its store under it."""
        for kept in await self.store.listing():
            await self.store.delete(kept)


class SimulatedFleet:
    """The edges of a simulation, and what happens to them.

    Parameters
    ----------
    operator : Service
        How somebody takes edges out and gives them back, and reads products meanwhile.
    """

    def __init__(
        self,
        scenario: EdgeScenario,
        around: EdgeSurroundings,
        operator: Service,
        rng: random.Random,
    ) -> None:
        self._reading: asyncio.Task[None] | None = None
        self._scenario = scenario
        self._around = around
        self._operator = operator
        self._rng = rng
        names = [f"edge-{number + 1}" for number in range(scenario.count)]
        self.edges = [SimulatedEdge(name, around, scenario, rng) for name in names]
        self.checks = EdgeChecks(self.edges, around.clock, around.products)
        self._happening: list[asyncio.Task[None]] = []
        self._asked: list[int] = []
        self._dataset = ""
        self.done: list[str] = []

    async def start(self) -> None:
        """Start all edges, and what is going to happen to them."""
        for edge in self.edges:
            await edge.start(self.checks)
        loop, rng = asyncio.get_running_loop(), self._rng
        for _ in range(self._scenario.troubles if self.edges else 0):
            at, lasts = rng.random() * 120.0, rng.random() * WHILE_S_MAX
            what, edge = rng.choice(TROUBLES), rng.choice(self.edges)
            self._happening.append(loop.create_task(self._happen(at, lasts, what, edge)))

    async def _happen(self, at: float, lasts: float, what: str, edge: SimulatedEdge) -> None:
        await self._around.clock.sleep(at)
        self.done.append(what)
        await self._begin(what, edge)
        await self._around.clock.sleep(lasts)
        await self._undo(what, edge)

    async def _begin(self, what: str, edge: SimulatedEdge) -> None:
        hosts = self._around.hosts
        if what in ("lose", "empty"):
            await edge.kill()
        elif what == "apart":
            hosts.part(edge.name, "", FULL)
        elif what == "deaf":
            hosts.part(edge.name, "", DEAF)
        elif what == "unseen":
            hosts.part("pilot", edge.host, FULL)
        elif what == "slow":
            edge.wire.rates = FaultRates(delayed=1.0)
        elif what == "wipe":
            await edge.wipe()
        else:
            await self._set_state(edge, what)  # type: ignore[arg-type]

    async def _undo(self, what: str, edge: SimulatedEdge) -> None:
        hosts = self._around.hosts
        if what in ("lose", "empty"):
            if edge.application is None:
                await edge.start(self.checks, empty=what == "empty")
        elif what in ("apart", "deaf"):
            hosts.heal(edge.name, "")
        elif what == "unseen":
            hosts.heal("pilot", edge.host)
        elif what == "slow":
            edge.wire.rates = self._around.rates
        elif what in ("maintenance", "draining"):
            found = await self._known(edge)
            if found is not None and found.state == what:
                await self._set_state(edge, "serving")

    async def _known(self, edge: SimulatedEdge) -> Edge | None:
        with contextlib.suppress(EvstreamError):
            return next(
                (one for one in await self._operator.prepared.edges() if one.name == edge.name),
                None,
            )
        return None

    async def _set_state(self, edge: SimulatedEdge, state: EdgeState) -> None:
        # It may not have joined yet, or the head may be away for long.
        with contextlib.suppress(EvstreamError):
            await self._operator.edges.set_state(edge.name, state, "simulated")

    async def ask(self, service: Service, dataset: str, events: int) -> None:
        """Have products prepared, of each size another set."""
        self._dataset = dataset
        for number in range(self._scenario.requests):
            wanted = NewRequest(dataset, granularity=Granularity(events=events + number))
            view = await service.requests.submit(wanted, f"request-{number}")
            self._asked.append(view.id)
        if self.edges:
            self._reading = asyncio.get_running_loop().create_task(self._read_on(dataset))

    async def _read_on(self, dataset: str) -> None:
        """Read products again and again, until cancelled: of few kinds, so that some are kept."""
        while True:
            await self._around.clock.sleep(self._rng.random() * 10.0)
            with contextlib.suppress(EvstreamError):
                plan = await self._plan(dataset)
                path = self._around.folder / "read"
                await self._operator.fetch_product(plan, path)

    async def _plan(self, dataset: str) -> DeliveryPlan:
        lfn = self._rng.choice(sorted(self._around.files))
        wanted = NewSlice(dataset, lfn, "", 0, self._rng.choice((25, 50)))
        return await self._operator.describe_slice(wanted)

    async def _check_doors(self, dataset: str) -> None:
        """See that the URLs of a plan open the doors of the edge that they name, and no others."""
        for url in (await self._plan(dataset)).urls[:-1]:
            for edge in self.edges:
                if edge.application is None or edge.application.joining.state != "serving":
                    continue
                transport = httpx2.ASGITransport(edge.application.app)
                async with httpx2.AsyncClient(transport=transport) as client:
                    status = (await client.get(url)).status_code
                # One that has other bytes of a source may find them damaged.
                open_ = {200, 422} if edge.lies else {200}
                expected = open_ if httpx2.URL(url).host == edge.host else {403}
                assert status in expected, (url, edge.name, status)

    async def _has_prepared(self) -> bool:
        """Whether all requests have ended: with all of it made, or set aside for a reason."""
        views = [await self._operator.requests.request(number) for number in self._asked]
        for view in views:
            ended = view.progress.finished + view.progress.fatal
            assert not view.state.final or ended == view.progress.entries, view
        return all(view.state.final for view in views)

    async def settle(self) -> None:
        """End all troubles, have all edges back that do not lie, and wait until they have told."""
        await asyncio.gather(*self._happening)
        self.checks.raise_first()
        for edge in self.edges:
            edge.wire.calm = True
        if not self.edges:
            return
        until = self._around.clock.monotonic() + PREPARED_S_MAX
        while not await self._has_prepared():
            assert self._around.clock.monotonic() < until, "requests do not end"
            await self._around.clock.sleep(5.0)
        if self._scenario.silent:
            # What was read before anybody had told of it is read once more, by better plans.
            await self._around.clock.sleep(READ_ON_S)
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        await self._around.clock.sleep(SETTLED_S)
        self.checks.raise_first()
        await self.checks.agreed()
        await self._check_doors(self._dataset)

    async def stop(self) -> None:
        """Kill all edges."""
        for edge in self.edges:
            await edge.kill()


def damaged(content: bytes) -> bytes:
    """Return a ROOT file with a byte of its first basket changed: nothing else tells."""
    import uproot

    with uproot.open(io.BytesIO(content)) as file:
        branch = file["Events"].branches[0]
        at = branch.member("fBasketSeek")[0] + branch.member("fBasketBytes")[0] - 1
    changed = bytearray(content)
    changed[at] ^= 0x01
    return bytes(changed)
