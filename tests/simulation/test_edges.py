"""Edges under a virtual clock: they die, lie, are cut off, wiped and taken out by a seed."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from evstream.domain.states import TaskState
from evstream.testing.simulated_edges import EdgeScenario
from evstream.testing.simulator import Scenario, sample_files, simulate


@pytest.fixture(scope="module")
def files() -> Iterator[dict[str, bytes]]:
    logging.disable(logging.CRITICAL)
    yield sample_files(entries=100)
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize(
    "seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 8))]
)
def test_edges_in_trouble_harm_no_task_and_no_request(seed: int, files: dict[str, bytes]) -> None:
    edges = EdgeScenario(2 + seed % 2, requests=1)
    outcome = simulate(seed, files, Scenario(edges=edges, crashes=3, poisoned=0.02))
    assert outcome.state is TaskState.DONE, outcome
    assert outcome.committed == outcome.events
    assert outcome.plans > 0
    assert len(outcome.troubles) == edges.troubles


def test_an_edge_whose_store_damages_products_is_found_and_harms_nobody(
    files: dict[str, bytes],
) -> None:
    edges = EdgeScenario(2, troubles=1, damaged=True, requests=1)
    outcome = simulate(2, files, Scenario(edges=edges, crashes=0))
    assert (outcome.state, outcome.wrong) == (TaskState.DONE, 0), outcome
    assert outcome.quarantined == {"edge-1"}


@pytest.mark.parametrize(
    "seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 8))]
)
def test_an_edge_that_makes_wrong_bytes_is_found_and_no_other_is_blamed(
    seed: int, files: dict[str, bytes]
) -> None:
    edges = EdgeScenario(2 + seed % 2, troubles=0, wrong=True, requests=1, cross_check_every=1)
    outcome = simulate(seed, files, Scenario(edges=edges, crashes=seed % 3))
    assert outcome.committed == outcome.events
    # That nobody else goes into quarantine is looked at after each step.
    assert outcome.quarantined == {"edge-1"} or not outcome.wrong, outcome


@pytest.mark.parametrize(
    "seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 6))]
)
def test_an_edge_that_sends_other_bytes_than_it_told_of_is_found_by_plans(
    seed: int, files: dict[str, bytes]
) -> None:
    edges = EdgeScenario(2, troubles=0, silent=True, requests=1)
    outcome = simulate(seed, files, Scenario(edges=edges, crashes=seed % 3))
    # That nobody takes what a plan's digest contradicts is looked at in each simulation.
    assert outcome.quarantined == {"edge-1"}, outcome


@pytest.mark.slow
def test_a_seed_with_edges_is_the_same_each_time(files: dict[str, bytes]) -> None:
    scenario = Scenario(edges=EdgeScenario(2, troubles=4, requests=1), crashes=2)
    assert simulate(6, files, scenario) == simulate(6, files, scenario)
