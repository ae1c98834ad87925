"""Databases that cannot be worked with are refused when they are opened, with what to do."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from uuid import uuid4

import psycopg
import pytest

from evstream.adapters.catalogue.postgresql import PostgresDatabase
from evstream.domain.errors import ConfigError
from evstream.domain.ledger import BookRules
from evstream.domain.names import LeaseId, Lfn, WorkerId
from evstream.domain.splitting import Chunk
from tests.postgresql import Server

pytestmark = pytest.mark.anyio
NAME = Lfn("Zμμ-é.root")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def ask(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


@pytest.fixture
def encoded(postgresql: Server, request: pytest.FixtureRequest) -> Iterator[str]:
    """Return the URL of an empty database with an encoding of its own."""
    name = f"encoded_{uuid4().hex}"
    ask(
        postgresql.url,
        f"CREATE DATABASE {name} ENCODING '{request.param}' LOCALE 'C' TEMPLATE template0",
    )
    yield postgresql.url_of(name)
    ask(postgresql.url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.parametrize("encoded", ["SQL_ASCII", "LATIN1"], indirect=True)
def test_a_database_of_another_encoding_is_refused(encoded: str) -> None:
    with pytest.raises(ConfigError, match="encoding is") as refused:
        PostgresDatabase(encoded)
    assert "UTF8" in refused.value.hint


async def test_names_are_kept_whatever_the_environment_says(
    postgresql: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    database = PostgresDatabase(postgresql.new_schema())
    await database.ledger.open_book(2, BookRules(1), [Chunk(0, NAME, 0, 10)])
    assert [chunk.lfn for chunk in await database.ledger.chunks(2)] == [NAME]
    worker = WorkerId("anne")
    assert await database.ledger.claim_ranges(LeaseId("a"), worker, 3, timedelta(minutes=1), [2])
    await database.close()


def test_tables_without_their_rows_are_refused(postgresql: Server) -> None:
    url = postgresql.new_schema()
    ask(url, "CREATE TABLE evstream (version BIGINT NOT NULL)")
    with pytest.raises(ConfigError, match="none of their rows"):
        PostgresDatabase(url)


async def test_a_user_who_may_not_write_is_told_so(postgresql: Server) -> None:
    name, user = f"read_{uuid4().hex}", f"reader_{uuid4().hex}"
    ask(postgresql.url, f"CREATE DATABASE {name}", f"CREATE ROLE {user} LOGIN")
    url = postgresql.url_of(name)
    try:
        await PostgresDatabase(url).close()
        ask(url, f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {user}")
        with pytest.raises(ConfigError, match="permission denied"):
            PostgresDatabase(url.replace("evstream@", f"{user}@"))
    finally:
        ask(postgresql.url, f"DROP DATABASE {name} WITH (FORCE)", f"DROP ROLE {user}")


def test_a_database_or_a_user_that_is_not_there_is_no_matter_of_time(postgresql: Server) -> None:
    with pytest.raises(ConfigError, match='database "nowhere" does not exist'):
        PostgresDatabase(postgresql.url_of("nowhere"))
    with pytest.raises(ConfigError, match='role "nobody" does not exist'):
        PostgresDatabase(postgresql.url.replace("evstream@", "nobody@"))
