"""A payload of a simulation: it copies events, takes its time, fails and kills."""

from __future__ import annotations

import random
import shutil
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Protocol

from evstream.adapters.formats.root import RootFormat
from evstream.domain.errors import PayloadError
from evstream.domain.payload import Payload
from evstream.ports import PayloadCall, PayloadResult
from evstream.testing.virtual_time import VirtualClock


class Trouble(Protocol):
    """What goes wrong with payloads: a part of a scenario."""

    @property
    def poisoned(self) -> float:
        """Chance that one fails, each time it is run."""
        ...

    @property
    def poison(self) -> frozenset[tuple[int, int]]:
        """Events that one always fails on."""
        ...

    @property
    def killers(self) -> frozenset[tuple[int, int]]:
        """Events that kill their worker."""
        ...


class SimulatedPayload:
    """Copies inputs to the output, slowly, and fails by chance and on poison.

    Parameters
    ----------
    die : callable
        Ends the worker, as an event does that needs more memory than there is.
    """

    def __init__(
        self,
        rng: random.Random,
        clock: VirtualClock,
        trouble: Trouble,
        die: Callable[[], Awaitable[None]],
    ) -> None:
        self._rng = rng
        self._clock = clock
        self._trouble = trouble
        self._die = die

    async def run(self, call: PayloadCall, on_cpu: Callable[[float], None]) -> PayloadResult:
        duration = 1.0 + 30.0 * self._rng.random() ** 4
        call.log.write_text("simulated\n")
        await self._clock.sleep(duration / 2)
        on_cpu(duration / 2)
        await self._clock.sleep(duration / 2)
        chunk = int(call.values["range_id"].split("-")[2])
        ranges = [each.values for each in call.ranges] or [call.values]
        ranges = ranges[: self._rng.randint(1, len(ranges))]
        held = range(int(ranges[0]["entry_start"]), int(ranges[-1]["entry_stop"]))
        if any((chunk, entry) in self._trouble.killers for entry in held):
            await self._die()
        poison = any((chunk, entry) in self._trouble.poison for entry in held)
        if poison or self._rng.random() < self._trouble.poisoned:
            raise PayloadError("simulated: exit 1", cpu_s=duration, wall_s=duration)
        inputs = [Path(values["input"]) for values in ranges]
        output = Path(call.values["output"])
        if len(inputs) == 1:
            shutil.copyfile(inputs[0], output)
        else:
            names = [path.name for path in inputs]
            RootFormat().join(
                inputs, output, identity=call.values["range_id"].encode(), names=names
            )
        return PayloadResult(duration, duration, len(ranges))

    def prepare(self, payload: Payload, staged: Mapping[str, str], directory: Path) -> None:
        """Nothing is to be begun before there is a unit."""

    async def close(self) -> None:
        """Nothing is kept running between units."""
