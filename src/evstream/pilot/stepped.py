"""Payloads run with an experiment's steps before and after them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from evstream.domain.errors import ConfigError, PayloadError
from evstream.domain.ledger import NODE
from evstream.domain.payload import Payload
from evstream.pilot.steps import PilotSteps, StepUnit
from evstream.pilot.units import UnitError
from evstream.ports import Offload, PayloadCall, PayloadResult, PayloadRunner

T = TypeVar("T")

BLAMED = frozenset(("payload", "input", NODE))


class SteppedRunner:
    """Runs payloads by another runner, with steps around them.

    Parameters
    ----------
    scratch : Path
        The pilot's folder.
    """

    def __init__(
        self, runner: PayloadRunner, steps: PilotSteps, offload: Offload, scratch: Path
    ) -> None:
        self._runner = runner
        self._steps = steps
        self._offload = offload
        self._scratch = scratch
        self._staging = asyncio.Lock()
        self._staged: dict[bytes, Payload] = {}

    async def run(self, call: PayloadCall, on_cpu: Callable[[float], None]) -> PayloadResult:
        payload = await self._stage(call.payload)
        call = PayloadCall(
            payload,
            call.values,
            call.directory,
            call.log,
            call.secondary,
            call.ranges,
            call.closing,
        )
        unit = StepUnit(payload, call.values, call.directory, call.log)
        await self._step("before_unit", lambda: self._steps.before_unit(unit))
        try:
            result = await self._runner.run(call, on_cpu)
        except PayloadError as error:
            raise await self._blamed(unit, error) from error
        await self._step("after_unit", lambda: self._steps.after_unit(unit))
        return result

    def prepare(self, payload: Payload, staged: Mapping[str, str], directory: Path) -> None:
        # What it will be given is not known before it is staged.
        if (known := self._staged.get(msgspec.json.encode(payload))) is not None:
            self._runner.prepare(known, staged, directory)

    async def close(self) -> None:
        await self._runner.close()

    async def _stage(self, payload: Payload) -> Payload:
        key = msgspec.json.encode(payload)
        async with self._staging:
            if key not in self._staged:
                found = await self._step(
                    "stage_payload", lambda: self._steps.stage_payload(payload, self._scratch)
                )
                environment = {**found, **payload.environment}
                self._staged[key] = msgspec.structs.replace(payload, environment=environment)
        return self._staged[key]

    async def _blamed(self, unit: StepUnit, error: PayloadError) -> UnitError:
        reason = str(error)
        kind = await self._step("classify", lambda: self._steps.classify(unit, reason))
        if kind not in BLAMED:
            raise _broken("classify", f"it returned {kind!r}")
        cpu_s, wall_s = (float(str(error.fields.get(name, 0.0))) for name in ("cpu_s", "wall_s"))
        return UnitError(kind, reason, cpu_s=cpu_s, wall_s=wall_s, stays=kind == NODE)

    async def _step(self, name: str, work: Callable[[], T]) -> T:
        try:
            return await self._offload(work)
        except Exception as error:
            raise _broken(name, f"{type(error).__name__}: {error}") from error


def _broken(name: str, reason: str) -> ConfigError:
    return ConfigError(
        f"the pilot's step {name} failed: {reason}", hint="mend the steps, or this node"
    )
