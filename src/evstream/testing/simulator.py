"""The whole service on one thread under a virtual clock, with faults by a seed.

Head, ledger (on SQLite), two pilots and storage run for real, through the HTTP API;
only time, chance, the network, the payload's work and the disks are simulated.
A seed replays its failure exactly: `evstream.testing.simulate` runs one by a command.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import random
import tempfile
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import numpy as np

from evstream.adapters.catalogue.sqlite import SqliteDatabase
from evstream.adapters.formats import KnownFormats
from evstream.adapters.formats.root import RootFormat
from evstream.adapters.offload import InPlace
from evstream.adapters.source.bundled import BundledOpener
from evstream.adapters.source.memory import MemoryOpener, MemorySource
from evstream.adapters.storage.bundled import BundledStore
from evstream.adapters.storage.memory import MemoryStore
from evstream.assembly import Application, Keys, Parts
from evstream.client import Connection, Service
from evstream.domain.errors import ConflictError, EvstreamError, NotFoundError
from evstream.domain.granularity import Granularity
from evstream.domain.lineage import check_lineage
from evstream.domain.names import TaskId, WorkerId
from evstream.domain.outputs import OutputRecord
from evstream.domain.payload import Payload
from evstream.domain.receipt import check_ledger, receipt_digest
from evstream.domain.states import TaskState
from evstream.domain.streams import Merge, OutputStream
from evstream.domain.task import Limits, TakenOutputs, process_book
from evstream.head.stored import is_as_recorded
from evstream.pilot import Pilot, PilotSettings, Tools
from evstream.settings import Settings
from evstream.testing.causes import check_ends
from evstream.testing.edge_checks import CheckedService, RightBytes
from evstream.testing.faults import FaultRates, FaultyTransport, Wire
from evstream.testing.faulty_ports import PortFaults
from evstream.testing.hosts import Hosts
from evstream.testing.in_memory import Contents
from evstream.testing.invariants import Watcher
from evstream.testing.seeded_ids import SeededIds
from evstream.testing.simulated_edges import EdgeScenario, EdgeSurroundings, SimulatedFleet
from evstream.testing.simulated_payload import SimulatedPayload
from evstream.testing.virtual_time import VirtualClock, run_virtual
from evstream.wire.messages import NewDataset, NewFile, NewTask, TaskView
from evstream.wire.product_messages import Beat, NewReplica, NewReplicas
from evstream.wire.receipt_signature import check_signature

PILOTS = 2
NEAR = "near"
"""An edge."""
RECORDED = ("stream", "name", "size", "sha256", "adler32", "entries")
INTERVENTIONS = ("pause", "retry", "retry", "reprocess", "reprocess", "withdraw", "cancel")


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is simulated.

    Attributes
    ----------
    chained : int
        So many further tasks, each of which takes the outputs of the one before.
    crashes : int
        How many times something dies: the head or a pilot, by chance.
    poisoned : float
        Chance that a payload fails, each time it is run.
    poison : frozenset of (int, int)
        Events that a payload always fails on, by chunk and entry.
    killers : frozenset of (int, int)
        Events that kill their worker.
    interventions : int
        How often somebody pauses a task for a while, cancels it, retries what was set
        aside or cancelled, has a file reprocessed or withdraws it, while the task runs and
        after its end.
    bundle_bytes : int
        Outputs of units that leave no more are stored together.
    ranges_per_file : int
        Of growing files, which are closed before that by chance.
    near : bool
        Every other pilot prefers what an edge holds: the last file.
    edges : EdgeScenario
        Edges beside the head, and what happens to them.
    port_faults : float
        Chance that a call of ledger, catalogue, output store or source fails; half of
        those that fail have done their work.
    virtual_s_max : float
        A task that has not ended by then never does.
    """

    chained: int = 0
    events_per_range: int = 25
    crashes: int = 6
    poisoned: float = 0.05
    poison: frozenset[tuple[int, int]] = frozenset()
    killers: frozenset[tuple[int, int]] = frozenset()
    limits: Limits = Limits()
    interventions: int = 0
    lease_s: float = 30.0
    bundle_bytes: int = 0
    merge: Merge | bool = True
    merge_inputs_max: int = 2000
    ranges_per_file: int = 1
    near: bool = False
    edges: EdgeScenario = field(default_factory=EdgeScenario)
    port_faults: float = 0.005
    rates: FaultRates = field(default_factory=FaultRates)
    virtual_s_max: float = 20_000.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a simulation came to; of a chain, its first task, and the states of the others."""

    seed: int
    state: TaskState
    events: int
    committed: int
    set_aside: int
    attempts: int
    delivered: int
    lost: int
    repeated: int
    crashes: int
    looks: int
    virtual_s: float
    aside: frozenset[tuple[str, int]] = frozenset()
    withdrawn: int = 0
    cancelled: int = 0
    interventions: tuple[str, ...] = ()
    chained: tuple[TaskState, ...] = ()
    troubles: tuple[str, ...] = ()
    plans: int = 0
    quarantined: frozenset[str] = frozenset()
    wrong: int = 0


class Simulation:
    """One run of one seed."""

    def __init__(
        self,
        seed: int,
        scenario: Scenario,
        files: dict[str, bytes],
        folder: Path,
        faults: PortFaults | None = None,
    ) -> None:
        self._seed = seed
        self.scenario = self._scenario = scenario
        self._files = files
        self._folder = folder
        self._rng = random.Random(seed)
        self._clock = VirtualClock()
        self._ids = SeededIds(self._rng.getrandbits(64))
        self._wire = Wire(random.Random(self._rng.getrandbits(64)), self._clock, scenario.rates)
        self._hosts = Hosts(self._wire)
        self._faults = faults or self._faults_by_chance()
        in_memory = MemoryStore()
        self._store = BundledStore(in_memory)
        self._readable = Contents(files, in_memory.contents)
        self._right = RightBytes(self._readable, self._clock)
        self._settings = Settings(
            expire_every_s=1.0,
            sweep_every_s=30.0,
            merge_inputs_max=scenario.merge_inputs_max,
            cross_check_every=scenario.edges.cross_check_every,
        )
        self._pilots: dict[WorkerId, tuple[asyncio.Task[object], FaultyTransport]] = {}
        self._born = 0
        self._killing: set[asyncio.Task[None]] = set()
        self._loops: list[asyncio.Task[None]] = []
        self._database: SqliteDatabase | None = None
        self._crashes = 0
        self._done: list[str] = []
        self._tried: set[str] = set()

    def _faults_by_chance(self) -> PortFaults:
        rng = random.Random(self._rng.getrandbits(64))
        return PortFaults(
            lambda _: not self._wire.calm and rng.random() < self._scenario.port_faults,
            done=lambda: rng.random() < 0.5,
        )

    async def run(self) -> Outcome:
        """Run the task to its end under faults, and check everything.

        Raises
        ------
        AssertionError
            A rule was broken, or the task did not end.
        """
        self._start_head()
        service = self._connect()
        fleet = self._fleet = self._make_fleet()
        await fleet.start()
        views = [await self._submit(service)]
        for _ in range(self._scenario.chained):
            views.append(await self._submit(service, takes=views[-1].id))
        ledger = self._open_database().ledger
        watchers = [Watcher(ledger, self._store, process_book(TaskId(view.id))) for view in views]

        async def look() -> None:
            for watcher in watchers:
                await watcher.look()
            await fleet.checks.look()

        self._wire.after_step = look
        for _ in range(PILOTS):
            self._start_pilot()
        crashes = self._plan_crashes()
        plans = self._plan_interventions()
        while plans or not await self._is_settled(service, views):
            assert self._clock.monotonic() < self._scenario.virtual_s_max, f"not done: {views}"
            await self._clock.sleep(1.0)
            while crashes and crashes[0] <= self._clock.monotonic():
                crashes.pop(0)
                await self._crash()
                for watcher in watchers:
                    watcher.follow(self._open_database().ledger)
            self._replace_pilots()
            while plans and plans[0][0] <= self._clock.monotonic():
                _, what, number = plans.pop(0)
                await self._intervene(service, views[number], what)
            with contextlib.suppress(EvstreamError):
                views = [await service.task(view.id) for view in views]
        return await self._check(service, views, watchers[0])

    async def _is_settled(self, service: Service, views: list[TaskView]) -> bool:
        """Whether all tasks have ended, and those that follow others have followed them."""
        if not all(view.state.final for view in views):
            return False
        try:
            receipts = [await service.receipt(view.id) for view in views]
        except EvstreamError:
            return False  # It was opened again since it was looked at, or cannot be asked.
        return all(
            receipt["task"]["state"] == TaskState.ABORTED.value
            or receipt["parents"][0]["receipt"] in (None, receipt_digest(parent))
            for parent, receipt in pairwise(receipts)
        )

    def _open_database(self) -> SqliteDatabase:
        assert self._database is not None
        return self._database

    def _start_head(self) -> None:
        self._database = SqliteDatabase(self._folder / "head", self._clock, inline=True)
        parts = Parts(
            clock=self._clock,
            ids=self._ids,
            offload=InPlace(),
            ledger=self._faults.wrap("ledger", self._database.ledger),
            catalogue=self._faults.wrap("catalogue", self._database.catalogue),
            products=self._faults.wrap("products", self._database.products),
            whiteboard=self._faults.wrap("whiteboard", self._database.whiteboard),
            links=self._faults.wrap("links", self._database.links),
            store=self._faults.wrap("store", self._store),
            opener=self._faults.wrap("source", BundledOpener(MemoryOpener(self._readable))),
            formats=KnownFormats(),
        )
        redirects = self._scenario.edges.count > 0
        keys = Keys(b"u" * 32, b"r" * 32)
        application = Application(parts, keys, self._settings, redirects=redirects)
        loop = asyncio.get_running_loop()
        self._loops = [loop.create_task(daemon) for daemon in application.loops()]
        self._wire.connect(httpx2.ASGITransport(application.app))

    async def _kill_head(self) -> None:
        await self._wire.cut()
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        await self._open_database().close()

    def _connect(self) -> Service:
        transport = FaultyTransport(self._hosts.seen_from("somebody"))
        connection = Connection(
            transport, self._clock, self._ids, patience_s=300.0, elsewhere=lambda: transport
        )
        return CheckedService(connection, self._right)

    def _make_fleet(self) -> SimulatedFleet:
        scenario, rates = self._scenario.edges, self._scenario.rates
        around = EdgeSurroundings(
            self._hosts,
            self._clock,
            self._ids,
            self._files,
            self._folder,
            lambda: self._open_database().products,
            rates,
        )
        # Drawn only where there are edges: seeds without them go as they always went.
        rng = random.Random(self._rng.getrandbits(64) if scenario.count else 0)
        fleet = SimulatedFleet(scenario, around, self._connect(), rng)
        self._hosts.answered = fleet.checks.answered
        return fleet

    async def _submit(self, service: Service, takes: int = 0) -> TaskView:
        dataset = ""
        if not takes:
            files = [NewFile(pfn) for pfn in sorted(self._files)]
            dataset = (await service.add_dataset(NewDataset(files, "sim:events"))).name
            await self._fleet.ask(service, dataset, self._scenario.events_per_range)
            if self._scenario.near:
                await service.prepared.beat(NEAR, Beat("https://near", "store"))
                copy = NewReplica(files[-1].pfn, "https://near/copy", NEAR)
                await service.prepared.add_replicas(NewReplicas(dataset, [copy]))
        new = NewTask(
            name="simulated",
            dataset=dataset,
            takes=(TakenOutputs(takes),) if takes else (),
            payload=Payload(
                "copy", kind="long-lived", ranges_per_file=self._scenario.ranges_per_file
            ),
            granularity=Granularity(events=self._scenario.events_per_range),
            outputs=(OutputStream(merge=self._scenario.merge),),
            limits=self._scenario.limits,
            bundle_bytes=self._scenario.bundle_bytes,
        )
        return await service.submit(new, f"task-behind-{takes}")

    def _start_pilot(self) -> None:
        self._born += 1
        worker = WorkerId(f"pilot{self._born}")
        transport = FaultyTransport(self._hosts.seen_from("pilot"))
        connection = Connection(
            transport, self._clock, self._ids, patience_s=600.0, elsewhere=lambda: transport
        )
        service = CheckedService(connection, self._right)
        near = NEAR if self._scenario.near and self._born % 2 else None
        lease_s = self._scenario.lease_s
        settings = PilotSettings(cores=2, lease_s=lease_s, idle_s_max=1e9, near=near)

        async def die() -> None:
            # Not from within: who kills waits until the killed is dead.
            killing = asyncio.get_running_loop().create_task(self._kill_pilot(worker))
            self._killing.add(killing)
            killing.add_done_callback(self._killing.discard)
            await asyncio.Event().wait()

        rng = random.Random(self._rng.getrandbits(64))
        runner = SimulatedPayload(rng, self._clock, self._scenario, die)
        folder = self._folder / worker
        folder.mkdir()
        tools = Tools(
            runner, KnownFormats(), InPlace(), BundledOpener(MemoryOpener(self._readable))
        )
        pilot = Pilot(service, tools, self._clock, self._ids, settings, folder, worker)
        running = asyncio.get_running_loop().create_task(pilot.run())
        self._pilots[worker] = (running, transport)

    async def _kill_pilot(self, worker: WorkerId) -> None:
        if worker not in self._pilots:
            return
        running, transport = self._pilots.pop(worker)
        transport.die()
        while not running.done():
            # Again and again: a dead process runs no clean-up to its end.
            running.cancel()
            await asyncio.wait([running], timeout=0.001)

    def _replace_pilots(self) -> None:
        for worker, (running, _) in list(self._pilots.items()):
            if running.done():
                running.result()
                del self._pilots[worker]
        while len(self._pilots) < PILOTS:
            self._start_pilot()

    def _plan_crashes(self) -> list[float]:
        now = self._clock.monotonic()
        return sorted(now + self._rng.random() * 120.0 for _ in range(self._scenario.crashes))

    def _plan_interventions(self) -> list[tuple[float, str, int]]:
        """Return when somebody does what with which task; what is paused is resumed."""
        now, rng = self._clock.monotonic(), self._rng
        plans: list[tuple[float, str, int]] = []
        tasks = 1 + self._scenario.chained
        for _ in range(self._scenario.interventions):
            at, what = now + rng.random() * 300.0, rng.choice(INTERVENTIONS)
            task = rng.randrange(tasks) if tasks > 1 else 0
            plans.append((at, what, task))
            if what == "pause":
                plans.append((at + rng.random() * 60.0, "resume", task))
        return sorted(plans)

    async def _intervene(self, service: Service, view: TaskView, what: str) -> None:
        task, file = view.id, self._rng.choice(sorted(self._files))
        if view.spec.takes:
            files = (await service.dataset(view.dataset)).files
            file = self._rng.choice([each.lfn for each in files] or [file])
        calls = {
            "pause": lambda: service.pause(task),
            "resume": lambda: service.resume(task),
            "cancel": lambda: service.cancel(task),
            "retry": lambda: service.retry(task),
            "reprocess": lambda: service.reprocess(task, file),
            "withdraw": lambda: service.withdraw(task, file),
        }
        # A first answer that was lost may have been another than the one that comes.
        self._tried.add(what)
        # It has ended, or nothing was set aside: that is for the ledger to say.
        with contextlib.suppress(ConflictError, NotFoundError):
            await calls[what]()
            self._done.append(what)

    async def _crash(self) -> None:
        self._crashes += 1
        if self._rng.random() < 0.4:
            await self._kill_head()
            await self._clock.sleep(self._rng.random() * 40.0)
            self._start_head()
        elif self._pilots:
            await self._kill_pilot(self._rng.choice(sorted(self._pilots)))

    async def _check(self, service: Service, views: list[TaskView], watcher: Watcher) -> Outcome:
        self._wire.calm = True
        for worker in list(self._pilots):
            await self._kill_pilot(worker)
        self._wire.after_step = self._fleet.checks.look
        await self._fleet.settle()
        edges = self._scenario.edges
        if not edges.deceives:
            assert not self._right.wrong, self._right.wrong
        if not edges.wrong:
            assert not self._right.despite, self._right.despite
        receipts = [await service.receipt(view.id) for view in views]
        if not edges.deceives:
            check_ends(receipts, self._tried)
        for receipt in receipts:
            await self._check_receipt(receipt)
        for number, receipt in enumerate(receipts[1:]):
            parents = {receipt_digest(parent): parent for parent in receipts[: number + 1]}
            lineage = check_lineage(receipt, parents)
            whole = receipt["task"]["state"] in ("done", "finished")
            assert not (whole and lineage.unproved), lineage
        await self._fleet.stop()
        await self._right.close()
        await self._kill_head()
        view, receipt = views[0], receipts[0]
        counts = receipt["counts"]
        return Outcome(
            seed=self._seed,
            state=view.state,
            events=counts["events"],
            committed=counts["committed"],
            set_aside=counts["set_aside"],
            attempts=counts["attempts"],
            delivered=self._wire.delivered,
            lost=self._wire.lost,
            repeated=self._wire.repeated,
            crashes=self._crashes,
            looks=watcher.looks,
            virtual_s=self._clock.monotonic(),
            aside=frozenset(
                (lfn, entry)
                for lfn, start, stop, _ in receipt["set_aside"]
                for entry in range(start, stop)
            ),
            withdrawn=counts["withdrawn"],
            cancelled=counts["cancelled"],
            interventions=tuple(self._done),
            chained=tuple(view.state for view in views[1:]),
            troubles=tuple(self._fleet.done),
            plans=self._fleet.checks.plans,
            quarantined=self._fleet.checks.quarantined,
            wrong=len(self._right.wrong),
        )

    async def _check_receipt(self, receipt: dict[str, Any]) -> None:
        check_signature(receipt)
        check_ledger(receipt)
        outputs = [o for o in receipt["outputs"] if o["merged_into"] is None]
        for output in outputs:
            record = OutputRecord(*(output[name] for name in RECORDED))
            assert await is_as_recorded(self._store, record), output
        if not self._scenario.edges.silent:
            kept = sum(sum(o["entries"].values()) for o in outputs)
            assert kept == receipt["counts"]["committed"], (kept, receipt["counts"])
        if not self._scenario.edges.deceives:
            await self._check_events(receipt, [o["name"] for o in outputs])

    async def _check_events(self, receipt: dict[str, Any], outputs: list[str]) -> None:
        """Compare the events in the outputs with those that are committed."""
        lfns = [file["lfn"] for file in receipt["files"]]
        fallen = receipt["task"]["state"] in ("failed", "aborted")
        if fallen and not all(lfn in self._readable for lfn in lfns):
            return  # What it was made from has been taken back since.
        numbers = {lfn: _event_numbers(self._readable[lfn]) for lfn in lfns}
        expected = [
            number
            for lfn, start, stop, *_ in receipt["commits"]
            for number in numbers[lfn][start:stop]
        ]
        found: list[int] = []
        for name in outputs:
            pieces = [piece async for piece in self._store.read(name, 0, 1 << 30)]
            found += _event_numbers(b"".join(pieces))
        assert sorted(found) == sorted(expected), "the outputs hold other events than the receipt"


def _event_numbers(content: bytes) -> list[int]:
    import uproot

    with uproot.open(io.BytesIO(content)) as file:
        numbers: list[int] = file["Events"]["event"].array(library="np").tolist()
        return numbers


def simulate(
    seed: int,
    files: dict[str, bytes],
    scenario: Scenario | None = None,
    faults: PortFaults | None = None,
) -> Outcome:
    """Run one seed; whatever is raised, the seed replays it.

    Parameters
    ----------
    files : dict of str to bytes
        Source files by name; each with one TTree.
    faults : PortFaults, optional
        Instead of those that the scenario's chance makes.
    """
    with tempfile.TemporaryDirectory(prefix="evstream-sim-") as folder:
        simulation = Simulation(seed, scenario or Scenario(), files, Path(folder), faults)
        try:
            return run_virtual(simulation.run)
        except BaseException as error:
            error.add_note(f"it was seed {seed} of {simulation.scenario}")
            raise


def sample_files(files: int = 2, entries: int = 400) -> dict[str, bytes]:
    """Return small ROOT files with one TTree of numbered events: the same bytes each time.

    Which edge a product is asked for at follows from the file that it is cut from; so a seed
    replays only on the same files. uproot puts the time and a chance UUID into what it writes,
    into each basket too. A selection that leaves out an event of each basket makes all anew.
    """
    import uproot

    made = {}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(files):
            path = Path(folder) / f"sample-{number}.root"
            kept: list[int] = []
            first, written = number * entries, 0
            with uproot.recreate(path) as file:
                tree = file.mktree("Events", {"run": "int32", "event": "int64", "x": "float32"})
                for event in np.array_split(np.arange(first, first + entries), 4):
                    some = np.concatenate([[0], event])
                    run, x = np.full(len(some), 1, np.int32), np.sqrt(some).astype(np.float32)
                    tree.extend({"run": run, "event": some, "x": x})
                    kept += range(written + 1, written + len(some))
                    written += len(some)
            made[path.name] = _selected(path.read_bytes(), kept, path.name)
    return made


def _selected(content: bytes, entries: list[int], name: str) -> bytes:
    source, root = MemorySource(name, content), RootFormat()
    cut = root.plan_select(
        root.inspect(source),
        tree="Events",
        entries=np.array(entries),
        branches=None,
        identity=hashlib.sha256(name.encode()).digest(),
    )
    cut.prepare(source)
    made = cut.read(0, cut.size, source)
    # A product has its source's date, in every key; the first key begins at byte 100.
    return made.replace(made[110:114], bytes.fromhex("7eec0000"))
