"""Opens the one SQLite file that holds ledger and catalogue."""

# ruff: noqa: S608 - tables and columns come from this package alone

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from evstream.adapters.catalogue.data_directory import DirectoryLock, refuse_network_file_system
from evstream.adapters.catalogue.database import Database, Engine, Turn, sums_of
from evstream.adapters.catalogue.desk import question
from evstream.adapters.catalogue.owner import GroupCommitOwner, InlineOwner, Owner
from evstream.adapters.catalogue.reader import ConnectedReader, OwnersReader, Reader
from evstream.adapters.catalogue.schema_steps import missing
from evstream.adapters.catalogue.sql_access_keys import SqlAccessKeys
from evstream.adapters.catalogue.sql_catalogue import SqlCatalogue
from evstream.adapters.catalogue.sql_ledger import SqlLedger
from evstream.adapters.catalogue.sql_links import SqlLinks
from evstream.adapters.catalogue.sql_products import SqlProducts
from evstream.adapters.catalogue.sql_whiteboard import SqlWhiteboard
from evstream.adapters.catalogue.sqlite_errors import translate
from evstream.domain.errors import ConfigError
from evstream.domain.names import LeaseId
from evstream.ports.archive import Archive
from evstream.ports.clock import Clock
from evstream.ports.metrics import Load

DATABASE_NAME = "ledger.sqlite"
BUSY_S_MAX = 5.0
"""How long a person's own sqlite3 may hold the file before callers are told."""

# RETURNING came with 3.35, STRICT with 3.37.
_SQLITE_VERSION_MIN = (3, 37, 0)


class SqliteDatabase:
    """Ledger and catalogue in a data directory that this process owns until `close`.

    Opening blocks for a few milliseconds.

    Parameters
    ----------
    directory : Path
        Made if it is not there; on a local disk.
    inline : bool
        For the simulator: no thread, each operation a transaction of its own, done in
        place. It survives the end of the process, but not a power cut.
    archive : Archive, optional
        Where books are read that the database has no more.

    Attributes
    ----------
    ledger : SqlLedger
    catalogue : SqlCatalogue
    products : SqlProducts
    whiteboard : SqlWhiteboard
    links : SqlLinks
    access_keys : SqlAccessKeys
    locks : None
        The file is one head's.

    Raises
    ------
    ConflictError
        Another process owns the directory.
    ConfigError
        The directory is on a network file system or cannot be written, the file is of
        a version that we do not know, or SQLite is too old.
    DataError
        The file is damaged.
    """

    def __init__(
        self,
        directory: Path,
        clock: Clock,
        *,
        inline: bool = False,
        archive: Archive | None = None,
    ) -> None:
        if sqlite3.sqlite_version_info < _SQLITE_VERSION_MIN:
            raise ConfigError(
                f"SQLite {sqlite3.sqlite_version} is too old",
                hint="use a Python whose SQLite is 3.37 or newer",
            )
        # Before anything is made there.
        refuse_network_file_system(directory)
        self._lock = DirectoryLock(directory)
        try:
            connection = _connect(directory / DATABASE_NAME, durable=not inline)
        except Exception as error:
            self._lock.close()
            translated = translate(error)
            if translated is error:
                raise
            raise translated from error
        engine = SqliteEngine(connection, clock)
        self._owner: Owner = InlineOwner(engine) if inline else GroupCommitOwner(engine)
        self.ledger = SqlLedger(self._owner, archive)
        self._reader: Reader = (
            OwnersReader(self._owner)
            if inline
            else ConnectedReader(lambda: _connect_to_read(directory / DATABASE_NAME, clock))
        )
        self.catalogue = SqlCatalogue(self._owner)
        self.products = SqlProducts(self._owner, self._reader)
        self.whiteboard = SqlWhiteboard(self._owner, self._reader)
        self.links = SqlLinks(self._owner, self._reader)
        self.access_keys = SqlAccessKeys(self._owner, self._reader)
        self.locks = None

    def load(self) -> Load:
        """Return what the writer has done, and how much waits for it."""
        return self._owner.load()

    async def close(self) -> None:
        """Finish what waits, close the file and give the directory back."""
        await self._reader.close()
        await self._owner.close()
        self._lock.close()


class SqliteEngine:
    """A connection to a SQLite file, and its owner's clock: there is no other time.

    Parameters
    ----------
    connection : sqlite3.Connection
        Opened with ``isolation_level=None`` and ``check_same_thread=False``.
    """

    def __init__(self, connection: sqlite3.Connection, clock: Clock) -> None:
        self._connection = connection
        self.execute = connection.execute
        self.executemany = connection.executemany
        self.now = clock.now
        self._data_version: int | None = None

    @property
    def database(self) -> Database:
        """What operations work on."""
        return self

    def insert(self, table: str, columns: str, rows: Sequence[Sequence[Any]], /) -> None:
        """Put rows into a table; ``columns`` are names with commas between."""
        marks = ", ".join("?" * len(columns.split(",")))
        self.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", rows)

    def update(self, table: str, key: str, columns: str, rows: Sequence[Sequence[Any]], /) -> None:
        """Change some columns of the rows with some keys."""
        width = len(key.split(","))
        changes = ", ".join(
            f"{name} = ?{place}" for place, name in enumerate(columns.split(", "), width + 1)
        )
        self.executemany(f"UPDATE {table} SET {changes} WHERE {_with_key(key)}", rows)

    def add(self, table: str, key: str, columns: str, rows: Sequence[Sequence[Any]], /) -> None:
        """Add to the columns of the rows with some keys."""
        names = f"{key}, {columns}"
        marks = ", ".join("?" * len(names.split(",")))
        self.executemany(
            f"INSERT INTO {table} ({names}) VALUES ({marks}) ON CONFLICT ({key})"
            f" DO UPDATE SET {sums_of(table, columns)}",
            rows,
        )

    def delete(self, table: str, key: str, keys: Sequence[Sequence[Any]], /) -> None:
        """Delete the rows with some keys."""
        self.executemany(f"DELETE FROM {table} WHERE {_with_key(key)}", keys)

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open and can go on."""
        return self._connection.in_transaction

    def begin(self, leases: Sequence[LeaseId] = (), *, assume: bool = False) -> Turn:
        """Begin a transaction; the file is ours alone, but a person may have been at it."""
        del assume  # Nothing is far away.
        self.execute("BEGIN IMMEDIATE")
        (version,) = self.execute("PRAGMA data_version").fetchone()
        alone, self._data_version = version == self._data_version, version
        return Turn(self.now(), alone, self.execute(*question(leases)).fetchall() if leases else [])

    def one_trip(self) -> AbstractContextManager[None]:
        """Do nothing: there are no trips."""
        return nullcontext()

    def commit(self) -> None:
        """Make it durable."""
        self.execute("COMMIT")

    def roll_back(self) -> None:
        """Give it up, unless SQLite has done so."""
        if self._connection.in_transaction:
            self.execute("ROLLBACK")

    def set_mark(self) -> None:
        """Set a mark, so that one operation can be given up alone."""
        self.execute("SAVEPOINT operation")

    def back_to_mark(self) -> None:
        """Give up what was done since the mark."""
        self.execute("ROLLBACK TO operation")

    def drop_mark(self) -> None:
        """Keep what was done since the mark."""
        self.execute("RELEASE operation")

    def may_repeat(self, error: Exception) -> bool:
        """Nobody else is there who could be in the way."""
        del error
        return False

    def translate(self, error: Exception) -> Exception:
        """Return the error of ours that stands for one of SQLite's."""
        return translate(error)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _with_key(key: str) -> str:
    return " AND ".join(f"{name} = ?{place}" for place, name in enumerate(key.split(", "), 1))


class SqliteReadingEngine(SqliteEngine):
    """A connection that only reads: what is committed meanwhile stands in the WAL beside."""

    def begin(self, leases: Sequence[LeaseId] = (), *, assume: bool = False) -> Turn:
        """Begin a transaction that sees one state of the file."""
        del assume
        self.execute("BEGIN")
        answer = self.execute(*question(leases)).fetchall() if leases else []
        return Turn(self.now(), alone=False, answer=answer)


def _connect_to_read(path: Path, clock: Clock) -> Engine:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro",
        uri=True,
        timeout=BUSY_S_MAX,
        isolation_level=None,
        check_same_thread=False,
    )
    return SqliteReadingEngine(connection, clock)


def _connect(path: Path, *, durable: bool) -> sqlite3.Connection:
    try:
        # Made here, so that it is private from its first byte; its WAL takes after it.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error.strerror}",
            hint="give its owner write access, or choose another data directory",
            path=str(path),
        ) from error
    connection = sqlite3.connect(
        path, timeout=BUSY_S_MAX, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'OFF'}")
        # Sorting and sub-statements never need a file of their own.
        connection.execute("PRAGMA temp_store = MEMORY")
        _ensure_schema(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _ensure_schema(connection: sqlite3.Connection, path: Path) -> None:
    """Run the steps that a file lacks; refuse one that is not ours."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if version < 0 or (version == 0 and tables):
        raise ConfigError(
            f"{path} is not a ledger of evstream",
            hint="choose another data directory",
            path=str(path),
            version=version,
        )
    steps = missing("sqlite", version, str(path))
    if steps:
        statements = "\n".join(step.statements for step in steps)
        connection.executescript(
            f"BEGIN IMMEDIATE;\n{statements}\nPRAGMA user_version = {steps[-1].version};\nCOMMIT;"
        )
