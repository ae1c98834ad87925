"""The schema's steps: whichever way a database came to its version, it is the same."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from evstream.adapters.catalogue import schema_steps
from evstream.adapters.catalogue.postgresql import PostgresDatabase
from evstream.adapters.catalogue.schema_steps import Step, latest, steps
from evstream.adapters.catalogue.sqlite import DATABASE_NAME, SqliteDatabase
from evstream.domain.errors import ConfigError, TransientError
from evstream.domain.ledger import BookRules, RangeReport, Success
from evstream.domain.names import LeaseId, WorkerId
from evstream.domain.states import Answer, TaskState
from evstream.ports.catalogue import Catalogue
from evstream.ports.ledger import Ledger
from evstream.testing.manual_clock import ManualClock
from tests.postgresql import Server

WORKER = WorkerId("anne")
OLDER = steps("sqlite")[:-1] or steps("sqlite")
# A book of 100 entries as the first released schema kept it: ten are leased, ten came back.
AT_WORK = """
INSERT INTO book (book, events_per_range, failures_max, losses_max, bisections_max, entries, ranges)
VALUES (2, 10, 3, 3, 10, 100, 10);
INSERT INTO chunk VALUES (2, 0, 'a.root', 0, 100, 20);
INSERT INTO lease (lease, worker, book, chunk, entry_start, entry_stop, attempt, failures, losses,
    bisected, duration, expires) VALUES ('held', 'anne', 2, 0, 0, 10, 1, 0, 0, 0, 60000000, 0);
INSERT INTO free VALUES (2, 0, 10, 20, 2, 1, 0, 0);
INSERT INTO task (request_id, spec, state, created, reason)
VALUES ('key', '{"name": "old", "dataset": "user:x", "tree": "t", "payload": {"command": "true"}}',
    'paused', 1000000, 'why');
"""


def test_both_databases_have_the_same_steps() -> None:
    names = [
        [(step.version, step.name) for step in steps(kind)] for kind in ("sqlite", "postgresql")
    ]
    assert names[0] == names[1]
    numbers = [number for number, _ in names[0]]
    assert numbers == sorted(set(numbers))


def a_step_more(monkeypatch: pytest.MonkeyPatch, statements: str) -> int:
    """Let the next openings be those of a newer evstream."""
    real = {kind: steps(kind) for kind in ("sqlite", "postgresql")}
    number = latest("sqlite") + 1
    more = Step(number, "more", statements)
    monkeypatch.setattr(schema_steps, "steps", lambda kind: (*real[kind], more))
    return number


# What a database holds, to be compared


def sqlite_catalog(path: Path) -> Any:
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema").fetchall()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    connection.close()
    return version, sorted((*row[:3], re.sub(r"\s+", " ", row[3] or "")) for row in rows)


POSTGRESQL_CATALOG = """
SELECT 'column', table_name, column_name, ordinal_position::text, data_type,
    concat(column_default, ' ', is_nullable, ' ', identity_generation)
FROM information_schema.columns WHERE table_schema = current_schema()
UNION ALL
SELECT 'index', tablename, indexname, '', '', replace(indexdef, current_schema() || '.', '')
FROM pg_indexes WHERE schemaname = current_schema()
UNION ALL
SELECT 'constraint', c.relname, k.conname, '', '', pg_get_constraintdef(k.oid)
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
WHERE k.connamespace = current_schema()::regnamespace
UNION ALL
SELECT 'trigger', c.relname, t.tgname, '', '',
    replace(pg_get_triggerdef(t.oid), current_schema() || '.', '')
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
WHERE c.relnamespace = current_schema()::regnamespace AND NOT t.tgisinternal
UNION ALL
SELECT 'function', p.proname, '', '', '', p.prosrc
FROM pg_proc p WHERE p.pronamespace = current_schema()::regnamespace
UNION ALL
SELECT 'settings', c.relname, '', '', '', array_to_string(c.reloptions, ',')
FROM pg_class c WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p')
ORDER BY 1, 2, 3, 4
"""


def postgresql_catalog(url: str) -> Any:
    with psycopg.connect(url) as connection:
        return connection.execute(POSTGRESQL_CATALOG.encode()).fetchall()


# What older databases are made of


def make_sqlite(directory: Path, version: int, rows: str = "") -> None:
    directory.mkdir()
    connection = sqlite3.connect(directory / DATABASE_NAME)
    for step in steps("sqlite"):
        if step.version <= version:
            connection.executescript(step.statements)
    connection.executescript(f"{rows}; PRAGMA user_version = {version}")
    connection.close()


def make_postgresql(url: str, version: int, rows: str = "") -> None:
    with psycopg.connect(url) as connection:
        for step in steps("postgresql"):
            if step.version <= version:
                connection.execute(step.statements.encode())
        connection.execute(f"INSERT INTO evstream VALUES ({version}); {rows}".encode())


async def goes_on(catalogue: Catalogue, ledger: Ledger) -> None:
    """Work goes on where the older evstream left it."""
    (task,) = await catalogue.tasks()
    assert (task.id, task.spec.name, task.state, task.reason) == (1, "old", TaskState.PAUSED, "why")
    assert await catalogue.add_task(task.spec, "key", BookRules(1), []) == task
    assert (await catalogue.add_task(task.spec, "another key", BookRules(1), [])).id == 2
    held = RangeReport(LeaseId("held"), WORKER, 2, 0, 0, 10, 1, Success(()))
    assert await ledger.report_ranges([held]) == [Answer.ACCEPTED]
    claimed = await ledger.claim_ranges(LeaseId("next"), WORKER, 3, timedelta(minutes=1), [2])
    assert [(row.entry_start, row.entry_stop, row.attempt) for row in claimed] == [
        *((10, 20, 2), (20, 40, 1))
    ]
    progress = await ledger.progress(2)
    assert (progress.finished, progress.sent) == (10, 30)


@pytest.mark.parametrize("version", [step.version for step in OLDER])
def test_sqlite_migrated_is_as_made_fresh(tmp_path: Path, version: int) -> None:
    async def main() -> None:
        await SqliteDatabase(tmp_path / "fresh", ManualClock()).close()
        make_sqlite(tmp_path / "older", version)
        await SqliteDatabase(tmp_path / "older", ManualClock()).close()

    asyncio.run(main())
    older = sqlite_catalog(tmp_path / "older" / DATABASE_NAME)
    assert older == sqlite_catalog(tmp_path / "fresh" / DATABASE_NAME)
    assert older[0] == latest("sqlite")


def test_sqlite_goes_on_after_a_migration(tmp_path: Path) -> None:
    async def main() -> None:
        make_sqlite(tmp_path / "older", steps("sqlite")[0].version, AT_WORK)
        database = SqliteDatabase(tmp_path / "older", ManualClock())
        await goes_on(database.catalogue, database.ledger)
        await database.close()

    asyncio.run(main())


@pytest.mark.parametrize("version", [step.version for step in OLDER])
def test_postgresql_migrated_is_as_made_fresh(postgresql: Server, version: int) -> None:
    fresh, older = postgresql.new_schema(), postgresql.new_schema()

    async def main() -> None:
        make_postgresql(older, version)
        for url in (fresh, older):
            await PostgresDatabase(url).close()

    asyncio.run(main())
    catalog = postgresql_catalog(older)
    assert catalog == postgresql_catalog(fresh)
    assert len(catalog) > 100
    with psycopg.connect(older) as connection:
        versions = connection.execute("SELECT version FROM evstream").fetchall()
    assert versions == [(latest("postgresql"),)]


def test_postgresql_goes_on_after_a_migration(postgresql: Server) -> None:
    url = postgresql.new_schema()

    async def main() -> None:
        make_postgresql(url, steps("postgresql")[0].version, AT_WORK)
        database = PostgresDatabase(url, clock=ManualClock())
        await goes_on(database.catalogue, database.ledger)
        await database.close()

    asyncio.run(main())


def test_a_step_that_fails_changes_nothing(
    tmp_path: Path, postgresql: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgresql.new_schema()

    async def main() -> None:
        await SqliteDatabase(tmp_path / "data", ManualClock()).close()
        await PostgresDatabase(url).close()

    asyncio.run(main())
    before = sqlite_catalog(tmp_path / "data" / DATABASE_NAME), postgresql_catalog(url)
    a_step_more(monkeypatch, "CREATE TABLE halfway (x BIGINT); INSERT INTO nowhere VALUES (1);")
    with pytest.raises(Exception, match="nowhere"):
        SqliteDatabase(tmp_path / "data", ManualClock())
    with pytest.raises(ConfigError, match="nowhere"):
        PostgresDatabase(url)
    assert (sqlite_catalog(tmp_path / "data" / DATABASE_NAME), postgresql_catalog(url)) == before


# Versions that are not ours, and heads of two versions


@pytest.mark.parametrize("version", [steps("postgresql")[0].version - 1, latest("postgresql") + 1])
def test_other_versions_are_refused(postgresql: Server, version: int) -> None:
    url = postgresql.new_schema()
    asyncio.run(PostgresDatabase(url).close())
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE evstream SET version = %s", (version,))
    before = postgresql_catalog(url)
    with pytest.raises(ConfigError, match=f"schema version {version}; this evstream knows"):
        PostgresDatabase(url)
    assert postgresql_catalog(url) == before


def test_heads_that_open_at_once_make_one_schema(postgresql: Server) -> None:
    url = postgresql.new_schema()

    async def main() -> None:
        opening = [asyncio.to_thread(PostgresDatabase, url) for _ in range(6)]
        for database in await asyncio.gather(*opening):
            await database.close()

    asyncio.run(main())
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM evstream").fetchone() == (1,)


def test_a_head_stops_when_a_newer_one_has_changed_the_schema(
    postgresql: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgresql.new_schema()
    make_postgresql(url, steps("postgresql")[0].version, AT_WORK)

    async def main() -> None:
        older = PostgresDatabase(url, clock=ManualClock())
        await older.ledger.progress(2)
        with monkeypatch.context() as newer:
            number = a_step_more(newer, "CREATE TABLE novelty (x BIGINT);")
            await PostgresDatabase(url).close()
        before = postgresql_catalog(url)
        with pytest.raises(TransientError, match=f"schema version {number} now") as caught:
            await older.ledger.claim_ranges(LeaseId("late"), WORKER, 1, timedelta(minutes=1), [2])
        assert caught.value.fields["retry_after_s"]
        await older.close()
        assert postgresql_catalog(url) == before
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT lease FROM lease").fetchall() == [("held",)]

    asyncio.run(main())


# The picture in the pages


def drawn() -> dict[str, list[tuple[str, str, bool]]]:
    """Return the tables of the picture: of each column kind, name and whether it is a key."""
    page = Path(__file__).parents[2] / "docs/explanation/tables.md"
    picture = page.read_text(encoding="utf-8").split("```mermaid\n")[1].split("```")[0]
    tables = re.findall(r"^    (\w+) \{\n(.*?)^    \}", picture, re.MULTILINE | re.DOTALL)
    return {
        table: [
            (kind, name, key == "PK")
            for kind, name, key in re.findall(r"^ +(\w+) (\w+) ?(\w*)$", columns, re.MULTILINE)
        ]
        for table, columns in tables
    }


def test_the_picture_shows_the_tables_of_sqlite() -> None:
    connection = sqlite3.connect(":memory:")
    for step in steps("sqlite"):
        connection.executescript(step.statements)
    names = connection.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    )
    there = {
        table: [
            (kind.lower(), name, bool(key))
            for _, name, kind, _, _, key in connection.execute(f"PRAGMA table_info({table})")
        ]
        for (table,) in names.fetchall()
    }
    connection.close()
    assert drawn() == there


def test_postgresql_has_the_same_tables_and_columns(postgresql: Server) -> None:
    url = postgresql.new_schema()
    make_postgresql(url, latest("postgresql"))
    spelled = {"bigint": "integer", "double precision": "real", "bytea": "blob"}
    there: dict[str, set[tuple[str, str]]] = {}
    for what, table, name, _, kind, _ in postgresql_catalog(url):
        if what == "column":
            there.setdefault(table, set()).add((spelled.get(kind, kind), name))
    del there["evstream"]
    assert there == {
        table: {(kind, name) for kind, name, _ in columns} for table, columns in drawn().items()
    }
