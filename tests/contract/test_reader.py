"""Reads beside the writer: they wait for nothing that it does, and change nothing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from evstream.adapters.catalogue.postgresql import PostgresDatabase
from evstream.adapters.catalogue.reader import CONNECTIONS, READS_WAITING_MAX, ConnectedReader
from evstream.adapters.catalogue.sqlite import SqliteDatabase
from evstream.domain.errors import EvstreamError, TransientError
from evstream.testing.manual_clock import ManualClock
from tests.postgresql import Server

WAIT_S_MAX = 120

Database = SqliteDatabase | PostgresDatabase


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    if request.param == "sqlite":
        return SqliteDatabase(tmp_path, ManualClock())
    server: Server = request.getfixturevalue("postgresql")
    return PostgresDatabase(server.new_schema(), clock=ManualClock())


@contextmanager
def busy_writer(database: Database) -> Iterator[asyncio.Task[bool]]:
    """Keep the owner in the middle of a transaction while the context lasts."""
    gate = threading.Event()

    def hold(_: object) -> bool:
        return gate.wait(WAIT_S_MAX)

    held = asyncio.get_running_loop().create_task(database._owner.run(hold))
    try:
        yield held
    finally:
        gate.set()


def test_a_search_does_not_wait_for_the_writer(database: Database) -> None:
    async def main() -> None:
        try:
            await database.products.beat("near", "https://near")
            with busy_writer(database) as held:
                # What is queued behind the transaction cannot be seen yet, nor is it waited for.
                later = asyncio.ensure_future(database.products.beat("far", "https://far"))
                names = [edge.name for edge in await database.products.edges()]
                assert names == ["near"]
                assert not held.done()
                assert not later.done()
            assert await held
            await later
            assert len(await database.products.edges()) == 2
        finally:
            await database.close()

    asyncio.run(main())


def test_a_reader_cannot_write(database: Database) -> None:
    async def main() -> None:
        try:
            with pytest.raises(EvstreamError):
                await database._reader.read(lambda db: db.execute("DELETE FROM edge"))
            assert await database.products.edges() == []
        finally:
            await database.close()
        with pytest.raises(TransientError):
            await database.products.edges()

    asyncio.run(main())


def test_searches_that_wait_at_the_end_are_told(database: Database) -> None:
    async def main() -> None:
        reader = database._reader
        assert isinstance(reader, ConnectedReader)
        begun, gate, pause = threading.Semaphore(0), threading.Event(), threading.Event()

        def hold(_: object) -> bool:
            begun.release()
            return gate.wait(WAIT_S_MAX)

        def open_when_closing() -> None:
            while not reader._closed:
                pause.wait(0.001)
            gate.set()

        running = [asyncio.ensure_future(reader.read(hold)) for _ in range(CONNECTIONS)]
        for _ in range(CONNECTIONS):
            await asyncio.to_thread(begun.acquire)
        waiting = asyncio.ensure_future(database.products.edges())
        await asyncio.sleep(0)
        opener = threading.Thread(target=open_when_closing)
        opener.start()
        await database.close()
        opener.join()
        assert await asyncio.gather(*running) == [True] * CONNECTIONS
        with pytest.raises(TransientError, match="shutting down"):
            await waiting

    asyncio.run(main())


def test_searches_have_a_limit(tmp_path: Path) -> None:
    async def main() -> None:
        database = SqliteDatabase(tmp_path, ManualClock())
        reader = database._reader
        assert isinstance(reader, ConnectedReader)
        gate = threading.Event()
        try:
            waiting = [
                asyncio.ensure_future(reader.read(lambda _: gate.wait(WAIT_S_MAX)))
                for _ in range(READS_WAITING_MAX)
            ]
            await asyncio.sleep(0)
            with pytest.raises(TransientError, match="wait for the database"):
                await reader.read(lambda _: None)
            gate.set()
            assert all(await asyncio.gather(*waiting))
            await reader.read(lambda _: None)
        finally:
            gate.set()
            await database.close()

    asyncio.run(main())
