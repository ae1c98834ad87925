"""An experiment's steps are called around payloads, and their errors are the node's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evstream.domain.errors import ConfigError, PayloadError
from evstream.domain.payload import Payload
from evstream.pilot.stepped import SteppedRunner
from evstream.pilot.steps import PilotSteps, StepUnit
from evstream.pilot.units import UnitError
from evstream.ports import PayloadCall, PayloadResult

pytestmark = pytest.mark.anyio


class Runner:
    """Notes what it is given; fails if told so."""

    def __init__(self) -> None:
        self.calls: list[PayloadCall] = []
        self.prepared: list[Payload] = []
        self.fails = False

    async def run(self, call: PayloadCall, on_cpu: Callable[[float], None]) -> PayloadResult:
        self.calls.append(call)
        if self.fails:
            raise PayloadError("it broke", cpu_s=2.0, wall_s=3.0)
        return PayloadResult(1.0, 1.0)

    def prepare(self, payload: Payload, staged: Any, directory: Path) -> None:
        self.prepared.append(payload)

    async def close(self) -> None: ...


class Steps(PilotSteps):
    """Notes its calls."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.blame: Any = "payload"
        self.broken = ""

    def stage_payload(self, payload: Payload, scratch: Path) -> dict[str, str]:
        self.said.append("stage")
        return {"RELEASE": "25", "MODE": "theirs"}

    def before_unit(self, unit: StepUnit) -> None:
        self.said.append(f"before {unit.values['lfn']}")
        if self.broken:
            raise OSError(self.broken)

    def after_unit(self, unit: StepUnit) -> None:
        self.said.append("after")

    def classify(self, unit: StepUnit, reason: str) -> Any:
        self.said.append(reason)
        return self.blame


class InPlace:
    """Runs blocking work where it is called."""

    async def __call__(self, work: Callable[[], Any]) -> Any:
        return work()


PAYLOAD = Payload("run {input}", environment={"MODE": "the task's"})


def made(tmp_path: Path) -> tuple[Runner, Steps, SteppedRunner, PayloadCall]:
    """Return all that a test needs."""
    runner, steps = Runner(), Steps()
    call = PayloadCall(PAYLOAD, {"lfn": "a.root"}, tmp_path, tmp_path / "log")
    return runner, steps, SteppedRunner(runner, steps, InPlace(), tmp_path), call


async def test_steps_are_taken_in_order_and_staging_once(tmp_path: Path) -> None:
    runner, steps, stepped, call = made(tmp_path)
    stepped.prepare(PAYLOAD, {}, tmp_path)
    for _ in range(2):
        await stepped.run(call, lambda _: None)
    stepped.prepare(PAYLOAD, {}, tmp_path)
    assert steps.said == ["stage", *2 * ["before a.root", "after"]]
    expected = {"RELEASE": "25", "MODE": "the task's"}
    assert [one.payload.environment for one in runner.calls] == [expected] * 2
    # Not before it is known what it will run with.
    assert [one.environment for one in runner.prepared] == [expected]


@pytest.mark.parametrize("blame", ["payload", "input", "node"])
async def test_a_failure_is_whose_the_steps_say(tmp_path: Path, blame: str) -> None:
    runner, steps, stepped, call = made(tmp_path)
    runner.fails, steps.blame = True, blame
    with pytest.raises(UnitError, match="it broke") as caught:
        await stepped.run(call, lambda _: None)
    assert caught.value.kind == blame
    assert caught.value.stays == (blame == "node")
    assert (caught.value.cpu_s, caught.value.wall_s) == (2.0, 3.0)
    assert "after" not in steps.said


async def test_what_steps_raise_or_mistake_is_the_nodes(tmp_path: Path) -> None:
    runner, steps, stepped, call = made(tmp_path)
    steps.broken = "no CVMFS"
    with pytest.raises(ConfigError, match="step before_unit failed: OSError: no CVMFS"):
        await stepped.run(call, lambda _: None)
    assert not runner.calls
    runner.fails, steps.broken, steps.blame = True, "", "the moon"
    with pytest.raises(ConfigError, match="step classify failed: it returned 'the moon'"):
        await stepped.run(call, lambda _: None)
