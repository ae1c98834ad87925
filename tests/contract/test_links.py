"""Whatever keeps sites and links keeps its contract."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from evstream.adapters.catalogue.memory import MemoryDatabase
from evstream.adapters.catalogue.postgresql import PostgresDatabase
from evstream.adapters.catalogue.sqlite import SqliteDatabase
from evstream.ports import Links
from evstream.testing.contracts import LinksContract
from evstream.testing.contracts.links import OpenLinks
from evstream.testing.manual_clock import ManualClock
from tests.postgresql import Server


class TestMemoryLinks(LinksContract):
    durable = False

    @pytest.fixture
    def open_links(self, clock: ManualClock) -> OpenLinks:
        @asynccontextmanager
        async def open_links() -> AsyncIterator[Links]:
            yield MemoryDatabase(clock).links

        return open_links


class TestSqliteLinks(LinksContract):
    inline = False

    @pytest.fixture
    def open_links(self, clock: ManualClock, tmp_path: Path) -> OpenLinks:
        @asynccontextmanager
        async def open_links() -> AsyncIterator[Links]:
            database = SqliteDatabase(tmp_path, clock, inline=self.inline)
            try:
                yield database.links
            finally:
                await database.close()

        return open_links


class TestInlineSqliteLinks(TestSqliteLinks):
    inline = True


class TestPostgresLinks(LinksContract):
    @pytest.fixture
    def open_links(self, clock: ManualClock, postgresql: Server) -> OpenLinks:
        url = postgresql.new_schema()

        @asynccontextmanager
        async def open_links() -> AsyncIterator[Links]:
            database = PostgresDatabase(url, clock=clock)
            try:
                yield database.links
            finally:
                await database.close()

        return open_links
