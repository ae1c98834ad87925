"""Locks of tasks that the heads of a PostgreSQL share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from evstream.adapters.catalogue.postgresql_errors import translate
from evstream.domain.names import TaskId

IDLE_MAX = 2
"""Connections that are kept open for the next locks."""
# A lock of a transaction, not of a session: so it holds behind a pool of connections too. The
# transaction holds nothing else, and has no snapshot that would keep VACUUM from its work. Its
# first number sets these locks apart from those of others.
_LOCK = b"""
    BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
    SET LOCAL lock_timeout = '20s';
    SET LOCAL idle_in_transaction_session_timeout = '10min';
    SELECT pg_advisory_xact_lock(1702261620, %d)"""


class PostgresTaskLocks:
    """The `TaskLocks` port: each lock that is held has a connection of its own meanwhile.

    Parameters
    ----------
    url : str
        ``postgresql://...``, as libpq takes it.
    options : dict
        What libpq is told where the URL says nothing.
    """

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        self._conninfo = make_conninfo(**{**options, **conninfo_to_dict(url)})
        self._idle: list[psycopg.AsyncConnection[Any]] = []

    @asynccontextmanager
    async def of(self, task: TaskId) -> AsyncIterator[None]:
        """Hold the lock of a task."""
        try:
            connection = await self._locked(task)
        except psycopg.Error as error:
            raise translate(error) from error
        try:
            yield
        finally:
            await self._unlock(connection)

    async def _locked(self, task: TaskId) -> psycopg.AsyncConnection[Any]:
        """Return a connection on which the lock is held."""
        while self._idle:
            try:
                return await self._lock(self._idle.pop(), task)
            except psycopg.errors.LockNotAvailable:
                raise
            except psycopg.OperationalError:
                continue  # It was lost since it was used, which is told by using it alone.
        connection = await psycopg.AsyncConnection.connect(self._conninfo, autocommit=True)
        return await self._lock(connection, task)

    @staticmethod
    async def _lock(
        connection: psycopg.AsyncConnection[Any], task: TaskId
    ) -> psycopg.AsyncConnection[Any]:
        try:
            await connection.execute(_LOCK % task)
        except BaseException:
            connection.pgconn.finish()
            raise
        return connection

    async def _unlock(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """Give the lock back: by the end of its transaction, or else of its connection."""
        try:
            await connection.execute(b"ROLLBACK")
        except psycopg.Error:
            connection.pgconn.finish()
        except BaseException:
            connection.pgconn.finish()
            raise
        else:
            if len(self._idle) < IDLE_MAX:
                self._idle.append(connection)
            else:
                connection.pgconn.finish()

    async def close(self) -> None:
        """Close the connections."""
        while self._idle:
            await self._idle.pop().close()
