"""The SQLite file: who may open it, what is refused, and what its statements cost."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from evstream.adapters.catalogue import sqlite
from evstream.adapters.catalogue.data_directory import (
    NETWORK_FILE_SYSTEMS,
    file_system_of,
    refuse_network_file_system,
)
from evstream.adapters.catalogue.database import from_microseconds, to_microseconds
from evstream.adapters.catalogue.schema_steps import latest, steps
from evstream.adapters.catalogue.sqlite import DATABASE_NAME, SqliteDatabase
from evstream.adapters.catalogue.sqlite_errors import translate
from evstream.domain.errors import (
    ConfigError,
    ConflictError,
    DataError,
    EvstreamError,
    LimitError,
    RequestError,
    TransientError,
)
from evstream.domain.ledger import BookRules, Failure, RangeReport, RunningUnit, Success
from evstream.domain.names import LeaseId, Lfn, WorkerId
from evstream.domain.splitting import Chunk
from evstream.ports.ledger import Ledger
from evstream.testing.manual_clock import ManualClock

WORKER = WorkerId("anne")
DURATION = timedelta(seconds=60)


@asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[SqliteDatabase]:
    database = SqliteDatabase(directory, ManualClock(), inline=True)
    try:
        yield database
    finally:
        await database.close()


def connection_of(database: SqliteDatabase) -> sqlite3.Connection:
    connection: sqlite3.Connection = database._owner._engine._connection  # type: ignore[attr-defined]
    return connection


# Who may open it


def test_one_owner_per_directory(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path):
            with pytest.raises(ConflictError) as caught:
                SqliteDatabase(tmp_path, ManualClock())
            assert caught.value.fields["pid"] == os.getpid()
            assert str(os.getpid()) in str(caught.value)
        async with opened(tmp_path):
            pass

    asyncio.run(main())


def test_the_owner_may_be_another_process(tmp_path: Path) -> None:
    holder = (
        "import sys; from pathlib import Path;"
        "from evstream.adapters.catalogue.data_directory import DirectoryLock;"
        f"lock = DirectoryLock(Path({str(tmp_path)!r})); print('held', flush=True);"
        "sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(ConflictError) as caught:
            SqliteDatabase(tmp_path, ManualClock())
        assert caught.value.fields["pid"] == process.pid
        process.kill()
    # A kill gives it back.
    asyncio.run(SqliteDatabase(tmp_path, ManualClock()).close())


MOUNTINFO = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:40 / /home rw,relatime shared:2 - nfs4 server:/home rw,vers=4.2
31 22 0:41 / /home/local\\040disk rw,relatime - xfs /dev/vdb rw
32 22 0:42 / /afs rw,relatime - afs AFS rw
33 22 0:43 / /eos rw,nosuid - fuse.eosxd eos rw
34 22 0:44 / /scratch rw - ext4 /dev/vdc rw
35 22 0:45 / /scratch rw - lustre mds:/scratch rw
mangled line
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/evstream", "ext4"),
        ("/home/anne/.local/share/evstream", "nfs4"),
        ("/home/local disk/data", "xfs"),
        ("/homestead", "ext4"),
        ("/afs/cern.ch/user/a", "afs"),
        ("/eos/user/a", "fuse.eosxd"),
        ("/scratch/a", "lustre"),
    ],
)
def test_file_systems_are_told_apart(path: str, kind: str) -> None:
    assert file_system_of(Path(path), MOUNTINFO) == kind


@pytest.mark.parametrize("kind", sorted(NETWORK_FILE_SYSTEMS))
def test_network_file_systems_are_refused(tmp_path: Path, kind: str) -> None:
    mountinfo = f"22 1 0:1 / / rw - {kind} server:/ rw"
    with pytest.raises(ConfigError, match="local disk") as caught:
        refuse_network_file_system(tmp_path, mountinfo)
    assert caught.value.fields["file_system"] == kind


def test_nothing_is_made_in_a_refused_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(directory: Path) -> None:
        refuse_network_file_system(directory, "22 1 0:1 / / rw - nfs4 server:/ rw")

    monkeypatch.setattr(sqlite, "refuse_network_file_system", refuse)
    with pytest.raises(ConfigError):
        SqliteDatabase(tmp_path / "data", ManualClock())
    assert list(tmp_path.iterdir()) == []


def test_a_directory_whose_file_is_refused_is_given_back(tmp_path: Path) -> None:
    make(tmp_path, "CREATE TABLE theirs (x)")
    for _ in range(2):
        with pytest.raises(ConfigError, match="not a ledger"):
            SqliteDatabase(tmp_path, ManualClock())


# What is refused


def make(directory: Path, statement: str) -> None:
    connection = sqlite3.connect(directory / DATABASE_NAME)
    connection.execute(statement)
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (f"PRAGMA user_version = {latest('sqlite') + 1}", "the evstream that wrote it"),
        (f"PRAGMA user_version = {steps('sqlite')[0].version - 1}", "the evstream that wrote it"),
        ("PRAGMA user_version = -3", "not a ledger"),
        ("CREATE TABLE theirs (x)", "not a ledger"),
    ],
)
def test_files_of_others_are_refused(tmp_path: Path, statement: str, message: str) -> None:
    make(tmp_path, statement)
    before = (tmp_path / DATABASE_NAME).read_bytes()
    with pytest.raises(ConfigError, match=message):
        SqliteDatabase(tmp_path, ManualClock())
    connection = sqlite3.connect(tmp_path / DATABASE_NAME)
    assert connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] <= 1
    connection.close()
    # All but the header, where SQLite notes the journal mode.
    assert (tmp_path / DATABASE_NAME).read_bytes()[100:] == before[100:]


def test_a_damaged_file_is_bad_data(tmp_path: Path) -> None:
    (tmp_path / DATABASE_NAME).write_bytes(b"no database at all" * 1000)
    with pytest.raises(DataError, match="no SQLite database"):
        SqliteDatabase(tmp_path, ManualClock())


def test_a_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(ConfigError, match="cannot be used"):
        SqliteDatabase(tmp_path / "data", ManualClock())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_without_rights_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigError, match="cannot be used"):
        SqliteDatabase(tmp_path, ManualClock())


def test_a_file_that_is_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / DATABASE_NAME).mkdir()
    with pytest.raises(ConfigError, match="cannot be written"):
        SqliteDatabase(tmp_path, ManualClock())


def test_an_old_sqlite_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    with pytest.raises(ConfigError, match="too old"):
        SqliteDatabase(tmp_path, ManualClock())


def test_files_are_private(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path / "data") as database:
            await database.ledger.open_book(2, BookRules(1), [Chunk(0, Lfn("a"), 0, 9)])
            found = list((tmp_path / "data").iterdir())
            assert {path.stat().st_mode & 0o777 for path in found} == {0o600}
            assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700

    asyncio.run(main())


# Errors

PRIMARY_CODES = {
    name: value
    for name, value in vars(sqlite3).items()
    if name.startswith("SQLITE_")
    and isinstance(value, int)
    and 0 < value < 100
    # Only result codes have a class of errors; limits and authorizer actions do not.
    and name.removeprefix("SQLITE_")
    in {
        *("ERROR", "INTERNAL", "PERM", "ABORT", "BUSY", "LOCKED", "NOMEM", "READONLY"),
        *("INTERRUPT", "IOERR", "CORRUPT", "NOTFOUND", "FULL", "CANTOPEN", "PROTOCOL"),
        *("EMPTY", "SCHEMA", "TOOBIG", "CONSTRAINT", "MISMATCH", "MISUSE", "NOLFS", "AUTH"),
        *("FORMAT", "RANGE", "NOTADB"),
    }
}


@pytest.mark.parametrize(("name", "code"), sorted(PRIMARY_CODES.items()))
@pytest.mark.parametrize("extended", [0, 1, 10])
def test_every_result_code_is_translated(name: str, code: int, extended: int) -> None:
    error = sqlite3.OperationalError(name)
    error.sqlite_errorcode = code | extended << 8
    told = translate(error)
    assert isinstance(told, EvstreamError)
    assert told.__cause__ is error
    assert told.hint
    expected = {
        "SQLITE_FULL": TransientError,
        "SQLITE_BUSY": TransientError,
        "SQLITE_LOCKED": TransientError,
        "SQLITE_IOERR": TransientError,
        "SQLITE_READONLY": ConfigError,
        "SQLITE_CANTOPEN": ConfigError,
        "SQLITE_CORRUPT": DataError,
        "SQLITE_NOTADB": DataError,
        "SQLITE_TOOBIG": LimitError,
    }
    assert type(told) is expected.get(name, type(told))


def test_all_result_codes_are_known() -> None:
    assert len(PRIMARY_CODES) == 26


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (sqlite3.ProgrammingError("closed"), EvstreamError),
        (OverflowError("int too large"), LimitError),
        (UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates"), RequestError),
        (msgspec.ValidationError("no"), DataError),
        (msgspec.DecodeError("no"), DataError),
    ],
)
def test_other_foreign_errors_are_translated(
    error: Exception, expected: type[EvstreamError]
) -> None:
    assert type(translate(error)) is expected


def test_text_that_is_not_unicode_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as database:
            with pytest.raises(RequestError):
                await database.ledger.forget_worker(WorkerId("\ud800"))

    asyncio.run(main())


@pytest.mark.parametrize(
    "time",
    [
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(2026, 2, 28, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    ],
)
def test_times_are_kept_to_the_microsecond(time: datetime) -> None:
    assert from_microseconds(to_microseconds(time)) == time


# What statements cost


async def fill(ledger: Ledger, book: int, size: int, *, returned: bool = True) -> None:
    """Give a book many chunks, half of them claimed: leases, done and returned intervals."""
    rules = BookRules(1, failures_max=9)
    chunks = [Chunk(number, Lfn("a"), 0, 4) for number in range(size)]
    await ledger.open_book(book, rules, chunks)
    held = [
        await ledger.claim_ranges(
            LeaseId(f"{book}-{number}"), WorkerId(f"worker-{number}"), 4, DURATION, [book]
        )
        for number in range(size // 2)
    ]
    for (row,) in held:
        where = (row.lease, row.worker, book, row.chunk)
        await ledger.report_ranges(
            [
                RangeReport(*where, 0, 1, row.attempt, Success(())),
                RangeReport(*where, 2, 3, row.attempt, Failure("node", "x")),
            ][: 1 + returned]
        )


async def workflow(ledger: Ledger) -> None:
    """Do everything once, on few rows."""
    claimed = await ledger.claim_ranges(LeaseId("x"), WORKER, 2, DURATION, [2])
    await ledger.claim_ranges(LeaseId("y"), WORKER, 2, DURATION, [2, 4])
    await ledger.claim_ranges(LeaseId("z"), WORKER, 2, DURATION, [4, 2])
    await ledger.claim_ranges(LeaseId("fresh"), WORKER, 5, DURATION, [6])
    await ledger.claim_ranges(LeaseId("fresher"), WORKER, 5, DURATION, [6, 8])
    units = [RunningUnit(row.book, row.chunk, row.entry_start, row.entry_stop) for row in claimed]
    await ledger.renew_lease(LeaseId("x"), WORKER, DURATION, units)
    for outcome in (Success(()), Failure("payload", "x")):
        row = claimed.pop()
        word = RangeReport(
            row.lease,
            WORKER,
            row.book,
            row.chunk,
            row.entry_start,
            row.entry_stop,
            row.attempt,
            outcome,
        )
        await ledger.report_ranges([word, word])
    await ledger.release_lease(LeaseId("y"), WORKER)
    await ledger.forget_worker(WORKER)
    await ledger.expire_leases()
    await ledger.progress(2)


def steps_of(size: int, directory: Path) -> int:
    """Count the virtual machine's steps of the workflow on a ledger of some size."""

    async def main() -> int:
        async with opened(directory) as database:
            for book in (2, 4):
                await fill(database.ledger, book, size)
            await fill(database.ledger, 6, size, returned=False)
            steps = 0

            def count() -> int:
                nonlocal steps
                steps += 1
                return 0

            connection_of(database).set_progress_handler(count, 1)
            await workflow(database.ledger)
            return steps

    return asyncio.run(main())


def test_costs_do_not_grow_with_the_ledger(tmp_path: Path) -> None:
    small, large = steps_of(8, tmp_path / "small"), steps_of(400, tmp_path / "large")
    print(f"virtual machine steps: {small} on 16 chunks, {large} on 800")
    assert large <= 1.1 * small


def test_no_statement_scans_or_sorts_a_table(tmp_path: Path) -> None:
    async def traced(*calls: Callable[[Ledger], Awaitable[object]]) -> list[str]:
        async with opened(tmp_path) as database:
            await fill(database.ledger, 2, 8)
            connection = connection_of(database)
            statements: list[str] = []
            connection.set_trace_callback(statements.append)
            for call in calls:
                await call(database.ledger)
            connection.set_trace_callback(None)
            plans: list[str] = []
            for statement in dict.fromkeys(statements):
                # Triggers are traced as comments.
                if statement.split()[0] in ("SELECT", "INSERT", "UPDATE", "DELETE"):
                    rows = connection.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()
                    plans += [f"{row[3]} | {' '.join(statement.split())}" for row in rows]
            return plans

    plans = asyncio.run(
        traced(
            workflow,
            lambda ledger: ledger.chunks(2),
            lambda ledger: ledger.commits(2),
            lambda ledger: ledger.closed(2),
            lambda ledger: ledger.failed_attempts(2),
            lambda ledger: ledger.cancel_book(2),
        )
    )
    assert len(plans) > 30
    bad = [
        plan
        for plan in plans
        # The history of what is lost at once is sorted: of so many leases at most.
        if ("TEMP B-TREE" in plan and "INSERT INTO failed" not in plan)
        # A claim from any book walks an index in its order, and stops after few rows.
        or (plan.startswith("SCAN") and "LIMIT" not in plan and "json_each" not in plan)
    ]
    assert bad == []
