"""Payloads of every kind, each run as its kind is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from evstream.adapters.payload.command import CommandRunner
from evstream.adapters.payload.long_lived import LongLivedRunner
from evstream.domain.payload import Payload
from evstream.ports.payload import PayloadCall, PayloadResult


class PayloadsByKind:
    """The `PayloadRunner` port on processes of this machine.

    Parameters
    ----------
    cores : int
        Units that are run at once.
    """

    def __init__(self, cores: int = 1) -> None:
        self._commands = CommandRunner()
        self._long_lived = LongLivedRunner(cores)

    async def run(self, call: PayloadCall, on_cpu: Callable[[float], None]) -> PayloadResult:
        """Run one unit to its end."""
        if call.payload.kind == "command":
            return await self._commands.run(call, on_cpu)
        return await self._long_lived.run(call, on_cpu)

    def prepare(self, payload: Payload, staged: Mapping[str, str], directory: Path) -> None:
        """Start a process that is initialised once; commands need nothing."""
        if payload.kind != "command":
            self._long_lived.prepare(payload, staged, directory)

    async def close(self) -> None:
        """End what is kept running between units."""
        await self._long_lived.close()
