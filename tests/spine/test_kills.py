"""Service and pilots killed with SIGKILL at random instants: every receipt stays exact."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import uproot

from evstream.client.verification import verify_receipt
from tests.spine.commands import CommandLine, write_events

KILLS = 200
KILLS_PER_TASK = 20
WORKERS = 2
ENTRIES = 3000
EVENTS_PER_RANGE = 25

pytestmark = [pytest.mark.server, pytest.mark.slow]

PAYLOAD = """
import shutil, sys, time
begin = time.process_time()
while time.process_time() - begin < 0.05:
    pass
shutil.copyfile(sys.argv[1], sys.argv[2])
"""


class Victims:
    """A service and its pilots as processes, killed and started again."""

    def __init__(self, command: CommandLine, data: Path, rng: random.Random) -> None:
        self._command = command
        self._data = data
        self._rng = rng
        self.service = command.serve(data)
        self.pilots = [self._start_pilot() for _ in range(WORKERS)]
        self.kills = {"service": 0, "pilot": 0}

    def _start_pilot(self) -> subprocess.Popen[bytes]:
        return self._command.start(
            "pilot", "--data", self._data, "--cores", "1", EVSTREAM_LEASE_S="4"
        )

    def kill_one(self) -> None:
        """Kill the service once in three times, else a pilot; start it again at once."""
        if self._rng.random() < 1 / 3:
            self._command.end(self.service)
            self.service = self._command.start("serve", "--data", self._data)
            self.kills["service"] += 1
        else:
            slot = self._rng.randrange(WORKERS)
            self._command.end(self.pilots[slot])
            self.pilots[slot] = self._start_pilot()
            self.kills["pilot"] += 1


def test_every_receipt_is_exact_after_200_kills(
    command: CommandLine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    source = write_events(tmp_path / "source.root", ENTRIES)
    payload = tmp_path / "payload.py"
    payload.write_text(PAYLOAD)
    data = tmp_path / "data"
    victims = Victims(command, data, rng)
    tasks, attempts, failed = 0, 0, 0
    while sum(victims.kills.values()) < KILLS:
        tasks += 1
        task = _submit(command, data, source, payload, tasks)
        target = sum(victims.kills.values()) + KILLS_PER_TASK
        while sum(victims.kills.values()) < target and not _ended(command, data, task):
            threading.Event().wait(rng.random() * 0.8)
            victims.kill_one()
        command.run("status", task, "--watch", "--data", data, env={"EVSTREAM_PATIENCE_S": "60"})
        counts = _check(command, data, task, tmp_path / f"results{task}")
        attempts += counts["attempts"]
        failed += counts["failed_attempts"]
    with capsys.disabled():
        print(
            f"\n{tasks} tasks, {tasks * ENTRIES} events, {victims.kills['service']} kills of the "
            f"service and {victims.kills['pilot']} of pilots (seed {seed}): {attempts} attempts, "
            f"{failed} lost or failed, every receipt exact"
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
        env={"EVSTREAM_PATIENCE_S": "60"},
    )
    return int(done.stdout)


def _ended(command: CommandLine, data: Path, task: int) -> bool:
    done = command.run("status", task, "--json", "--data", data, status=None)
    return done.returncode == 0 and json.loads(done.stdout)["state"] not in ("running", "merging")


def _check(command: CommandLine, data: Path, task: int, results: Path) -> dict[str, int]:
    """Fetch the results and see that every event of the source is there once."""
    command.run("task", "outputs", task, results, "--data", data)
    levels = verify_receipt(results / "receipt.json")
    assert [level.holds for level in levels] == [True, True, True], levels
    receipt = json.loads((results / "receipt.json").read_text())
    assert receipt["counts"]["committed"] == ENTRIES, receipt["counts"]
    with uproot.open(results / "merged.root") as merged:
        assert merged["Events"]["event"].array(library="np").tolist() == list(range(ENTRIES))
    counts: dict[str, int] = receipt["counts"]
    return counts
