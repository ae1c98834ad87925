"""Opens ledger and catalogue on a PostgreSQL that several heads may share."""

# ruff: noqa: S608 - tables and columns come from this package alone

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from select import POLLIN, poll
from typing import Any

import msgspec
import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus
from psycopg.sql import Literal

from evstream.adapters.catalogue.data_directory import DirectoryLock
from evstream.adapters.catalogue.database import (
    EPOCH,
    Database,
    Engine,
    Rows,
    Turn,
    Values,
    sums_of,
)
from evstream.adapters.catalogue.desk import question
from evstream.adapters.catalogue.owner import GroupCommitOwner, Owner
from evstream.adapters.catalogue.postgresql_errors import refused_at_first, translate
from evstream.adapters.catalogue.postgresql_locks import PostgresTaskLocks
from evstream.adapters.catalogue.reader import ConnectedReader, Reader
from evstream.adapters.catalogue.schema_steps import latest, missing
from evstream.adapters.catalogue.sql_access_keys import SqlAccessKeys
from evstream.adapters.catalogue.sql_catalogue import SqlCatalogue
from evstream.adapters.catalogue.sql_ledger import SqlLedger
from evstream.adapters.catalogue.sql_links import SqlLinks
from evstream.adapters.catalogue.sql_products import SqlProducts
from evstream.adapters.catalogue.sql_whiteboard import SqlWhiteboard
from evstream.domain.errors import ConfigError, TransientError
from evstream.domain.names import LeaseId
from evstream.ports.archive import Archive
from evstream.ports.clock import Clock
from evstream.ports.metrics import Load

SERVER_VERSION_MIN = 15
CONNECTION: dict[str, Any] = {
    "application_name": "evstream",
    "connect_timeout": 10,
    # A server that vanished from the network is told from one that thinks.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""What libpq is told where the URL says nothing."""
_SET_LIMITS = """
    SELECT set_config(name, value, false) FROM (VALUES
        -- Nobody waits for ever for what another client has locked, its turn included,
        ('lock_timeout', '20s'),
        -- and a head that was stopped in its turn, or lost, loses it.
        ('idle_in_transaction_session_timeout', '60s')
    ) AS limits (name, value) WHERE current_setting(name) = '0'"""
DEADLOCK = "40P01"
IN_THE_WAY = frozenset({"40001", DEADLOCK, "55P03"})
"""Serialisation failures, deadlocks, locks that took too long."""
READ_ONLY, NOT_PREPARED = "25006", "26000"
NOT_SO = "EV001"
"""What was assumed is not so: raised by the schema's ``still_so``."""
ASSUMED_S_MAX = 1.0
"""So long after a turn that was asked for, the next ones may be assumed."""
RETRY_AFTER_UPGRADE_S = 30.0
# One writer at a time: heads take turns, each with all that waits for it. The number is only
# for this purpose; it is the same for all heads on one database.
_TURN = 0x65767374
_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
_TAKE_TURN = f"SELECT pg_advisory_xact_lock({_TURN})"
# Whoever has the turn sees what the one before has committed, a newer schema too.
# Turns are numbered; who sees the number after his own has been alone.
_BEGIN_TURN = (
    f"{_BEGIN}; {_TAKE_TURN}; SELECT version, nextval('turn'), clock_timestamp() FROM evstream"
)
_BEGIN_UPGRADE = f"{_BEGIN}; SET LOCAL lock_timeout = 0; {_TAKE_TURN}"
_BEGIN_READING = (
    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;"
    " SELECT version, clock_timestamp() FROM evstream"
)
# Statements touch few rows, by an index. They are planned once and kept, when tables may be
# small yet or not analysed; what is best for those would walk over millions of rows later.
_PLANS = "; ".join(
    f"SET {what} = off" for what in ("enable_seqscan", "enable_hashjoin", "enable_mergejoin", "jit")
)
# How SQLite is told which index to use, and which table to begin with.
_HINT = re.compile(r" INDEXED BY \w+|\bCROSS (?=JOIN)")
_ROWS_AT_ONCE = 10_000
_NAMED = re.compile(r"(?<![:\w]):(\w+)")


@lru_cache(512)
def _in_its_words(statement: str) -> str:
    """Spell a statement as psycopg takes it."""
    plain = _HINT.sub("", statement)
    return _NAMED.sub(r"%(\1)s", plain).replace("?", "%s")


def _plain(values: Values) -> Values:
    """Numbers are stored where SQLite stores truth values."""
    if isinstance(values, Mapping):
        return {name: int(v) if v is True or v is False else v for name, v in values.items()}
    return [int(value) if value is True or value is False else value for value in values]


def _in_json(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return rows as a list of objects. Bytes are spelled as a column of theirs takes them."""
    columns: list[Sequence[Any]] = list(zip(*rows, strict=True))
    for place, column in enumerate(columns):
        # A column at a time: rows come by thousands, and next to none has bytes.
        kinds = set(map(type, column))
        if bytes in kinds:
            columns[place] = [None if cell is None else f"\\x{cell.hex()}" for cell in column]
        elif bool in kinds:
            columns[place] = [int(cell) for cell in column]
    given = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    return msgspec.json.encode(given).decode()


def _given(table: str) -> str:
    """Return what stands for given rows of a table, with its columns' types."""
    return f"json_populate_recordset(NULL::{table}, $1) AS given"


def _with_key(table: str, key: str) -> str:
    return " AND ".join(f"{table}.{name} = given.{name}" for name in key.split(", "))


class PostgresEngine:
    """A connection to a server, made anew when it is lost.

    Parameters
    ----------
    url : str
        ``postgresql://…``, as libpq takes it.
    clock : Clock, optional
        For tests: in place of the server's time.
    """

    _settings = f"{_SET_LIMITS}; {_PLANS}"
    # psycopg prepares nothing here: with a rollback it would forget our statements too.
    _prepare_threshold: int | None = None

    def __init__(self, url: str, clock: Clock | None = None) -> None:
        self._url = url
        self._clock = clock
        self._number: int | None = None
        # The last turn that was asked for: this process's time, the server's, was it alone.
        self._asked = 0.0, EPOCH, False
        # A transaction that was said to have begun, and of which the server does not know yet.
        self._beginning = ""
        self._kept_back: list[str] | None = None
        # What is prepared on this connection, and its names.
        self._names: dict[str, str] = {}
        self._connection = self._connect()

    def _connect(self) -> psycopg.Connection[Any]:
        """Connect; what the URL says goes before what is usual here."""
        # Statements are sent in UTF-8, whatever the environment says.
        said = {**CONNECTION, **conninfo_to_dict(self._url), "client_encoding": "utf8"}
        options = make_conninfo(**said)
        connection = psycopg.connect(
            options, autocommit=True, prepare_threshold=self._prepare_threshold
        )
        try:
            connection.execute(self._settings.encode())
        except BaseException:
            connection.close()
            raise
        return connection

    @property
    def database(self) -> Database:
        """What operations work on."""
        return self

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open and can go on."""
        return self._connection.info.transaction_status in (
            TransactionStatus.INTRANS,
            TransactionStatus.INERROR,
        )

    def execute(self, statement: str, values: Values = (), /) -> Rows:
        """Run a statement."""
        self._start()
        return self._connection.execute(_in_its_words(statement), _plain(values))

    def executemany(self, statement: str, rows: Iterable[Values], /) -> object:
        """Run a statement for each row of values."""
        plain = [_plain(row) for row in rows]
        if plain:
            self._start()
            self._connection.cursor().executemany(_in_its_words(statement), plain)
        return None

    def insert(self, table: str, columns: str, rows: Sequence[Sequence[Any]], /) -> None:
        """Put rows into a table, many in one statement: its triggers run once for all."""
        self._with_rows(
            f"INSERT INTO {table} ({columns}) SELECT {columns} FROM {_given(table)}", columns, rows
        )

    def update(self, table: str, key: str, columns: str, rows: Sequence[Sequence[Any]], /) -> None:
        """Change some columns of the rows with some keys, many in one statement."""
        changes = ", ".join(f"{name} = given.{name}" for name in columns.split(", "))
        self._with_rows(
            f"UPDATE {table} SET {changes} FROM {_given(table)} WHERE {_with_key(table, key)}",
            f"{key}, {columns}",
            rows,
        )

    def add(self, table: str, key: str, columns: str, rows: Sequence[Sequence[Any]], /) -> None:
        """Add to the columns of the rows with some keys, many in one statement."""
        names = f"{key}, {columns}"
        self._with_rows(
            f"INSERT INTO {table} ({names}) SELECT {names} FROM {_given(table)}"
            f" ON CONFLICT ({key}) DO UPDATE SET {sums_of(table, columns)}",
            names,
            rows,
        )

    def delete(self, table: str, key: str, keys: Sequence[Sequence[Any]], /) -> None:
        """Delete the rows with some keys, many in one statement."""
        self._with_rows(
            f"DELETE FROM {table} USING {_given(table)} WHERE {_with_key(table, key)}", key, keys
        )

    def _with_rows(self, statement: str, columns: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run a statement on rows: one value, so that the server knows it from before."""
        names = columns.split(", ")
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            value = Literal(_in_json(names, rows[start : start + _ROWS_AT_ONCE]))
            self._send(f"EXECUTE {self._prepared(statement)} ({value.as_string(self._connection)})")

    def _prepared(self, statement: str) -> str:
        """Return the name of a statement that takes one JSON value, and is planned once."""
        name = self._names.get(statement)
        if name is None:
            # By its text: no other statement is ever called so, on whatever connection.
            name = f"with_rows_{sha256(statement.encode()).hexdigest()[:16]}"
            self._start()
            self._connection.execute(f"PREPARE {name} (json) AS {statement}".encode())
            self._names[statement] = name
        return name

    def script(self, statements: str) -> None:
        """Run statements that take no values."""
        self._connection.execute(statements.encode())

    def now(self) -> datetime:
        """Return the server's time: heads' clocks may differ by minutes."""
        if self._clock is not None:
            return self._clock.now()
        (now,) = self.execute("SELECT clock_timestamp()").fetchone()
        at: datetime = now
        return at.astimezone(UTC)

    def begin(self, leases: Sequence[LeaseId] = (), *, assume: bool = False) -> Turn:
        """Begin a transaction, when it is this head's turn to write.

        Raises
        ------
        TransientError
            A newer evstream has changed the schema meanwhile: nothing may be written.
        psycopg.Error
            The server cannot be reached, or another head has not ended its turn.
        """
        asked_at, asked_now, alone = self._asked
        passed_s = time.monotonic() - asked_at
        recent = alone and passed_s < ASSUMED_S_MAX
        if assume and recent and self._number is not None and self._is_quiet():
            self._number += 1
            return self._assume(leases, asked_now + timedelta(seconds=passed_s))
        asked, values = question(leases) if leases else ("SELECT", ())
        begun, (number, now) = self._begin(f"{_BEGIN_TURN}; {_in_its_words(asked)}", values)
        alone = self._number is not None and number == self._number + 1
        self._number = number
        # Its answer was on its way: the server's time is later than what is derived from it.
        self._asked = time.monotonic(), now.astimezone(UTC), alone
        begun.nextset()
        at: datetime = now if self._clock is None else self._clock.now()
        return Turn(at.astimezone(UTC), alone, begun.fetchall() if leases else [])

    def _assume(self, leases: Sequence[LeaseId], now: datetime) -> Turn:
        """Spare the trip that would only say that nobody else was there."""
        told = Literal(list(leases)).as_string(self._connection)
        values = f"{latest('postgresql')}, {self._number}, '{now.isoformat()}', {told}"
        self._beginning = f"{_BEGIN}; {_TAKE_TURN}; SELECT still_so({values})"
        return Turn(now if self._clock is None else self._clock.now(), True, [], assumed=True)

    def _is_quiet(self) -> bool:
        """Whether the server has said nothing unasked, such as that it shuts down."""
        if self._connection.closed:
            return False
        said = poll()
        said.register(self._connection, POLLIN)
        return not said.poll(0)

    def _start(self) -> None:
        """Have the server know of a transaction before anything is asked within it."""
        if self._beginning:
            beginning, self._beginning = self._beginning, ""
            self._connection.execute(beginning.encode())

    def _begin(
        self, statements: str, values: Values = ()
    ) -> tuple[psycopg.Cursor[Any], tuple[Any, ...]]:
        """Begin a transaction; return what stands beside the schema's version, and what follows."""
        try:
            begun = self._run_all(statements, values)
        except psycopg.OperationalError as error:
            if self._connection.closed:
                # It was lost since the last transaction, which is told by using it alone.
                self._connection, self._number, self._names = self._connect(), None, {}
            elif error.sqlstate == DEADLOCK:
                # With another client, over the question; the turn is given back with it.
                self.roll_back()
            else:
                raise
            begun = self._run_all(statements, values)
        version, *others = begun.fetchone() or (None,)
        if version != latest("postgresql"):
            raise TransientError(
                f"the database has schema version {version} now; this service knows"
                f" {latest('postgresql')}",
                hint="start the newer evstream here too",
                retry_after_s=RETRY_AFTER_UPGRADE_S,
                version=version,
            )
        return begun, tuple(others)

    def _run_all(self, statements: str, values: Values) -> psycopg.Cursor[Any]:
        """Run statements in one trip, and go to what the one that looks at the schema gives."""
        # Values are put into the text here, which is the only way to have several statements.
        begun = psycopg.ClientCursor(self._connection)
        begun.execute(statements.encode(), values or None)
        while begun.description is None or begun.description[0].name != "version":
            begun.nextset()
        return begun

    @contextmanager
    def one_trip(self) -> Iterator[None]:
        """Keep statements back whose answers nobody looks at, and send them together."""
        kept_back = self._kept_back = []
        try:
            yield
        finally:
            self._kept_back = None
        if kept_back:
            beginning, self._beginning = self._beginning, ""
            self._send("; ".join([beginning, *kept_back] if beginning else kept_back))

    def _send(self, statement: str) -> None:
        """Run a statement whose answer nobody looks at, now or with others."""
        if self._kept_back is None:
            self._start()
            self._connection.execute(statement.encode())
        else:
            self._kept_back.append(statement)

    def begin_upgrade(self) -> None:
        """Begin a transaction like `begin`, whatever the schema, and wait as long as it takes."""
        self._connection.execute(_BEGIN_UPGRADE)

    def schema_version(self) -> int:
        """Return the version of the schema that is there."""
        row = self.execute("SELECT version FROM evstream").fetchone()
        if row is None:
            raise ConfigError(
                "the database has evstream's tables, and none of their rows",
                hint="restore all of the backup, rows too, or begin with an empty database",
            )
        return int(row[0])

    def commit(self) -> None:
        """Make it durable."""
        self._send("COMMIT")

    def roll_back(self) -> None:
        """Give it up, unless the server is gone and has done so."""
        # The server may not have counted this turn.
        self._beginning, self._number = "", None
        if not self._connection.closed and self.in_transaction:
            self._connection.execute("ROLLBACK")

    def set_mark(self) -> None:
        """Set a mark, so that one operation can be given up alone."""
        self._start()
        self._connection.execute("SAVEPOINT operation")

    def back_to_mark(self) -> None:
        """Give up what was done since the mark."""
        self._connection.execute("ROLLBACK TO operation")

    def drop_mark(self) -> None:
        """Keep what was done since the mark."""
        self._connection.execute("RELEASE operation")

    def may_repeat(self, error: Exception) -> bool:
        """Whether the connection was lost, or another client was in the way."""
        if isinstance(error, psycopg.Error) and error.sqlstate == NOT_SO:
            return True
        if isinstance(error, psycopg.Error) and error.sqlstate == NOT_PREPARED:
            # Whoever pools connections has given us another one.
            self._connection.close()
        elif not isinstance(error, psycopg.OperationalError):
            return False
        if error.sqlstate == READ_ONLY:
            # What was the primary is a standby now; the URL may name others.
            self._connection.close()
        return self._connection.closed or error.sqlstate in IN_THE_WAY

    def translate(self, error: Exception) -> Exception:
        """Return the error of ours that stands for one of the server's."""
        return translate(error)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class PostgresReadingEngine(PostgresEngine):
    """A connection that only reads, and waits for nobody's turn."""

    _settings = _SET_LIMITS
    _prepare_threshold = 5

    def begin(self, leases: Sequence[LeaseId] = (), *, assume: bool = False) -> Turn:
        """Begin a transaction that sees one state of the database, and look at its clock."""
        del assume
        _, (now,) = self._begin(_BEGIN_READING)
        self._began: datetime = now.astimezone(UTC)
        answer = self.execute(*question(leases)).fetchall() if leases else []
        return Turn(self._began, alone=False, answer=answer)

    def now(self) -> datetime:
        """Return the server's time when the transaction began: one trip less."""
        return self._began if self._clock is None else self._clock.now()


def _connect_to_read(url: str, clock: Clock | None) -> Engine:
    try:
        return PostgresReadingEngine(url, clock)
    except psycopg.Error as error:
        raise translate(error) from error


class PostgresDatabase:
    """Ledger and catalogue on a PostgreSQL; several processes may open it.

    Opening blocks until the server answers; the schema is made if it is not there.

    Parameters
    ----------
    url : str
        ``postgresql://user@host/database``, as libpq takes it.
    directory : Path, optional
        Where outputs and keys are: this process's until `close`.
    clock : Clock, optional
        For tests: in place of the server's time.
    archive : Archive, optional
        Where books are read that the database has no more; all heads share it.

    Attributes
    ----------
    ledger : SqlLedger
    catalogue : SqlCatalogue
    products : SqlProducts
    whiteboard : SqlWhiteboard
    links : SqlLinks
    access_keys : SqlAccessKeys
    locks : PostgresTaskLocks

    Raises
    ------
    ConflictError
        Another process owns the directory.
    ConfigError
        The server or the schema is of a version that we do not know.
    TransientError
        The server does not answer.
    """

    def __init__(
        self,
        url: str,
        directory: Path | None = None,
        clock: Clock | None = None,
        archive: Archive | None = None,
    ) -> None:
        self._lock = None if directory is None else DirectoryLock(directory)
        try:
            engine = PostgresEngine(url, clock)
            try:
                _ensure_schema(engine)
            except BaseException:
                engine.close()
                raise
        except BaseException as error:
            if self._lock is not None:
                self._lock.close()
            if isinstance(error, psycopg.Error):
                raise (refused_at_first(error) or translate(error)) from error
            raise
        self._owner: Owner = GroupCommitOwner(engine)
        self.ledger = SqlLedger(self._owner, archive, shared=True)
        self._reader: Reader = ConnectedReader(lambda: _connect_to_read(url, clock))
        self.catalogue = SqlCatalogue(self._owner)
        self.products = SqlProducts(self._owner, self._reader)
        self.whiteboard = SqlWhiteboard(self._owner, self._reader)
        self.links = SqlLinks(self._owner, self._reader)
        self.access_keys = SqlAccessKeys(self._owner, self._reader)
        self.locks = PostgresTaskLocks(url, CONNECTION)

    def load(self) -> Load:
        """Return what the writer has done, and how much waits for it."""
        return self._owner.load()

    async def close(self) -> None:
        """Finish what waits and close the connections."""
        await self.locks.close()
        await self._reader.close()
        await self._owner.close()
        if self._lock is not None:
            self._lock.close()


def _ensure_schema(engine: PostgresEngine) -> None:
    """Run the steps that a database lacks, one head at a time; refuse one that is not ours."""
    (version,) = engine.execute("SHOW server_version_num").fetchone()
    if int(version) // 10_000 < SERVER_VERSION_MIN:
        raise ConfigError(
            f"the server is PostgreSQL {int(version) // 10_000}",
            hint=f"use PostgreSQL {SERVER_VERSION_MIN} or newer",
        )
    (encoding,) = engine.execute("SHOW server_encoding").fetchone()
    if encoding != "UTF8":
        raise ConfigError(
            f"the database's encoding is {encoding}",
            hint="make one with `createdb --encoding UTF8 --template template0`",
        )
    engine.begin_upgrade()
    try:
        (there,) = engine.execute("SELECT to_regclass('evstream')").fetchone()
        version = 0 if there is None else engine.schema_version()
        steps = missing("postgresql", version, "the database")
        for step in steps:
            engine.script(step.statements)
        if steps:
            engine.execute("DELETE FROM evstream")
            engine.execute("INSERT INTO evstream (version) VALUES (?)", (steps[-1].version,))
        engine.commit()
        # A user who may not write is told so now, not by every request.
        engine.begin()
        engine.execute("UPDATE evstream SET version = version")
    finally:
        engine.roll_back()
