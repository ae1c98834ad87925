"""Every event counts exactly once, whatever happens: the checker, on each database.

EVSTREAM_TEST_SEED replays a run of trials; a violation names the trial within it.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from evstream.adapters.catalogue.desk import LEASE_COLUMNS
from evstream.adapters.catalogue.postgresql import PostgresDatabase, PostgresEngine
from evstream.adapters.catalogue.sqlite import DATABASE_NAME, SqliteDatabase, SqliteEngine
from evstream.ports.ledger import Ledger
from evstream.testing.manual_clock import ManualClock
from tests.exactly_once import (
    Head,
    History,
    ViolationError,
    Workers,
    crash,
    play,
    stumble,
    with_faults,
)
from tests.postgresql import Server, server

pytestmark = [pytest.mark.server, pytest.mark.slow]
RUNS, TRIALS = 4, 260
"""So many runs on each database, of so many trials each."""
KILL_RUNS, KILLS_PER_RUN = 2, 50
TRIALS_TO_CATCH_MAX = 100
END_S_MAX = 600
BOOKS = itertools.count(2)
Expire = Callable[[Ledger], Awaitable[object]]


def fill_disk(engine: Any) -> None:
    """Have a SQLite file grow no more until it is mended."""
    (pages,) = engine._connection.execute("PRAGMA page_count").fetchone()
    engine._connection.execute(f"PRAGMA max_page_count = {pages}")


class SqliteWithFaults(with_faults(SqliteEngine)):  # type: ignore[misc]
    def mend(self) -> None:
        self._connection.execute(f"PRAGMA max_page_count = {2**32 - 2}")


def lose_connection(engine: Any) -> None:
    engine._connection.close()


SQLITE_FAULTS = [
    (crash, ""),
    (crash, "commit"),
    (crash, "committed"),
    (stumble, ""),
    (fill_disk, ""),
]
POSTGRESQL_FAULTS = [
    *((crash, ""), (crash, "commit"), (crash, "committed"), (stumble, "")),
    *((lose_connection, ""), (lose_connection, "commit"), (lose_connection, "committed")),
]


class Setting:
    """A database with heads on it, for many trials."""

    def __init__(self, heads: list[Head], clock: ManualClock, faults: list[Any]) -> None:
        self.heads, self.clock, self.faults = heads, clock, faults
        self.counts: Counter[str] = Counter()

    def trial(self, seed: int, **how: Any) -> None:
        play_ = play(seed, next(BOOKS), self.heads, self.clock, self.faults, **how)
        self.counts += asyncio.run(play_)


@contextmanager
def on_sqlite(folder: Path) -> Iterator[Setting]:
    clock = ManualClock()
    asyncio.run(SqliteDatabase(folder, clock, inline=True).close())

    def connect() -> Any:
        connection = sqlite3.connect(
            folder / DATABASE_NAME, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA synchronous = OFF")
        return SqliteWithFaults(connection, clock)

    head = Head(connect)
    yield Setting([head], clock, SQLITE_FAULTS)
    head.engine.close()


@contextmanager
def on_postgresql(server: Server) -> Iterator[Setting]:
    clock, url = ManualClock(), server.new_schema()
    asyncio.run(PostgresDatabase(url).close())
    faulty = with_faults(PostgresEngine)
    heads = [Head(lambda: faulty(url, clock)) for _ in range(3)]
    # The oldest keeps the desk that it knows; the others come in between.
    yield Setting(heads, clock, POSTGRESQL_FAULTS)
    for head in heads:
        head.engine.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def setting(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Setting]:
    if request.param == "sqlite":
        opened = on_sqlite(tmp_path)
    else:
        opened = on_postgresql(request.getfixturevalue("postgresql"))
    with opened as made:
        yield made


@pytest.mark.parametrize("run", range(RUNS))
def test_every_event_counts_exactly_once(
    setting: Setting, seed: int, run: int, record_property: Callable[[str, object], None]
) -> None:
    for trial in range(TRIALS):
        try:
            setting.trial(seed + trial)
        except ViolationError as violation:
            raise AssertionError(f"trial {trial} of seed {seed}: {violation}") from violation
    counts = setting.counts
    print(dict(counts))
    told = f"exactly once: {RUNS * TRIALS} trials on each database"
    record_property("told", told)
    # All that was to happen did.
    for what in ("accepted", "already_accepted", "superseded", "lost", "slow", "unanswered"):
        assert counts[what], what
    for happen, at in setting.faults:
        assert counts[f"{happen.__name__} {at}".strip()]


# The server is killed


@pytest.mark.parametrize("run", range(KILL_RUNS))
def test_a_server_that_is_killed_loses_nothing(
    seed: int, run: int, record_property: Callable[[str, object], None]
) -> None:
    rng, clock = random.Random(seed), ManualClock()
    counts: Counter[str] = Counter()
    histories: list[History] = []
    kills = 0

    async def work(heads: list[PostgresDatabase], line: int) -> None:
        """Do one book after the other: each is checked at its end."""
        while kills < KILLS_PER_RUN:
            workers = Workers(
                random.Random(rng.getrandbits(32)),
                next(BOOKS),
                clock,
                lambda: rng.choice(heads).ledger,
                partial(asyncio.sleep, 0.001 * line),
            )
            histories.append(workers.history)
            await workers.run(4)
            counts["books"] += 1

    def accepted() -> int:
        return sum(history.counts["accepted"] for history in histories)

    async def main(own: Server) -> None:
        nonlocal kills
        heads = [PostgresDatabase(own.url, clock=clock) for _ in range(2)]
        working = asyncio.gather(*(work(heads, line) for line in (1, 5, 10)))
        while kills < KILLS_PER_RUN and not working.done():
            # Some work is done between kills, however slow the machine is.
            enough = accepted() + rng.randint(0, 5)
            while accepted() < enough and not working.done():  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            await asyncio.sleep(rng.random() / 50)
            await asyncio.to_thread(own.kill)
            kills += 1
            await asyncio.to_thread(own.start)
        async with asyncio.timeout(END_S_MAX):
            await working
        for head in heads:
            await head.close()

    with server() as own:
        asyncio.run(main(own))
    for history in histories:
        counts += history.counts
    print(kills, dict(counts))
    assert kills == KILLS_PER_RUN
    assert counts["accepted"] >= KILLS_PER_RUN
    assert counts["unanswered"] >= KILLS_PER_RUN
    told = f"exactly once: {KILL_RUNS * KILLS_PER_RUN} kills of a PostgreSQL while it worked"
    record_property("told", told)


# Broken sweeps are caught


def keeps_attempt(db: Any) -> None:
    """Expire leases, but send their ranges out with the attempt that they had."""
    db.execute("UPDATE free SET attempt = attempt - 1 WHERE attempt > 1")


def keeps_lease(rows: list[Any], db: Any) -> None:
    """Expire leases, but leave them as well."""
    db.insert("lease", LEASE_COLUMNS, rows)


def broken(break_it: Callable[[list[Any], Any], None]) -> Expire:
    async def expire(ledger: Any) -> None:
        def leases(db: Any) -> list[Any]:
            return list(db.execute(f"SELECT {LEASE_COLUMNS} FROM lease").fetchall())

        before = await ledger._owner.run(leases)
        if await ledger.expire_leases():
            after = await ledger._owner.run(leases)
            gone = [row for row in before if row not in after]
            await ledger._owner.run(lambda db: break_it(gone, db))

    return expire


BREAKS = {
    "the attempt is not raised": lambda gone, db: keeps_attempt(db),
    "the lease is left": keeps_lease,
}


@pytest.mark.parametrize("how", BREAKS)
def test_a_broken_sweep_is_caught(setting: Setting, seed: int, how: str) -> None:
    setting.faults = [(stumble, "")]
    caught = ""
    for trial in range(TRIALS_TO_CATCH_MAX):
        try:
            setting.trial(seed + trial, expire=broken(BREAKS[how]))
        except ViolationError as violation:
            caught = f"trial {trial}: {violation}"
            break
    assert caught
