"""The ledger under any history: model, memory and SQLite give the same answers.

Hypothesis writes the histories: claims, renewals, successes, failures, lost workers,
expired leases, late and repeated messages, cancelled tasks, restarts. After each step
every answer is compared, and the invariants of the ledger are checked on what the
adapters say of themselves.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
)
from msgspec import structs

from evstream.adapters.catalogue.memory import MemoryLedger
from evstream.adapters.catalogue.sqlite import SqliteDatabase
from evstream.domain.errors import ConflictError, EvstreamError
from evstream.domain.ledger import (
    BookRules,
    Failure,
    LeasedInterval,
    RangeReport,
    RunningUnit,
    Success,
    Within,
)
from evstream.domain.ledger_model import LedgerModel
from evstream.domain.names import LeaseId, Lfn, WorkerId
from evstream.domain.outputs import OutputRecord
from evstream.domain.splitting import Chunk, units_of
from evstream.domain.states import Answer
from evstream.ports.ledger import Ledger
from evstream.testing.manual_clock import ManualClock

BOOKS = (2, 3, 4)
NO_BOOK = 9
LEASE_S = 10
WORKERS = st.sampled_from([WorkerId("anne"), WorkerId("bob"), WorkerId("cleo")])
LEASES = st.integers(0, 11).map(lambda number: LeaseId(f"lease-{number}"))
# Multiples of a power of two: sums are exact in whatever order they are made.
SECONDS = st.sampled_from([0.0, 0.25, 1.5])
OUTPUT = OutputRecord("output", "tasks/1/output/é.root", 9, "0" * 64, "0" * 8, {"Events": 3})
SUCCESSES = st.builds(Success, st.sampled_from([(), (OUTPUT,)]), SECONDS, SECONDS, st.just(7))
FAILURES = st.builds(
    Failure,
    st.sampled_from(["payload", "input", "source", "output", "internal", "node", "lost"]),
    st.sampled_from(["exit 1", "disk full", ""]),
    st.sampled_from(["", "log"]),
    SECONDS,
    SECONDS,
)
LIVE = st.none() | st.integers(0, 20)
SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=3)
RULES = st.builds(
    BookRules, st.integers(1, 12), st.integers(1, 3), st.integers(1, 6), st.integers(0, 9)
)
WITHIN = st.none() | st.dictionaries(
    st.sampled_from([*BOOKS, NO_BOOK]), st.none() | st.lists(st.integers(0, 4), max_size=3)
)


class LedgerMachine(RuleBasedStateMachine):
    """Drives the model and the adapters alike."""

    held: Bundle[LeasedInterval] = Bundle("held")
    told: Bundle[RangeReport] = Bundle("told")

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp(prefix="evstream-ledger-"))
        self.oracle = LedgerModel()
        self.memory = MemoryLedger(self.clock)
        self.database = self.open_database()
        self.issued: set[tuple[int, int, int, int]] = set()
        self.dropped: set[tuple[int, int]] = set()
        self.last_attempt: Counter[tuple[int, int, int]] = Counter()

    def open_database(self) -> SqliteDatabase:
        return SqliteDatabase(self.folder, self.clock, inline=True)

    def teardown(self) -> None:
        self.runner.run(self.database.close())
        self.runner.close()
        shutil.rmtree(self.folder)

    def ask(self, expected: Callable[[], Any], call: Callable[[Ledger], Awaitable[Any]]) -> Any:
        """Put one question to all; they must agree with the model."""
        answer = _outcome(expected)
        for name, ledger in (("memory", self.memory), ("SQLite", self.database.ledger)):
            given = _outcome(lambda ledger=ledger: self.runner.run(_await(call(ledger))))
            assert given == answer, f"{name} says {given}, the model {answer}"
        return answer

    # What happens

    @initialize(sizes=st.lists(SIZES, min_size=3, max_size=3), rules=st.tuples(RULES, RULES, RULES))
    def open_books(self, sizes: list[list[int]], rules: tuple[BookRules, ...]) -> None:
        for book, entries, rule_set in zip(BOOKS, sizes, rules, strict=True):
            self.open_book(book, entries, rule_set)

    def open_book(self, book: int, sizes: list[int], rules: BookRules) -> None:
        chunks = [
            Chunk(number, Lfn(f"file-{number}"), 100 * number, 100 * number + size)
            for number, size in enumerate(sizes)
        ]
        # In any order: their numbers count.
        chunks.reverse()
        self.ask(
            lambda: self.oracle.open_book(book, rules, chunks),
            lambda ledger: ledger.open_book(book, rules, chunks),
        )

    @rule(
        book=st.sampled_from([*BOOKS, NO_BOOK]),
        sizes=st.lists(st.tuples(st.integers(0, 4), st.integers(1, 40)), max_size=2),
        bisections=st.integers(0, 2),
    )
    def add_chunks(self, book: int, sizes: list[tuple[int, int]], bisections: int) -> None:
        chunks = [
            Chunk(number, Lfn(f"more-{number}"), 100 * number, 100 * number + size)
            for number, size in sizes
            if (book, number) not in self.dropped
        ]
        self.ask(
            lambda: self.oracle.add_chunks(book, chunks, bisections),
            lambda ledger: ledger.add_chunks(book, chunks, bisections),
        )

    @rule(book=st.sampled_from([*BOOKS, NO_BOOK]), numbers=st.lists(st.integers(0, 4), max_size=2))
    def drop_chunks(self, book: int, numbers: list[int]) -> None:
        self.dropped |= {(book, number) for number in numbers}
        self.ask(
            lambda: self.oracle.drop_chunks(book, numbers, "taken back"),
            lambda ledger: ledger.drop_chunks(book, numbers, "taken back"),
        )

    @rule(
        target=held,
        lease=LEASES,
        worker=WORKERS,
        units=st.integers(0, 9),
        books=st.lists(st.sampled_from([*BOOKS, NO_BOOK]), max_size=4),
        within=WITHIN,
    )
    def claim(
        self,
        lease: LeaseId,
        worker: WorkerId,
        units: int,
        books: list[int],
        within: Within | None,
    ) -> Any:
        duration = timedelta(seconds=LEASE_S)
        known = self.oracle.held(lease)
        answer = self.ask(
            lambda: self.oracle.claim(
                lease, worker, units, duration, self.clock.now(), books, within
            ),
            lambda ledger: ledger.claim_ranges(lease, worker, units, duration, books, within),
        )
        if isinstance(answer, tuple):
            assert answer[0] is ConflictError
            return multiple()
        if not known:
            self.note_issued(answer)
            assert within is None or all(_is_within(row, within) for row in answer)
        return multiple(*answer)

    def choose(self, row: LeasedInterval, live: int | None) -> LeasedInterval:
        """Return one of the intervals that are leased now, or one that was given once."""
        leases = self.oracle.leases()
        return row if live is None or not leases else leases[live % len(leases)]

    def note_issued(self, rows: list[LeasedInterval]) -> None:
        """No (event, attempt) is leased twice, and attempts of an event only go up."""
        for row in rows:
            for entry in range(row.entry_start, row.entry_stop):
                event = (row.book, row.chunk, entry)
                assert (*event, row.attempt) not in self.issued
                assert row.attempt > self.last_attempt[event]
                self.issued.add((*event, row.attempt))
                self.last_attempt[event] = row.attempt

    @rule(
        row=held,
        live=LIVE,
        worker=st.none() | WORKERS,
        cut=st.randoms(use_true_random=False),
        cpu=SECONDS,
    )
    def renew(
        self, row: LeasedInterval, live: int | None, worker: WorkerId | None, cut: Any, cpu: float
    ) -> None:
        row = self.choose(row, live)
        begun = [
            RunningUnit(row.book, row.chunk, start, stop, cpu)
            for start, stop in _pieces(row, cut)
            if cut.random() < 0.7
        ]
        who = worker or row.worker
        duration = timedelta(seconds=LEASE_S)
        self.ask(
            lambda: self.oracle.renew(row.lease, who, duration, self.clock.now(), begun),
            lambda ledger: ledger.renew_lease(row.lease, who, duration, begun),
        )

    @rule(
        target=told,
        row=held,
        live=LIVE,
        outcome=SUCCESSES | FAILURES,
        cut=st.randoms(use_true_random=False),
        whole=st.booleans(),
    )
    def report(
        self,
        row: LeasedInterval,
        live: int | None,
        outcome: Success | Failure,
        cut: Any,
        whole: bool,
    ) -> Any:
        """Report on units of an interval that is, or once was, leased."""
        row = self.choose(row, live)
        pieces = [(row.entry_start, row.entry_stop)] if whole else _pieces(row, cut)
        words = [
            structs.replace(_word(row, outcome), entry_start=start, entry_stop=stop)
            for start, stop in pieces
        ]
        self.send(words)
        return multiple(*words)

    @rule(word=told)
    def repeat(self, word: RangeReport) -> None:
        """Send a message again, now or much later."""
        self.send([word, word])

    @rule(
        row=held,
        live=LIVE,
        outcome=SUCCESSES | FAILURES,
        changed=st.sampled_from(
            [
                {"worker": WorkerId("nobody")},
                {"lease": LeaseId("none")},
                {"attempt": 1},
                {"attempt": 7},
                {"book": NO_BOOK},
                {"chunk": NO_BOOK},
                {"entry_start": 0},
                {"entry_stop": 1000},
                {"entry_stop": 0},
            ]
        ),
    )
    def mangle(
        self,
        row: LeasedInterval,
        live: int | None,
        outcome: Success | Failure,
        changed: dict[str, Any],
    ) -> None:
        """Send what nobody in his right mind would."""
        self.send([structs.replace(_word(self.choose(row, live), outcome), **changed)])

    def send(self, words: list[RangeReport]) -> None:
        attempts = [self.attempt_held(word) for word in words]
        answers = self.ask(
            lambda: [self.oracle.report(word) for word in words],
            lambda ledger: ledger.report_ranges(words),
        )
        for word, answer, before in zip(words, answers, attempts, strict=True):
            if answer is Answer.ACCEPTED and before is not None:
                assert word.attempt == before

    def attempt_held(self, word: RangeReport) -> int | None:
        """Return the last attempt issued of an event, which alone may be accepted."""
        return self.last_attempt.get((word.book, word.chunk, word.entry_start))

    @rule(lease=LEASES, worker=WORKERS)
    def release(self, lease: LeaseId, worker: WorkerId) -> None:
        self.ask(
            lambda: self.oracle.release(lease, worker),
            lambda ledger: ledger.release_lease(lease, worker),
        )

    @rule(held=held, skipped=st.integers(0, 3), entries=st.integers(1, 9), twice=st.booleans())
    def release_a_part(
        self, held: LeasedInterval, skipped: int, entries: int, *, twice: bool
    ) -> None:
        start = held.entry_start + skipped
        places = [(held.book, held.chunk, start, start + entries)] * (1 + twice)
        self.ask(
            lambda: self.oracle.release(held.lease, held.worker, places),
            lambda ledger: ledger.release_lease(held.lease, held.worker, places),
        )

    @rule(seconds=st.sampled_from([0, 1, LEASE_S // 2, LEASE_S]))
    def expire(self, seconds: int) -> None:
        self.clock.advance(seconds)
        self.ask(
            lambda: self.oracle.expire(self.clock.now()), lambda ledger: ledger.expire_leases()
        )

    @rule(worker=WORKERS)
    def forget_worker(self, worker: WorkerId) -> None:
        self.ask(
            lambda: self.oracle.forget_worker(worker), lambda ledger: ledger.forget_worker(worker)
        )

    @rule(book=st.sampled_from([*BOOKS, NO_BOOK]), really=st.integers(0, 5))
    def cancel(self, book: int, really: int) -> None:
        if not really:
            self.ask(lambda: self.oracle.cancel_book(book), lambda ledger: ledger.cancel_book(book))

    @rule(
        book=st.sampled_from([*BOOKS, NO_BOOK]),
        which=st.integers(0, 3),
        cut=st.tuples(st.integers(-3, 45), st.integers(-3, 45)),
        what=st.sampled_from(["redo", "discard"]),
        whole=st.booleans(),
    )
    def take_back(
        self, book: int, which: int, cut: tuple[int, int], what: str, whole: bool
    ) -> None:
        """Send intervals out again or withdraw them: of chunks, or wherever."""
        start, stop = (0, 100) if whole else sorted(cut)
        places = [(which, 100 * which + start, 100 * which + stop)]
        if whole and which == 3:
            places = [(chunk, 100 * chunk, 100 * chunk + 100) for chunk in range(5)]
        self.ask(
            lambda: getattr(self.oracle, what)(book, places, what),
            lambda ledger: getattr(ledger, what)(book, places, what),
        )

    @rule()
    def restart(self) -> None:
        self.runner.run(self.database.close())
        self.database = self.open_database()

    @rule()
    def resume(self) -> None:
        self.ask(
            lambda: self.oracle.resume(self.clock.now()), lambda ledger: ledger.resume_leases()
        )

    # What always holds

    @invariant()
    def all_say_the_same(self) -> None:
        self.ask(self.oracle.leases, lambda ledger: ledger.leases())
        for book in (*BOOKS, NO_BOOK):
            for place in ((0, 9), (1, 2)):
                self.ask(
                    lambda book=book, place=place: self.oracle.ready_chunks(book, *place),
                    lambda ledger, book=book, place=place: ledger.ready_chunks(book, *place),
                )
            for question in ("progress", "chunks", "commits", "closed", "failed_attempts"):
                self.ask_about(book, question)

    def ask_about(self, book: int, question: str) -> None:
        self.ask(
            lambda: getattr(self.oracle, question)(book),
            lambda ledger: getattr(ledger, question)(book),
        )

    @invariant()
    def every_entry_is_in_one_place(self) -> None:
        """Check done, leased, free, closed and fresh against the chunks, in the file."""
        for book, chunk, start, stop, fresh in self.rows(
            "SELECT book, chunk, entry_start, entry_stop, high_water FROM chunk"
        ):
            pieces = [(fresh, stop)] if fresh < stop else []
            for table in ("done", "lease", "free", "closed"):
                pieces += self.rows(
                    f"SELECT entry_start, entry_stop FROM {table}"
                    f" WHERE book = {book} AND chunk = {chunk}"
                )
            pieces.sort()
            assert [start, *(b for _, b in pieces)] == [*(a for a, _ in pieces), stop]

    @invariant()
    def counters_are_sums(self) -> None:
        """Check the sums that the triggers keep against the rows they stand for."""
        for book, sent, running, finished in self.rows(
            "SELECT book, sent, running, finished FROM book"
        ):
            for state, column in ((4, "cancelled"), (5, "withdrawn"), (8, "fatal")):
                assert self.rows(f"SELECT {column} FROM book WHERE book = {book}") == self.rows(
                    "SELECT coalesce(sum(entry_stop - entry_start), 0)"
                    f" FROM closed WHERE book = {book} AND state = {state}"
                )
            sums = self.rows(
                "SELECT coalesce(sum(iif(running, 0, entry_stop - entry_start)), 0),"
                " coalesce(sum(iif(running, entry_stop - entry_start, 0)), 0)"
                f" FROM lease WHERE book = {book}"
            ) + self.rows(
                "SELECT coalesce(sum(entry_stop - entry_start), 0), 0"
                f" FROM done WHERE book = {book}"
            )
            assert sums == [(sent, running), (finished, 0)]

    def rows(self, statement: str) -> list[Any]:
        connection = self.database._owner._engine._connection  # type: ignore[attr-defined]
        return connection.execute(statement).fetchall()  # type: ignore[no-any-return]

    @invariant()
    def what_was_accepted_is_the_last_attempt(self) -> None:
        for book in BOOKS:
            accepted = Counter(
                (commit.chunk, entry)
                for commit in self.oracle.commits(book)
                for entry in range(commit.entry_start, commit.entry_stop)
            )
            assert set(accepted.values()) <= {1}
            for commit in self.oracle.commits(book):
                for entry in range(commit.entry_start, commit.entry_stop):
                    assert commit.attempt == self.last_attempt[book, commit.chunk, entry]


def _word(row: LeasedInterval, outcome: Success | Failure) -> RangeReport:
    place = (row.book, row.chunk, row.entry_start, row.entry_stop)
    return RangeReport(row.lease, row.worker, *place, row.attempt, outcome)


def _is_within(row: LeasedInterval, within: Within) -> bool:
    chunks = within.get(row.book, ())
    return chunks is None or row.chunk in chunks


async def _await(answer: Awaitable[Any]) -> Any:
    return await answer


def _outcome(call: Callable[[], Any]) -> Any:
    """Return what a call returns, or the kind and text of its error."""
    try:
        return call()
    except EvstreamError as error:
        return type(error), str(error)


def _pieces(row: LeasedInterval, cut: Any) -> list[tuple[int, int]]:
    """Cut an interval: into units mostly, sometimes where no unit ends."""
    if cut.random() < 0.7:
        step = cut.randint(1, 12)
        return list(units_of((row.entry_start, row.entry_stop), 100 * row.chunk, step))
    inside = range(row.entry_start + 1, row.entry_stop)
    ends = sorted(cut.sample(inside, min(len(inside), cut.randint(0, 3))))
    return list(pairwise([row.entry_start, *ends, row.entry_stop]))


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(
    stateful_step_count=50,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
