"""The whole service under a virtual clock with faults: ten seeds, and broken ledgers."""

from __future__ import annotations

import logging
import os
import random
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from evstream.adapters.catalogue import sql_ledger, transitions
from evstream.adapters.catalogue.desk import Desk
from evstream.domain.errors import EvstreamError
from evstream.domain.ledger import RangeReport, Success
from evstream.domain.states import Answer, TaskState
from evstream.domain.task import Limits
from evstream.testing.faults import FaultRates
from evstream.testing.simulator import Scenario, sample_files, simulate

SEEDS = range(1, 1 + int(os.environ.get("EVSTREAM_SIM_SEEDS", "10")))


@pytest.fixture(scope="module")
def files() -> Iterator[dict[str, bytes]]:
    logging.disable(logging.CRITICAL)
    yield sample_files()
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_seed_keeps_every_rule(seed: int, files: dict[str, bytes]) -> None:
    outcome = simulate(seed, files)
    assert outcome.state in (TaskState.DONE, TaskState.FINISHED), outcome
    assert outcome.committed + outcome.set_aside == outcome.events, outcome
    assert outcome.looks >= outcome.delivered // 2, "the rules are looked at after each step"


@pytest.mark.parametrize("seed", [3, 4])
def test_outputs_in_bundles_keep_every_rule(seed: int, files: dict[str, bytes]) -> None:
    outcome = simulate(seed, files, Scenario(bundle_bytes=4096, merge=seed % 2 == 0))
    assert outcome.state in (TaskState.DONE, TaskState.FINISHED), outcome
    assert outcome.committed + outcome.set_aside == outcome.events, outcome


def test_a_seed_replays(files: dict[str, bytes]) -> None:
    assert simulate(4, files) == simulate(4, files)


def test_without_faults_each_range_runs_once(files: dict[str, bytes]) -> None:
    calm = Scenario(crashes=0, poisoned=0.0, port_faults=0.0)
    calm = replace(calm, rates=replace(calm.rates, lost_request=0, lost_answer=0, delayed=0))
    outcome = simulate(1, files, calm)
    assert (outcome.state, outcome.attempts) == (TaskState.DONE, 32), outcome


def test_poison_is_set_aside_and_the_rest_done(files: dict[str, bytes]) -> None:
    outcome = simulate(1, files, Scenario(poisoned=0.6, crashes=2, limits=Limits(bisections_max=9)))
    assert outcome.state is TaskState.FINISHED, outcome
    assert outcome.set_aside > 0, outcome


@pytest.mark.parametrize("seed", [1, 2])
def test_of_poisoned_events_none_takes_another_with_it(seed: int, files: dict[str, bytes]) -> None:
    rng = random.Random(seed)
    poison = frozenset((rng.randrange(2), rng.randrange(400)) for _ in range(4))
    outcome = simulate(seed, files, Scenario(poisoned=0.0, poison=poison))
    assert outcome.state is TaskState.FINISHED, outcome
    assert outcome.aside == {(f"sample-{chunk}.root", entry) for chunk, entry in poison}, outcome


@pytest.mark.parametrize("seed", [1, 2])
def test_files_of_several_ranges_keep_every_rule(seed: int, files: dict[str, bytes]) -> None:
    # Closed early by chance, beside all else that happens.
    poison = frozenset({(0, 111)})
    growing = Scenario(ranges_per_file=4, poisoned=0.02, poison=poison, interventions=2)
    outcome = simulate(seed, files, growing)
    assert outcome.state.final, outcome
    assert outcome.committed + outcome.set_aside + outcome.cancelled + outcome.withdrawn == (
        outcome.events
    ), outcome


@pytest.mark.parametrize("seed", range(1, 5))
def test_pilots_that_prefer_what_an_edge_holds_keep_every_rule(
    seed: int, files: dict[str, bytes]
) -> None:
    outcome = simulate(seed, files, Scenario(near=True))
    assert outcome.state in (TaskState.DONE, TaskState.FINISHED), outcome
    assert outcome.committed + outcome.set_aside == outcome.events, outcome


def test_an_event_that_kills_its_workers_is_found(files: dict[str, bytes]) -> None:
    lethal = Scenario(poisoned=0.0, crashes=2, killers=frozenset({(1, 77)}), limits=Limits(3, 4))
    outcome = simulate(3, files, lethal)
    assert outcome.state is TaskState.FINISHED, outcome
    assert outcome.aside == {("sample-1.root", 77)}, outcome


def test_a_payload_that_always_fails_is_given_up(files: dict[str, bytes]) -> None:
    hopeless = Scenario(poisoned=1.0, crashes=2, limits=Limits(give_up_after=40))
    outcome = simulate(1, files, hopeless)
    assert (outcome.state, outcome.committed) == (TaskState.FAILED, 0), outcome
    assert outcome.attempts < 80, outcome


@pytest.mark.slow
def test_a_task_with_too_much_set_aside_stops(files: dict[str, bytes]) -> None:
    poison = frozenset((chunk, entry) for chunk in (0, 1) for entry in range(0, 400, 25))
    outcome = simulate(
        1, files, Scenario(poisoned=0, poison=poison, limits=Limits(set_aside_max=0.01))
    )
    assert outcome.state is TaskState.FAILED, outcome
    assert 9 <= outcome.set_aside < 32, outcome
    assert outcome.committed > 0, outcome


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 9))
def test_what_is_taken_back_is_done_once_all_the_same(seed: int, files: dict[str, bytes]) -> None:
    poison = frozenset({(seed % 2, 7 * seed)})
    meddled = Scenario(poisoned=0.02, poison=poison, interventions=6, merge=seed % 4 > 0)
    outcome = simulate(seed, files, meddled)
    assert outcome.interventions, outcome
    ended = outcome.committed + outcome.set_aside + outcome.withdrawn + outcome.cancelled
    assert ended == outcome.events, outcome
    if not outcome.committed:
        assert outcome.state in (TaskState.ABORTED, TaskState.FAILED), outcome


def _caught(files: dict[str, bytes]) -> Exception | None:
    """Return what the simulator says of a broken ledger within a few seeds."""
    # Leases much shorter than the delays, so that reports come late. With a sound ledger all
    # of these seeds end within 750 s.
    rates = FaultRates(delayed=0.3, delay_s_max=60.0)
    hasty = Scenario(crashes=8, lease_s=6.0, rates=rates, virtual_s_max=3000.0)
    for seed in range(1, 9):
        try:
            simulate(seed, files, hasty)
        except (AssertionError, sqlite3.Error, EvstreamError) as error:
            return error
    return None


@pytest.mark.slow
def test_a_sweep_that_leaves_leases_behind_is_caught(
    files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(desk: Desk) -> object:
        lost = transitions.expire(desk)
        for row in lost:
            desk.put(replace(row, expires=row.expires + timedelta(days=1)))
        return lost

    monkeypatch.setattr(sql_ledger, "expire", broken)
    assert isinstance(_caught(files), AssertionError)


@pytest.mark.slow
def test_a_fence_that_takes_late_reports_is_caught(
    files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(desk: Desk, word: RangeReport) -> Answer:
        answer = transitions.report(desk, word)
        if answer is Answer.SUPERSEDED and isinstance(word.outcome, Success):
            db = desk.database
            db.execute(
                "DELETE FROM free WHERE chunk = ? AND entry_start = ?",
                (word.chunk, word.entry_start),
            )
            columns = "book, chunk, entry_start, entry_stop, attempt, lease, worker, outputs"
            db.execute(
                f"INSERT INTO done ({columns}, cpu_s, wall_s, bytes_in)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, '[]', 0, 0, 0)",
                (
                    *(word.book, word.chunk, word.entry_start, word.entry_stop),
                    *(word.attempt, word.lease, word.worker),
                ),
            )
            return Answer.ACCEPTED
        return answer

    monkeypatch.setattr(sql_ledger, "report", broken)
    assert _caught(files) is not None
