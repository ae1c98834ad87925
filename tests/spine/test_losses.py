"""What production takes away: pilots, disks, endpoints, URLs. Each time every event counts once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import uproot

from evstream.assembly import verify_receipt
from tests.s3_gateway import gateway
from tests.spine.commands import CommandLine, wait_until, write_events
from tests.spine.test_many_faults import small_disk
from tests.stack import wan

pytestmark = [pytest.mark.server, pytest.mark.slow]

ENTRIES = 1_000
STEP = 20
RANGES = ENTRIES // STEP
QUICK = {"EVSTREAM_BEAT_S": "0.2", "EVSTREAM_SOURCE_ROOTS": "any"}

GATED = """
import os, pathlib, shutil, sys, time
folder = pathlib.Path(sys.argv[3])
(folder / f"begun-{os.getpid()}").touch()
while not (folder / "go").exists(): time.sleep(0.01)
shutil.copyfile(sys.argv[1], sys.argv[2])
"""
PICKY = """
import os, pathlib, shutil, sys, time
folder = pathlib.Path(sys.argv[3])
if os.environ.get("LACKING"):
    (folder / "failed").touch()
    sys.exit("this node lacks a library")
(folder / f"begun-{os.getpid()}").touch()
gate = folder / ("failed" if len(list(folder.glob("begun-*"))) <= 20 else "go")
while not gate.exists(): time.sleep(0.01)
shutil.copyfile(sys.argv[1], sys.argv[2])
"""
LARGE = """
import os, pathlib, sys
pathlib.Path(sys.argv[1]).write_bytes(os.urandom(int(sys.argv[2])))
"""
LARGE_OUTPUTS = ("--events-per-range", STEP, "--output-suffix", ".bin")
LATER = """
import datetime
from evstream.adapters.clock import SystemClock
SystemClock.now = lambda self: datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=2)
"""


class Site:
    """A head, edges and pilots, as processes."""

    def __init__(self, command: CommandLine, folder: Path, **environment: str) -> None:
        self._command = command
        self._folder = folder
        self.data = folder / "head"
        self._start("serve", "--data", self.data, "--port", 0, **environment)
        self._address = json.loads((self.data / "address.json").read_text())
        self._token = {"EVSTREAM_TOKEN": (self.data / "token").read_text().strip()}
        self.source = write_events(folder / "a.root", ENTRIES)
        self.run("dataset", "add", "user:x", self.source)

    def _start(self, *words: Any, **environment: str) -> subprocess.Popen[bytes]:
        published = Path(words[words.index("--data") + 1]) / "address.json"
        published.unlink(missing_ok=True)
        process = self._command.start(*words, **QUICK, **environment)
        wait_until(lambda: published.exists() or process.poll() is not None, f"{words[0]}")
        assert process.poll() is None, f"{words[0]} ended"
        return process

    def run(self, *words: Any) -> Any:
        return self._command.json(*words, "--data", self.data)

    def edge(self, name: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start an edge, and wait until the head knows it."""
        words = ("edge", "--head", self._address["url"], "--name", name)
        process = self._start(
            *words, "--data", self._folder / name, "--port", 0, **self._token, **environment
        )
        wait_until(lambda: f'"{name}"' in json.dumps(self.run("edge", "list")), f"edge {name}")
        return process

    def pilot(self, *words: Any, **environment: str) -> subprocess.Popen[bytes]:
        where = ("--url", self._address["url"])
        settings = {"EVSTREAM_PILOT_IDLE_S_MAX": "0", "EVSTREAM_LEASE_S": "2"}
        return self._command.start(
            "pilot", *where, *words, **{**self._token, **settings, **environment}
        )

    def submit(self, payload: str) -> int:
        words = ("--payload", payload, "--events-per-range", STEP, "--merge")
        return int(self.run("submit", "user:x", *words)["id"])

    def script(self, text: str) -> Path:
        path = self._folder / "payload.py"
        path.write_text(text)
        return path

    def exact(self, task: int) -> Any:
        """See that a task is done and has every event once; returns its counts."""
        self._command.run("status", task, "--watch", "--data", self.data)
        results = self._folder / f"results{task}"
        self._command.run("task", "outputs", task, results, "--data", self.data)
        levels = verify_receipt(results / "receipt.json")
        assert all(level.holds for level in levels), levels
        counts = json.loads((results / "receipt.json").read_text())["counts"]
        assert counts["committed"] == ENTRIES
        with uproot.open(results / "merged.root") as merged, uproot.open(self.source) as source:
            for name in ("event", "x"):
                wanted = source["Events"][name].array(library="np").tolist()
                assert merged["Events"][name].array(library="np").tolist() == wanted
        return counts


@pytest.fixture
def site(command: CommandLine, tmp_path: Path) -> Site:
    return Site(command, tmp_path)


class Gate:
    """Payloads that begin, and wait to be let on."""

    def __init__(self, site: Site, folder: Path, script: str = GATED) -> None:
        self._folder = folder / "gate"
        self._folder.mkdir()
        self.task = site.submit(
            f"{sys.executable} {site.script(script)} {{input}} {{output}} {self._folder}"
        )

    def wait(self, payloads: int) -> None:
        """Wait until so many payloads have begun."""
        wait_until(lambda: self.begun() >= payloads, f"{payloads} payloads")

    def begun(self) -> int:
        return len(list(self._folder.glob("begun-*")))

    def open(self) -> None:
        (self._folder / "go").touch()


def test_sigterm(site: Site, command: CommandLine, tmp_path: Path) -> None:
    """A pilot that is told to leave gives back at once what it cannot end in time."""
    gate = Gate(site, tmp_path)
    # Its leases would not run out before the test's own patience does.
    pilot = site.pilot("--cores", 2, EVSTREAM_LEASE_S="3600", EVSTREAM_DRAIN_S="0.5")
    gate.wait(2)
    assert command.end(pilot, signal.SIGTERM) == 0
    held = site.run("status", gate.task)["process"]
    assert (held["running"], held["sent"], held["finished"]) == (0, 0, 0)
    gate.open()
    site.pilot("--cores", 2)
    counts = site.exact(gate.task)
    # Only what ran was begun twice.
    assert counts["attempts"] <= RANGES + 2


def test_sigkill(site: Site, command: CommandLine, tmp_path: Path) -> None:
    """A pilot that is killed costs the ranges that ran."""
    gate = Gate(site, tmp_path)
    pilot = site.pilot("--cores", 2)
    gate.wait(2)
    command.end(pilot, signal.SIGKILL)
    gate.open()
    site.pilot("--cores", 2)
    counts = site.exact(gate.task)
    assert counts["failed_attempts"] <= 2


def test_full_disk(site: Site, tmp_path: Path) -> None:
    """A pilot on a full disk leaves with the reason, and no range is the worse for it."""
    with small_disk(tmp_path / "full") as full:
        if full is None:
            pytest.skip("needs to be root, to mount a small disk")
        task = site.submit("cp {input} {output}")
        bad = site.pilot("--cores", 1, "--workdir", full)
        assert bad.wait(timeout=120) != 0
        assert site.run("status", task)["process"]["finished"] == 0
        site.pilot("--cores", 2)
        site.exact(task)


def test_slow_store(command: CommandLine, tmp_path: Path) -> None:
    """A store that is slower than the payloads slows them; the disk does not fill."""
    size, waiting = 1_000_000, 4_000_000
    with gateway() as bucket:
        port = int(bucket.endpoint.rpartition(":")[2])
        with wan.link(("127.0.0.1", port), wan.Conditions(bytes_per_s=5_000_000)) as link:
            slow = {**bucket.environment, "AWS_ENDPOINT_URL": f"http://{link.address}"}
            site = Site(command, tmp_path, EVSTREAM_OUTPUT_STORE=f"{bucket.url}/slow", **slow)
            payload = f"{sys.executable} {site.script(LARGE)} {{output}} {size}"
            task = int(site.run("submit", "user:x", "--payload", payload, *LARGE_OUTPUTS)["id"])
            (tmp_path / "scratch").mkdir()
            pilot = site.pilot(
                *("--cores", 2, "--workdir", tmp_path / "scratch"),
                EVSTREAM_STAGED_BYTES_MAX=str(waiting),
            )
            most = 0
            while pilot.poll() is None:
                most = max(most, _outputs_on_disk(tmp_path / "scratch"))
                threading.Event().wait(0.02)
            assert pilot.returncode == 0
            # What waits, and what two payloads leave while they do.
            assert size < most <= waiting + 2 * size
            assert site.run("status", task)["process"]["finished"] == ENTRIES


def _outputs_on_disk(folder: Path) -> int:
    size = 0
    # Not by `rglob`: folders go while they are looked through.
    for where, _, names in os.walk(folder):
        for name in names:
            if name.startswith("output"):
                with suppress(FileNotFoundError):
                    size += Path(where, name).stat().st_size
    return size


def test_poisoned_node(site: Site, command: CommandLine, tmp_path: Path) -> None:
    """A node on which every payload fails is given no more, once others have succeeded."""
    gate = Gate(site, tmp_path, PICKY)
    site.pilot("--cores", 1)
    gate.wait(1)
    bad = site.pilot("--cores", 1, LACKING="1")
    assert bad.wait(timeout=120) != 0
    assert "this node lacks a library" in command.said(bad)
    gate.open()
    site.exact(gate.task)


def _products(folder: Path) -> list[Path]:
    return [path for path in (folder / "cache").rglob("*") if path.is_file()]


def test_corrupt_product(site: Site, tmp_path: Path) -> None:
    """Bytes that changed on an edge's disk are seen by the pilot, and made elsewhere."""
    site.edge("one")
    never = {"EVSTREAM_OWN_CUTS": "never"}
    first = site.submit("cp {input} {output}")
    site.pilot("--cores", 1, **never).wait(timeout=120)
    site.exact(first)
    products = [path for path in _products(tmp_path / "one") if path.stat().st_size > 1000]
    assert products, "the edge has kept none"
    for path in products:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(content)
    second = site.submit("cp {input} {output}")
    site.pilot("--cores", 1, **never)
    site.exact(second)


def test_lost_endpoint(site: Site, command: CommandLine, tmp_path: Path) -> None:
    """An edge that vanishes while pilots fetch from it is gone round."""
    edge = site.edge("one")
    gate = Gate(site, tmp_path)
    site.pilot("--cores", 1, EVSTREAM_OWN_CUTS="never")
    gate.wait(1)
    assert _products(tmp_path / "one"), "nothing was fetched from the edge"
    command.end(edge, signal.SIGKILL)
    gate.open()
    site.exact(gate.task)


@pytest.mark.parametrize("own_cuts", ["auto", "never"])
def test_expired_url(site: Site, tmp_path: Path, own_cuts: str) -> None:
    """An edge by whose clock all URLs are over refuses them; products come from elsewhere."""
    (tmp_path / "later").mkdir()
    (tmp_path / "later" / "sitecustomize.py").write_text(LATER)
    path = os.pathsep.join([str(tmp_path / "later"), os.environ.get("PYTHONPATH", "")])
    site.edge("late", PYTHONPATH=path)
    task = site.submit("cp {input} {output}")
    site.pilot("--cores", 1, EVSTREAM_OWN_CUTS=own_cuts)
    site.exact(task)
    assert not _products(tmp_path / "late")
