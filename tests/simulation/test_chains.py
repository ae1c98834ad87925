"""Chains under faults, crashes and people's changes of mind: each event once in every task."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from evstream.domain.states import TaskState
from evstream.domain.streams import Merge
from evstream.testing.simulator import Scenario, sample_files, simulate

RULES: list[Merge | bool] = [False, True, Merge("events", 60), Merge("file")]


@pytest.fixture(scope="module")
def files() -> Iterator[dict[str, bytes]]:
    logging.disable(logging.CRITICAL)
    yield sample_files(entries=100)
    logging.disable(logging.NOTSET)


def chain(rule: Merge | bool, interventions: int = 0) -> Scenario:
    """Return a scenario of three tasks, one behind the other."""
    return Scenario(
        chained=2,
        merge=rule,
        # The shortest and the longest chain of hands that an output in a bundle goes through.
        bundle_bytes=4096 if rule in (False, Merge("file")) else 0,
        merge_inputs_max=3,
        poisoned=0.02,
        crashes=4,
        interventions=interventions,
    )


@pytest.mark.parametrize(
    "rule",
    [*RULES[:2], *(pytest.param(rule, marks=pytest.mark.slow) for rule in RULES[2:])],
    ids=str,
)
def test_a_chain_keeps_every_rule(rule: Merge | bool, files: dict[str, bytes]) -> None:
    outcome = simulate(1 + RULES.index(rule), files, chain(rule))
    assert {outcome.state, *outcome.chained} == {TaskState.DONE}, outcome


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("seed", range(1, 4))
def test_what_is_taken_back_is_followed(
    seed: int, rule: Merge | bool, files: dict[str, bytes]
) -> None:
    outcome = simulate(seed, files, chain(rule, interventions=6))
    fallen = TaskState.FAILED, TaskState.ABORTED
    for parent, task in zip((outcome.state, *outcome.chained), outcome.chained, strict=False):
        assert parent not in fallen or task in fallen, outcome
