"""Each kind of port call fails once, early and later: no task suffers by it."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from evstream.domain.states import TaskState
from evstream.testing.faults import FaultRates
from evstream.testing.faulty_ports import PortCall, PortFaults
from evstream.testing.simulator import Scenario, sample_files, simulate

CALM = Scenario(crashes=0, poisoned=0.0, rates=FaultRates(0.0, 0.0, 0.0, 0.0))
# Each call of these, and a few of those that come again and again.
OFTEN = (1, 3)


@pytest.fixture(scope="module")
def files() -> Iterator[dict[str, bytes]]:
    """Few events: the calls are the same, and each is a simulation."""
    logging.disable(logging.CRITICAL)
    yield sample_files(entries=50)
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def counts(files: dict[str, bytes]) -> dict[str, int]:
    """Return how often a run without faults makes each call."""
    faults = PortFaults(lambda _: False, done=lambda: False)
    assert simulate(1, files, CALM, faults).state is TaskState.DONE
    return faults.counts


@pytest.mark.slow
@pytest.mark.parametrize("done", [False, True], ids=["nothing done", "done, answer lost"])
def test_a_port_call_that_fails_once_harms_nothing(
    files: dict[str, bytes], counts: dict[str, int], done: bool
) -> None:
    assert len(counts) > 15, counts
    calls = [
        PortCall(name, number)
        for name, count in counts.items()
        for number in sorted({*OFTEN, count})
        if number <= count
    ]
    for call in calls:
        met: list[PortCall] = []

        def fails(this: PortCall, call: PortCall = call, met: list[PortCall] = met) -> bool:
            met.extend([this] * (this == call))
            return this == call

        outcome = simulate(1, files, CALM, PortFaults(fails, done=lambda: done))
        assert met, f"{call} was never made"
        assert outcome.state is TaskState.DONE, (call, outcome)
        assert outcome.committed == outcome.events, (call, outcome)
