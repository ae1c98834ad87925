"""One owner of a connection: everything queued becomes one durable transaction.

Many writers starve each other on SQLite, and a durable commit costs a disk flush.
So one thread owns the connection; it takes all operations that wait, runs them one after
another, commits them together, and only then answers::

    callers ──queue──▶ owner: BEGIN │ at the desk: a, b │ SAVEPOINT c … │ d │ COMMIT ──▶ answers

`InlineOwner` does the same one by one, in place, for the simulator.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from enum import Enum, auto
from typing import Any, Protocol, TypeVar

from evstream.adapters.catalogue.database import Database, Engine, Turn
from evstream.adapters.catalogue.desk import LEASES_AT_ONCE, Desk
from evstream.adapters.catalogue.tally import Tally
from evstream.domain.errors import EvstreamError, TransientError
from evstream.domain.names import LeaseId
from evstream.ports.metrics import Load

T = TypeVar("T")

OPERATIONS_WAITING_MAX = 20_000
OPERATIONS_PER_COMMIT_MAX = 1_000
REPEATS_MAX = 2
"""So often a transaction is begun again that chance has ended."""


class _Kind(Enum):
    """What an operation is given."""

    CHANGES = "the database"
    READS = "the database, to read"
    WORKS = "the desk"


_CHANGES, _READS, _WORKS = _Kind


class Owner(Protocol):
    """Runs operations on a database that nobody else writes."""

    @property
    def changes(self) -> int:
        """A number that rises before anything is changed but at the desk.

        Another head's changes are noticed with the next operation.
        """
        ...

    async def run(self, operation: Callable[[Database], T]) -> T:
        """Run an operation in a transaction and return once it is durable.

        An operation that raises leaves nothing behind. Whoever is cancelled while
        waiting does not know whether it happened.

        Raises
        ------
        TransientError
            Too many wait, the owner is closed, or the disk is full.
        """
        ...

    async def read(self, operation: Callable[[Database], T]) -> T:
        """Do the same with an operation that changes nothing."""
        ...

    async def work(
        self, operation: Callable[[Desk], T], leases: Sequence[LeaseId], *, new: bool = False
    ) -> T:
        """Do the same at a desk that operations share.

        Such an operation changes nothing before it raises, and works on some leases; ``new``
        ones were never heard of, as far as anybody knows.
        """
        ...

    def load(self) -> Load:
        """Return what it has done, and how much waits."""
        ...

    async def close(self) -> None:
        """Finish what waits and close the connection; again is no error."""
        ...


def _perform(engine: Engine, desk: Desk, waiting: _Waiting) -> None:
    """Run one operation, and note its result or its error.

    Raises
    ------
    Exception
        The transaction cannot go on (a full disk can do that), or what was done at the desk
        cannot be told from what others did there.
    """
    if waiting.kind is not _CHANGES:
        try:
            waiting.result = waiting.operation(
                desk if waiting.kind is _WORKS else desk.written_to()
            )
        except EvstreamError as refused:
            # Raised before anything was changed.
            waiting.failure = refused
        return
    database = desk.database
    engine.set_mark()
    try:
        waiting.result = waiting.operation(database)
    except Exception as error:
        if not engine.in_transaction or engine.may_repeat(error):
            raise
        engine.back_to_mark()
        waiting.failure = engine.translate(error)
    engine.drop_mark()


def _leases(group: Iterable[_Waiting]) -> Iterator[LeaseId]:
    for waiting in group:
        yield from waiting.leases


def _roll_back(engine: Engine, error: Exception) -> Exception:
    """Give the transaction up; return why, or why not even that could be done."""
    try:
        engine.roll_back()
    except Exception as second:  # noqa: BLE001 - whatever the database says
        return second
    return error


class _Waiting:
    """An operation in the queue, and the future that its caller waits for."""

    __slots__ = ("failure", "future", "kind", "leases", "loop", "new", "operation", "result")

    def __init__(
        self,
        operation: Callable[[Any], Any],
        kind: _Kind,
        leases: Sequence[LeaseId],
        loop: asyncio.AbstractEventLoop,
        *,
        new: bool,
    ) -> None:
        self.new = new
        self.operation = operation
        self.kind = kind
        self.leases = leases
        self.loop = loop
        self.future: asyncio.Future[Any] = loop.create_future()
        self.result: Any = None
        self.failure: Exception | None = None

    def resolve(self) -> None:
        """Hand the answer over; runs in the caller's loop."""
        if self.future.done():
            return
        if self.failure is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.failure)


class _Ended(Enum):
    """How far a transaction came."""

    NOT_BEGUN = auto()
    BY_ONE_OF_THEM = auto()
    BY_CHANCE = auto()
    FOR_GOOD = auto()


def _fail(group: Sequence[_Waiting], failure: Exception) -> None:
    """Give all the same answer."""
    for waiting in group:
        waiting.result, waiting.failure = None, failure
        if isinstance(failure, EvstreamError):
            # One each: an error that is raised twice confuses both tracebacks.
            waiting.failure = copy(failure)
            waiting.failure.__cause__ = failure.__cause__


def _resolve_all(answered: Iterable[_Waiting]) -> None:
    for waiting in answered:
        waiting.resolve()


class GroupCommitOwner:
    """Runs operations in a thread of its own and commits them in groups.

    Parameters
    ----------
    engine : Engine
        Used by the owner's thread alone; the owner closes it.
    waiting_max : int
        Operations that may wait; more are refused with `TransientError`.
    """

    def __init__(self, engine: Engine, waiting_max: int = OPERATIONS_WAITING_MAX) -> None:
        self._engine = engine
        self._waiting_max = waiting_max
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._closed = False
        self._ending = False
        self._desk = Desk(engine.database)
        self._begun = False
        self._tally = Tally()
        # Guards the order of the last operation and the closing mark in the queue.
        self._door = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="evstream-ledger", daemon=True)
        self._thread.start()

    @property
    def changes(self) -> int:
        """How often the desk was cleared."""
        return self._desk.clearings

    async def run(self, operation: Callable[[Database], T]) -> T:
        """Queue an operation and return its result once it is durable."""
        result: T = await self._queued(operation, _CHANGES)
        return result

    async def read(self, operation: Callable[[Database], T]) -> T:
        """Do the same with an operation that changes nothing."""
        result: T = await self._queued(operation, _READS)
        return result

    async def work(
        self, operation: Callable[[Desk], T], leases: Sequence[LeaseId], *, new: bool = False
    ) -> T:
        """Do the same at the group's desk."""
        result: T = await self._queued(operation, _WORKS, leases, new=new)
        return result

    async def _queued(
        self,
        operation: Callable[[Any], Any],
        kind: _Kind,
        leases: Sequence[LeaseId] = (),
        *,
        new: bool = False,
    ) -> Any:
        waiting = _Waiting(operation, kind, leases, asyncio.get_running_loop(), new=new)
        with self._door:
            if self._closed:
                raise TransientError(
                    "the ledger is shutting down", hint="ask again after its restart"
                )
            if self._queue.qsize() >= self._waiting_max:
                raise TransientError(
                    f"{self._waiting_max} operations wait for the ledger",
                    hint="ask again later, and in larger batches",
                    retry_after_s=1.0,
                )
            self._queue.put(waiting)
        return await waiting.future

    def load(self) -> Load:
        """Return what it has done, and how many operations wait in its queue."""
        return self._tally.load(self._queue.qsize())

    async def close(self) -> None:
        """Finish what waits, close the connection and end the thread."""
        with self._door:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        # A thread of its own, not the loop's pool: that may be shut down already.
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def tell() -> None:
            self._thread.join()
            loop.call_soon_threadsafe(ended.set)

        threading.Thread(target=tell, name="evstream-ledger-close", daemon=True).start()
        await ended.wait()

    def _work(self) -> None:
        """Commit groups until the closing mark comes."""
        while not self._ending:
            group: list[_Waiting] = []
            self._take_in(group, self._queue.get())
            self._take_waiting(group)
            if group:
                began = time.perf_counter()
                self._commit(group)
                self._tally.count(len(group), time.perf_counter() - began)
                self._answer(group)
        self._engine.close()

    def _take_in(self, group: list[_Waiting], item: _Waiting | None) -> None:
        if item is None:
            self._ending = True
        else:
            group.append(item)

    def _take_waiting(self, group: list[_Waiting]) -> None:
        """Take all that has queued up into a group."""
        while not self._ending and len(group) < OPERATIONS_PER_COMMIT_MAX:
            try:
                self._take_in(group, self._queue.get_nowait())
            except queue.Empty:
                return

    def _commit(self, group: list[_Waiting]) -> None:
        """Commit a group together; if it cannot be worked off, each by itself."""
        for repeats_left in reversed(range(REPEATS_MAX + 1)):
            ended = self._attempt(group, repeats_left, gather=True)
            if ended is not _Ended.BY_CHANCE:
                break
        if ended is _Ended.BY_ONE_OF_THEM:
            for number, waiting in enumerate(group):
                if self._attempt([waiting], 0) is _Ended.NOT_BEGUN and waiting.failure:
                    # Each would wait for a server that is not there.
                    _fail(group[number + 1 :], waiting.failure)
                    break

    def _attempt(self, group: list[_Waiting], repeats_left: int, *, gather: bool = False) -> _Ended:
        """Try to commit a group; where it is not to be tried again, all have their answers."""
        engine, desk = self._engine, self._desk
        ended = _Ended.NOT_BEGUN
        try:
            turn = self._begin(group, assume=repeats_left > 0)
            ended = _Ended.BY_ONE_OF_THEM
            if gather and not turn.assumed:
                # More may have come while this head waited for its turn.
                self._take_waiting(group)
            desk.read(_leases(group))
            for waiting in group:
                waiting.result = waiting.failure = None
                _perform(engine, desk, waiting)
            with engine.one_trip():
                desk.flush()
                # From here on nobody knows whether it happened,
                ended = _Ended.FOR_GOOD
                engine.commit()
            desk.limit()
        except Exception as error:  # noqa: BLE001 - the thread must outlive any one group
            if ended is _Ended.FOR_GOOD and engine.in_transaction:
                # except where the transaction is still there.
                ended = _Ended.BY_ONE_OF_THEM
            desk.clear()
            self._tally.give_up()
            cause = _roll_back(engine, error)
            if ended is _Ended.BY_ONE_OF_THEM:
                if engine.may_repeat(error):
                    ended = _Ended.BY_CHANCE
                if repeats_left if ended is _Ended.BY_CHANCE else len(group) > 1:
                    return ended
            _fail(group, engine.translate(cause))
        return ended

    def _begin(self, group: list[_Waiting], *, assume: bool) -> Turn:
        """Begin a transaction, and have the desk know what it needs of the database."""
        desk = self._desk
        unknown = desk.unknown(_leases(group))[:LEASES_AT_ONCE]
        # What has to be read anyway is read in the same trip.
        new = set(_leases(waiting for waiting in group if waiting.new))
        turn = self._engine.begin(unknown, assume=assume and new.issuperset(unknown))
        desk.begin(turn)
        desk.take_in(unknown, turn.answer)
        return turn

    @staticmethod
    def _answer(group: list[_Waiting]) -> None:
        """Wake each caller's loop once."""
        by_loop: dict[asyncio.AbstractEventLoop, list[_Waiting]] = {}
        for waiting in group:
            by_loop.setdefault(waiting.loop, []).append(waiting)
        for loop, answered in by_loop.items():
            try:
                loop.call_soon_threadsafe(_resolve_all, answered)
            except RuntimeError:
                # The loop was closed under its callers: nobody is left to be told.
                continue


class InlineOwner:
    """Runs each operation at once, in the caller's thread, in its own transaction.

    Parameters
    ----------
    engine : Engine
        The owner closes it.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._desk = Desk(engine.database)
        self._tally = Tally()
        self._closed = False

    @property
    def changes(self) -> int:
        """How often the desk was cleared."""
        return self._desk.clearings

    async def run(self, operation: Callable[[Database], T]) -> T:
        """Run an operation; no other task runs meanwhile."""
        return self._at_once(lambda desk: operation(desk.database))

    async def read(self, operation: Callable[[Database], T]) -> T:
        """Do the same with an operation that changes nothing."""
        return self._at_once(lambda desk: operation(desk.written_to()))

    async def work(
        self, operation: Callable[[Desk], T], leases: Sequence[LeaseId], *, new: bool = False
    ) -> T:
        """Do the same at a desk of its own."""
        del leases, new  # read as they are asked for
        return self._at_once(operation)

    def _at_once(self, operation: Callable[[Desk], T]) -> T:
        if self._closed:
            raise TransientError("the ledger is shutting down", hint="ask again after its restart")
        began = time.perf_counter()
        try:
            self._desk.begin(self._engine.begin())
            result = operation(self._desk)
            self._desk.flush()
            self._engine.commit()
            self._desk.limit()
        except Exception as error:
            self._desk.clear()
            self._tally.give_up()
            failure = self._engine.translate(_roll_back(self._engine, error))
            if failure is error:
                raise
            raise failure from error
        finally:
            self._tally.count(1, time.perf_counter() - began)
        return result

    def load(self) -> Load:
        """Return what it has done; nothing ever waits."""
        return self._tally.load(0)

    async def close(self) -> None:
        """Close the connection."""
        if not self._closed:
            self._closed = True
            self._engine.close()
