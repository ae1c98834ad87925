"""Service and pilots killed with SIGKILL at random instants: every receipt stays exact."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import uproot

from evstream.assembly import connect, verify_receipt
from evstream.client import Address
from evstream.domain.errors import NotFoundError, TransientError
from tests.spine.commands import CommandLine, write_events

KILLS = 200
PILOTS = 3
ENTRIES = 2000
EVENTS_PER_RANGE = 20
PATIENT = {"EVSTREAM_PATIENCE_S": "60"}

pytestmark = [pytest.mark.server, pytest.mark.slow]

PAYLOAD = """
import shutil, sys, time
begin = time.process_time()
while time.process_time() - begin < 0.2:
    pass
shutil.copyfile(sys.argv[1], sys.argv[2])
"""


class Victims:
    """A service and its pilots as processes, killed and started again."""

    def __init__(self, command: CommandLine, data: Path, rng: random.Random) -> None:
        self._command = command
        self._data = data
        self._rng = rng
        self._service = command.serve(data)
        self._pilots = [self._start_pilot() for _ in range(PILOTS)]
        self.kills = {"service": 0, "pilot": 0}

    def _start_pilot(self) -> subprocess.Popen[bytes]:
        return self._command.start(
            "pilot", "--data", self._data, "--cores", "1", EVSTREAM_LEASE_S="4"
        )

    @property
    def total(self) -> int:
        """Kills so far."""
        return sum(self.kills.values())

    def kill_one(self) -> None:
        """Kill the service once in four times, else the oldest pilot; start it again."""
        if self._rng.random() < 0.25:
            self._command.end(self._service)
            self._service = self._command.start("serve", "--data", self._data)
            self.kills["service"] += 1
        else:
            # The oldest is at work; one just born would die before it begins.
            self._command.end(self._pilots.pop(0))
            self._pilots.append(self._start_pilot())
            self.kills["pilot"] += 1


def test_every_receipt_is_exact_after_200_kills(
    command: CommandLine, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    seed = int(os.environ.get("EVSTREAM_KILLS_SEED", random.SystemRandom().getrandbits(32)))
    print(f"seed {seed}")
    rng = random.Random(seed)
    source = write_events(tmp_path / "source.root", ENTRIES)
    payload = tmp_path / "payload.py"
    payload.write_text(PAYLOAD)
    data = tmp_path / "data"
    victims = Victims(command, data, rng)
    tasks, attempts, failed = 0, 0, 0
    while victims.total < KILLS:
        tasks += 1
        task = _submit(command, data, source, payload, tasks)
        while victims.total < KILLS and not has_ended(data, task):
            threading.Event().wait(rng.random() * 1.2)
            victims.kill_one()
        command.run("status", task, "--watch", "--data", data, env=PATIENT)
        counts = _check(command, data, task, tmp_path / f"results{task}")
        attempts += counts["attempts"]
        failed += counts["failed_attempts"]
    record_property(
        "told",
        f"{tasks} tasks, {tasks * ENTRIES} events, {victims.kills['service']} kills of the "
        f"service and {victims.kills['pilot']} of pilots (seed {seed}): {attempts} attempts, "
        f"{failed} lost or failed, every receipt exact",
    )


def _submit(command: CommandLine, data: Path, source: Path, payload: Path, number: int) -> int:
    done = command.run(
        "submit",
        source,
        "--payload",
        f"{sys.executable} {payload} {{input}} {{output}}",
        "--events-per-range",
        EVENTS_PER_RANGE,
        "--merge",
        "--name",
        f"kill{number}",
        "--data",
        data,
        env=PATIENT,
    )
    return int(done.stdout)


def has_ended(data: Path, task: int) -> bool:
    """Whether a task has ended, as far as the service can be asked just now."""

    async def ask() -> bool:
        service = connect(Address.read(data), patience_s=0.0)
        try:
            return (await service.task(task)).state.final
        finally:
            await service.close()

    try:
        return asyncio.run(ask())
    except (NotFoundError, TransientError):
        return False


def _check(command: CommandLine, data: Path, task: int, results: Path) -> dict[str, int]:
    """Fetch the results and see that every event of the source is there once."""
    command.run("task", "outputs", task, results, "--data", data, env=PATIENT)
    levels = verify_receipt(results / "receipt.json")
    assert all(level.holds for level in levels), levels
    receipt = json.loads((results / "receipt.json").read_text())
    assert receipt["counts"]["committed"] == ENTRIES, receipt["counts"]
    with uproot.open(results / "merged.root") as merged:
        assert merged["Events"]["event"].array(library="np").tolist() == list(range(ENTRIES))
    counts: dict[str, int] = receipt["counts"]
    return counts
