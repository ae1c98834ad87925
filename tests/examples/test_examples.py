"""The examples, each with a worker killed and an event poisoned, against a run over the whole file.

The payloads are the examples' own; what poisons an event and kills a worker is wrapped around them.
A poisoned event crashes the process that touches it, each time. The kill is of the whole pilot,
once, while it works on the unit of a given entry.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

from evstream import rootio
from evstream.adapters.payload.by_kind import PayloadsByKind
from evstream.assembly import make_formats, verify_receipt
from evstream.client.task_file import TaskFile, read_task_file
from evstream.domain.payload import Payload
from evstream.ports.payload import PayloadCall
from tests.spine.commands import CommandLine

EXAMPLES = Path(__file__).parents[2] / "examples"
INCOMPLETE = 3

pytestmark = [pytest.mark.server, pytest.mark.slow]

HARM = """
import os, signal
from pathlib import Path
import psutil

def harm(unit):
    if unit.entry_start <= KILLED < unit.entry_stop and not Path(MARK).exists():
        Path(MARK).touch()
        # This worker, the process that forked it, its pilot.
        os.kill(psutil.Process(os.getppid()).ppid(), signal.SIGKILL)
        signal.pause()
    if unit.entry_start <= POISONED < unit.entry_stop:
        os.kill(os.getpid(), signal.SIGSEGV)
"""


@dataclass(frozen=True)
class Example:
    """An example, and how it is harmed.

    Attributes
    ----------
    payload : str
        In place of the task file's.
    wrapped : str
        Code around the example that calls ``harm`` for each unit.
    source : str
        The input, in the folder of real event files, and its name in the task file.
    entries : int
        How many of its entries are taken.
    """

    name: str
    payload: str
    wrapped: str
    source: tuple[str, str]
    entries: int
    events_per_range: int
    suffix: str


SHOWER = Example(
    "shower",
    "python harmed.py --sample sample.lhe.gz",
    """
import shower
class Harmed(shower.Shower):
    def shower(self, unit):
        harm(unit)
        super().shower(unit)
shower.Shower = Harmed
shower.main()
""",
    ("pylhe-testfile-madgraph-2.2.1-Z-mlm.lhe.gz", "events.lhe.gz"),
    400,
    25,
    ".hepmc3.gz",
)
SKIM = Example(
    "dimuon_skim",
    "harmed.py:skim",
    """
import dimuon_skim
def skim(unit):
    harm(unit)
    dimuon_skim.skim(unit)
""",
    ("Run2012B_SingleMu_1000.root", "nano.root"),
    1000,
    50,
    ".root",
)
SPECTRUM = Example(
    "dimuon_spectrum",
    "harmed.py:process",
    """
import dimuon_spectrum
def process(events, unit):
    harm(unit)
    return dimuon_spectrum.process(events, unit)
""",
    ("Run2012B_SingleMu_1000.root", "nano.root"),
    1000,
    50,
    ".root",
)
TRACKING = Example(
    "tracking",
    "python harmed.py",
    """
import tracking
from evstream.payload import serve
class Harmed(tracking.Tracking):
    def track(self, unit):
        harm(unit)
        super().track(unit)
harmed = Harmed()
serve(harmed.track, harmed.initialise)
""",
    ("inputThreads1.hepmc", "events.hepmc"),
    400,
    25,
    ".root",
)


class Ground:
    """A folder with an example, its input, and what harms it."""

    def __init__(self, example: Example, folder: Path, data: Path) -> None:
        self.example = example
        self.folder = folder
        for path in EXAMPLES.glob(f"{example.name}.*"):
            shutil.copy(path, folder)
        self.source = folder / example.source[1]
        _cut(data / example.source[0], self.source, example.entries)
        if example is SHOWER:
            _cut(self.source, folder / "sample.lhe.gz", 1)
        self.killed, self.poisoned = example.entries // 4, example.entries // 2 + 7
        facts = f"KILLED, POISONED, MARK = {self.killed}, {self.poisoned}, {str(folder / 'mark')!r}"
        (folder / "harmed.py").write_text(f"{HARM}\n{facts}\n{example.wrapped}")

    def whole(self) -> Path:
        """Run the example over the whole file at once; return its output."""
        task = read_task_file(self.folder / f"{self.example.name}.yaml")
        return asyncio.run(self._whole(task))

    async def _whole(self, task: TaskFile) -> Path:
        directory = self.folder / "whole"
        directory.mkdir()
        output = directory / f"whole{self.example.suffix}"
        values = {
            "input": str(self.source),
            "output": str(output),
            "output:output": str(output),
            "entry_start": "0",
            "entry_stop": str(self.example.entries),
            "range_id": "whole",
            "lfn": self.source.name,
            "tree": task.tree,
        }
        runner = PayloadsByKind(1)
        try:
            payload: Payload = task.payload
            call = PayloadCall(payload, values, directory, directory / "log.txt")
            await runner.run(call, lambda cpu_s: None)
        finally:
            await runner.close()
        return output

    def harmed(self, command: CommandLine) -> Path:
        """Run the example in ranges, harmed; return the merged output."""
        name, folder = self.example.name, self.folder
        words = ["run", "--task-file", f"{name}.yaml", "--payload", self.example.payload]
        words += ["--events-per-range", str(self.example.events_per_range), "--workers", "2"]
        command.run(*words, "--output", "results", status=INCOMPLETE, cwd=folder)
        assert (folder / "mark").exists(), "no worker was killed"
        return folder / "results" / f"merged{self.example.suffix}"

    def missing(self) -> set[int]:
        """Return the entries that are set aside: the poisoned one, by a receipt that holds."""
        levels = verify_receipt(self.folder / "results" / "receipt.json")
        short = [level.name for level in levels if level.holds is False]
        assert short == ["complete"], levels
        receipt = json.loads((self.folder / "results" / "receipt.json").read_text())
        ((_, start, stop, error),) = receipt["set_aside"]
        assert (start, stop) == (self.poisoned, self.poisoned + 1)
        assert "SIGSEGV" in error
        assert receipt["counts"]["committed"] == self.example.entries - 1
        return {start}


def _cut(source: Path, target: Path, entries: int) -> None:
    with rootio.FileSource(source) as opened:
        file_format = make_formats().recognise(opened, source.name)
        index = file_format.inspect(opened)
        tree = "Events" if source.suffix == ".root" else next(iter(file_format.summed(index)))
        cut = file_format.plan_cut(
            index, tree=tree, entry_start=0, entry_stop=entries, identity=b"a test's input"
        )
        cut.prepare(opened)
        target.write_bytes(cut.read(0, cut.size, opened))


@pytest.fixture
def python_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have ``python`` be the one that runs the tests."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")


@pytest.fixture
def make_ground(tmp_path: Path, shared_data: Path, python_on_path: None) -> Any:
    return lambda example: Ground(example, tmp_path, shared_data)


def test_shower(make_ground: Any, command: CommandLine) -> None:
    pytest.importorskip("pythia8mc", reason="needs Pythia 8: pip install 'evstream[examples]'")
    ground = make_ground(SHOWER)
    merged, whole = _particles(ground.harmed(command)), _particles(ground.whole())
    missing = ground.missing()
    assert list(whole) == list(range(SHOWER.entries))
    assert list(merged) == [entry for entry in whole if entry not in missing]
    assert all(merged[entry] == whole[entry] for entry in merged)


def _particles(path: Path) -> dict[int, list[tuple[float, ...]]]:
    import pyhepmc

    with pyhepmc.open(path) as file:
        return {
            event.event_number: [
                (p.pid, p.status, p.momentum.px, p.momentum.py, p.momentum.pz, p.momentum.e)
                for p in event.particles
            ]
            for event in file
        }


def test_dimuon_skim(make_ground: Any, command: CommandLine) -> None:
    ground = make_ground(SKIM)
    merged, whole = _rows(ground.harmed(command)), _rows(ground.whole())
    missing = ground.missing()
    with uproot.open(ground.source) as source:
        numbers = source["Events"]["event"].array(library="np")
    gone = {int(numbers[entry]) for entry in missing}
    assert whole
    assert merged == [row for row in whole if row[2] not in gone]


def _rows(path: Path) -> list[tuple[float, ...]]:
    with uproot.open(path) as file:
        columns = file["Events"].arrays(library="np")
    names = ("run", "luminosityBlock", "event", "mass", "pt")
    return list(zip(*(columns[name].tolist() for name in names), strict=True))


def test_dimuon_spectrum(make_ground: Any, command: CommandLine) -> None:
    pytest.importorskip("hist", reason="needs hist: pip install 'evstream[examples]'")
    ground = make_ground(SPECTRUM)
    merged = ground.harmed(command)
    missing = ground.missing()
    with uproot.open(ground.source) as source:
        events = source["Events"].arrays(["Muon_pt", "Muon_eta", "Muon_phi"])
    kept = np.array([entry not in missing for entry in range(SPECTRUM.entries)])
    sys.path.insert(0, str(EXAMPLES))
    try:
        from dimuon_spectrum import process
    finally:
        sys.path.remove(str(EXAMPLES))
    expected, everything = process(events[kept], None), process(events, None)
    with uproot.open(merged) as file, uproot.open(ground.whole()) as whole:
        for name, histogram in expected.items():
            np.testing.assert_allclose(file[name].values(flow=True), histogram.values(flow=True))
            variances = file[name].variances(flow=True)
            np.testing.assert_allclose(variances, histogram.variances(flow=True))
            at_once = whole[name].values(flow=True)
            np.testing.assert_allclose(at_once, everything[name].values(flow=True))
        assert file["multiplicity"].values().sum() == kept.sum()


def test_tracking(make_ground: Any, command: CommandLine) -> None:
    # Not by importing it: without its data sets it asks at a terminal whether to fetch them.
    if importlib.util.find_spec("geant4_pybind") is None:
        pytest.skip("needs Geant4: pip install 'evstream[examples]'")
    ground = make_ground(TRACKING)
    merged, whole = _hits(ground.harmed(command)), _hits(ground.whole())
    missing = ground.missing()
    assert ak.sum(ak.num(whole["hit_x"])) > 1000
    kept = whole[[entry not in missing for entry in whole["event"]]]
    assert merged.tolist() == kept.tolist()


def _hits(path: Path) -> ak.Array:
    with uproot.open(path) as file:
        return file["hits"].arrays()
