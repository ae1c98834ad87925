"""Workers that are killed again and again: what is lost, and what an ideal scheduler keeps.

`evstream pilots` keeps two pilots alive, each with one core, for a head of this machine. Now this,
now that one is killed with all that runs in it, as a batch system does; `evstream pilots` sees
that it has ended, tells the head and starts another.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import psutil
import uproot

from bench.harness import Bench
from bench.wan_parts.burn import Burnt, read_log
from bench.wan_parts.ground import python_path
from bench.wan_parts.lives import Life, Verdict, judge
from evstream.assembly import connect, verify_receipt
from evstream.client import Address
from evstream.domain.granularity import Granularity
from evstream.domain.payload import Payload
from evstream.domain.states import TaskState
from evstream.domain.streams import OutputStream
from evstream.wire.messages import NewDataset, NewFile, NewTask, TaskView

WORKERS = 2
START_S_MAX = 60.0
RUN_S_MAX = 3600.0
LOOK_S = 0.02
DRAIN_S = 3.0
"""Of pilots that are told: of 5 s, so much for what runs, and the rest to give it back."""
GRACE_S = 5.0


@dataclass(slots=True)
class Pilot:
    """One of the pilots: its process, its place among them, and its end."""

    process: psutil.Process
    place: int
    began: float
    told: float = 0.0
    stopped: float = 0.0
    killed: bool = False
    exit_s: float = 0.0


@dataclass
class Evictor:
    """Sees pilots come and has them go, in turns.

    Parameters
    ----------
    keeper : psutil.Process
        Whose children the pilots are.
    every_s : float
        Pause between evictions.
    grace_s : float
        Seconds between SIGTERM and SIGKILL; SIGKILL alone where it is 0.
    """

    keeper: psutil.Process
    every_s: float
    grace_s: float
    pilots: list[Pilot] = field(default_factory=list)
    evicted: int = 0

    def run(self) -> None:
        """Evict until the keeper has ended."""
        began = due = time.time()
        due += self.every_s
        free = dict.fromkeys(range(WORKERS), began)
        while _runs(self.keeper):
            self._look(free)
            if time.time() >= due:
                due += self.every_s
                self._evict(self.evicted % WORKERS)
                self.evicted += 1
            if time.time() > began + RUN_S_MAX:
                raise RuntimeError(f"the task has not ended in {RUN_S_MAX} s")
            time.sleep(LOOK_S)

    def _look(self, free: dict[int, float]) -> None:
        now = time.time()
        for pilot in self._alive():
            if pilot.told and now >= pilot.told + self.grace_s:
                self._kill(pilot)
            if not _runs(pilot.process):
                pilot.exit_s = now - pilot.told if pilot.told else 0.0
                pilot.stopped = pilot.told or now
                free[pilot.place] = now if self.grace_s else pilot.stopped
        known = {pilot.process.pid for pilot in self.pilots}
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in self.keeper.children():
                if process.pid not in known and free and "pilot" in _words(process):
                    place = min(free)
                    self.pilots.append(Pilot(process, place, free.pop(place)))

    def _alive(self) -> list[Pilot]:
        return [pilot for pilot in self.pilots if not pilot.stopped]

    def _evict(self, place: int) -> None:
        for pilot in self._alive():
            if pilot.place == place and not pilot.told:
                pilot.told = time.time()
                if self.grace_s:
                    pilot.process.send_signal(signal.SIGTERM)
                else:
                    self._kill(pilot)

    def _kill(self, pilot: Pilot) -> None:
        """End a pilot and all that it has started, as the end of a batch job does."""
        pilot.killed = True
        with contextlib.suppress(psutil.NoSuchProcess):
            family = [pilot.process, *pilot.process.children(recursive=True)]
            for process in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _words(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return []


@dataclass(frozen=True, slots=True)
class Ran:
    """A task that has ended, and what ran for it."""

    view: TaskView
    pilots: list[Pilot]
    burnt: list[Burnt]
    committed: frozenset[str]
    numbers: list[int]
    receipt: dict[str, Any]
    verifies: bool

    def lives(self) -> list[Life]:
        """Return the workers with what ran in each."""
        last = max(one.last for one in self.burnt)
        by_pilot: dict[int, list[Burnt]] = {pilot.process.pid: [] for pilot in self.pilots}
        for one in sorted(self.burnt, key=lambda one: one.began):
            (pid,) = [pid for pid in one.above if pid in by_pilot]
            by_pilot[pid].append(one)
        return [
            Life(
                pilot.began,
                pilot.process.create_time(),
                min(pilot.stopped, last) if pilot.stopped else last,
                bool(pilot.told),
                by_pilot[pilot.process.pid],
            )
            for pilot in self.pilots
        ]


class Runs:
    """Tasks on one head, whose units each burn the same CPU.

    Parameters
    ----------
    folder : Path
        For all that is written; of no other use afterwards.
    """

    def __init__(self, folder: Path, unit_cpu_s: float) -> None:
        self._folder = folder
        self._unit_cpu_s = unit_cpu_s
        self._data = folder / "head"

    @contextmanager
    def head(self) -> Iterator[None]:
        """Have a head; it has ended when the context ends."""
        words = [sys.executable, "-m", "evstream", "head", "--data", str(self._data), "--port", "0"]
        with (self._folder / "head.log").open("wb") as log:
            process = subprocess.Popen(words, env=_environment(), stdout=log, stderr=log)
        try:
            until = time.monotonic() + START_S_MAX
            while not (self._data / "address.json").exists():
                if process.poll() is not None or time.monotonic() > until:
                    said = (self._folder / "head.log").read_text()
                    raise RuntimeError(f"the head does not start: {said}")
                time.sleep(0.05)
            yield
        finally:
            process.terminate()
            process.wait(60)

    def run(self, name: str, units: int, every_s: float, grace_s: float = 0.0) -> Ran:
        """Run a task while pilots are evicted."""
        folder = self._folder / name
        (folder / "burnt").mkdir(parents=True)
        source = folder / "events.root"
        with uproot.recreate(source) as file:
            file["Events"] = {"number": np.arange(units, dtype=np.int32)}
        task = asyncio.run(self._submit(name, source, folder / "burnt"))
        words = [sys.executable, "-m", "evstream", "pilots", "--n", str(WORKERS), "--cores", "1"]
        words += ["--until-done", "--task", str(task), "--folder", str(folder / "pilots")]
        words += ["--data", str(self._data)]
        with (folder / "pilots.log").open("wb") as log:
            keeper = psutil.Popen(words, env=_environment(), stdout=log, stderr=log)
        evictor = Evictor(keeper, every_s, grace_s)
        try:
            evictor.run()
        finally:
            with contextlib.suppress(psutil.NoSuchProcess):
                keeper.terminate()
            keeper.wait(60)
        return asyncio.run(self._result(task, evictor.pilots, folder))

    async def _submit(self, name: str, source: Path, burnt: Path) -> int:
        service = connect(Address.read(self._data), 60.0)
        environment = {
            "BURN_LOG": str(burnt),
            "BURN_S": str(self._unit_cpu_s),
            "PYTHONPATH": python_path(),
        }
        command = f"{sys.executable} -m bench.wan_parts.burn"
        try:
            dataset = await service.add_dataset(NewDataset([NewFile(str(source))]))
            new = NewTask(
                name=name,
                dataset=dataset.name,
                payload=Payload(command, kind="long-lived", environment=environment),
                granularity=Granularity(events=1),
                outputs=(OutputStream(suffix=".json"),),
            )
            return (await service.submit(new)).id
        finally:
            await service.close()

    async def _result(self, task: int, pilots: list[Pilot], folder: Path) -> Ran:
        service = connect(Address.read(self._data), 60.0)
        try:
            view = await service.task(task)
            if view.state is not TaskState.DONE:
                said = (folder / "pilots.log").read_text()[-2000:]
                raise RuntimeError(f"task {task} is {view.state}: {view.reason}; {said}")
            names = [output.name for output in await service.outputs(task)]
            receipt = await service.receipt(task)
        finally:
            await service.close()
        path = folder / "receipt.json"
        path.write_text(json.dumps(receipt))
        # The outputs are looked at here, and the events with them.
        levels = {one.name: one.holds for one in verify_receipt(path)}
        verifies = bool(levels["ledger"] and levels["complete"])
        logs = [read_log(path) for path in (folder / "burnt").iterdir()]
        outputs = [json.loads((self._data / "outputs" / name).read_text()) for name in names]
        return Ran(
            view,
            pilots,
            [one for one in logs if one is not None],
            frozenset(output["name"] for output in outputs),
            [number for output in outputs for number in output["numbers"]],
            receipt,
            verifies,
        )


def _environment() -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": python_path(),
        "EVSTREAM_SOURCE_ROOTS": "any",
        "EVSTREAM_PILOT_IDLE_S_MAX": "0",
        "EVSTREAM_DRAIN_S": str(DRAIN_S),
    }


def measure_evictions(bench: Bench) -> None:
    """Kill one of two workers again and again; then tell them some seconds before."""
    unit_s = bench.choose("evictions: CPU seconds of a unit", full=6.0, quick=1.5)
    every_s = bench.choose("evictions: seconds between them", full=20.0, quick=12.0)
    units = bench.choose("evictions: units", full=84, quick=36)
    told = bench.choose("evictions: units where workers are told", full=42, quick=24)
    bench.input("evictions: seconds from SIGTERM to SIGKILL", GRACE_S)
    bench.input("evictions: seconds of them for what runs", DRAIN_S)
    try:
        _measure(bench, unit_s, every_s, units, told)
    except RuntimeError as error:
        # The other parts of the benchmark have taken an hour by now.
        bench.report("evictions: error", str(error))
        bench.ask("evictions: tasks that end as they should", 0, "==", 1)


def _measure(bench: Bench, unit_s: float, every_s: float, units: int, told: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        runs = Runs(Path(name), unit_s)
        with runs.head():
            killed = runs.run("killed", units, every_s)
            verdict = _tell(bench, "evictions", killed)
            _ask(bench, killed, verdict, units)
            warned = runs.run("told", told, every_s, GRACE_S)
            _tell(bench, "evictions told of", warned)
    exits = [pilot.exit_s for pilot in warned.pilots if pilot.told]
    cut_short = sum(pilot.killed for pilot in warned.pilots)
    bench.measure("evictions told of: until the pilot has left, most", max(exits, default=0), "s")
    bench.measure("evictions told of: pilots that had to be killed", cut_short, "1")


def _tell(bench: Bench, name: str, ran: Ran) -> Verdict:
    lives = ran.lives()
    verdict = judge(lives, ran.committed)
    ends = sum(life.killed for life in lives)
    startup = [life.startup_s for life in lives if life.ran]
    replaced = [life.there - life.began for life in lives]
    assert ran.view.ended is not None
    last = max(one.last for one in ran.burnt)
    bench.measure(f"{name}: pilots evicted", ends, "1")
    bench.measure(f"{name}: useful CPU", verdict.useful_cpu_s, "s")
    bench.measure(f"{name}: ideal", verdict.ideal_cpu_s, "s")
    bench.measure(f"{name}: ideal, whole units", verdict.ideal_units_cpu_s, "s")
    bench.measure(f"{name}: lost CPU", verdict.lost_cpu_s, "s")
    bench.measure(f"{name}: lost CPU that ran when they ended", verdict.in_flight_cpu_s, "s")
    bench.measure(f"{name}: lost CPU in the receipt", ran.receipt["counts"]["lost_cpu_s"], "s")
    bench.measure(f"{name}: idle between units", verdict.idle_s, "s")
    bench.measure(f"{name}: until there is another process, mean", fmean(replaced), "s")
    bench.measure(f"{name}: start-up, mean", fmean(startup), "s")
    bench.measure(f"{name}: start-up, most", max(startup), "s")
    bench.measure(f"{name}: last unit until the task's end", ran.view.ended.timestamp() - last, "s")
    return verdict


def _ask(bench: Bench, ran: Ran, verdict: Verdict, units: int) -> None:
    bench.ask("evictions: units lost with a worker, most", verdict.lost_units_most, "<=", 1)
    share = verdict.useful_cpu_s / verdict.ideal_cpu_s
    bench.ask("evictions: useful CPU over the ideal's", share, ">=", 0.95)
    share = verdict.useful_cpu_s / verdict.ideal_units_cpu_s
    bench.ask("evictions: useful CPU over the ideal's, whole units", share, ">=", 0.95)
    once = sorted(ran.numbers) == list(range(units))
    bench.ask("evictions: every event is there once", float(once), "==", 1)
    bench.ask("evictions: receipt that verifies", float(ran.verifies), "==", 1)


def main() -> int:
    """Run it alone; the benchmark ``wan`` has it among its parts."""
    bench = Bench.from_command_line("wan_evictions", __doc__)
    # The head and the pilots go with whoever is told to end, too.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    bench.input("load of the machine before", os.getloadavg()[0])
    bench.ready()
    measure_evictions(bench)
    return bench.finish()


if __name__ == "__main__":
    sys.exit(main())
