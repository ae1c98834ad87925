"""Ledger and catalogue on PostgreSQL keep their contracts."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import psycopg
import pytest

from evstream.adapters.catalogue.postgresql import PostgresDatabase
from evstream.ports.ledger import Ledger
from evstream.testing.contracts import CatalogueContract, LedgerContract
from evstream.testing.contracts.catalogue import OpenStores, Stores
from evstream.testing.manual_clock import ManualClock
from tests.postgresql import programs, server

pytestmark = pytest.mark.skipif(programs() is None, reason="no PostgreSQL server is installed")
NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def server_url() -> Iterator[str]:
    with server() as url:
        yield url


@pytest.fixture
def database_url(server_url: str) -> str:
    """Return the URL of an empty schema."""
    name = f"test_{next(NUMBERS)}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}".encode())
    return f"{server_url}&options=-csearch_path%3D{name}"


class TestPostgresLedger(LedgerContract):
    @pytest.fixture
    def open_ledger(
        self, clock: ManualClock, database_url: str
    ) -> Callable[[], AbstractAsyncContextManager[Ledger]]:
        @asynccontextmanager
        async def open_ledger() -> AsyncIterator[Ledger]:
            database = PostgresDatabase(database_url, clock=clock)
            yield database.ledger
            await database.close()

        return open_ledger


class TestPostgresCatalogue(CatalogueContract):
    @pytest.fixture
    def open_stores(self, clock: ManualClock, database_url: str) -> OpenStores:
        @asynccontextmanager
        async def open_stores() -> AsyncIterator[Stores]:
            database = PostgresDatabase(database_url, clock=clock)
            yield database.catalogue, database.ledger
            await database.close()

        return open_stores
