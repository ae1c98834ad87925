"""Ledger and catalogue on PostgreSQL keep their contracts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from evstream.adapters.catalogue.postgresql import PostgresDatabase
from evstream.ports.ledger import Ledger
from evstream.testing.contracts import CatalogueContract, LedgerContract
from evstream.testing.contracts.catalogue import OpenStores, Stores
from evstream.testing.manual_clock import ManualClock
from tests.postgresql import Server


@pytest.fixture
def database_url(postgresql: Server) -> str:
    """Return the URL of an empty schema."""
    return postgresql.new_schema()


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
