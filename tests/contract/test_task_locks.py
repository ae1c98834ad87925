"""Locks of tasks among the heads of a PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest

from evstream.adapters.catalogue.postgresql import CONNECTION
from evstream.adapters.catalogue.postgresql_locks import PostgresTaskLocks
from evstream.domain.errors import TransientError
from evstream.domain.names import TaskId
from tests.postgresql import Server

pytestmark = pytest.mark.anyio
ONE, OTHER = TaskId(1), TaskId(2)
ROUNDS = 20
Heads = tuple[PostgresTaskLocks, PostgresTaskLocks]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def url(postgresql: Server) -> str:
    return postgresql.new_database()


@pytest.fixture
async def heads(url: str) -> AsyncIterator[Heads]:
    made = PostgresTaskLocks(url, CONNECTION), PostgresTaskLocks(url, CONNECTION)
    yield made
    for head in made:
        await head.close()


def held(url: str) -> list[int]:
    """Return the tasks whose locks are held."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT objid FROM pg_locks WHERE locktype = 'advisory' AND granted AND database ="
            " (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY objid"
        )
        return [int(task) for (task,) in rows]


async def test_one_head_at_a_time_holds_a_task(heads: Heads) -> None:
    inside: list[int] = []
    most = 0

    async def work(head: int) -> None:
        nonlocal most
        for _ in range(ROUNDS):
            async with heads[head].of(ONE):
                inside.append(head)
                most = max(most, len(inside))
                await asyncio.sleep(0)
                inside.remove(head)

    await asyncio.gather(work(0), work(1))
    assert most == 1


async def test_tasks_do_not_wait_for_each_other(heads: Heads, url: str) -> None:
    first, second = heads
    async with first.of(ONE), second.of(OTHER), first.of(TaskId(3)):
        assert held(url) == [1, 2, 3]
    assert held(url) == []


async def test_who_is_cancelled_while_waiting_holds_nothing(heads: Heads, url: str) -> None:
    first, second = heads
    done = asyncio.Event()

    async def wait() -> None:
        async with second.of(ONE):
            done.set()

    async with first.of(ONE):
        waiting = asyncio.create_task(wait())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert held(url) == []
    await wait()
    assert done.is_set()


async def test_a_lock_goes_with_the_connection_that_holds_it(heads: Heads, url: str) -> None:
    first, second = heads
    async with first.of(ONE):
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
                " AND objid = 1 AND pid <> pg_backend_pid()"
            )
        async with second.of(ONE):
            assert held(url) == [1]
    # The lost connection is made anew, and is no error of what comes next.
    async with first.of(ONE):
        assert held(url) == [1]
    assert held(url) == []


async def test_a_connection_that_was_lost_while_idle_is_made_anew(heads: Heads, url: str) -> None:
    head = heads[0]
    async with head.of(ONE):
        pass
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    async with head.of(ONE):
        assert held(url) == [1]


async def test_a_server_that_is_not_there_is_told(tmp_path: object) -> None:
    locks = PostgresTaskLocks(f"postgresql://evstream@/evstream?host={tmp_path}", CONNECTION)
    with pytest.raises(TransientError):
        async with locks.of(ONE):
            pass
