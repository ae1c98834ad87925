"""Every ledger keeps the ledger's contract."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from evstream.adapters.catalogue.memory import MemoryLedger
from evstream.adapters.catalogue.sqlite import SqliteDatabase
from evstream.ports.ledger import Ledger
from evstream.testing.contracts import LedgerContract
from evstream.testing.manual_clock import ManualClock

OpenLedger = Callable[[], AbstractAsyncContextManager[Ledger]]


class TestMemoryLedger(LedgerContract):
    durable = False

    @pytest.fixture
    def open_ledger(self, clock: ManualClock) -> OpenLedger:
        @asynccontextmanager
        async def open_ledger() -> AsyncIterator[Ledger]:
            yield MemoryLedger(clock)

        return open_ledger


class TestSqliteLedger(LedgerContract):
    inline = False

    @pytest.fixture
    def open_ledger(self, clock: ManualClock, tmp_path: Path) -> OpenLedger:
        @asynccontextmanager
        async def open_ledger() -> AsyncIterator[Ledger]:
            database = SqliteDatabase(tmp_path, clock, inline=self.inline)
            yield database.ledger
            await database.close()

        return open_ledger


class TestInlineSqliteLedger(TestSqliteLedger):
    inline = True
