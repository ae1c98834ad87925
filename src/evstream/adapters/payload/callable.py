"""Payloads that are Python callables of this process."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

from evstream.domain.errors import PayloadError
from evstream.domain.payload import Payload
from evstream.ports.offload import Offload
from evstream.ports.payload import PayloadCall, PayloadResult


class CallableRunner:
    """The `PayloadRunner` port on a function of the placeholders' values.

    The command is not looked at. Python cannot end a function from outside: one that
    hangs keeps its thread, whatever the call's time limit says.

    Parameters
    ----------
    function : callable
        Takes the values by placeholder (``input``, ``output``, …) and leaves the output
        file; whatever it raises fails the unit.
    """

    def __init__(self, function: Callable[[dict[str, str]], None], offload: Offload) -> None:
        self._function = function
        self._offload = offload

    async def run(self, call: PayloadCall, on_cpu: Callable[[float], None]) -> PayloadResult:
        """Run one unit to its end."""
        result = await self._offload(lambda: self._run(call))
        on_cpu(result.cpu_s)
        return result

    def prepare(self, payload: Payload, staged: Mapping[str, str], directory: Path) -> None:
        """Nothing is to be begun before there is a unit."""

    async def close(self) -> None:
        """Nothing is kept running between units."""

    def _run(self, call: PayloadCall) -> PayloadResult:
        wall, cpu = time.perf_counter(), time.thread_time()
        try:
            self._function(dict(call.values))
        except Exception as error:
            _write_log(call.log, traceback.format_exc())
            raise PayloadError(
                f"payload raised {type(error).__name__}: {error}",
                hint="see its log",
                cpu_s=time.thread_time() - cpu,
                wall_s=time.perf_counter() - wall,
            ) from error
        return PayloadResult(time.thread_time() - cpu, time.perf_counter() - wall)


def _write_log(log: Path, text: str) -> None:
    log.write_text(text, encoding="utf-8", errors="replace")
