"""Merges: the outputs of ranges joined in entry order."""

from __future__ import annotations

import hashlib
from pathlib import Path

from msgspec import structs

from evstream import rootio
from evstream.domain.payload import Payload, fill_merge_command
from evstream.pilot.prefetch import Inputs
from evstream.pilot.tools import Tools
from evstream.pilot.unit_files import LOG_NAME
from evstream.ports import Clock, PayloadCall, PayloadResult
from evstream.wire.work_messages import MergeUnit


class Merger:
    """Joins what ranges left, as a payload of evstream's own."""

    def __init__(self, clock: Clock, tools: Tools) -> None:
        self._clock = clock
        self._tools = tools

    async def run(self, work: MergeUnit, inputs: Inputs, output: Path) -> PayloadResult:
        """Join the inputs, which are there in entry order, into ``output``.

        Raises
        ------
        DataError
            They cannot be joined; it says which ranges left those that do not fit.
        PayloadError
            The task's own merge command failed.
        """
        if work.payload is not None:
            return await self._command(work, work.payload, inputs, output)
        named = "\n".join(f"{piece.name} {piece.sha256}" for piece in work.inputs)
        identity = hashlib.sha256(named.encode()).digest()
        began = self._clock.monotonic()
        names = [f"the output of {piece.made_from}" for piece in work.inputs]
        await self._tools.offload(lambda: self._join(inputs.paths, output, identity, names))
        # CPU time of a thread of ours is nobody's port; only what payloads took is known.
        return PayloadResult(cpu_s=0.0, wall_s=self._clock.monotonic() - began)

    async def _command(
        self, work: MergeUnit, payload: Payload, inputs: Inputs, output: Path
    ) -> PayloadResult:
        command = fill_merge_command(payload.command, map(str, inputs.paths))
        values = {"output": str(output), "range_id": work.range_id, **inputs.staged}
        directory = output.parent
        call = PayloadCall(
            structs.replace(payload, command=command), values, directory, directory / LOG_NAME
        )
        return await self._tools.runner.run(call, lambda cpu_s: None)

    def _join(self, paths: list[Path], output: Path, identity: bytes, names: list[str]) -> None:
        with rootio.FileSource(paths[0]) as first:
            file_format = self._tools.formats.recognise(first, names[0])
        file_format.join(paths, output, identity=identity, names=names)
