"""Archived books are read as they were in the ledger."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from evstream.adapters.catalogue.parquet_archive import ParquetArchive
from evstream.adapters.catalogue.sqlite import SqliteDatabase
from evstream.adapters.offload import InPlace
from evstream.domain.errors import DataError, NotFoundError
from evstream.domain.ledger import BookRules, Failure, RangeReport, RunningUnit, Success
from evstream.domain.names import LeaseId, Lfn, TaskId, WorkerId
from evstream.domain.outputs import OutputRecord
from evstream.domain.splitting import Chunk
from evstream.ports import BookRecord, Ledger
from evstream.testing.manual_clock import ManualClock

pq = pytest.importorskip("pyarrow.parquet")

BOOK, MERGES = 24, 25
TASK = TaskId(12)
ANNE = WorkerId("anne")
CHUNKS = [Chunk(0, Lfn("a.root"), 0, 25), Chunk(3, Lfn("ü.root"), 100, 120)]


async def work(ledger: Ledger, clock: ManualClock) -> None:
    """Leave something of every kind in a book."""
    await ledger.open_book(BOOK, BookRules(5, failures_max=1), CHUNKS)
    held = await ledger.claim_ranges(LeaseId("l"), ANNE, 99, clock_s(60), [BOOK])
    begun = [RunningUnit(BOOK, 3, 100, 105, 1.25)]
    await ledger.renew_lease(LeaseId("l"), ANNE, clock_s(60), begun)
    outputs = (
        OutputRecord("hist", "tasks/12/hist/µ.root", 1 << 40, "0" * 64, "1" * 8, {"t/Events": 5}),
        OutputRecord("log", "tasks/12/log/x.txt", 0, "2" * 64, "3" * 8),
    )
    for number, start in enumerate(range(0, 25, 5)):
        place = (BOOK, 0, start, start + 5, 1)
        outcome: Success | Failure = Success(outputs[: number % 3], 0.1 + number, 2.5, 1 << 50)
        if number == 2:
            outcome = Failure("payload", "exit 1\n'quoted'", "tasks/12/log/y.txt", 0.5, 0.75)
        await ledger.report_ranges([RangeReport(held[0].lease, ANNE, *place, outcome)])
    clock.advance(61)
    await ledger.expire_leases()
    await ledger.cancel_book(BOOK, "enough")


def clock_s(seconds: float) -> Any:
    from datetime import timedelta

    return timedelta(seconds=seconds)


async def record_of(ledger: Ledger, book: int) -> BookRecord:
    return BookRecord(
        await ledger.progress(book),
        await ledger.chunks(book),
        await ledger.commits(book),
        await ledger.closed(book),
        await ledger.failed_attempts(book),
    )


def test_a_dropped_book_is_read_from_the_archive(tmp_path: Path) -> None:
    async def main() -> None:
        clock = ManualClock()
        archive = ParquetArchive(tmp_path / "archive", InPlace())
        database = SqliteDatabase(tmp_path / "data", clock, inline=True, archive=archive)
        ledger = database.ledger
        await work(ledger, clock)
        before = await record_of(ledger, BOOK)
        assert (len(before.commits), len(before.failed)) == (4, 3)
        assert {row.error for row in before.closed} == {"exit 1\n'quoted'", "enough"}
        pages = [await ledger.finished(BOOK, 0, 6, limit) for limit in (1, 3, 99)]
        await archive.put(BOOK, before)
        await archive.put(BOOK, before)
        await ledger.drop_book(BOOK)
        assert await record_of(ledger, BOOK) == before
        assert [await ledger.finished(BOOK, 0, 6, limit) for limit in (1, 3, 99)] == pages
        with pytest.raises(NotFoundError, match="there is no book 25"):
            await ledger.progress(MERGES)
        with pytest.raises(NotFoundError, match="there is no book 25"):
            await ledger.commits(MERGES)
        await database.close()

    asyncio.run(main())


def test_an_archive_that_is_newer_than_the_ledger_tells_nothing_of_new_tasks(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        clock = ManualClock()
        archive = ParquetArchive(tmp_path / "archive", InPlace())
        database = SqliteDatabase(tmp_path / "data", clock, inline=True, archive=archive)
        ledger = database.ledger
        # Task 12 was merged and archived; then an older ledger was restored.
        await ledger.open_book(MERGES, BookRules(1), [Chunk(0, Lfn("output"), 0, 1)])
        merges = await record_of(ledger, MERGES)
        await archive.put(MERGES, merges)
        await ledger.drop_book(MERGES)
        assert await record_of(ledger, MERGES) == merges
        # The new task 12 has no merges.
        await work(ledger, clock)
        for asked in (ledger.progress, ledger.chunks, ledger.commits, ledger.failed_attempts):
            with pytest.raises(NotFoundError, match="there is no book 25"):
                await asked(MERGES)
        # Once it is archived itself, what the other left is gone.
        ranges = await record_of(ledger, BOOK)
        await archive.put(BOOK, ranges)
        await archive.put_task(TASK, {}, [BOOK])
        await ledger.drop_book(BOOK)
        assert await record_of(ledger, BOOK) == ranges
        with pytest.raises(NotFoundError, match="there is no book 25"):
            await ledger.progress(MERGES)
        await database.close()

    asyncio.run(main())


def test_an_empty_book_is_kept_too(tmp_path: Path) -> None:
    async def main() -> None:
        archive = ParquetArchive(tmp_path, InPlace())
        database = SqliteDatabase(tmp_path / "data", ManualClock(), inline=True, archive=archive)
        await database.ledger.open_book(MERGES, BookRules(1), [])
        record = await record_of(database.ledger, MERGES)
        await archive.put(MERGES, record)
        await database.ledger.drop_book(MERGES)
        assert await record_of(database.ledger, MERGES) == record
        await database.close()

    asyncio.run(main())


def test_tools_of_the_field_can_read_it(tmp_path: Path) -> None:
    async def main() -> None:
        clock = ManualClock()
        archive = ParquetArchive(tmp_path / "archive", InPlace())
        database = SqliteDatabase(tmp_path / "data", clock, inline=True)
        await work(database.ledger, clock)
        await archive.put(BOOK, await record_of(database.ledger, BOOK))
        await archive.put_task(TASK, {"task": {"name": "ü"}, "receipt": None}, [BOOK])
        await database.close()

    asyncio.run(main())
    folder = tmp_path / "archive" / "task-12"
    assert json.loads((folder / "task.json").read_text("utf-8"))["task"]["name"] == "ü"
    commits = pq.read_table(folder / "ranges" / "commits.parquet").to_pydict()
    assert commits["entry_start"] == [0, 5, 15, 20]
    assert [one["name"] for one in commits["outputs"][1]] == ["tasks/12/hist/µ.root"]
    closed = pq.read_table(folder / "ranges" / "closed.parquet").to_pydict()
    assert set(closed["state"]) == {"fatal", "cancelled"}
    assert sorted(path.name for path in folder.iterdir()) == ["ranges", "task.json"]


def test_a_damaged_archive_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        clock = ManualClock()
        archive = ParquetArchive(tmp_path / "archive", InPlace())
        database = SqliteDatabase(tmp_path / "data", clock, inline=True, archive=archive)
        await work(database.ledger, clock)
        await archive.put(BOOK, await record_of(database.ledger, BOOK))
        await database.ledger.drop_book(BOOK)
        (tmp_path / "archive" / "task-12" / "ranges" / "commits.parquet").write_bytes(b"PAR1")
        with pytest.raises(DataError, match="cannot read"):
            await database.ledger.commits(BOOK)
        await database.close()

    asyncio.run(main())
