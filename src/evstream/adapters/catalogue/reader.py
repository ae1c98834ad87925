"""Reads beside the writer: searches wait neither for its queue nor for its commits.

A reader has connections of its own that cannot write. Each read sees one state of the database,
the one that was committed when it began; so whoever has been answered finds what they wrote.
"""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from evstream.adapters.catalogue.database import Database, Engine
from evstream.adapters.catalogue.owner import Owner
from evstream.domain.errors import TransientError

T = TypeVar("T")

CONNECTIONS = 2
"""A search is a few short statements: more would wait for processors, not for the database."""
READS_WAITING_MAX = 2_000


class Reader(Protocol):
    """Runs operations that change nothing."""

    async def read(self, operation: Callable[[Database], T]) -> T:
        """Run an operation and return what it finds.

        Raises
        ------
        TransientError
            Too many wait, the reader is closed, or the database is away.
        """
        ...

    async def close(self) -> None:
        """Close the connections; again is no error."""
        ...


class ConnectedReader:
    """Reads on connections of its own, each in a thread at a time.

    Parameters
    ----------
    connect : callable
        Returns an engine whose transactions only read; called when one is needed.
    """

    def __init__(self, connect: Callable[[], Engine], connections: int = CONNECTIONS) -> None:
        self._connect = connect
        self._idle: queue.SimpleQueue[Engine] = queue.SimpleQueue()
        self._threads = ThreadPoolExecutor(connections, "evstream-reader")
        self._waiting = 0
        self._closed = False

    async def read(self, operation: Callable[[Database], T]) -> T:
        """Run an operation in one of the threads."""
        self._refuse_closed()
        if self._waiting >= READS_WAITING_MAX:
            raise TransientError(
                f"{READS_WAITING_MAX} searches wait for the database",
                hint="ask again later",
                retry_after_s=1.0,
            )
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, self._perform, operation)
        finally:
            self._waiting -= 1

    def _refuse_closed(self) -> None:
        if self._closed:
            raise TransientError("the ledger is shutting down", hint="ask again after its restart")

    def _perform(self, operation: Callable[[Database], T]) -> T:
        # What still waits when the reader is closed is told so.
        self._refuse_closed()
        try:
            # No more threads than engines: one that is not idle has not been made yet.
            engine = self._idle.get_nowait()
        except queue.Empty:
            engine = self._connect()
        try:
            try:
                return _once(engine, operation)
            except Exception as error:
                if not engine.may_repeat(error):
                    raise
                return _once(engine, operation)
        except Exception as error:
            failure = engine.translate(error)
            if failure is error:
                raise
            raise failure from error
        finally:
            self._idle.put(engine)

    async def close(self) -> None:
        """Let reads that have begun end, and close the connections."""
        self._closed = True
        self._threads.shutdown()
        while not self._idle.empty():
            self._idle.get().close()


def _once(engine: Engine, operation: Callable[[Database], T]) -> T:
    try:
        engine.begin()
        return operation(engine.database)
    finally:
        engine.roll_back()


class OwnersReader:
    """Reads as the owner's other operations do: for the simulator, where nothing waits.

    Parameters
    ----------
    owner : Owner
        Whoever made it closes it.
    """

    def __init__(self, owner: Owner) -> None:
        self._owner = owner

    async def read(self, operation: Callable[[Database], T]) -> T:
        """Run an operation in its turn."""
        return await self._owner.read(operation)

    async def close(self) -> None:
        """Do nothing: the owner closes its connection."""
