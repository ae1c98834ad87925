"""Each loop that cleans up, run by two heads of one database at once, leaves what one leaves."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from evstream import daemons
from evstream.adapters.catalogue.parquet_archive import ParquetArchive
from evstream.adapters.catalogue.postgresql import PostgresDatabase
from evstream.adapters.formats import KnownFormats
from evstream.adapters.offload import InPlace
from evstream.adapters.source.memory import MemoryOpener
from evstream.adapters.storage.memory import MemoryStore
from evstream.assembly import Application, Keys, Parts
from evstream.domain.dataset import Dataset, Fingerprint, SourceFile
from evstream.domain.edges import EdgeStatus
from evstream.domain.ledger import RangeReport, Success
from evstream.domain.names import Guid, LeaseId, Lfn, TaskId, WorkerId
from evstream.domain.outputs import OutputName, OutputRecord
from evstream.domain.preparation import edge_worker
from evstream.domain.products import Recipe
from evstream.domain.splitting import Chunk
from evstream.domain.states import TaskState
from evstream.domain.streams import Merge, OutputStream
from evstream.domain.task import Task, merge_book, process_book
from evstream.domain.whiteboard import Change, KeyDefinition
from evstream.settings import Settings
from evstream.testing.contracts.catalogue import RULES, SPEC
from evstream.testing.contracts.products import cut, prepared
from evstream.testing.contracts.whiteboard import DATASET
from evstream.testing.manual_clock import ManualClock
from evstream.testing.seeded_ids import SeededIds
from tests.postgresql import Server

pytest.importorskip("pyarrow")
pytestmark = pytest.mark.anyio
ANNE = WorkerId("anne")
ENTRIES = 40
CHUNKS = (Chunk(0, Lfn("a.root"), 0, ENTRIES),)
LIFE_S = 100_000.0
SETTINGS = Settings(archive_after_s=LIFE_S, request_id_life_s=LIFE_S)
WAIT_S_MAX = 120
ENDS = [TaskState.DONE, TaskState.MERGING, TaskState.MERGING, TaskState.RUNNING]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Rounds(ManualClock):
    """A head's clock that ends its loop after two rounds; all heads begin the second at once.

    The first finds nothing to do: leases that ran out while no head was there get their time again.
    """

    def __init__(self, together: asyncio.Barrier) -> None:
        super().__init__()
        self._together = together
        self._slept = 0

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)
        self._slept += 1
        if self._slept == 2:
            raise asyncio.CancelledError
        await self._together.wait()
        # The time goes on here, for all.
        await self._together.wait()


class Heads:
    """Some heads of one database, one output store and one archive."""

    def __init__(self, count: int, url: str, folder: Path) -> None:
        self.clock = ManualClock()
        self.store = MemoryStore()
        self._gate = asyncio.Barrier(count + 1)
        archive = ParquetArchive(folder / "archive", InPlace())
        self.databases = [
            PostgresDatabase(url, clock=self.clock, archive=archive) for _ in range(count)
        ]
        self._applications = [
            Application(
                Parts(
                    Rounds(self._gate),
                    SeededIds(number),
                    InPlace(),
                    database.ledger,
                    database.catalogue,
                    database.products,
                    database.whiteboard,
                    database.links,
                    self.store,
                    MemoryOpener({}),
                    KnownFormats(),
                    archive,
                    database.load,
                ),
                Keys(b"u" * 32, b"r" * 32),
                SETTINGS,
            )
            for number, database in enumerate(self.databases)
        ]
        self.database = self.databases[0]
        self.ledger, self.catalogue = self.database.ledger, self.database.catalogue

    async def close(self) -> None:
        for application in self._applications:
            await application.close()
        for database in self.databases:
            await database.close()

    async def run(self, loop: str, after_s: float) -> int:
        """Run a loop in all heads, its second round when so much time has gone; count items."""
        running = [asyncio.create_task(each) for each in self._loops(loop)]
        async with asyncio.timeout(WAIT_S_MAX):
            await self._gate.wait()
            self.clock.advance(after_s)
            await self._gate.wait()
            await asyncio.gather(*running, return_exceptions=True)
        return self.counted(loop, "items")

    async def run_until(self, loop: str, done: Callable[[], Awaitable[bool]]) -> None:
        """Run a loop in all heads until something is so."""
        running = [asyncio.create_task(each) for each in self._loops(loop)]
        async with asyncio.timeout(WAIT_S_MAX):
            while not await done():
                assert not any(each.done() for each in running)
        for each in running:
            each.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _loops(self, wanted: str) -> list[Any]:
        found = []
        for application in self._applications:
            for loop in application.loops():
                if loop.__name__ == wanted:
                    found.append(loop)
                else:
                    loop.close()
        assert len(found) == len(self._applications)
        return found

    def orders(self, edge: str, now: datetime) -> list[tuple[str, str, str]]:
        """Return what the heads tell an edge."""
        return [
            (order.do, order.key, order.reason)
            for application in self._applications
            for order in application._placing.orders(edge, now)
        ]

    def counted(self, loop: str, what: str) -> int:
        """Return the sum over heads of one of a loop's counters."""
        return sum(self.counted_by_each(loop, what))

    def counted_by_each(self, loop: str, what: str) -> list[int]:
        """Return one of a loop's counters for each head."""
        return [
            int(sample.value)
            for application in self._applications
            for family in text_string_to_metric_families(application.metrics.text().decode())
            for sample in family.samples
            if sample.name == f"evstream_loop_{what}_total" and sample.labels["loop"] == loop
        ]

    async def task(self, number: int, *, merge: Merge | bool = True) -> Task:
        """Add a task on one file."""
        file = SourceFile(
            Lfn("a.root"), Guid("g"), (), Fingerprint(9, "u", "d"), {"Events": ENTRIES}, {}
        )
        await self.catalogue.add_dataset(Dataset(SPEC.dataset, (file,)), {})
        spec = replace(SPEC, events_per_range=10, outputs=(OutputStream(merge=merge),))
        return await self.catalogue.add_task(spec, f"request-{number}", RULES, CHUNKS)

    async def commit(self, task: Task) -> None:
        """Do all ranges of a task, each with an output."""
        book, lease = process_book(task.id), LeaseId(f"done-{task.id}")
        held = await self.ledger.claim_ranges(lease, ANNE, 99, timedelta(minutes=1), [book])
        reports = []
        for row in held:
            for start in range(row.entry_start, row.entry_stop, 10):
                record = await self.put(task.id, lease, start)
                place = book, row.chunk, start, start + 10, row.attempt
                reports.append(RangeReport(lease, ANNE, *place, Success((record,))))
        await self.ledger.report_ranges(reports)

    async def put(self, task: TaskId, lease: LeaseId, start: int) -> OutputRecord:
        """Store an output of a range."""
        book = process_book(task)
        name = OutputName(task, "output", book, 0, start, start + 10, 1, lease, ".root")

        async def content() -> AsyncIterator[bytes]:
            yield b"x"

        stored = await self.store.put(str(name), content())
        numbers = stored.size, stored.sha256, stored.adler32
        return OutputRecord("output", str(name), *numbers, {"Events": 10})


@asynccontextmanager
async def heads_of(count: int, postgresql: Server, folder: Path) -> AsyncIterator[Heads]:
    heads = Heads(count, postgresql.new_schema(), folder / str(count))
    try:
        yield heads
    finally:
        await heads.close()


async def both(
    postgresql: Server, folder: Path, scenario: Callable[[Heads], Awaitable[Any]], loop: str
) -> list[Any]:
    """Return what a scenario comes to with one head and with two."""
    found = []
    for count in (1, 2):
        async with heads_of(count, postgresql, folder) as heads:
            found.append(await scenario(heads))
            assert heads.counted(loop, "failures") == 0
            assert heads.counted(loop, "runs") >= 2 * count
    return found


async def test_leases_expire_once(postgresql: Server, tmp_path: Path) -> None:
    async def scenario(heads: Heads) -> Any:
        task = await heads.task(1)
        book = process_book(task.id)
        for number in range(4):
            held = await heads.ledger.claim_ranges(
                LeaseId(f"l{number}"), ANNE, 1, timedelta(minutes=1), [book]
            )
            assert len(held) == 1
        items = await heads.run("expire_leases", 61)
        again = await heads.ledger.claim_ranges(
            LeaseId("again"), ANNE, 99, timedelta(minutes=1), [book]
        )
        return items, again, await heads.ledger.progress(book)

    one, two = await both(postgresql, tmp_path, scenario, "expire_leases")
    assert one == two
    assert one[0] == 4
    assert [row.attempt for row in one[1]] == [2] * len(one[1])


async def test_leases_of_lost_edges_go_once(postgresql: Server, tmp_path: Path) -> None:
    async def scenario(heads: Heads) -> Any:
        task = await heads.task(1)
        life = timedelta(seconds=10)
        await heads.database.products.beat("near", "https://near", life=life)
        book, edge = process_book(task.id), edge_worker("near")
        for number, worker in enumerate((edge, edge, ANNE)):
            lease = LeaseId(f"l{number}")
            await heads.ledger.claim_ranges(lease, worker, 1, timedelta(hours=1), [book])
        items = await heads.run("forget_lost_edges", 11)
        return items, sorted(row.worker for row in await heads.ledger.leases())

    one, two = await both(postgresql, tmp_path, scenario, "forget_lost_edges")
    assert one == two == (2, [ANNE])


async def test_products_go_once(
    postgresql: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_small_batches(monkeypatch)

    async def scenario(heads: Heads) -> Any:
        products = heads.database.products
        await products.beat("near", "https://near", life=timedelta(seconds=LIFE_S * 9))
        short = [prepared(cut(start, start + 10)) for start in range(0, 600, 10)]
        long = [prepared(cut(start, start + 10)) for start in range(1000, 1100, 10)]
        await products.register_products("near", short, timedelta(seconds=LIFE_S))
        await products.register_products("near", long)
        items = await heads.run("expire_products", LIFE_S + 1)
        (edge,) = await products.edges()
        return items, edge.products, [await products.products_of(p.descriptor.key) for p in long]

    one, two = await both(postgresql, tmp_path, scenario, "expire_products")
    assert one == two
    assert one[:2] == (60, 10)


def in_small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have loops take their turn many times."""
    monkeypatch.setattr(importlib.import_module("evstream.daemons.loop"), "BATCH", 7)


async def test_request_ids_are_forgotten_once(
    postgresql: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_small_batches(monkeypatch)

    async def scenario(heads: Heads) -> Any:
        for number in range(30):
            task = await heads.task(number)
            if number % 3:
                await heads.catalogue.end_task(task.id, TaskState.DONE, "", None)
        board = heads.database.whiteboard
        await board.define_key(KeyDefinition("count", "int", owner="anna"))
        for number in range(10):
            await board.put(Change(DATASET, "count", number, "anna", id=f"change-{number}"))
        items = await heads.run("forget_request_ids", LIFE_S)
        assert await board.forget_change_ids(timedelta(), 99) == 0
        return items, [(await heads.task(number)).id for number in range(30)]

    one, two = await both(postgresql, tmp_path, scenario, "forget_request_ids")
    assert one == two
    assert one[0] == 20 + 10
    kept = [number + 1 for number in range(0, 30, 3)]
    assert one[1][::3] == kept
    assert sorted(set(one[1]) - set(kept)) == list(range(31, 51))


async def test_tasks_are_archived_as_by_one(postgresql: Server, tmp_path: Path) -> None:
    async def scenario(heads: Heads) -> Any:
        tasks = [await heads.task(number) for number in range(4)]
        for task in tasks[:3]:
            await heads.commit(task)
            await heads.catalogue.end_task(task.id, TaskState.DONE, "", {"task": task.id})
        books = [process_book(task.id) for task in tasks]
        before = [await heads.ledger.commits(book) for book in books]
        items = await heads.run("archive_tasks", LIFE_S)
        # What both look at in the same moment, both may count.
        assert items >= 3
        assert [await heads.ledger.commits(book) for book in books] == before
        left = await heads.ledger.books()
        return left, before, [await heads.ledger.progress(book) for book in books]

    one, two = await both(postgresql, tmp_path, scenario, "archive_tasks")
    assert one == two
    assert len(one[0]) == 1


async def test_outputs_are_swept_as_by_one(postgresql: Server, tmp_path: Path) -> None:
    async def scenario(heads: Heads) -> Any:
        done, active = await heads.task(1), await heads.task(2)
        await heads.commit(done)
        book = process_book(active.id)
        held = LeaseId("held")
        await heads.ledger.claim_ranges(held, ANNE, 1, timedelta(seconds=LIFE_S), [book])
        committed = set(heads.store.contents)
        for start in range(0, ENTRIES, 10):
            await heads.put(done.id, LeaseId("lost"), start)
            await heads.put(active.id, LeaseId("lost"), start)
        kept = await heads.put(active.id, held, 0)
        # Nothing here depends on time, so that the first round does it, and the second nothing.
        assert await heads.run("sweep_outputs", 1) >= 8
        assert set(heads.store.contents) == {*committed, kept.name}
        return sorted(heads.store.contents)

    one, two = await both(postgresql, tmp_path, scenario, "sweep_outputs")
    assert one == two
    assert len(one) == 5


async def test_tasks_end_and_are_merged_once(postgresql: Server, tmp_path: Path) -> None:
    async def scenario(heads: Heads) -> Any:
        merges: Sequence[Merge | bool] = (False, True, Merge("events", 20), False)
        tasks = [await heads.task(number, merge=merge) for number, merge in enumerate(merges)]
        for task in tasks[:3]:
            await heads.commit(task)

        async def as_it_should_be() -> bool:
            assert heads.counted("finish_tasks", "failures") == 0
            states = [task.state for task in await heads.catalogue.tasks()]
            groups = [len(await heads.catalogue.merges(task.id)) for task in tasks]
            # Each has looked for what there is, and at the task that stays active at least.
            looked = min(heads.counted_by_each("finish_tasks", "runs")) >= 2
            return looked and states == ENDS and groups == [0, 1, 2, 0]

        await heads.run_until("finish_tasks", as_it_should_be)
        found = []
        for task in tasks:
            now = await heads.catalogue.task(task.id)
            groups = await heads.catalogue.merges(task.id)
            receipt = await heads.catalogue.receipt(task.id) if now.state.final else None
            chunks = await heads.ledger.chunks(merge_book(task.id)) if groups else []
            found.append((now, groups, chunks, receipt))
        return found

    one, two = await both(postgresql, tmp_path, scenario, "finish_tasks")
    assert one == two
    assert one[0][3]["counts"]["committed"] == ENTRIES


async def test_edges_are_told_the_same_by_all_heads(postgresql: Server, tmp_path: Path) -> None:
    async def scenario(heads: Heads) -> Any:
        products, wanted = heads.database.products, cut(0, 10)
        for name in ("near", "far"):
            status = EdgeStatus(free_bytes=1000)
            await products.beat(name, f"https://{name}", "edge", 0, status=status)
        await products.register_products("near", [prepared(wanted)])
        await products.count_requests([(wanted.sources[0].fingerprint, Recipe.of(wanted), 9)])
        items = await heads.run("place_products", 1.0)
        return items, heads.orders("far", await products.now())

    one, two = await both(postgresql, tmp_path, scenario, "place_products")
    assert one[0] == len(one[1]) * 2 == 2
    assert two == (4, one[1] * 2)


def test_every_loop_is_run_twice_here() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    for name in daemons.NAMES:
        assert f'scenario, "{name}")' in source
