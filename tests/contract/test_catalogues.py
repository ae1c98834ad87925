"""Every catalogue keeps the catalogue's contract."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from evstream.adapters.catalogue.memory import MemoryDatabase
from evstream.adapters.catalogue.sqlite import SqliteDatabase
from evstream.testing.contracts import CatalogueContract
from evstream.testing.contracts.catalogue import OpenStores, Stores
from evstream.testing.manual_clock import ManualClock


class TestMemoryCatalogue(CatalogueContract):
    durable = False

    @pytest.fixture
    def open_stores(self, clock: ManualClock) -> OpenStores:
        @asynccontextmanager
        async def open_stores() -> AsyncIterator[Stores]:
            database = MemoryDatabase(clock)
            yield database.catalogue, database.ledger
            await database.close()

        return open_stores


class TestSqliteCatalogue(CatalogueContract):
    inline = False

    @pytest.fixture
    def open_stores(self, clock: ManualClock, tmp_path: Path) -> OpenStores:
        @asynccontextmanager
        async def open_stores() -> AsyncIterator[Stores]:
            database = SqliteDatabase(tmp_path, clock, inline=self.inline)
            yield database.catalogue, database.ledger
            await database.close()

        return open_stores


class TestInlineSqliteCatalogue(TestSqliteCatalogue):
    inline = True
