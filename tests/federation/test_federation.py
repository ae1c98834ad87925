"""A task goes through a federation whose parts fail on the way: its receipt is exact."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
import uproot

from tests.federation.federation import Federation, federation
from tests.spine.commands import write_events
from tests.stack.processes import wait_until

pytest.importorskip("fsspec_xrootd", reason="no wheel of xrootd for this Python")
pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.root_user]

FILES, ENTRIES = 4, 30_000
RANGE = 600
BALLAST = 50
"""Numbers of each event: of what a pilot may fetch ahead, its units take a good part."""
PAYLOAD_S = 0.4
STALL_S = 20.0
"""Longer than what a client waits between two bytes of an answer it hopes for elsewhere."""
PATIENCE_S = 400.0
GOING_ON = ("", "running", "merging")
"""States of a task that has not ended; none is known while a head is away."""


def register(made: Federation, folder: Path) -> None:
    """Put files on the origin, register them there, and tell of copies that a cache serves."""
    for number in range(FILES):
        path = folder / f"f{number}.root"
        write_events(path, ENTRIES, run=number + 1, clusters=20, ballast=BALLAST)
        made.origin.add(path, f"/data/{path.name}")
        made.origin.add(path, f"/copies/{path.name}")
    urls = [f"{made.origin_url}/data/f{number}.root" for number in range(FILES)]
    made.run("dataset", "add", "test:events", *urls)
    for number in range(FILES):
        copy = f"{made.cache_url}/copies/f{number}.root"
        made.run("replica", "add", "test:events", f"f{number}.root", copy)


def spoil(made: Federation, name: str) -> None:
    """Let a file on the origin be of the same size, and something else."""
    path = made.origin.data / "data" / name
    path.write_bytes(bytes(path.stat().st_size))


def damage(made: Federation, name: str) -> None:
    """Let a file on the origin be what it was, but for some bytes in each basket."""
    path = made.origin.data / "data" / name
    with uproot.open(path) as file:
        branches = file["Events"].branches
        baskets = [
            (int(seek), int(size))
            for branch in branches
            for seek, size in zip(
                branch.member("fBasketSeek"), branch.member("fBasketBytes"), strict=True
            )
            if size
        ]
    assert len(baskets) >= FILES
    with path.open("r+b") as content:
        for seek, size in baskets:
            content.seek(seek + size - 16)
            was = content.read(16)
            content.seek(-16, 1)
            content.write(bytes(byte ^ 0xFF for byte in was))


def submit(made: Federation, folder: Path) -> int:
    script = folder / "payload.sh"
    script.write_text(f'sleep {PAYLOAD_S} && exec cp "$1" "$2"\n')
    words = ("--payload", f"sh {script} {{input}} {{output}}", "--events-per-range", RANGE)
    words += ("--merge-events", 10_000)
    return int(made.json("submit", "test:events", *words)["id"])


def wait_for(made: Federation, task: int, part: float) -> None:
    """Wait until so much of a task is finished; it must not have ended yet."""
    wanted = part * FILES * ENTRIES

    def far_enough() -> bool:
        state, finished = made.finished(task)
        assert state in GOING_ON, f"{state} before all faults were tried\n{made.logs()}"
        return finished >= wanted

    wait_until(far_enough, f"{part:.0%} of the task", PATIENCE_S, tell=made.logs())


def check(made: Federation, task: int, folder: Path) -> None:
    """Fetch what came out, verify its receipt, and compare it with what went in."""
    made.run("task", "outputs", task, folder / "results")
    receipt = folder / "results" / "receipt.json"
    levels = made.verify(receipt)
    assert all(level["holds"] for level in levels), levels
    told = json.loads(receipt.read_text())
    assert told["set_aside"] == told["cancelled"] == told["withdrawn"] == []
    names = ["event", "x", "ballast"]
    seen: dict[int, list[dict[str, np.ndarray]]] = {}
    for path in (folder / "results").rglob("*.root"):
        with uproot.open(path) as file:
            found = file["Events"].arrays(["run", *names], library="np")
            for run in np.unique(found["run"]):
                mine = found["run"] == run
                seen.setdefault(int(run), []).append({name: found[name][mine] for name in names})
    assert set(seen) == set(range(1, FILES + 1))
    for run, parts in seen.items():
        got = {name: np.concatenate([part[name] for part in parts]) for name in names}
        order = np.argsort(got["event"], kind="stable")
        with uproot.open(folder / f"f{run - 1}.root") as file:
            expected = file["Events"].arrays(names, library="np")
        for name in names:
            np.testing.assert_array_equal(got[name][order], expected[name])


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "secured"])
def test_a_task_goes_through_while_parts_fail(tmp_path: Path, secure: bool) -> None:
    with federation(tmp_path, secure=secure) as made:
        register(made, tmp_path)
        # Structure and date of registration are as they were: what is read shows it.
        damage(made, "f2.root")
        task = submit(made, tmp_path)
        for number in range(4):
            made.pilot(f"pilot{number}")

        wait_for(made, task, 0.02)
        made.wipe("disk")
        spoil(made, "f3.root")
        wait_for(made, task, 0.1)
        made.kill("s3")
        made.kill("pilot0")
        wait_for(made, task, 0.2)
        made.kill("head0")
        wait_for(made, task, 0.3)
        made.origin.pause()
        since = time.monotonic()
        wait_until(lambda: time.monotonic() - since >= STALL_S, "the stall")
        # What the edges and the cache hold may be all that was left to do.
        assert made.finished(task)[0] in (*GOING_ON, "done")
        made.origin.resume()

        wait_until(
            lambda: made.finished(task)[0] not in GOING_ON,
            "the end of the task",
            PATIENCE_S,
            tell=made.logs(),
        )
        # The faults were felt: units were lost, and bytes were read elsewhere.
        assert made.failures(task)
        assert made.said("a replica of f2.root is bad")
        # XRootD keeps the token that a connection was opened with: a slow run is refused there, and
        # does not see what is wrong with the file.
        refused = secure and made.said("/data/f3.root may not be read")
        assert made.said("a replica of f3.root is bad") or refused
        check(made, task, tmp_path)
