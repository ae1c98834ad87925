"""Every whiteboard keeps its contract."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from evstream.adapters.catalogue.memory import MemoryDatabase
from evstream.adapters.catalogue.postgresql import PostgresDatabase
from evstream.adapters.catalogue.sqlite import SqliteDatabase
from evstream.ports import Whiteboard
from evstream.testing.contracts import WhiteboardContract
from evstream.testing.contracts.whiteboard import OpenWhiteboard
from evstream.testing.manual_clock import ManualClock
from tests.postgresql import Server


class TestMemoryWhiteboard(WhiteboardContract):
    durable = False

    @pytest.fixture
    def open_whiteboard(self, clock: ManualClock) -> OpenWhiteboard:
        @asynccontextmanager
        async def open_whiteboard() -> AsyncIterator[Whiteboard]:
            yield MemoryDatabase(clock).whiteboard

        return open_whiteboard


class TestSqliteWhiteboard(WhiteboardContract):
    inline = False

    @pytest.fixture
    def open_whiteboard(self, clock: ManualClock, tmp_path: Path) -> OpenWhiteboard:
        @asynccontextmanager
        async def open_whiteboard() -> AsyncIterator[Whiteboard]:
            database = SqliteDatabase(tmp_path, clock, inline=self.inline)
            try:
                yield database.whiteboard
            finally:
                await database.close()

        return open_whiteboard


class TestInlineSqliteWhiteboard(TestSqliteWhiteboard):
    inline = True


class TestPostgresWhiteboard(WhiteboardContract):
    @pytest.fixture
    def open_whiteboard(self, clock: ManualClock, postgresql: Server) -> OpenWhiteboard:
        url = postgresql.new_schema()

        @asynccontextmanager
        async def open_whiteboard() -> AsyncIterator[Whiteboard]:
            database = PostgresDatabase(url, clock=clock)
            try:
                yield database.whiteboard
            finally:
                await database.close()

        return open_whiteboard
