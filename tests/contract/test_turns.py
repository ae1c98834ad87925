"""Several heads on one database: what a head knows is never older than its turn."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from evstream.adapters.catalogue import postgresql, sql_ledger
from evstream.adapters.catalogue.database import Database, Turn
from evstream.adapters.catalogue.postgresql import PostgresDatabase, PostgresEngine
from evstream.adapters.catalogue.sqlite import DATABASE_NAME, SqliteDatabase
from evstream.domain.errors import ConflictError, EvstreamError, TransientError
from evstream.domain.ledger import BookRules, Failure, RangeReport, RunningUnit, Success, Within
from evstream.domain.ledger_model import LedgerModel
from evstream.domain.names import LeaseId, Lfn, WorkerId
from evstream.domain.splitting import Chunk
from evstream.domain.states import Answer, TaskState
from evstream.ports.ledger import Ledger
from evstream.testing.contracts.catalogue import SPEC
from evstream.testing.manual_clock import ManualClock
from tests.postgresql import Server

pytestmark = pytest.mark.anyio
ANNE = WorkerId("anne")
MINUTE = timedelta(minutes=1)
BOOK = 2
RULES = BookRules(events_per_range=2, failures_max=2, losses_max=4, bisections_max=5)
CHUNKS = [Chunk(number, Lfn(f"file-{number}"), 0, 30) for number in range(4)]
STEPS = 250


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def database_url(postgresql: Server) -> str:
    return postgresql.new_schema()


class History:
    """Random messages, put to the model and to whichever head comes next."""

    def __init__(self, seed: int, clock: ManualClock, heads: list[Ledger]) -> None:
        self.random = random.Random(seed)
        self.clock = clock
        self.heads = heads
        self.model = LedgerModel()

    async def ask(
        self, expected: Callable[[], Any], call: Callable[[Ledger], Awaitable[Any]]
    ) -> None:
        try:
            answer = expected()
        except ConflictError:
            with pytest.raises(ConflictError):
                await call(self.random.choice(self.heads))
            return
        assert await call(self.random.choice(self.heads)) == answer

    async def step(self) -> None:
        rng, model = self.random, self.model
        lease, worker = LeaseId(f"lease-{rng.randrange(9)}"), WorkerId(f"w{rng.randrange(3)}")
        kind = rng.choices(["claim", "report", "renew", "release", "expire"], [8, 8, 4, 1, 1])[0]
        if kind == "claim":
            units = rng.randrange(1, 6)
            some = {BOOK: rng.sample([chunk.number for chunk in CHUNKS], 1)}
            within = rng.choice([None, None, some])
            await self.ask(
                lambda: model.claim(lease, worker, units, MINUTE, self.clock.now(), [BOOK], within),
                lambda head: head.claim_ranges(lease, worker, units, MINUTE, [BOOK], within),
            )
        elif kind == "release":
            await self.ask(
                lambda: model.release(lease, worker), lambda head: head.release_lease(lease, worker)
            )
        elif kind == "expire":
            self.clock.advance(rng.choice([1, 70]))
            await self.ask(
                lambda: model.expire(self.clock.now()), lambda head: head.expire_leases()
            )
        elif rows := model.leases():
            row = rng.choice(rows)
            start, stop = row.entry_start, min(row.entry_start + 2, row.entry_stop)
            if kind == "renew":
                unit = RunningUnit(BOOK, row.chunk, start, stop, 0.5)
                await self.ask(
                    lambda: model.renew(row.lease, row.worker, MINUTE, self.clock.now(), [unit]),
                    lambda head: head.renew_lease(row.lease, row.worker, MINUTE, [unit]),
                )
            else:
                outcome = rng.choice([Success(()), Success(()), Failure("payload", "exit 1")])
                place = BOOK, row.chunk, start, stop
                word = RangeReport(row.lease, row.worker, *place, row.attempt, outcome)
                await self.ask(
                    lambda: [model.report(word), model.report(word)],
                    lambda head: head.report_ranges([word, word]),
                )

    async def compare(self) -> None:
        for head in self.heads:
            assert await head.leases() == self.model.leases()
            assert await head.progress(BOOK) == self.model.progress(BOOK)
            assert await head.commits(BOOK) == self.model.commits(BOOK)
            assert await head.closed(BOOK) == self.model.closed(BOOK)


@pytest.mark.parametrize("heads", [1, 2, 3])
async def test_heads_that_take_turns_are_one_ledger(
    clock: ManualClock, database_url: str, heads: int
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    databases = [PostgresDatabase(database_url, clock=clock) for _ in range(heads)]
    history = History(seed, clock, [database.ledger for database in databases])
    history.model.open_book(BOOK, RULES, CHUNKS)
    await databases[-1].ledger.open_book(BOOK, RULES, CHUNKS)
    for _ in range(STEPS):
        await history.step()
    await history.compare()
    for database in databases:
        await database.close()


async def claim(ledger: Ledger, lease: str, units: int = 1) -> list[tuple[int, int, int]]:
    held = await ledger.claim_ranges(LeaseId(lease), ANNE, units, MINUTE, [BOOK])
    return [(row.entry_start, row.entry_stop, row.attempt) for row in held]


@pytest.mark.parametrize("within", [None, {BOOK: [0, 2]}], ids=["anywhere", "within"])
async def test_nothing_is_read_again_that_is_known(
    tmp_path: Path, clock: ManualClock, within: Within | None
) -> None:
    """Else each group of claims and reports would ask for it."""
    database = SqliteDatabase(tmp_path / "data", clock)
    ledger = database.ledger
    await ledger.open_book(BOOK, RULES, CHUNKS)
    statements: list[str] = []
    connection = database._owner._engine._connection  # type: ignore[attr-defined]
    connection.set_trace_callback(statements.append)
    for number in range(5):
        lease = LeaseId(f"lease-{number}")
        (row,) = await ledger.claim_ranges(lease, ANNE, 1, MINUTE, [BOOK], within)
        place = BOOK, row.chunk, row.entry_start, row.entry_stop
        word = RangeReport(lease, ANNE, *place, row.attempt, Success(()))
        assert await ledger.report_ranges([word]) == [Answer.ACCEPTED]
        assert (await ledger.progress(BOOK)).finished == 2 * number + 2
    await database.close()
    chunks = [text for text in statements if text.split()[0] == "SELECT" and "FROM chunk" in text]
    leases = [text for text in statements if text.split()[0] == "SELECT" and "FROM lease" in text]
    assert len(chunks) == 1
    # Whether a new lease's name is taken, for each claim; and the suspects, none of them.
    assert len(leases) == 5


async def test_a_head_that_starts_beside_another_gives_no_lease_its_time_again(
    clock: ManualClock, database_url: str
) -> None:
    databases = [PostgresDatabase(database_url, clock=clock) for _ in range(2)]
    one, other = (database.ledger for database in databases)
    within = timedelta(seconds=3)
    try:
        await one.open_book(BOOK, RULES, CHUNKS)
        (held,) = await one.claim_ranges(LeaseId("l"), ANNE, 1, MINUTE, [BOOK])
        for _ in range(29):
            clock.advance(2)
            assert await one.expire_leases() == []
            await other.resume_leases(within)
        assert await other.leases() == [held]
        # Where no head was there, it does.
        clock.advance(4)
        await other.resume_leases(within)
        assert [row.expires for row in await one.leases()] == [clock.now() + MINUTE]
    finally:
        for database in databases:
            await database.close()


async def test_what_another_head_did_is_seen(clock: ManualClock, database_url: str) -> None:
    one, other = (PostgresDatabase(database_url, clock=clock) for _ in range(2))
    await one.ledger.open_book(BOOK, RULES, CHUNKS)
    assert await claim(one.ledger, "a") == [(0, 2, 1)]
    assert await claim(other.ledger, "b") == [(2, 4, 1)]
    assert await claim(one.ledger, "c") == [(4, 6, 1)]
    # A lease that was known to hold something is expired by the other head.
    clock.advance(61)
    assert len(await other.ledger.expire_leases()) == 3
    word = RangeReport(LeaseId("a"), ANNE, BOOK, 0, 0, 2, 1, Success(()))
    assert await one.ledger.report_ranges([word]) == [Answer.SUPERSEDED]
    assert await claim(one.ledger, "d", 2) == [(0, 2, 2), (2, 4, 2)]
    await one.close()
    await other.close()


async def test_tasks_are_current_until_one_may_have_changed(
    clock: ManualClock, database_url: str
) -> None:
    one, other = (PostgresDatabase(database_url, clock=clock) for _ in range(2))
    task = await one.catalogue.add_task(SPEC, "request", RULES, CHUNKS)
    active = await one.catalogue.active_tasks()
    assert active.tasks == [task]
    # What is done at the desk leaves tasks as they are.
    assert len(await one.ledger.claim_ranges(LeaseId("a"), ANNE, 1, MINUTE, [BOOK])) == 1
    assert active.is_current()
    await other.catalogue.pause_task(task.id, "")
    # Nobody here has heard of it; with the next operation they do.
    assert active.is_current()
    await one.ledger.claim_ranges(LeaseId("b"), ANNE, 1, MINUTE, [BOOK])
    assert not active.is_current()
    (paused,) = (active := await one.catalogue.active_tasks()).tasks
    assert paused.state is TaskState.PAUSED
    await one.catalogue.resume_task(task.id)
    assert not active.is_current()
    await one.close()
    await other.close()


async def test_commits_are_read_in_pieces_and_come_as_one(
    clock: ManualClock, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_ledger, "_COMMITS_AT_ONCE", 4)
    database = PostgresDatabase(database_url, clock=clock)
    ledger = database.ledger
    await ledger.open_book(BOOK, RULES, CHUNKS)
    every: list[tuple[int, int]] = []
    # None, less than a piece, a whole one, more: and from one chunk to the next.
    for number in range(22):
        assert [(c.chunk, c.entry_start) for c in await ledger.commits(BOOK)] == every
        lease = LeaseId(f"lease-{number}")
        (row,) = await ledger.claim_ranges(lease, ANNE, 1, MINUTE, [BOOK])
        place = BOOK, row.chunk, row.entry_start, row.entry_stop
        word = RangeReport(lease, ANNE, *place, row.attempt, Success(()))
        assert await ledger.report_ranges([word]) == [Answer.ACCEPTED]
        every.append((row.chunk, row.entry_start))
    await database.close()


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> list[Turn]:
    """Return the turns that heads begin from now on; for none does time pass that matters."""
    begun: list[Turn] = []
    begin = PostgresEngine.begin

    def begin_and_tell(self: PostgresEngine, *given: Any, **named: Any) -> Turn:
        begun.append(begin(self, *given, **named))
        return begun[-1]

    monkeypatch.setattr(PostgresEngine, "begin", begin_and_tell)
    monkeypatch.setattr(postgresql, "ASSUMED_S_MAX", 3600.0)
    return begun


async def alone(ledger: Ledger, turns: list[Turn]) -> None:
    """Have a head assume its turns."""
    await ledger.open_book(BOOK, RULES, CHUNKS)
    for number in range(9):
        # The first finds out which books have ready work, and prepares its statements.
        await claim(ledger, f"before-{number}", 0)
        if turns[-1].assumed:
            break
    assert turns[-1].assumed


async def test_a_head_that_is_alone_assumes_its_turns(
    clock: ManualClock, database_url: str, turns: list[Turn]
) -> None:
    database = PostgresDatabase(database_url, clock=clock)
    await alone(database.ledger, turns)
    turns.clear()
    for number in range(5):
        assert await claim(database.ledger, f"lease-{number}") == [(2 * number, 2 * number + 2, 1)]
        word = RangeReport(
            LeaseId(f"lease-{number}"), ANNE, BOOK, 0, 2 * number, 2 * number + 2, 1, Success(())
        )
        assert await database.ledger.report_ranges([word]) == [Answer.ACCEPTED]
    assert [turn.assumed for turn in turns] == 10 * [True]
    await database.close()


@pytest.mark.parametrize("between", ["a turn", "a lease", "an hour"])
async def test_what_was_assumed_is_made_sure_of(
    clock: ManualClock, database_url: str, turns: list[Turn], between: str
) -> None:
    one, other = (PostgresDatabase(database_url, clock=clock) for _ in range(2))
    await alone(one.ledger, turns)
    expected = [(0, 2, 1)]
    if between == "a turn":
        assert await claim(other.ledger, "theirs") == [(0, 2, 1)]
        expected = [(2, 4, 1)]
    elif between == "a lease":
        with psycopg.connect(database_url, autocommit=True) as person:
            person.execute(
                "INSERT INTO lease (lease, worker, book, chunk, entry_start, entry_stop, attempt,"
                " failures, losses, bisected, duration, expires)"
                " VALUES ('mine', 'anne', 2, 3, 20, 30, 7, 0, 0, 0, 60000000, 0)"
            )
        expected = [(20, 30, 7)]
    else:
        engine: PostgresEngine = one._owner._engine  # type: ignore[attr-defined]
        at, now, was_alone = engine._asked
        engine._asked = at, now - timedelta(hours=1), was_alone
    turns.clear()
    assert await claim(one.ledger, "mine") == expected
    assert [turn.assumed for turn in turns] == [True, False]
    await one.close()
    await other.close()


async def test_a_newer_schema_ends_what_was_assumed(
    clock: ManualClock, database_url: str, turns: list[Turn]
) -> None:
    database = PostgresDatabase(database_url, clock=clock)
    await alone(database.ledger, turns)
    with psycopg.connect(database_url, autocommit=True) as newer:
        newer.execute("UPDATE evstream SET version = version + 1")
    with pytest.raises(TransientError, match="schema version"):
        await claim(database.ledger, "mine")
    await database.close()


async def test_an_error_and_a_new_connection_leave_nothing_that_is_not_so(
    clock: ManualClock, database_url: str
) -> None:
    database = PostgresDatabase(database_url, clock=clock)
    ledger, owner = database.ledger, database._owner
    await ledger.open_book(BOOK, RULES, CHUNKS)
    assert await claim(ledger, "a") == [(0, 2, 1)]

    def broken(desk: Any) -> None:
        desk.next_ready(0, BOOK)
        desk.take(0, BOOK, 3)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await owner.work(broken, [])
    assert await claim(ledger, "b") == [(2, 4, 1)]
    pid = owner._engine._connection.info.backend_pid  # type: ignore[attr-defined]
    with psycopg.connect(database_url, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 60000)", (pid,))
        other.execute("UPDATE chunk SET high_water = 10 WHERE chunk = 0")
    assert await claim(ledger, "c") == [(10, 12, 1)]
    await database.close()


async def test_statements_that_were_forgotten_are_prepared_again(
    clock: ManualClock, database_url: str
) -> None:
    database = PostgresDatabase(database_url, clock=clock)
    await database.ledger.open_book(BOOK, RULES, CHUNKS)
    assert await claim(database.ledger, "a") == [(0, 2, 1)]
    await database._owner.run(lambda db: db.execute("DEALLOCATE ALL"))
    assert await claim(database.ledger, "b") == [(2, 4, 1)]
    assert len(await database.ledger.leases()) == 2
    await database.close()


async def test_statements_stay_prepared_when_something_is_given_up(
    clock: ManualClock, database_url: str
) -> None:
    database = PostgresDatabase(database_url, clock=clock)
    await database.ledger.open_book(BOOK, RULES, CHUNKS)

    def names(db: Database) -> list[Any]:
        return db.execute("SELECT name FROM pg_prepared_statements ORDER BY name").fetchall()

    for number in range(9):
        assert await claim(database.ledger, f"lease-{number}")
        await database.ledger.progress(BOOK)
    known = await database._owner.read(names)
    assert known
    with pytest.raises(EvstreamError):
        await database._owner.run(lambda db: db.execute("SELECT 1 / 0"))
    with pytest.raises(ConflictError):
        await database.ledger.claim_ranges(LeaseId("lease-0"), WorkerId("bob"), 1, MINUTE, [BOOK])
    assert await claim(database.ledger, "last")
    assert await database._owner.read(names) == known
    await database.close()


async def test_a_person_at_the_sqlite_file_is_seen(tmp_path: Path, clock: ManualClock) -> None:
    for inline in (True, False):
        folder = tmp_path / str(inline)
        database = SqliteDatabase(folder, clock, inline=inline)
        await database.ledger.open_book(BOOK, RULES, CHUNKS)
        assert await claim(database.ledger, "a") == [(0, 2, 1)]
        other = sqlite3.connect(folder / DATABASE_NAME)
        other.execute("UPDATE chunk SET high_water = 10 WHERE chunk = 0")
        other.commit()
        other.close()
        assert await claim(database.ledger, "b") == [(10, 12, 1)]
        await database.close()


async def test_more_leases_than_a_desk_keeps(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evstream.adapters.catalogue.desk.LEASES_KEPT_MAX", 4)
    monkeypatch.setattr("evstream.adapters.catalogue.desk.WINDOWS_KEPT_MAX", 1)
    database = SqliteDatabase(tmp_path / "data", clock, inline=True)
    await database.ledger.open_book(BOOK, RULES, CHUNKS)
    await asyncio.gather(*(claim(database.ledger, f"l{number}", 3) for number in range(9)))
    held = await database.ledger.leases()
    assert len({row.lease for row in held}) == 9
    words = [
        RangeReport(
            row.lease, ANNE, BOOK, row.chunk, row.entry_start, row.entry_stop, 1, Success(())
        )
        for row in held
    ]
    for word in words:
        assert await database.ledger.report_ranges([word]) == [Answer.ACCEPTED]
        assert await database.ledger.report_ranges([word]) == [Answer.ALREADY_ACCEPTED]
    assert (await database.ledger.progress(BOOK)).finished == sum(row.entries for row in held)
    await database.close()
