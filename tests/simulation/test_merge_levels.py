"""Merges of every rule, in levels, under faults and crashes: each event in one file, once."""

from __future__ import annotations

import pytest

from evstream.domain.states import TaskState
from evstream.domain.streams import Merge
from evstream.testing.simulator import Scenario, sample_files, simulate

RULES = [Merge(), Merge("events", 130), Merge("file")]


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.by)
@pytest.mark.parametrize("seed", [1, 2])
def test_merges_in_levels_keep_every_rule(rule: Merge, seed: int) -> None:
    scenario = Scenario(events_per_range=20, merge=rule, merge_inputs_max=3)
    outcome = simulate(seed, sample_files(), scenario)
    assert outcome.state in (TaskState.DONE, TaskState.FINISHED)
    assert outcome.committed + outcome.set_aside == outcome.events
