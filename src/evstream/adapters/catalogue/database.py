"""What the ledger's statements need of a database: the same on SQLite and on PostgreSQL.

Statements are written once, with ``?`` or ``:name`` for values, in the SQL that both know.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from evstream.domain.names import LeaseId

Values = Sequence[Any] | Mapping[str, Any]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


class Rows(Protocol):
    """What a statement gives."""

    @property
    def rowcount(self) -> int:
        """How many rows it has changed."""
        ...

    def fetchone(self) -> Any:
        """Return the next row, or None."""
        ...

    def fetchall(self) -> list[Any]:
        """Return the rows that are left."""
        ...

    def __iter__(self) -> Iterator[Any]:
        """Yield the rows that are left."""
        ...


class Database(Protocol):
    """A database within a transaction."""

    def execute(self, statement: str, values: Values = (), /) -> Rows:
        """Run a statement."""
        ...

    def executemany(self, statement: str, rows: Iterable[Values], /) -> object:
        """Run a statement for each row of values."""
        ...

    def insert(self, table: str, columns: str, rows: Sequence[Sequence[Any]], /) -> None:
        """Put rows of numbers, texts and bytes into a table; commas are between columns."""
        ...

    def update(self, table: str, key: str, columns: str, rows: Sequence[Sequence[Any]], /) -> None:
        """Change some columns of the rows with some keys; each row is the key, then the rest."""
        ...

    def add(self, table: str, key: str, columns: str, rows: Sequence[Sequence[Any]], /) -> None:
        """Add to the columns of the rows with some keys, which are put there if they are not.

        Each row is the key, then the rest; no key is in two of them.
        """
        ...

    def delete(self, table: str, key: str, keys: Sequence[Sequence[Any]], /) -> None:
        """Delete the rows with some keys."""
        ...

    def now(self) -> datetime:
        """Return the database's time, aware, in UTC."""
        ...


@dataclass(frozen=True, slots=True)
class Turn:
    """A transaction that has begun.

    Attributes
    ----------
    now : datetime
        The database's time.
    alone : bool
        Nobody else has written since this engine's turn before.
    answer : list of tuple
        The rows that were asked for.
    assumed : bool
        The database was not asked; that all this is so is made sure of before anything else.
    """

    now: datetime
    alone: bool
    answer: list[tuple[Any, ...]]
    assumed: bool = False


class Engine(Protocol):
    """A connection that its owner drives: transactions, and operations within them."""

    @property
    def database(self) -> Database:
        """What operations work on."""
        ...

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open and can go on."""
        ...

    def begin(self, leases: Sequence[LeaseId] = (), *, assume: bool = False) -> Turn:
        """Begin a transaction that nobody else writes beside, and ask what leases hold.

        What it raises will not go away by beginning again at once.

        Parameters
        ----------
        assume : bool
            The leases are new to all that is known: that they hold nothing, and that nobody else
            had a turn, may be assumed. Where it proves wrong, what comes next fails by chance.
        """
        ...

    def one_trip(self) -> AbstractContextManager[object]:
        """Let statements whose answers nobody looks at share a trip to the database.

        What fails is raised at the end.
        """
        ...

    def commit(self) -> None:
        """Make it durable."""
        ...

    def roll_back(self) -> None:
        """Give it up."""
        ...

    def set_mark(self) -> None:
        """Set a mark, so that one operation can be given up alone."""
        ...

    def back_to_mark(self) -> None:
        """Give up what was done since the mark."""
        ...

    def drop_mark(self) -> None:
        """Keep what was done since the mark."""
        ...

    def may_repeat(self, error: Exception) -> bool:
        """Whether it was chance that a transaction failed, before its commit.

        A connection was lost, or somebody else was in the way: the same again may succeed.
        """
        ...

    def translate(self, error: Exception) -> Exception:
        """Return the error of ours that stands for one of the database's."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


def to_microseconds(time: datetime) -> int:
    """Return an aware time as microseconds since 1970 in UTC, exactly."""
    return (time - EPOCH) // MICROSECOND


def from_microseconds(microseconds: int) -> datetime:
    """Return what `to_microseconds` was given, in UTC."""
    return EPOCH + timedelta(microseconds=microseconds)


def sums_of(table: str, columns: str) -> str:
    """Return what adds what is given to the columns of a row that is there."""
    return ", ".join(f"{name} = {table}.{name} + excluded.{name}" for name in columns.split(", "))
