"""Random histories of claims and reports under faults, and what must be true of them.

A trial is played by one thread, so that its seed repeats it: workers say what they want, a
scheduler chooses whose group is committed next, and which fault meets it. Heads are real owners
on real engines; a fault is a lost connection, a full disk, an error or a crash at some call.
"""

from __future__ import annotations

import asyncio
import queue
import random
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

from evstream.adapters.catalogue.owner import GroupCommitOwner
from evstream.adapters.catalogue.sql_ledger import SqlLedger
from evstream.domain.errors import TransientError
from evstream.domain.ledger import (
    BookRules,
    Failure,
    LeasedInterval,
    RangeReport,
    RunningUnit,
    Success,
    Within,
)
from evstream.domain.names import LeaseId, Lfn, WorkerId
from evstream.domain.splitting import Chunk, units_of
from evstream.domain.states import Answer
from evstream.ports.ledger import Ledger
from evstream.testing.manual_clock import ManualClock

T = TypeVar("T")
DURATION_S = 60.0
CALLS = frozenset({"begin", "commit", "execute", "executemany", "insert", "update", "delete"})
TURNS_MAX = 20_000
"""A trial that takes more does not end."""


class ViolationError(AssertionError):
    """Something that must never be."""


class StumbleError(Exception):
    """An operation fails for a reason that is none of the database's."""


class HeadCrash(BaseException):
    """The process ends here: nothing that it runs is asked."""


# --- faults -----------------------------------------------------------------------


def with_faults(engine_class: type) -> type:
    """Return a kind of engine whose calls go through its ``fault``, if it has one."""

    class Faulty(engine_class):  # type: ignore[misc]
        fault: Callable[[str, Callable[..., Any]], Callable[..., Any]] | None = None

        def mend(self) -> None:
            """Undo what a fault has done to the database."""

        def __getattribute__(self, name: str) -> Any:
            value = super().__getattribute__(name)
            fault = super().__getattribute__("fault") if name in CALLS else None
            return value if fault is None else fault(name, value)

    return Faulty


class Fault:
    """Happens at one call of an engine, and then never again.

    Parameters
    ----------
    happen : callable
        Raises what is to be raised; given the engine.
    at : str
        ``commit``: when it is called; ``committed``: when it is done; empty: at any call.
    calls : int
        So many are let through before.
    """

    def __init__(self, engine: Any, happen: Callable[[Any], None], at: str, calls: int) -> None:
        self._engine, self._happen = engine, happen
        self._at, self._calls = at, calls
        engine.fault = self

    def __call__(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        return partial(self._perform, name, call)

    def _perform(self, name: str, call: Callable[..., Any], /, *values: Any, **named: Any) -> Any:
        if self._at and name != "commit":
            return call(*values, **named)
        if not self._at and self._calls:
            self._calls -= 1
            return call(*values, **named)
        self._engine.fault = None
        if self._at == "committed":
            call(*values, **named)
            # Whatever was to be sent together with it has been sent once this is answered.
            self._engine.execute("SELECT 1").fetchone()
        self._happen(self._engine)
        return call(*values, **named)


NO_ANSWER = (TransientError, StumbleError)


def crash(engine: Any) -> None:
    """End the process."""
    raise HeadCrash


def stumble(engine: Any) -> None:
    """Fail in the midst of an operation."""
    raise StumbleError


# --- heads ------------------------------------------------------------------------


class SteppedOwner(GroupCommitOwner):
    """The real owner, but for its thread: a group is committed when the scheduler says so."""

    def _work(self) -> None:
        """Leave the work to `step`."""

    @property
    def waits(self) -> bool:
        """Whether there is something to do."""
        return not self._queue.empty()

    def step(self) -> None:
        """Commit what waits as one group."""
        group: list[Any] = []
        with suppress(queue.Empty):
            while True:
                group.append(self._queue.get_nowait())
        try:
            self._commit(group)
        except HeadCrash:
            for waiting in group:
                waiting.result, waiting.failure = None, TransientError("nobody answers")
            raise
        finally:
            for waiting in group:
                waiting.resolve()


class Head:
    """A head on a database, which is started again when it has crashed."""

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect = connect
        self.start()

    def start(self) -> None:
        self.engine = self._connect()
        self.owner = SteppedOwner(self.engine)
        self.ledger: Ledger = SqlLedger(self.owner)

    def step(self) -> None:
        """Commit what waits; start again after a crash."""
        try:
            self.owner.step()
        except HeadCrash:
            self.engine.close()
            self.start()
        self.engine.fault = None
        self.engine.mend()


# --- what workers do ----------------------------------------------------------------


class History:
    """What workers were told, and what may never be in it."""

    def __init__(self) -> None:
        self.issued: dict[tuple[int, int, int], LeaseId] = {}
        self.last_issued: dict[tuple[int, int], int] = Counter()
        self.accepted: dict[tuple[int, int], int] = {}
        self.said: set[tuple[Any, ...]] = set()
        self.counts: Counter[str] = Counter()

    def leased(self, lease: LeaseId, rows: Iterable[LeasedInterval]) -> None:
        """Note what a claim gave."""
        for row in rows:
            for entry in range(row.entry_start, row.entry_stop):
                place = row.chunk, entry
                holder = self.issued.setdefault((*place, row.attempt), lease)
                if holder != lease:
                    raise ViolationError(
                        f"{place}: attempt {row.attempt} leased to {holder}, {lease}"
                    )
                self.last_issued[place] = max(self.last_issued[place], row.attempt)

    def reported(self, word: RangeReport, answer: Answer) -> None:
        """Note the answer to a report."""
        key = word.lease, word.chunk, word.entry_start, word.entry_stop, word.attempt
        again, success = key in self.said, isinstance(word.outcome, Success)
        self.counts[answer.value] += 1
        if answer is Answer.ALREADY_ACCEPTED and not again:
            raise ViolationError(f"{key} is said to be accepted before it was said")
        if answer is Answer.SUPERSEDED or not success:
            return
        for entry in range(word.entry_start, word.entry_stop):
            place = word.chunk, entry
            if self.accepted.setdefault(place, word.attempt) != word.attempt:
                raise ViolationError(f"{place} was accepted twice")

    def speak(self, word: RangeReport) -> None:
        """Note that a report is on its way, perhaps not for the last time."""
        key = word.lease, word.chunk, word.entry_start, word.entry_stop, word.attempt
        self.said.add(key)


async def forget(worker: WorkerId, ledger: Ledger) -> None:
    await ledger.forget_worker(worker)


class Workers:
    """Workers on a book until it is done: quick, slow, lost, late, and some who say all twice.

    Parameters
    ----------
    ledger : callable
        Returns the ledger to ask next: any head's.
    pause : callable
        Waits a little while others work.
    """

    def __init__(
        self,
        rng: random.Random,
        book: int,
        clock: ManualClock,
        ledger: Callable[[], Ledger],
        pause: Callable[[], Awaitable[None]],
        expire: Callable[[Ledger], Awaitable[object]] = lambda ledger: ledger.expire_leases(),
    ) -> None:
        self._rng, self._book, self._clock = rng, book, clock
        self._ledger, self._pause, self._expire = ledger, pause, expire
        self.history = History()
        self.finished = False

    async def open(self) -> None:
        """Put a book of work into the ledger."""
        rng = self._rng
        self.events = rng.randint(1, 4)
        self.chunks, start = [], 0
        for number in range(rng.randint(1, 2)):
            stop = start + rng.randint(1, 16)
            self.chunks.append(Chunk(number, Lfn(f"{number}.root"), start, stop))
            start = stop
        rules = BookRules(self.events, failures_max=10**6, losses_max=10**6)
        await self._surely(lambda ledger: ledger.open_book(self._book, rules, self.chunks))

    async def _surely(self, call: Callable[[Ledger], Awaitable[T]]) -> T:
        """Ask until there is an answer."""
        while True:
            try:
                return await call(self._ledger())
            except NO_ANSWER:
                self.history.counts["unanswered"] += 1
                await self._pause()

    async def _perhaps(self, call: Callable[[Ledger], Awaitable[T]]) -> T | None:
        """Ask, and sometimes again, of any head; the answer may never come."""
        while True:
            try:
                return await call(self._ledger())
            except NO_ANSWER:
                self.history.counts["unanswered"] += 1
                if self._rng.random() < 0.3:
                    return None
                await self._pause()

    async def work(self, name: str) -> None:
        """Be one worker after the other."""
        number = 0
        while not self.finished:
            number += 1
            lease, worker = LeaseId(f"{self._book}-{name}-{number}"), WorkerId(name)
            units, duration = self._rng.randint(1, 5), timedelta(seconds=DURATION_S)
            # Some workers are near some of the files.
            near = {self._book: [self._rng.choice(self.chunks).number]}
            within = self._rng.choice([None, None, near])
            claim = partial(self._claim, lease, worker, units, duration, within)
            held = await self._perhaps(claim)
            if held:
                self.history.leased(lease, held)
                await self._work_on(lease, worker, held)
            elif held == []:
                progress = await self._surely(lambda ledger: ledger.progress(self._book))
                self.finished = progress.complete
            await self._pause()

    async def _claim(
        self,
        lease: LeaseId,
        worker: WorkerId,
        units: int,
        duration: timedelta,
        within: Within | None,
        ledger: Ledger,
    ) -> list[LeasedInterval]:
        return await ledger.claim_ranges(lease, worker, units, duration, [self._book], within)

    async def _work_on(
        self, lease: LeaseId, worker: WorkerId, held: Sequence[LeasedInterval]
    ) -> None:
        rng = self._rng
        fate = rng.choice(["quick", "quick", "quick", "slow", "lost", "gives back", "renews"])
        self.history.counts[fate] += 1
        if fate == "lost":
            return
        if fate in ("slow", "renews"):
            for _ in range(rng.randint(1, 12)):
                await self._pause()
        words = [word for row in held for word in self._words(row)]
        rng.shuffle(words)
        if fate == "renews":
            duration = timedelta(seconds=DURATION_S)
            units = [
                RunningUnit(self._book, word.chunk, word.entry_start, word.entry_stop, 0.25)
                for word in words[:2]
            ]
            await self._perhaps(lambda ledger: ledger.renew_lease(lease, worker, duration, units))
        if fate == "gives back":
            words = words[: len(words) // 2]
        while words:
            count = rng.randint(1, len(words))
            await self._report(words[:count])
            del words[:count]
        if fate == "gives back":
            await self._perhaps(lambda ledger: ledger.release_lease(lease, worker))

    def _words(self, row: LeasedInterval) -> list[RangeReport]:
        """Return a word on each unit of an interval; some have failed."""
        (chunk,) = [chunk for chunk in self.chunks if chunk.number == row.chunk]
        grid = chunk.entry_start
        words = []
        for start, stop in units_of((row.entry_start, row.entry_stop), grid, self.events):
            outcome: Success | Failure = Success((), 0.5, 0.25, 7)
            if self._rng.random() < 0.15:
                outcome = Failure(self._rng.choice(["payload", "node"]), "exit 1", "", 0.5, 0.25)
            place = row.book, row.chunk, start, stop
            words.append(RangeReport(row.lease, row.worker, *place, row.attempt, outcome))
        return words

    async def _report(self, words: list[RangeReport]) -> None:
        """Report, sometimes twice, sometimes much later once more."""
        for word in words:
            self.history.speak(word)
        for _ in range(self._rng.choice([1, 1, 1, 2])):
            answers = await self._perhaps(lambda ledger: ledger.report_ranges(words))
            for word, answer in zip(words, answers or (), strict=answers is not None):
                self.history.reported(word, answer)

    async def sweep(self) -> None:
        """Let time go by, and take back what has expired; sometimes forget a worker."""
        while not self.finished:
            for _ in range(self._rng.randint(1, 8)):
                await self._pause()
            self._clock.advance(self._rng.uniform(0, DURATION_S / 2))
            sweeps = [self._perhaps(self._expire) for _ in range(self._rng.randint(1, 2))]
            await asyncio.gather(*sweeps)
            if self._rng.random() < 0.1:
                await self._perhaps(partial(forget, WorkerId(f"w{self._rng.randint(0, 5)}")))

    async def run(self, workers: int) -> None:
        """Work until the book is done, then see that all is as it must be."""
        await self.open()
        async with asyncio.TaskGroup() as group:
            for number in range(workers):
                group.create_task(self.work(f"w{number}"))
            group.create_task(self.sweep())
        await self.check()

    async def check(self) -> None:
        """See that every event counts once, with the attempt that was issued last."""
        commits = await self._surely(lambda ledger: ledger.commits(self._book))
        failed = await self._surely(lambda ledger: ledger.failed_attempts(self._book))
        progress = await self._surely(lambda ledger: ledger.progress(self._book))
        left = [
            row
            for row in await self._surely(lambda ledger: ledger.leases())
            if row.book == self._book
        ]
        if left:
            raise ViolationError(f"all is done, and there are leases: {left}")
        self._check_commits(
            [(c.chunk, e, c.attempt) for c in commits for e in range(c.entry_start, c.entry_stop)]
        )
        self._check_attempts(
            {(c.chunk, e): c.attempt for c in commits for e in range(c.entry_start, c.entry_stop)},
            [(f.chunk, e, f.attempt) for f in failed for e in range(f.entry_start, f.entry_stop)],
        )
        begun = sum(f.running for f in failed)
        expected = {
            "finished": sum(c.entry_stop - c.entry_start for c in commits),
            "ranges_finished": len(commits),
            "sent": 0,
            "running": 0,
            "fatal": 0,
            "attempts": len(commits) + begun,
            "failed_attempts": begun,
            "cpu_s": sum(c.success.cpu_s for c in commits),
            "wall_s": sum(c.success.wall_s for c in commits),
            "bytes_in": sum(c.success.bytes_in for c in commits),
            "lost_cpu_s": sum(f.failure.cpu_s for f in failed),
        }
        found = {name: getattr(progress, name) for name in expected}
        if found != expected:
            raise ViolationError(f"sums are {found}, the rows' are {expected}")

    def _check_commits(self, commits: list[tuple[int, int, int]]) -> None:
        done = sorted((chunk, entry) for chunk, entry, _ in commits)
        wanted = [(c.number, e) for c in self.chunks for e in range(c.entry_start, c.entry_stop)]
        if done != wanted:
            raise ViolationError(f"done is {done}, not exactly {wanted}")
        for chunk, entry, attempt in commits:
            place = chunk, entry
            last = self.history.last_issued[place]
            # A claim whose answer was lost may have been issued unheard.
            if attempt < last or self.history.accepted.get(place, attempt) != attempt:
                raise ViolationError(f"{place}: attempt {attempt} counts, {last} was issued last")
        missing = self.history.accepted.keys() - {commit[:2] for commit in commits}
        if missing:
            raise ViolationError(f"accepted and not there: {missing}")

    def _check_attempts(
        self, accepted: dict[tuple[int, int], int], failed: list[tuple[int, int, int]]
    ) -> None:
        """See that each earlier attempt ended once."""
        ended = defaultdict(list)
        for chunk, entry, attempt in failed:
            ended[chunk, entry].append(attempt)
        for place, attempt in accepted.items():
            if sorted(ended[place]) != list(range(1, attempt)):
                raise ViolationError(f"{place}: attempt {attempt} counts after {ended[place]}")


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _leaves(one)
    else:
        yield error


# --- a trial --------------------------------------------------------------------------


async def play(
    seed: int,
    book: int,
    heads: Sequence[Head],
    clock: ManualClock,
    faults: Sequence[tuple[Callable[[Any], None], str]],
    expire: Callable[[Ledger], Awaitable[object]] = lambda ledger: ledger.expire_leases(),
) -> Counter[str]:
    """Play a trial; return how often what happened in it.

    Parameters
    ----------
    faults : sequence of (what happens, at which call)

    Raises
    ------
    ViolationError
    """
    rng = random.Random(seed)
    here = heads[: rng.randint(1, len(heads))]
    workers = Workers(
        rng, book, clock, lambda: rng.choice(here).ledger, partial(asyncio.sleep, 0), expire
    )
    rate = rng.choice([0.0, 0.1, 0.2])
    running = asyncio.ensure_future(workers.run(rng.randint(1, 5)))
    turns = 0
    while not running.done():
        for _ in range(rng.randint(1, 4)):
            await asyncio.sleep(0)
        waiting = [head for head in here if head.owner.waits]
        if not waiting:
            continue
        turns += 1
        if turns > TURNS_MAX:
            running.cancel()
            raise ViolationError(f"no end after {turns} turns")
        head = rng.choice(waiting)
        if rng.random() < rate:
            happen, at = rng.choice(faults)
            workers.history.counts[f"{happen.__name__} {at}".strip()] += 1
            Fault(head.engine, happen, at, rng.randint(0, 12))
        head.step()
    try:
        await running
    except* Exception as group:  # noqa: BLE001 - all that goes wrong
        # What the database itself refuses is as bad as what is found afterwards.
        first = next(_leaves(group))
        raise ViolationError(f"{type(first).__name__}: {first}") from first
    return workers.history.counts
