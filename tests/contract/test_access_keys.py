"""Whatever keeps API keys keeps its contract."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from evstream.adapters.catalogue.memory import MemoryDatabase
from evstream.adapters.catalogue.postgresql import PostgresDatabase
from evstream.adapters.catalogue.sqlite import SqliteDatabase
from evstream.ports import AccessKeys
from evstream.testing.contracts import AccessKeysContract
from evstream.testing.contracts.access_keys import OpenKeys
from evstream.testing.manual_clock import ManualClock
from tests.postgresql import Server


class TestMemoryAccessKeys(AccessKeysContract):
    durable = False

    @pytest.fixture
    def open_keys(self, clock: ManualClock) -> OpenKeys:
        @asynccontextmanager
        async def open_keys() -> AsyncIterator[AccessKeys]:
            yield MemoryDatabase(clock).access_keys

        return open_keys


class TestSqliteAccessKeys(AccessKeysContract):
    inline = False

    @pytest.fixture
    def open_keys(self, clock: ManualClock, tmp_path: Path) -> OpenKeys:
        @asynccontextmanager
        async def open_keys() -> AsyncIterator[AccessKeys]:
            database = SqliteDatabase(tmp_path, clock, inline=self.inline)
            try:
                yield database.access_keys
            finally:
                await database.close()

        return open_keys


class TestInlineSqliteAccessKeys(TestSqliteAccessKeys):
    inline = True


class TestPostgresAccessKeys(AccessKeysContract):
    @pytest.fixture
    def open_keys(self, clock: ManualClock, postgresql: Server) -> OpenKeys:
        url = postgresql.new_schema()

        @asynccontextmanager
        async def open_keys() -> AsyncIterator[AccessKeys]:
            database = PostgresDatabase(url, clock=clock)
            try:
                yield database.access_keys
            finally:
                await database.close()

        return open_keys
