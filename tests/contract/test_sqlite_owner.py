"""The owner of a SQLite file: groups, errors, limits and its end."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evstream.adapters.catalogue.database import Database
from evstream.adapters.catalogue.owner import GroupCommitOwner, InlineOwner, Owner
from evstream.adapters.catalogue.sqlite import SqliteEngine
from evstream.domain.errors import ConflictError, LimitError, TransientError
from evstream.testing.manual_clock import ManualClock

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=0.01, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE IF NOT EXISTS log (word TEXT UNIQUE NOT NULL)")
    return connection


def engine(connection: sqlite3.Connection) -> SqliteEngine:
    return SqliteEngine(connection, ManualClock())


def write(word: object) -> Callable[[Database], None]:
    def operation(db: Database) -> None:
        db.execute("INSERT INTO log VALUES (?)", (word,))

    return operation


def write_and_refuse(word: str) -> Callable[[Database], None]:
    def operation(db: Database) -> None:
        db.execute("INSERT INTO log VALUES (?)", (word,))
        raise ConflictError("refused")

    return operation


def read(db: Database) -> list[str]:
    return [word for (word,) in db.execute("SELECT word FROM log ORDER BY rowid")]


def words_in(path: Path) -> list[str]:
    """Read the file as another process would: only what is committed."""
    connection = sqlite3.connect(path)
    words = read(connection)
    connection.close()
    return words


class Gate:
    """An operation that holds the owner until it is opened."""

    def __init__(self) -> None:
        self._reached, self._opened = threading.Event(), threading.Event()

    def __call__(self, db: Database) -> None:
        self._reached.set()
        assert self._opened.wait(30)

    async def reached(self) -> None:
        assert await asyncio.to_thread(self._reached.wait, 30)

    def open(self) -> None:
        self._opened.set()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.sqlite"


@pytest.fixture(params=[GroupCommitOwner, InlineOwner])
def owner(request: pytest.FixtureRequest, path: Path) -> Owner:
    made: Owner = request.param(engine(connect(path)))
    return made


async def queued(owner: GroupCommitOwner, *operations: Callable[[sqlite3.Connection], Any]) -> Any:
    """Run operations in one group, and return what each came to."""
    gate = Gate()
    holding = asyncio.ensure_future(owner.run(gate))
    await gate.reached()
    running = [asyncio.ensure_future(owner.run(operation)) for operation in operations]
    await asyncio.sleep(0)
    gate.open()
    await holding
    return await asyncio.gather(*running, return_exceptions=True)


async def test_what_is_answered_is_committed(owner: Owner, path: Path) -> None:
    for number in range(5):
        await owner.run(write(f"word {number}"))
        assert len(words_in(path)) == number + 1
    assert await owner.run(read) == words_in(path)
    await owner.close()


async def test_an_operation_that_raises_leaves_nothing(owner: Owner, path: Path) -> None:
    with pytest.raises(ConflictError, match="refused"):
        await owner.run(write_and_refuse("bad"))
    with pytest.raises(LimitError):
        await owner.run(write(2**80))
    await owner.run(write("good"))
    await owner.close()
    assert words_in(path) == ["good"]


async def test_a_group_is_one_transaction_in_order(path: Path) -> None:
    connection = connect(path)
    owner = GroupCommitOwner(engine(connection))
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    answers = await queued(owner, write("a"), write_and_refuse("b"), read, write("c"), read)
    await owner.close()
    assert [answers[2], answers[4]] == [["a"], ["a", "c"]]
    assert isinstance(answers[1], ConflictError)
    assert words_in(path) == ["a", "c"]
    # One for the gate, one for all that waited behind it.
    assert statements.count("COMMIT") == 2


async def test_a_commit_that_fails_is_tried_again_for_each(path: Path) -> None:
    connection = connect(path)
    connection.execute(
        "CREATE TABLE child (word TEXT REFERENCES log (word) DEFERRABLE INITIALLY DEFERRED)"
    )
    connection.execute("PRAGMA foreign_keys = ON")
    owner = GroupCommitOwner(engine(connection))

    def orphan(db: Database) -> None:
        db.execute("INSERT INTO child VALUES ('nobody')")

    answers = await queued(owner, write("a"), orphan, write("b"))
    assert [answers[0], answers[2]] == [None, None]
    assert isinstance(answers[1], Exception)
    await owner.run(write("c"))
    await owner.close()
    assert words_in(path) == ["a", "b", "c"]


async def test_a_full_disk_is_transient(owner: Owner, path: Path) -> None:
    await owner.run(lambda db: db.execute("PRAGMA max_page_count = 8").fetchall())
    with pytest.raises(TransientError, match="no space"):
        await owner.run(write("x" * 100_000))
    await owner.run(write("small"))
    await owner.run(lambda db: db.execute("PRAGMA max_page_count = 1000").fetchall())
    await owner.run(write("x" * 100_000))
    await owner.close()
    assert [len(word) for word in words_in(path)] == [5, 100_000]


async def test_anothers_lock_is_transient(owner: Owner, path: Path) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(TransientError, match="another process"):
        await owner.run(write("a"))
    other.execute("COMMIT")
    other.close()
    await owner.run(write("b"))
    await owner.close()
    assert words_in(path) == ["b"]


async def test_too_many_waiting_are_refused(path: Path) -> None:
    owner = GroupCommitOwner(engine(connect(path)), waiting_max=2)
    gate = Gate()
    holding = asyncio.ensure_future(owner.run(gate))
    await gate.reached()
    waiting = [asyncio.ensure_future(owner.run(write(word))) for word in "ab"]
    await asyncio.sleep(0)
    with pytest.raises(TransientError, match="2 operations wait"):
        await owner.run(write("c"))
    gate.open()
    await asyncio.gather(holding, *waiting)
    await owner.run(write("d"))
    await owner.close()
    assert words_in(path) == ["a", "b", "d"]


async def test_closing_finishes_what_waits(path: Path) -> None:
    owner = GroupCommitOwner(engine(connect(path)))
    gate = Gate()
    holding = asyncio.ensure_future(owner.run(gate))
    await gate.reached()
    waiting = [asyncio.ensure_future(owner.run(write(word))) for word in "abc"]
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(owner.close())
    await asyncio.sleep(0)
    with pytest.raises(TransientError, match="shutting down"):
        await owner.run(write("late"))
    gate.open()
    await asyncio.gather(holding, closing, *waiting)
    assert words_in(path) == ["a", "b", "c"]


async def test_a_closed_owner_refuses_and_closes_again(owner: Owner) -> None:
    await owner.close()
    await owner.close()
    with pytest.raises(TransientError, match="shutting down"):
        await owner.run(read)


async def test_a_caller_that_gave_up_holds_nobody_up(path: Path) -> None:
    owner = GroupCommitOwner(engine(connect(path)))
    gate = Gate()
    holding = asyncio.ensure_future(owner.run(gate))
    await gate.reached()
    gone, stays = (asyncio.ensure_future(owner.run(write(word))) for word in "ab")
    await asyncio.sleep(0)
    gone.cancel()
    gate.open()
    await asyncio.gather(holding, stays)
    await owner.close()
    assert gone.cancelled()
    assert words_in(path) == ["a", "b"]


def test_a_loop_that_was_closed_holds_nobody_up(path: Path) -> None:
    owner = GroupCommitOwner(engine(connect(path)))
    gate = Gate()

    async def give_up() -> None:
        asyncio.ensure_future(owner.run(gate)).add_done_callback(lambda done: done.cancelled())
        await gate.reached()

    asyncio.run(give_up())
    gate.open()

    async def go_on() -> None:
        await owner.run(write("a"))
        await owner.close()

    asyncio.run(go_on())
    assert words_in(path) == ["a"]
