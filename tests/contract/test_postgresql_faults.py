"""PostgreSQL under faults: what was accepted stays, what failed may be said again."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import pytest

from evstream.adapters.catalogue.postgresql import PostgresDatabase
from evstream.adapters.catalogue.postgresql_errors import translate
from evstream.adapters.clock import SystemClock
from evstream.adapters.metrics import ServiceMetrics
from evstream.daemons import expire_leases
from evstream.domain.errors import (
    ConfigError,
    LimitError,
    TransientError,
)
from evstream.domain.ledger import BookRules, LeasedInterval, RangeReport, Success
from evstream.domain.names import LeaseId, Lfn, WorkerId
from evstream.domain.splitting import Chunk
from evstream.domain.states import Answer
from evstream.ports.ledger import Ledger
from tests.postgresql import Server, server

pytestmark = [pytest.mark.anyio, pytest.mark.server]
T = TypeVar("T")
WORKER = WorkerId("anne")
HOUR = timedelta(hours=1)
BOOK = 2
WAIT_S_MAX = 120


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def url(postgresql: Server) -> str:
    return postgresql.new_schema()


@asynccontextmanager
async def opened(url: str, entries: int = 1000) -> AsyncIterator[Ledger]:
    """Open a head with a book of work in it."""
    database = PostgresDatabase(url)
    try:
        chunks = [Chunk(0, Lfn("a.root"), 0, entries)]
        await database.ledger.open_book(BOOK, BookRules(1), chunks)
        yield database.ledger
    finally:
        await database.close()


async def patient(call: Callable[[], Awaitable[T]], failures: list[TransientError]) -> T:
    """Call until it succeeds, as pilots do; note what failed."""
    async with asyncio.timeout(WAIT_S_MAX):
        while True:
            try:
                return await call()
            except TransientError as error:
                failures.append(error)
                await asyncio.sleep(0.01)


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(WAIT_S_MAX):
        while not condition():  # noqa: ASYNC110 - what is waited for happens elsewhere
            await asyncio.sleep(0.005)


def reports(held: list[LeasedInterval]) -> list[RangeReport]:
    return [
        RangeReport(row.lease, WORKER, BOOK, 0, entry, entry + 1, row.attempt, Success(()))
        for row in held
        for entry in range(row.entry_start, row.entry_stop)
    ]


async def work(ledger: Ledger, name: str, failures: list[TransientError], rounds: int = 10) -> int:
    """Claim and report like a pilot that says again what was not answered."""
    accepted = 0
    for number in range(rounds):
        lease = LeaseId(f"{name}-{number}")
        claim = partial(ledger.claim_ranges, lease, WORKER, 2, HOUR, [BOOK])
        held = await patient(claim, failures)
        answers = await patient(partial(ledger.report_ranges, reports(held)), failures)
        assert set(answers) <= {Answer.ACCEPTED, Answer.ALREADY_ACCEPTED}
        accepted += len(answers)
    return accepted


async def check(ledger: Ledger, accepted: int) -> None:
    """See that all is there that was accepted, once, and that nothing was leased beside."""
    commits = await ledger.commits(BOOK)
    done = [entry for c in commits for entry in range(c.entry_start, c.entry_stop)]
    assert sorted(done) == list(range(accepted))
    assert {c.attempt for c in commits} == {1}
    progress = await ledger.progress(BOOK)
    assert (progress.finished, progress.sent, progress.running) == (accepted, 0, 0)
    assert await ledger.leases() == []


# The server goes away


async def away_until_noticed(
    own: Server, failures: list[TransientError], workers: list[asyncio.Task[int]]
) -> None:
    seen = len(failures)
    await asyncio.to_thread(own.stop)
    await until(lambda: len(failures) >= seen + 8 or all(task.done() for task in workers))
    await asyncio.to_thread(own.start)


async def test_a_server_that_is_away_for_a_while(rng: random.Random) -> None:
    failures: list[TransientError] = []
    with server() as own:
        async with opened(own.url) as ledger:
            workers = [
                asyncio.create_task(work(ledger, f"w{number}", failures)) for number in range(8)
            ]
            for _ in range(3):
                await asyncio.sleep(rng.random() / 20)
                await away_until_noticed(own, failures, workers)
            accepted = sum(await asyncio.gather(*workers))
            assert accepted == 8 * 10 * 2
            assert all(error.fields["retry_after_s"] for error in failures)
            await check(ledger, accepted)


async def test_a_server_that_is_not_there_when_a_service_starts() -> None:
    with pytest.raises(TransientError, match="the database is away or busy"):
        PostgresDatabase("postgresql://evstream@/evstream?host=/nowhere/at/all")


@pytest.mark.parametrize(
    "url", ["postgresql://evstream@/evstream?colour=red", "postgresql://[half/", "mysql://there"]
)
async def test_a_url_that_says_nothing_to_libpq(url: str) -> None:
    with pytest.raises(ConfigError, match="URL"):
        PostgresDatabase(url)


def connections(connection: psycopg.Connection[Any]) -> list[int]:
    rows = connection.execute(
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'evstream'"
        " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )
    return [pid for (pid,) in rows]


async def test_connections_that_an_administrator_ends(rng: random.Random) -> None:
    """Their groups are begun again: nobody is told."""
    failures: list[TransientError] = []
    with server() as own, psycopg.connect(own.url, autocommit=True) as administrator:
        async with opened(own.url) as ledger:
            workers = asyncio.gather(*(work(ledger, f"w{n}", failures) for n in range(8)))
            ended = 0
            while not workers.done():
                await asyncio.sleep(rng.random() / 20)
                for pid in connections(administrator):
                    administrator.execute("SELECT pg_terminate_backend(%s)", (pid,))
                    ended += 1
            accepted = sum(await workers)
            assert ended
            await check(ledger, accepted)


# Nobody knows whether a commit happened


class Cutter:
    """Leads to a server, and cuts a connection at its next commit when it is told to.

    Attributes
    ----------
    cut : str
        ``"before"`` the server has it, or ``"after"`` it was done, before that is heard.
    """

    def __init__(self, server_socket: Path, folder: Path) -> None:
        self.cut = ""
        self.cuts = 0
        self._to = server_socket
        self._door = socket.socket(socket.AF_UNIX)
        self._door.bind(str(folder / server_socket.name))
        self._door.listen(20)
        self._threads = [threading.Thread(target=self._serve)]
        self._threads[0].start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._door.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect(str(self._to))
                self._threads.append(threading.Thread(target=self._pass_on, args=(client, far)))
                self._threads[-1].start()

    def _pass_on(self, client: socket.socket, far: socket.socket) -> None:
        """Pass on what the client asks, and an answer for each: the protocol has turns."""
        back = threading.Thread(target=self._pass_back, args=(far, client))
        with client, far, contextlib.suppress(OSError):
            back.start()
            while asked := client.recv(1 << 20):
                if self.cut and b"COMMIT\0" in asked:
                    how, self.cut = self.cut, ""
                    self.cuts += 1
                    if how == "after":
                        # The way back ends first, so that the answer reaches nobody.
                        client.shutdown(socket.SHUT_WR)
                        far.sendall(asked)
                        far.shutdown(socket.SHUT_WR)
                        back.join()
                    break
                far.sendall(asked)
            for end in (client, far):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
        back.join()

    def _pass_back(self, far: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while answer := far.recv(1 << 20):
                with contextlib.suppress(OSError):
                    client.sendall(answer)
            client.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()
        for thread in self._threads:
            thread.join(WAIT_S_MAX)


@pytest.fixture
def cutter(postgresql: Server) -> Iterator[tuple[Cutter, str]]:
    """Yield a cutter, and the URL of an empty schema through it."""
    url = postgresql.new_schema()
    folder = Path(tempfile.mkdtemp(prefix="evcut-", dir="/tmp"))
    made = Cutter(postgresql.socket, folder)
    yield made, url.replace(str(postgresql.socket.parent), str(folder))
    made.close()
    shutil.rmtree(folder)


@pytest.mark.parametrize("cut", ["before", "after"])
async def test_a_commit_whose_answer_is_lost_may_be_said_again(
    cutter: tuple[Cutter, str], cut: str
) -> None:
    between, url = cutter
    async with opened(url) as ledger:
        between.cut = cut
        with pytest.raises(TransientError):
            await ledger.claim_ranges(LeaseId("a"), WORKER, 5, HOUR, [BOOK])
        held = await ledger.claim_ranges(LeaseId("a"), WORKER, 5, HOUR, [BOOK])
        assert [(row.entry_start, row.entry_stop) for row in held] == [(0, 5)]
        between.cut = cut
        with pytest.raises(TransientError):
            await ledger.report_ranges(reports(held))
        expected = Answer.ALREADY_ACCEPTED if cut == "after" else Answer.ACCEPTED
        assert set(await ledger.report_ranges(reports(held))) == {expected}
        assert between.cuts == 2
        await check(ledger, 5)


# Others are in the way


def broken_trigger(url: str, times: int, state: str) -> None:
    """Let the next inserts of leases fail so often with a state of the server's."""
    statement = f"""
        CREATE SEQUENCE times;
        CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF nextval('times') <= {times} THEN
                RAISE EXCEPTION 'in the way' USING ERRCODE = '{state}';
            END IF;
            RETURN NULL;
        END $$;
        CREATE TRIGGER fail AFTER INSERT ON lease FOR EACH STATEMENT EXECUTE FUNCTION fail();"""
    with psycopg.connect(url) as connection:
        connection.execute(statement.encode())


def times_tried(url: str) -> int:
    with psycopg.connect(url) as connection:
        (tried,) = connection.execute("SELECT last_value FROM times").fetchone() or (0,)
    return int(tried)


@pytest.mark.parametrize("state", ["40001", "40P01"])
async def test_what_fails_to_serialise_is_tried_again(url: str, state: str) -> None:
    async with opened(url) as ledger:
        broken_trigger(url, 2, state)
        (row,) = await ledger.claim_ranges(LeaseId("a"), WORKER, 5, HOUR, [BOOK])
        assert (row.entry_start, row.entry_stop, row.attempt) == (0, 5, 1)
        assert times_tried(url) == 3


async def test_it_is_tried_with_a_bound(url: str) -> None:
    async with opened(url) as ledger:
        broken_trigger(url, 3, "40001")
        with pytest.raises(TransientError):
            await ledger.claim_ranges(LeaseId("a"), WORKER, 5, HOUR, [BOOK])
        assert times_tried(url) == 3
        (row,) = await ledger.claim_ranges(LeaseId("a"), WORKER, 5, HOUR, [BOOK])
        assert (row.entry_start, row.attempt) == (0, 1)


async def test_a_table_that_somebody_locks_keeps_nobody_for_ever(url: str) -> None:
    async with opened(f"{url}%20-clock_timeout%3D50ms") as ledger:
        with psycopg.connect(url) as other:
            other.execute("LOCK TABLE lease IN ACCESS EXCLUSIVE MODE")
            claims = [
                ledger.claim_ranges(LeaseId(f"l{number}"), WORKER, 5, HOUR, [BOOK])
                for number in range(4)
            ]
            answers = await asyncio.gather(*claims, return_exceptions=True)
            assert {type(answer) for answer in answers} == {TransientError}
            other.rollback()
        failures: list[TransientError] = []
        await check(ledger, await work(ledger, "w", failures))
        assert failures == []


async def test_a_deadlock_with_another_client_is_begun_again(url: str) -> None:
    """The other waits for our turn, we for the table that it holds."""
    # Whoever waits longer than its own limit finds the deadlock, and is the one to give way.
    async with opened(f"{url}%20-cdeadlock_timeout%3D100ms") as ledger:
        with psycopg.connect(f"{url}%20-cdeadlock_timeout%3D60s") as other:
            other.execute("LOCK TABLE lease IN ACCESS EXCLUSIVE MODE")
            claim = asyncio.create_task(ledger.claim_ranges(LeaseId("a"), WORKER, 5, HOUR, [BOOK]))
            waits = "SELECT FROM pg_locks WHERE NOT granted AND relation = 'lease'::regclass"
            await until(lambda: other.execute(waits).fetchone() is not None)
            (turn,) = other.execute(
                "SELECT objid::bigint FROM pg_locks WHERE locktype = 'advisory' AND granted"
            ).fetchone() or (0,)
            # Ours is given up within 100 ms, so that the turn comes to the other.
            await asyncio.to_thread(other.execute, "SELECT pg_advisory_xact_lock(%s)", (turn,))
            other.rollback()
        (row,) = await claim
        assert (row.entry_start, row.entry_stop, row.attempt) == (0, 5, 1)


async def test_a_head_that_stops_in_its_turn_loses_it(url: str) -> None:
    async with opened(url) as ledger:
        stopped = PostgresDatabase(f"{url}%20-cidle_in_transaction_session_timeout%3D1s")
        begun, go_on = threading.Event(), threading.Event()

        def hold(db: Any) -> None:
            begun.set()
            assert go_on.wait(WAIT_S_MAX)
            db.execute("UPDATE book SET bisections_max = bisections_max + 1")

        holding = asyncio.create_task(stopped._owner.run(hold))
        assert await asyncio.to_thread(begun.wait, WAIT_S_MAX)
        (row,) = await ledger.claim_ranges(LeaseId("a"), WORKER, 5, HOUR, [BOOK])
        assert row.entry_stop == 5
        go_on.set()
        # It is begun again; where the machine is slow, that is given up too.
        await asyncio.gather(holding, return_exceptions=True)
        await stopped.close()


# A full disk


@contextmanager
def small_disk() -> Iterator[str]:
    """Mount a disk of 16 MB, and yield the URL of a database on it.

    The server is the test's own: it cannot even drop a database whose disk is full.
    """
    with server() as own:
        folder = Path(tempfile.mkdtemp(prefix="evdisk-", dir="/tmp"))
        options = f"size=16m,mode=700,uid={own.uid},gid={own.gid}"
        mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
        if done.returncode:
            folder.rmdir()
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
        try:
            with psycopg.connect(own.url, autocommit=True) as administrator:
                administrator.execute(f"CREATE TABLESPACE small LOCATION '{folder}'".encode())
                administrator.execute("CREATE DATABASE small TABLESPACE small")
            yield own.url_of("small")
        finally:
            own.stop(signal.SIGQUIT)
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
            folder.rmdir()


def fill(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as administrator:
        administrator.execute("CREATE TABLE filler (number BIGINT)")
        with contextlib.suppress(psycopg.errors.DiskFull):
            while True:
                administrator.execute("INSERT INTO filler SELECT generate_series(1, 1000)")


@pytest.mark.root_user
async def test_a_disk_that_is_full() -> None:
    with small_disk() as url:
        refused = 0
        async with opened(url, 10**6) as ledger:
            fill(url)
            accepted = 0
            for number in range(400):
                lease = LeaseId(f"lease-{number}")
                try:
                    held = await ledger.claim_ranges(lease, WORKER, 500, HOUR, [BOOK])
                    accepted += len(await ledger.report_ranges(reports(held)))
                except TransientError:
                    refused += 1
                    if refused == 5:
                        break
            assert refused == 5
            with psycopg.connect(url, autocommit=True) as administrator:
                administrator.execute("DROP TABLE filler")
            commits = await ledger.commits(BOOK)
            assert sum(c.entry_stop - c.entry_start for c in commits) == accepted
            for number in range(400, 410):
                lease = LeaseId(f"lease-{number}")
                held = await ledger.claim_ranges(lease, WORKER, 5, HOUR, [BOOK])
                assert set(await ledger.report_ranges(reports(held))) == {Answer.ACCEPTED}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (psycopg.OperationalError("connection failed"), TransientError),
        (psycopg.errors.DiskFull("x"), TransientError),
        (psycopg.errors.SerializationFailure("x"), TransientError),
        (psycopg.errors.LockNotAvailable("x"), TransientError),
        (psycopg.errors.AdminShutdown("x"), TransientError),
        (psycopg.errors.CannotConnectNow("x"), TransientError),
        (psycopg.errors.TooManyConnections("x"), TransientError),
        (psycopg.errors.ReadOnlySqlTransaction("x"), TransientError),
        (psycopg.errors.InvalidSqlStatementName("x"), TransientError),
        (psycopg.errors.InvalidPassword("x"), ConfigError),
        (psycopg.errors.InsufficientPrivilege("x"), ConfigError),
        (psycopg.errors.UndefinedTable("x"), ConfigError),
        (psycopg.errors.NumericValueOutOfRange("x"), LimitError),
        (psycopg.DataError("no NUL"), LimitError),
        (psycopg.ProgrammingError("bad URL"), ConfigError),
    ],
)
def test_errors_say_what_to_do(error: psycopg.Error, kind: type[Exception]) -> None:
    translated = translate(error)
    assert type(translated) is kind
    assert translated.__cause__ is error


# Clocks


class SkewedClock(SystemClock):
    """A machine's clock that is wrong."""

    def __init__(self, minutes: float) -> None:
        self._wrong = timedelta(minutes=minutes)

    def now(self) -> datetime:
        return super().now() + self._wrong


@pytest.mark.parametrize("minutes", [-10.0, 10.0])
async def test_heads_whose_clocks_differ_agree_on_leases(url: str, minutes: float) -> None:
    """Time is the server's: what a head with a wrong clock expires has expired."""
    async with opened(url) as ledger:
        other = PostgresDatabase(url)
        (held,) = await ledger.claim_ranges(LeaseId("a"), WORKER, 5, timedelta(minutes=5), [BOOK])
        with psycopg.connect(url) as connection:
            (left,) = connection.execute(
                "SELECT expires / 1e6 - extract(epoch FROM clock_timestamp()) FROM lease"
            ).fetchone() or (0,)
        assert 0 < left <= 300
        rounds = asyncio.Event()

        async def noted(call: Awaitable[object]) -> object:
            answer = await call
            rounds.set()
            return answer

        clock = SkewedClock(minutes)
        looking = other.ledger
        expire = looking.expire_leases
        looking.expire_leases = lambda *words: noted(expire(*words))  # type: ignore[method-assign]
        meter = ServiceMetrics(["expire_leases"])
        loop = asyncio.create_task(expire_leases(looking, lambda task: None, clock, meter, 0.01))
        for _ in range(3):
            rounds.clear()
            async with asyncio.timeout(WAIT_S_MAX):
                await rounds.wait()
        loop.cancel()
        assert set(await ledger.report_ranges(reports([held]))) == {Answer.ACCEPTED}
        await other.close()
