"""Every catalogue of products keeps its contract."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from evstream.adapters.catalogue.memory import MemoryDatabase
from evstream.adapters.catalogue.postgresql import PostgresDatabase
from evstream.adapters.catalogue.sqlite import SqliteDatabase
from evstream.ports import ProductCatalogue
from evstream.testing.contracts import ProductCatalogueContract
from evstream.testing.contracts.products import OpenProducts
from evstream.testing.manual_clock import ManualClock
from tests.postgresql import Server


class TestMemoryProducts(ProductCatalogueContract):
    durable = False

    @pytest.fixture
    def open_products(self, clock: ManualClock) -> OpenProducts:
        @asynccontextmanager
        async def open_products() -> AsyncIterator[ProductCatalogue]:
            yield MemoryDatabase(clock).products

        return open_products


class TestSqliteProducts(ProductCatalogueContract):
    inline = False

    @pytest.fixture
    def open_products(self, clock: ManualClock, tmp_path: Path) -> OpenProducts:
        @asynccontextmanager
        async def open_products() -> AsyncIterator[ProductCatalogue]:
            database = SqliteDatabase(tmp_path, clock, inline=self.inline)
            try:
                yield database.products
            finally:
                await database.close()

        return open_products


class TestInlineSqliteProducts(TestSqliteProducts):
    inline = True


class TestPostgresProducts(ProductCatalogueContract):
    @pytest.fixture
    def open_products(self, clock: ManualClock, postgresql: Server) -> OpenProducts:
        url = postgresql.new_schema()

        @asynccontextmanager
        async def open_products() -> AsyncIterator[ProductCatalogue]:
            database = PostgresDatabase(url, clock=clock)
            try:
                yield database.products
            finally:
                await database.close()

        return open_products
