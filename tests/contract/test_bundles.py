"""Outputs in bundles: stored together, named one by one, swept when none is needed any more."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from evstream.adapters.catalogue.sqlite import SqliteDatabase
from evstream.adapters.offload import InPlace
from evstream.adapters.source.bundled import BundledOpener
from evstream.adapters.source.fsspec import FsspecOpener
from evstream.adapters.storage.bundled import BundledStore
from evstream.adapters.storage.fallback import FallbackStore
from evstream.adapters.storage.local import LocalStore
from evstream.adapters.storage.memory import MemoryStore
from evstream.domain.dataset import Dataset, Fingerprint, SourceFile
from evstream.domain.errors import ConfigError, DataError, RequestError, TransientError
from evstream.domain.ledger import Failure, RangeReport, Success
from evstream.domain.names import Guid, LeaseId, Lfn, TaskId, WorkerId
from evstream.domain.outputs import BundleName, Inside, OutputName, OutputRecord, place_of
from evstream.domain.splitting import Chunk
from evstream.domain.states import Answer
from evstream.domain.task import process_book
from evstream.head.bundling import Bundling
from evstream.head.stored import is_as_recorded
from evstream.head.sweeping import Sweeping
from evstream.head.turns import Turns
from evstream.ports.storage import OutputStore, Stored
from evstream.testing.contracts import OutputStoreContract
from evstream.testing.contracts.catalogue import RULES, SPEC
from evstream.testing.manual_clock import ManualClock

pytestmark = pytest.mark.anyio
ANNE = WorkerId("anne")
ENTRIES = 40


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class TestBundledStore(OutputStoreContract):
    durable = False

    @pytest.fixture
    def store(self) -> OutputStore:
        return BundledStore(MemoryStore())


def name_of(start: int, task: int = 1, lease: str = "lease", attempt: int = 1) -> str:
    made = OutputName(
        *(TaskId(task), "output", process_book(TaskId(task)), 0, start, start + 10, attempt),
        *(LeaseId(lease), ".root"),
    )
    return str(made)


def record_of(name: str, content: bytes) -> OutputRecord:
    from evstream.adapters.storage.digests import Digests

    digests = Digests()
    digests.add(content)
    told = digests.describe(name)
    return OutputRecord("output", name, told.size, told.sha256, told.adler32, {"Events": 10})


def report_of(name: str, content: bytes) -> RangeReport:
    made = OutputName.parse(name)
    return RangeReport(
        *(made.lease, ANNE, made.book, 0, made.entry_start, made.entry_stop, made.attempt),
        Success((record_of(name, content),)),
    )


async def keep(
    store: OutputStore, contents: dict[str, bytes]
) -> tuple[list[RangeReport], list[str]]:
    """Store contents as they come with reports; return these, and the outputs' names."""
    reports = [report_of(name, content) for name, content in contents.items()]
    brought = [{name: content} for name, content in contents.items()]
    kept = await Bundling(store).keep(reports, brought)
    return kept, [
        output.name
        for report in kept
        if isinstance(report.outcome, Success)
        for output in report.outcome.outputs
    ]


CONTENTS = {name_of(start): b"%d events" % start for start in (0, 10, 20)}


async def read(store: OutputStore, name: str, offset: int = 0, size: int | None = None) -> bytes:
    return b"".join([piece async for piece in store.read(name, offset, size)])


async def test_outputs_of_one_task_are_one_object() -> None:
    store = BundledStore(MemoryStore())
    other = {name_of(start, task=2): b"%d others" % start for start in (0, 10)}
    reports, names = await keep(store, {**CONTENTS, **other})
    assert [place_of(one)[0].rpartition("/")[0] for one in names] == [
        *["tasks/1/bundles"] * 3,
        *["tasks/2/bundles"] * 2,
    ]
    assert await store.names() == sorted({place_of(one)[0] for one in names})
    for name, content in zip(names, [*CONTENTS.values(), *other.values()], strict=True):
        assert await read(store, name) == content
        assert await read(store, name, 3, 100) == content[3:]
        assert await read(store, name, 2, 4) == content[2:6]
        assert await read(store, name, 100) == b""
        assert (await store.stat(name)).size == len(content)
    for report in reports:
        assert isinstance(report.outcome, Success)
        assert [await is_as_recorded(store, one) for one in report.outcome.outputs] == [True]


async def test_the_same_reports_again_make_the_same_object() -> None:
    store = BundledStore(MemoryStore())
    assert await keep(store, CONTENTS) == await keep(store, CONTENTS)
    assert len(await store.names()) == 1


async def test_a_single_one_is_an_object_of_its_own() -> None:
    store = BundledStore(MemoryStore())
    _, names = await keep(store, {name_of(0): b"alone"})
    assert names == await store.names() == [name_of(0)]


async def test_what_brought_nothing_stays_as_it_is() -> None:
    store = BundledStore(MemoryStore())
    stored, failed = report_of(name_of(0), b"large"), report_of(name_of(10), b"lost")
    failed = RangeReport(*(getattr(failed, name) for name in failed.__struct_fields__[:7]), FAILED)
    reports = [stored, failed]
    assert await Bundling(store).keep(reports, [{}, {name_of(10): b"lost"}]) == reports
    assert await store.names() == []


FAILED = Failure("output", "is missing")


class Refusing(MemoryStore):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    async def put(self, name: str, content: AsyncIterator[bytes]) -> Stored:
        raise self._error


async def test_a_store_that_is_away_says_nothing_about_outputs() -> None:
    with pytest.raises(TransientError):
        await keep(Refusing(TransientError("away")), CONTENTS)


async def test_what_cannot_be_stored_has_failed() -> None:
    reports, _ = await keep(Refusing(ConfigError("no rights")), CONTENTS)
    for report in reports:
        assert report.outcome == Failure("output", "no rights")


async def test_parts_come_and_go_with_their_bundle() -> None:
    store = BundledStore(MemoryStore())
    _, names = await keep(store, CONTENTS)

    async def nothing() -> AsyncIterator[bytes]:
        yield b""

    with pytest.raises(RequestError):
        await store.put(names[0], nothing())
    with pytest.raises(RequestError):
        await store.delete(names[0])
    with pytest.raises(RequestError):
        store.places(names[0], timedelta(1))


async def test_a_bundle_that_was_cut_short_is_not_as_recorded(tmp_path: Path) -> None:
    store = BundledStore(LocalStore(tmp_path, InPlace()))
    reports, names = await keep(store, CONTENTS)
    bundle = tmp_path / place_of(names[0])[0]
    bundle.write_bytes(bundle.read_bytes()[:-12])
    records = [r.outcome.outputs[0] for r in reports if isinstance(r.outcome, Success)]
    assert [await is_as_recorded(store, one) for one in records] == [True, False, False]
    opener = BundledOpener(FsspecOpener())
    with opener.open(store.pfn(names[1])) as source, pytest.raises(DataError):
        source.read_ranges([(0, 9)])


async def test_chained_tasks_open_parts_as_files(tmp_path: Path) -> None:
    first, second = (LocalStore(tmp_path / name, InPlace()) for name in ("one", "two"))
    _, names = await keep(BundledStore(second), CONTENTS)
    store = BundledStore(FallbackStore(first, second))
    opener = BundledOpener(FsspecOpener())
    for name, content in zip(names, CONTENTS.values(), strict=True):
        await store.stat(name)
        pfn = store.pfn(name)
        assert pfn == f"{tmp_path}/two/{name}"
        with opener.open(pfn) as source:
            assert source.size == len(content)
            assert list(source.read_ranges([(0, 1), (2, 5)])) == [content[:1], content[2:7]]
            with pytest.raises(DataError):
                source.read_ranges([(len(content), 1)])
        assert opener.signature(pfn)


class Swept:
    """A task of forty events, its ledger and its store."""

    def __init__(self, database: SqliteDatabase) -> None:
        self.ledger, self.catalogue = database.ledger, database.catalogue
        self.store = BundledStore(MemoryStore())
        self.sweeping = Sweeping(self.catalogue, self.ledger, self.store, Turns())

    async def begin(self) -> None:
        file = SourceFile(
            Lfn("a.root"), Guid("g"), (), Fingerprint(9, "u", "d"), {"Events": ENTRIES}, {}
        )
        await self.catalogue.add_dataset(Dataset(SPEC.dataset, (file,)), {})
        chunks = (Chunk(0, Lfn("a.root"), 0, ENTRIES),)
        await self.catalogue.add_task(SPEC, "request", RULES, chunks)

    async def claim(self, lease: str) -> list[str]:
        """Lease two ranges; return what their outputs are called."""
        book = process_book(TaskId(1))
        minute = timedelta(minutes=1)
        held = await self.ledger.claim_ranges(LeaseId(lease), ANNE, 2, minute, [book])
        return [
            name_of(start, lease=lease, attempt=row.attempt)
            for row in held
            for start in range(row.entry_start, row.entry_stop, 10)
        ]


@pytest.fixture
async def swept(tmp_path: Path) -> AsyncIterator[Swept]:
    database = SqliteDatabase(tmp_path, ManualClock(), inline=True)
    made = Swept(database)
    await made.begin()
    yield made
    await database.close()


async def test_a_bundle_stays_as_long_as_anything_in_it_may_count(swept: Swept) -> None:
    one, two = await swept.claim("one"), await swept.claim("two")
    reports, names = await keep(swept.store, {name: name.encode() for name in (*one, *two)})
    (bundle,) = await swept.store.names()
    assert await swept.sweeping.sweep() == 0
    await swept.ledger.release_lease(LeaseId("one"), ANNE)
    # Of "two", something may still be committed.
    assert await swept.sweeping.sweep() == 0
    answers = await swept.ledger.report_ranges(reports)
    assert answers == [Answer.SUPERSEDED] * 2 + [Answer.ACCEPTED] * 2
    # Committed is half of it.
    assert await swept.sweeping.sweep() == 0
    assert await swept.store.names() == [bundle]
    commits = await swept.ledger.commits(process_book(TaskId(1)))
    assert [output.name for c in commits for output in c.success.outputs] == names[2:]


async def test_a_bundle_of_which_nothing_was_committed_goes(swept: Swept) -> None:
    names = await swept.claim("one")
    await swept.claim("two")
    await keep(swept.store, {name: name.encode() for name in names})
    assert await swept.sweeping.sweep() == 0
    await swept.ledger.release_lease(LeaseId("one"), ANNE)
    # Whose it is, its name does not say.
    assert await swept.sweeping.sweep() == 0
    await swept.ledger.release_lease(LeaseId("two"), ANNE)
    await swept.claim("three")
    assert await swept.sweeping.sweep() == 1
    assert await swept.store.names() == []


async def test_a_bundle_that_comes_again_is_waited_for_again(swept: Swept) -> None:
    names = await swept.claim("one")
    contents = {name: name.encode() for name in names}
    reports, _ = await keep(swept.store, contents)
    # The answer to these was lost, and they are on their way again.
    await swept.ledger.report_ranges(reports)
    await swept.sweeping.sweep()
    assert await swept.store.names()
    again, _ = await keep(swept.store, contents)
    answers = await swept.ledger.report_ranges(again)
    assert answers == [Answer.ALREADY_ACCEPTED] * 2
    assert await swept.sweeping.sweep() == 0
    assert len(await swept.store.names()) == 1


def test_names_say_where_outputs_are() -> None:
    plain = name_of(0)
    digest = "0123456789abcdef" * 2
    inside = Inside(BundleName(TaskId(1), digest), 7, 9)
    made = OutputName.parse(plain)
    within = plain.replace(".root", f"~{digest}-7-9.root")
    assert OutputName.parse(within).inside == inside
    assert OutputName.parse(within).lease == made.lease
    bundle = f"tasks/1/bundles/{digest}"
    assert place_of(within) == (bundle, inside)
    assert place_of(f"s3://bucket/x~y/{within}") == (f"s3://bucket/x~y/{bundle}", inside)
    for other in (plain, bundle, f"/data/{plain}", "/~anne/a.root", f"{within}/x", f"x{within}"):
        assert place_of(other) == (other, None)
    assert BundleName.parse(bundle) == inside.bundle
    assert BundleName.parse(plain) is None
