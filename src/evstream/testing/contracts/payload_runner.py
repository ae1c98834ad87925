"""The contract of a payload runner."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import ClassVar

import msgspec
import pytest

from evstream.domain.errors import PayloadError
from evstream.domain.payload import Payload
from evstream.ports.payload import PayloadCall, PayloadRunner
from evstream.testing.contracts.suite import Suite


class PayloadRunnerContract(Suite):
    """Override `runner` and the payloads.

    Attributes
    ----------
    copies : Payload
        Copies its input to its output.
    fails : Payload
        Fails and says "no such luck".
    spends : Payload
        Spends 0.2 CPU seconds.
    hangs : Payload or None
        Never ends; None if the runner cannot end one.
    """

    copies: ClassVar[Payload]
    fails: ClassVar[Payload]
    spends: ClassVar[Payload]
    hangs: ClassVar[Payload | None] = None

    @pytest.fixture
    def runner(self) -> PayloadRunner:
        """Return the runner."""
        raise NotImplementedError("override runner")

    @staticmethod
    def call(folder: Path, payload: Payload, **limits: float) -> PayloadCall:
        """Return a call with its input in place."""
        folder.mkdir(exist_ok=True)
        (folder / "in put.root").write_bytes(b"events")
        values = {
            "input": str(folder / "in put.root"),
            "output": str(folder / "out put.root"),
            "output:output": str(folder / "out put.root"),
            "entry_start": "10",
            "entry_stop": "20",
            "range_id": "2-0-10-20",
            "lfn": "source.root",
            "tree": "Events",
        }
        payload = msgspec.structs.replace(payload, **limits)
        return PayloadCall(payload, values, folder, folder / "log.txt")

    async def test_a_payload_makes_its_output(self, runner: PayloadRunner, tmp_path: Path) -> None:
        result = await runner.run(self.call(tmp_path, self.copies), lambda cpu_s: None)
        assert (tmp_path / "out put.root").read_bytes() == b"events"
        assert result.cpu_s >= 0
        assert result.wall_s > 0

    async def test_several_run_at_once(self, runner: PayloadRunner, tmp_path: Path) -> None:
        folders = [tmp_path / str(number) for number in range(8)]
        await asyncio.gather(
            *(runner.run(self.call(folder, self.copies), lambda cpu_s: None) for folder in folders)
        )
        assert all((folder / "out put.root").exists() for folder in folders)

    async def test_a_failure_says_why(self, runner: PayloadRunner, tmp_path: Path) -> None:
        with pytest.raises(PayloadError, match="no such luck") as caught:
            await runner.run(self.call(tmp_path, self.fails), lambda cpu_s: None)
        assert "no such luck" in (tmp_path / "log.txt").read_text()
        assert isinstance(caught.value.fields["cpu_s"], float)
        assert isinstance(caught.value.fields["wall_s"], float)

    async def test_cpu_seconds_are_told(self, runner: PayloadRunner, tmp_path: Path) -> None:
        told: list[float] = []
        result = await runner.run(self.call(tmp_path, self.spends), told.append)
        assert result.cpu_s >= 0.15
        assert told == sorted(told)
        assert told[-1] == result.cpu_s

    async def test_one_that_hangs_is_ended(self, runner: PayloadRunner, tmp_path: Path) -> None:
        if self.hangs is None:
            pytest.skip("this runner cannot end a payload")
        call = self.call(tmp_path, self.hangs, wall_s_max=0.2)
        with pytest.raises(PayloadError, match="hung"):
            await runner.run(call, lambda cpu_s: None)

    async def test_a_failure_costs_the_next_unit_nothing(
        self, runner: PayloadRunner, tmp_path: Path
    ) -> None:
        for number in range(3):
            with pytest.raises(PayloadError):
                await runner.run(self.call(tmp_path / str(number), self.fails), lambda cpu_s: None)
        await runner.run(self.call(tmp_path / "good", self.copies), lambda cpu_s: None)
        assert (tmp_path / "good" / "out put.root").exists()

    async def test_closed_without_having_run(self, runner: PayloadRunner) -> None:
        await runner.close()
