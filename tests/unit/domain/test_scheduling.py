"""Scheduling: priorities, shares of queues, and what is left near the end."""

from __future__ import annotations

import pytest

from evstream.domain.errors import ConfigError, EvstreamError
from evstream.domain.ledger import Progress
from evstream.domain.names import TaskId
from evstream.domain.scheduling import (
    Candidate,
    Scheduling,
    fair_units,
    in_turn,
    parse_shares,
)


def candidate(
    task: int, queue: str = "default", priority: int = 0, leased: int = 0, cost: float | None = None
) -> Candidate:
    done = 0 if cost is None else 100
    progress = Progress(entries=10_000, sent=leased, finished=done, cpu_s=done * (cost or 0.0))
    return Candidate(TaskId(task), Scheduling(queue, priority), progress)


def test_higher_priorities_come_first_then_older_tasks() -> None:
    tasks = [
        candidate(1),
        candidate(2, priority=5),
        candidate(3, priority=5),
        candidate(4, priority=-1),
    ]
    assert in_turn(tasks, {}) == [2, 3, 1, 4]


def test_a_queue_below_its_share_comes_first_whatever_priorities() -> None:
    tasks = [
        candidate(1, "production", leased=600, priority=9),
        candidate(2, "analysis", leased=100),
    ]
    assert in_turn(tasks, {"production": 3, "analysis": 1}) == [2, 1]
    assert in_turn(tasks, {"production": 7, "analysis": 1}) == [1, 2]


def test_what_counts_is_work_not_events() -> None:
    # 10 leased events of 60 s are more work than 1000 of 0.1 s.
    tasks = [
        candidate(1, "long", leased=10, cost=60.0),
        candidate(2, "short", leased=1000, cost=0.1),
    ]
    assert in_turn(tasks, {}) == [2, 1]


def test_an_event_of_unknown_cost_counts_as_others_do() -> None:
    tasks = [candidate(1, "known", leased=10, cost=5.0), candidate(2, "new", leased=11)]
    assert in_turn(tasks, {}) == [1, 2]


def test_all_tasks_of_a_queue_share_its_part() -> None:
    tasks = [candidate(1, "a", leased=60), candidate(2, "a"), candidate(3, "b", leased=59)]
    assert in_turn(tasks, {}) == [3, 1, 2]


@pytest.mark.parametrize(
    ("wanted", "ready", "by_all", "given"),
    [
        (4, 100, 40, 4),
        (4, 40, 40, 4),
        (4, 20, 40, 2),
        (4, 3, 40, 1),
        (4, 0, 40, 1),
        (1, 0, 40, 1),
        (4, 3, 4, 3),
    ],
)
def test_near_the_end_each_gets_a_part(wanted: int, ready: int, by_all: int, given: int) -> None:
    assert fair_units(wanted, ready, by_all) == given


def test_shares_are_read() -> None:
    assert parse_shares("") == {}
    assert parse_shares(" production=3, analysis=0.5 ") == {"production": 3.0, "analysis": 0.5}


@pytest.mark.parametrize(
    "text", ["production", "a=0", "a=-1", "a=x", "=3", "a b=1", "a=nan", "a=inf"]
)
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="queue_shares"):
        parse_shares(text)


@pytest.mark.parametrize(
    "scheduling",
    [Scheduling(""), Scheduling("a b"), Scheduling("x" * 65), Scheduling(priority=1_000_001)],
)
def test_what_cannot_be_scheduled_is_refused(scheduling: Scheduling) -> None:
    with pytest.raises(EvstreamError):
        scheduling.check()
