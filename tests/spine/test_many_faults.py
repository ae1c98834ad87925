"""A task of 5 000 ranges under all faults at once: only the bad events are missing."""

from __future__ import annotations

import json
import os
import random
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uproot

from evstream.assembly import verify_receipt
from tests.spine.commands import CommandLine, write_events
from tests.spine.test_kills import Victims, has_ended

pytestmark = [pytest.mark.server, pytest.mark.slow]

RANGES = 5000
EVENTS_PER_RANGE = 4
ENTRIES = RANGES * EVENTS_PER_RANGE
HANGING = 5
KILLS = 20
TASK_S_MAX = 900

# Told by files, since whoever fails may be killed and its successor must know.
PAYLOAD = """
import json, time
from pathlib import Path

here = Path(__file__).parent
plan = json.loads((here / "plan.json").read_text())
poisoned, failing, hanging = (set(plan[name]) for name in ("poisoned", "failing", "hanging"))

def first_time(what, entry):
    try:
        (here / f"{what}-{entry}").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True

def copy(unit):
    entries = range(unit.entry_start, unit.entry_stop)
    bad = poisoned.intersection(entries)
    if bad:
        raise ValueError(f"event {min(bad)} is poisoned")
    if unit.entry_start in failing and first_time("failed", unit.entry_start):
        raise RuntimeError("fails once")
    if unit.entry_start in hanging and first_time("hung", unit.entry_start):
        time.sleep(1000)
    unit.output.write_bytes(unit.input.read_bytes())
"""


@contextmanager
def small_disk(folder: Path) -> Iterator[Path | None]:
    """Mount a disk on which no input fits, where this user may."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_only_the_poisoned_events_are_set_aside(
    command: CommandLine,
    tmp_path: Path,
    rng: random.Random,
    record_property: Callable[[str, object], None],
) -> None:
    source = write_events(tmp_path / "source.root", ENTRIES, clusters=50)
    poisoned = sorted(rng.sample(range(ENTRIES), ENTRIES // 100))
    starts = range(0, ENTRIES, EVENTS_PER_RANGE)
    plan = {
        "poisoned": poisoned,
        "failing": rng.sample(starts, RANGES // 50),
        "hanging": rng.sample(starts, HANGING),
    }
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    (tmp_path / "payload.py").write_text(PAYLOAD)
    task_file = {
        "inputs": [str(source)],
        "payload": {"kind": "callable", "command": "payload.py:copy", "wall_s_max": 5},
        "granularity": {"events": EVENTS_PER_RANGE},
        "outputs": [{"merge": True}],
        "limits": {"bisections_max": 10 * len(poisoned), "losses_max": 30},
    }
    (tmp_path / "task.yaml").write_text(json.dumps(task_file))
    data = tmp_path / "data"
    victims = Victims(command, data, rng)
    task = int(command.run("submit", "--task-file", "task.yaml", "--data", data).stdout)
    with small_disk(tmp_path / "full") as full:
        if full is not None:
            command.start("pilot", "--data", data, "--workdir", full, "--cores", 1)
        while victims.total < KILLS:
            threading.Event().wait(rng.random() * 2)
            victims.kill_one()
        for _ in range(2 * TASK_S_MAX):
            if has_ended(data, task):
                break
            threading.Event().wait(0.5)
    results = tmp_path / "results"
    command.run("task", "outputs", task, results, "--data", data)
    levels = verify_receipt(results / "receipt.json")
    holds = {level.name: level.holds for level in levels}
    # It is not complete, and says so.
    assert holds.pop("complete") is False
    assert all(holds.values()), levels
    receipt = json.loads((results / "receipt.json").read_text())
    aside = [entry for _, start, stop, *_ in receipt["set_aside"] for entry in range(start, stop)]
    assert sorted(aside) == poisoned
    assert receipt["counts"]["committed"] == ENTRIES - len(poisoned)
    with uproot.open(results / "merged.root") as merged:
        events = merged["Events"]["event"].array(library="np").tolist()
    assert events == sorted(set(range(ENTRIES)) - set(poisoned))
    counts = receipt["counts"]
    record_property(
        "told",
        f"{RANGES} ranges, {len(poisoned)} poisoned events, {len(plan['failing'])} failing and "
        f"{HANGING} hanging ranges, {'a full disk, ' if full else ''}{victims.kills['service']} "
        f"kills of the service and {victims.kills['pilot']} of pilots: {counts['attempts']} "
        f"attempts, {counts['failed_attempts']} failed, exactly the poisoned events set aside",
    )
