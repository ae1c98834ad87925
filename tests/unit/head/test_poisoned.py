"""A worker where all fails is told apart from a payload that fails everywhere."""

from __future__ import annotations

from itertools import count

import pytest

from evstream.domain.errors import ConflictError
from evstream.domain.ledger import Failure, Success
from evstream.domain.names import TaskId, WorkerId
from evstream.head.poisoned import FAILURES_MAX, Poisoned

BAD, GOOD, OTHER = WorkerId("bad"), WorkerId("good"), WorkerId("other")
TASK = TaskId(1)
REPORTS = count()
FAILED = Failure("payload", "no such library")
DONE = Success(())


def fail(poisoned: Poisoned, times: int, worker: WorkerId = BAD) -> list[bool]:
    return [poisoned.note(next(REPORTS), worker, TASK, FAILED) for _ in range(times)]


def succeed(poisoned: Poisoned, times: int, worker: WorkerId = GOOD) -> None:
    for _ in range(times):
        assert not poisoned.note(next(REPORTS), worker, TASK, DONE)


def test_a_worker_that_only_fails_where_others_succeed_is_poisoned() -> None:
    poisoned = Poisoned()
    assert not any(fail(poisoned, FAILURES_MAX))
    succeed(poisoned, FAILURES_MAX)
    poisoned.check(BAD)
    assert fail(poisoned, 2) == [True, True]
    with pytest.raises(ConflictError, match="no such library"):
        poisoned.check(BAD)
    poisoned.check(GOOD)
    poisoned.check(OTHER)


def test_a_payload_that_fails_everywhere_poisons_nobody() -> None:
    poisoned = Poisoned()
    for worker in (BAD, GOOD, OTHER) * 100:
        assert not poisoned.note(next(REPORTS), worker, TASK, FAILED)


def test_what_others_did_before_says_nothing() -> None:
    # Near the end of a task only the ranges are left that fail everywhere.
    poisoned = Poisoned()
    succeed(poisoned, 1000)
    assert not any(fail(poisoned, 1000))


def test_a_report_that_comes_again_counts_once() -> None:
    poisoned = Poisoned()
    succeed(poisoned, 1)
    for _ in range(100):
        assert not poisoned.note("the same", BAD, TASK, FAILED)
        succeed(poisoned, 1)
    poisoned.check(BAD)


def test_one_success_is_enough() -> None:
    poisoned = Poisoned()
    succeed(poisoned, 1, BAD)
    fail(poisoned, FAILURES_MAX)
    succeed(poisoned, 100)
    assert not any(fail(poisoned, 100))


@pytest.mark.parametrize("kind", ["node", "input", "source", "lost", "internal"])
def test_other_failures_are_not_the_payloads(kind: str) -> None:
    poisoned = Poisoned()
    for _ in range(100):
        assert not poisoned.note(next(REPORTS), BAD, TASK, Failure(kind, "?"))
        succeed(poisoned, 1)


def test_tasks_that_ended_are_forgotten() -> None:
    poisoned = Poisoned()
    fail(poisoned, FAILURES_MAX)
    succeed(poisoned, 100)
    poisoned.forget_ended(set())
    assert not any(fail(poisoned, FAILURES_MAX))
