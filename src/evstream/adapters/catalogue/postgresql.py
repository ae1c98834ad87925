"""Opens ledger and catalogue on a PostgreSQL that several heads may share."""

# ruff: noqa: S608 - tables and columns come from this package alone

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus

from evstream.adapters.catalogue.data_directory import DirectoryLock
from evstream.adapters.catalogue.database import Database, Engine, Rows, Values
from evstream.adapters.catalogue.owner import GroupCommitOwner, Owner
from evstream.adapters.catalogue.postgresql_errors import translate
from evstream.adapters.catalogue.reader import ConnectedReader, Reader
from evstream.adapters.catalogue.schema_steps import latest, missing
from evstream.adapters.catalogue.sql_catalogue import SqlCatalogue
from evstream.adapters.catalogue.sql_ledger import SqlLedger
from evstream.adapters.catalogue.sql_products import SqlProducts
from evstream.domain.errors import ConfigError, TransientError
from evstream.ports.clock import Clock

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
IN_THE_WAY = frozenset({"40001", "40P01", "55P03"})
"""Serialisation failures, deadlocks, locks that took too long."""
READ_ONLY = "25006"
RETRY_AFTER_UPGRADE_S = 30.0
# One writer at a time: heads take turns, each with all that waits for it. The number is only
# for this purpose; it is the same for all heads on one database.
_TURN = 0x65767374
_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
_TAKE_TURN = f"SELECT pg_advisory_xact_lock({_TURN})"
# Whoever has the turn sees what the one before has committed, a newer schema too.
_BEGIN_TURN = f"{_BEGIN}; {_TAKE_TURN}; SELECT version FROM evstream"
_BEGIN_UPGRADE = f"{_BEGIN}; SET LOCAL lock_timeout = 0; {_TAKE_TURN}"
_BEGIN_READING = (
    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;"
    " SELECT version, clock_timestamp() FROM evstream"
)
# How SQLite is told which index to use, and which table to begin with.
_HINT = re.compile(r" INDEXED BY \w+|\bCROSS (?=JOIN)")
# The protocol counts a statement's values with 16 bits; far fewer are as fast.
_VALUES_MAX = 16_000
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


def _portions(rows: Sequence[Values], width: int) -> Iterator[Sequence[Values]]:
    """Split rows into as many as one statement takes values for."""
    most = _VALUES_MAX // width
    for start in range(0, len(rows), most):
        yield rows[start : start + most]


class PostgresEngine:
    """A connection to a server, made anew when it is lost.

    Parameters
    ----------
    url : str
        ``postgresql://…``, as libpq takes it.
    clock : Clock, optional
        For tests: in place of the server's time.
    """

    def __init__(self, url: str, clock: Clock | None = None) -> None:
        self._url = url
        self._clock = clock
        self._connection = self._connect()

    def _connect(self) -> psycopg.Connection[Any]:
        """Connect; what the URL says goes before what is usual here."""
        options = make_conninfo(**{**CONNECTION, **conninfo_to_dict(self._url)})
        connection = psycopg.connect(options, autocommit=True)
        try:
            connection.execute(_SET_LIMITS)
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
        return self._connection.execute(_in_its_words(statement), _plain(values))

    def executemany(self, statement: str, rows: Iterable[Values], /) -> object:
        """Run a statement for each row of values."""
        plain = [_plain(row) for row in rows]
        if plain:
            self._connection.cursor().executemany(_in_its_words(statement), plain)
        return None

    def insert(self, table: str, columns: str, rows: Sequence[Values], /) -> None:
        """Put rows into a table, many in one statement: its triggers run once for all."""
        width = len(columns.split(","))
        one = f"({', '.join(['%s'] * width)})"
        for some in _portions(rows, width):
            marks = ", ".join([one] * len(some))
            values = [value for row in some for value in _plain(row)]
            self._connection.execute(
                f"INSERT INTO {table} ({columns}) VALUES {marks}".encode(), values
            )

    def delete(self, table: str, columns: str, keys: Sequence[Values], /) -> None:
        """Delete the rows with some keys, many in one statement."""
        width = len(columns.split(","))
        one = f"({', '.join(['%s'] * width)})"
        for some in _portions(keys, width):
            marks = ", ".join([one] * len(some))
            values = [value for key in some for value in _plain(key)]
            self._connection.execute(
                f"DELETE FROM {table} WHERE ({columns}) IN (VALUES {marks})".encode(), values
            )

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

    def begin(self) -> None:
        """Begin a transaction, when it is this head's turn to write.

        Raises
        ------
        TransientError
            A newer evstream has changed the schema meanwhile: nothing may be written.
        psycopg.Error
            The server cannot be reached, or another head has not ended its turn.
        """
        self._begin(_BEGIN_TURN)

    def _begin(self, statements: str) -> tuple[Any, ...]:
        """Begin a transaction; return the row of the last statement, the version first."""
        try:
            begun = self._connection.execute(statements.encode())
        except psycopg.OperationalError:
            if not self._connection.closed:
                raise
            # It was lost since the last transaction, which is told by using it alone.
            self._connection = self._connect()
            begun = self._connection.execute(statements.encode())
        while begun.nextset():
            pass
        version, *others = begun.fetchone() or (None,)
        if version != latest("postgresql"):
            raise TransientError(
                f"the database has schema version {version} now; this service knows"
                f" {latest('postgresql')}",
                hint="start the newer evstream here too",
                retry_after_s=RETRY_AFTER_UPGRADE_S,
                version=version,
            )
        return tuple(others)

    def begin_upgrade(self) -> None:
        """Begin a transaction like `begin`, whatever the schema, and wait as long as it takes."""
        self._connection.execute(_BEGIN_UPGRADE)

    def schema_version(self) -> int:
        """Return the version of the schema that is there."""
        (version,) = self.execute("SELECT version FROM evstream").fetchone()
        return int(version)

    def commit(self) -> None:
        """Make it durable."""
        self._connection.execute("COMMIT")

    def roll_back(self) -> None:
        """Give it up, unless the server is gone and has done so."""
        if not self._connection.closed and self.in_transaction:
            self._connection.execute("ROLLBACK")

    def set_mark(self) -> None:
        """Set a mark, so that one operation can be given up alone."""
        self._connection.execute("SAVEPOINT operation")

    def back_to_mark(self) -> None:
        """Give up what was done since the mark."""
        self._connection.execute("ROLLBACK TO operation")

    def drop_mark(self) -> None:
        """Keep what was done since the mark."""
        self._connection.execute("RELEASE operation")

    def may_repeat(self, error: Exception) -> bool:
        """Whether the connection was lost, or another client was in the way."""
        if not isinstance(error, psycopg.OperationalError):
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

    def begin(self) -> None:
        """Begin a transaction that sees one state of the database, and look at its clock."""
        (now,) = self._begin(_BEGIN_READING)
        self._began: datetime = now.astimezone(UTC)

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

    Attributes
    ----------
    ledger : SqlLedger
    catalogue : SqlCatalogue
    products : SqlProducts

    Raises
    ------
    ConflictError
        Another process owns the directory.
    ConfigError
        The server or the schema is of a version that we do not know.
    TransientError
        The server does not answer.
    """

    def __init__(self, url: str, directory: Path | None = None, clock: Clock | None = None) -> None:
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
                raise translate(error) from error
            raise
        self._owner: Owner = GroupCommitOwner(engine)
        self.ledger = SqlLedger(self._owner)
        self._reader: Reader = ConnectedReader(lambda: _connect_to_read(url, clock))
        self.catalogue = SqlCatalogue(self._owner)
        self.products = SqlProducts(self._owner, self._reader)

    async def close(self) -> None:
        """Finish what waits and close the connections."""
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
    except BaseException:
        engine.roll_back()
        raise
