"""Backups of the ledger's file: taken under load, put back, and work goes on."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sqlite3
import stat
from datetime import timedelta
from pathlib import Path

import pytest

from evstream.adapters.catalogue.schema_steps import latest
from evstream.adapters.catalogue.sqlite import DATABASE_NAME, SqliteDatabase
from evstream.adapters.catalogue.sqlite_backup import back_up, restore
from evstream.adapters.clock import SystemClock
from evstream.domain.errors import ConfigError, ConflictError, DataError, NotFoundError
from evstream.domain.ledger import BookRules, LeasedInterval, RangeReport, Success
from evstream.domain.names import LeaseId, Lfn, WorkerId
from evstream.domain.splitting import Chunk
from evstream.domain.states import Answer
from evstream.ports.ledger import Ledger
from evstream.testing.manual_clock import ManualClock

pytestmark = pytest.mark.anyio
BOOK, ENTRIES = 2, 10_000
HOUR = timedelta(hours=1)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def done_by(row: LeasedInterval) -> list[RangeReport]:
    return [
        RangeReport(
            row.lease, row.worker, BOOK, row.chunk, entry, entry + 1, row.attempt, Success(())
        )
        for entry in range(row.entry_start, row.entry_stop)
    ]


async def entries_done(ledger: Ledger) -> list[int]:
    commits = await ledger.commits(BOOK)
    return [entry for c in commits for entry in range(c.entry_start, c.entry_stop)]


async def test_a_backup_under_load_is_one_instant(tmp_path: Path, rng: random.Random) -> None:
    database = SqliteDatabase(tmp_path / "data", SystemClock())
    ledger = database.ledger
    await ledger.open_book(BOOK, BookRules(1), [Chunk(0, Lfn("a.root"), 0, ENTRIES)])
    accepted: set[int] = set()
    stop = asyncio.Event()

    async def work(name: str) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            lease, worker = LeaseId(f"{name}-{number}"), WorkerId(name)
            for row in await ledger.claim_ranges(lease, worker, 3, HOUR, [BOOK]):
                words = done_by(row)[: rng.randint(0, 3)]
                assert set(await ledger.report_ranges(words)) <= {Answer.ACCEPTED}
                accepted.update(word.entry_start for word in words)

    workers = [asyncio.create_task(work(f"w{number}")) for number in range(8)]
    backups = []
    for number in range(4):
        before = len(accepted)
        while len(accepted) < before + 50 and len(accepted) < ENTRIES / 2:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        certain = set(accepted)
        path = tmp_path / f"backup{number}"
        size = await asyncio.to_thread(back_up, tmp_path / "data", path)
        assert size == path.stat().st_size
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        backups.append((path, certain, set(accepted)))
    stop.set()
    await asyncio.gather(*workers)
    await database.close()
    for path, certain, possible in backups:
        assert restore(path, tmp_path / path.name.replace("backup", "data")) is None
        await goes_on(tmp_path / path.name.replace("backup", "data"), certain, possible)


async def goes_on(directory: Path, certain: set[int], possible: set[int]) -> None:
    """See that a restored ledger holds an instant of the time, and works on to the end."""
    clock = ManualClock()
    database = SqliteDatabase(directory, clock)
    ledger = database.ledger
    done = set(await entries_done(ledger))
    # Answers that were on their way when the backup began may be in it, too.
    assert certain <= done
    assert len(done - possible) <= 8 * 3
    held = [row for row in await ledger.leases() if row.worker == "w0"]
    await ledger.resume_leases()
    for row in held:
        assert set(await ledger.report_ranges(done_by(row))) == {Answer.ACCEPTED}
    clock.advance(2 * 3600)
    await ledger.expire_leases()
    for number in range(ENTRIES):
        rows = await ledger.claim_ranges(LeaseId(f"x{number}"), WorkerId("x"), 5000, HOUR, [BOOK])
        if not rows:
            break
        for row in rows:
            assert set(await ledger.report_ranges(done_by(row))) == {Answer.ACCEPTED}
            done.update(range(row.entry_start, row.entry_stop))
    assert sorted(await entries_done(ledger)) == list(range(ENTRIES))
    progress = await ledger.progress(BOOK)
    assert (progress.finished, progress.complete) == (ENTRIES, True)
    await database.close()


async def made(directory: Path) -> Path:
    database = SqliteDatabase(directory, ManualClock())
    await database.ledger.open_book(BOOK, BookRules(1), [Chunk(0, Lfn("a.root"), 0, 10)])
    await database.close()
    return directory / DATABASE_NAME


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_what_was_there_is_kept(tmp_path: Path) -> None:
    await made(tmp_path / "data")
    back_up(tmp_path / "data", tmp_path / "backup")
    for name in ("ledger.sqlite.replaced", "ledger.sqlite.replaced1"):
        before = (tmp_path / "data" / DATABASE_NAME).read_bytes()
        aside = restore(tmp_path / "backup", tmp_path / "data")
        assert aside == tmp_path / "data" / name
        assert aside.read_bytes() == before


async def test_a_copy_with_its_wal_is_a_backup_too(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "data", ManualClock())
    await database.ledger.open_book(BOOK, BookRules(1), [Chunk(0, Lfn("a.root"), 0, 10)])
    shutil.copytree(tmp_path / "data", tmp_path / "copy")
    await database.close()
    assert (tmp_path / "copy" / f"{DATABASE_NAME}-wal").stat().st_size
    restore(tmp_path / "copy" / DATABASE_NAME, tmp_path / "other")
    database = SqliteDatabase(tmp_path / "other", ManualClock())
    assert await database.ledger.books() == [BOOK]
    await database.close()


async def test_restoring_is_refused_while_a_service_runs(tmp_path: Path) -> None:
    await made(tmp_path / "data")
    back_up(tmp_path / "data", tmp_path / "backup")
    database = SqliteDatabase(tmp_path / "data", ManualClock())
    with pytest.raises(ConflictError, match="in use by process"):
        restore(tmp_path / "backup", tmp_path / "data")
    assert await database.ledger.books() == [BOOK]
    await database.close()


async def test_what_is_no_backup_is_refused(tmp_path: Path) -> None:
    ledger = await made(tmp_path / "data")
    before = ledger.read_bytes()
    bad = tmp_path / "bad"
    with pytest.raises(NotFoundError):
        restore(bad, tmp_path / "data")
    bad.write_bytes(b"no database" * 1000)
    with pytest.raises(DataError, match="no SQLite database"):
        restore(bad, tmp_path / "data")
    bad.unlink()
    with sqlite3.connect(bad) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    with pytest.raises(DataError, match="no ledger of evstream"):
        restore(bad, tmp_path / "data")
    back_up(tmp_path / "data", bad)
    with sqlite3.connect(bad) as connection:
        connection.execute(f"PRAGMA user_version = {latest('sqlite') + 1}")
    connection.close()
    with pytest.raises(ConfigError, match="schema version"):
        restore(bad, tmp_path / "data")
    back_up(tmp_path / "data", bad)
    content = bytearray(bad.read_bytes())
    content[4096:8192] = os.urandom(4096)
    bad.write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        restore(bad, tmp_path / "data")
    assert ledger.read_bytes() == before
    assert not [name for name in names_in(tmp_path / "data") if "partial" in name]


async def test_a_backup_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no ledger"):
        back_up(tmp_path, tmp_path / "backup")
    await made(tmp_path / "data")
    with pytest.raises(ConfigError, match="cannot be written"):
        back_up(tmp_path / "data", tmp_path / "nowhere" / "backup")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError, match="cannot be written"):
        back_up(tmp_path / "data", tmp_path / "folder")
    assert names_in(tmp_path) == ["data", "folder"]
