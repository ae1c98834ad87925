"""What evstream costs: ranges of one CPU-second, and ranges of nothing at all.

The ideal is the same payload commands run bare, as many at once as there are workers,
in the same session and in turn. A payload burns CPU until its process has spent one
second of it, interpreter start included, and copies its input.
"""

from __future__ import annotations

import asyncio
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import uproot

from bench.harness import Bench
from evstream.adapters.offload import InPlace
from evstream.adapters.payload.callable import CallableRunner
from evstream.assembly import connect, make_pilot
from evstream.client import Address, Service
from evstream.domain.errors import NotFoundError
from evstream.domain.granularity import Granularity
from evstream.domain.names import WorkerId
from evstream.domain.payload import Payload
from evstream.domain.states import TaskState
from evstream.domain.streams import OutputStream
from evstream.pilot import PilotSettings
from evstream.settings import Settings
from evstream.wire.messages import NewDataset, NewFile, NewTask, TaskView

WORKERS = 2
CPU_S = 1.0
EVENTS_PER_RANGE = 10
POLL_S = 0.1
START_S_MAX = 60.0

BURN = f"""
import shutil, sys, time
while time.process_time() < {CPU_S}:
    sum(range(20_000))
shutil.copyfile(sys.argv[1], sys.argv[2])
"""


def write_source(path: Path, entries: int) -> Path:
    """Write a small flat TTree in clusters of 1 000 events."""
    rng = np.random.default_rng(1)
    with uproot.recreate(path) as file:
        kinds = {"run": "int32", "event": "int64", "x": "float32", "y": "float32"}
        tree = file.mktree("Events", kinds)
        for start in range(0, entries, 1000):
            event = np.arange(start, min(start + 1000, entries))
            values = rng.random((2, len(event)), np.float32)
            run = np.ones(len(event), np.int32)
            tree.extend({"run": run, "event": event, "x": values[0], "y": values[1]})
    return path


class Ground:
    """A folder with a source and a payload, and the ways to work them off."""

    def __init__(self, folder: Path, ranges: int) -> None:
        self._folder = folder
        self._ranges = ranges
        self._source = write_source(folder / "source.root", ranges * EVENTS_PER_RANGE)
        self._burn = folder / "burn.py"
        self._burn.write_text(BURN)
        self._runs = 0

    def bare(self) -> None:
        """Run the payload commands alone, one after another on each worker."""
        command = [sys.executable, "-S", str(self._burn), str(self._source)]

        def one(number: int) -> None:
            subprocess.run([*command, str(self._folder / f"bare{number % WORKERS}")], check=True)

        with ThreadPoolExecutor(WORKERS) as workers:
            list(workers.map(one, range(self._ranges)))

    def whole_command(self) -> None:
        """Run ``evstream run``, from its start to its end."""
        output = self._new_folder()
        words = ["run", self._source, "--payload", self._payload, "--workers", WORKERS]
        words += ["--events-per-range", EVENTS_PER_RANGE, "--output", output]
        subprocess.run(
            [sys.executable, "-m", "evstream", *map(str, words)],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        shutil.rmtree(output)

    def task(self) -> float:
        """Return the wall seconds of a task on a service whose pilots wait for work."""
        pilot = [sys.executable, "-m", "evstream", "pilot", "--cores", "1"]
        return self._timed(pilot, self._payload, ".root")

    def empty_task(self) -> float:
        """Return the wall seconds of a task whose payload does nothing, in the pilots."""
        pilot = [sys.executable, "-m", "bench.overhead", "--pilot"]
        return self._timed(pilot, "nothing {output}", ".txt")

    @property
    def _payload(self) -> str:
        return f"{sys.executable} -S {self._burn} {{input}} {{output}}"

    def _new_folder(self) -> Path:
        self._runs += 1
        return self._folder / f"run{self._runs}"

    def _timed(self, pilot: list[str], payload: str, suffix: str) -> float:
        data = self._new_folder()
        with _process([sys.executable, "-m", "evstream", "serve", "--data", str(data)]):
            _wait_for(data / "address.json")
            with (
                _process([*pilot, "--data", str(data)]),
                _process([*pilot, "--data", str(data)]),
            ):
                seconds = asyncio.run(self._submit_and_wait(data, payload, suffix))
        shutil.rmtree(data)
        return seconds

    async def _submit_and_wait(self, data: Path, payload: str, suffix: str) -> float:
        service = connect(Address.read(data), 60.0)
        try:
            dataset = await service.add_dataset(NewDataset([NewFile(str(self._source))]))
            # Pilots that have started have asked for work; a first task shows that they did.
            await self._work_off(service, dataset.name, payload, suffix, "first", 100)
            started = time.perf_counter()
            await self._work_off(
                service, dataset.name, payload, suffix, "measured", EVENTS_PER_RANGE
            )
            return time.perf_counter() - started
        finally:
            await service.close()

    async def _work_off(
        self, service: Service, dataset: str, payload: str, suffix: str, name: str, step: int
    ) -> TaskView:
        if name == "first":
            step = math.ceil(self._ranges * EVENTS_PER_RANGE / WORKERS)
        new = NewTask(
            name=name,
            dataset=dataset,
            payload=Payload(payload),
            granularity=Granularity(events=step),
            outputs=(OutputStream(suffix=suffix),),
        )
        view = await service.submit(new)
        while not view.state.final:
            await asyncio.sleep(POLL_S)
            view = await service.task(view.id)
        assert view.state is TaskState.DONE, view
        return view


@contextmanager
def _process(command: list[str]) -> Iterator[None]:
    environment = {**os.environ, "EVSTREAM_PILOT_IDLE_S_MAX": "3600"}
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, env=environment, stdout=quiet, stderr=quiet)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + START_S_MAX
    while not path.exists():
        if time.monotonic() > deadline:
            raise NotFoundError(f"{path} did not appear")
        time.sleep(0.01)


def _nothing(values: dict[str, str]) -> None:
    Path(values["output"]).write_bytes(b"done\n")


def run_empty_pilot(data: Path) -> None:
    """Work for the service of a data directory with a payload that does nothing."""

    async def main() -> None:
        service = connect(Address.read(data), 10.0)
        with tempfile.TemporaryDirectory() as scratch:
            pilot = make_pilot(
                service,
                Settings(),
                PilotSettings(cores=4, idle_s_max=3600.0, drain_s=0.0),
                Path(scratch),
                WorkerId(f"empty-{os.getpid()}"),
                CallableRunner(_nothing, InPlace()),
            )
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, pilot.stop)
            await pilot.run()
        await service.close()

    asyncio.run(main())


def main() -> int:
    """Measure, print, write, and return the exit status."""
    bench = Bench.from_command_line("overhead", __doc__)
    ranges = bench.choose("ranges of 1 CPU-second", full=200, quick=40)
    empty = bench.choose("empty ranges", full=2000, quick=2000)
    rounds = bench.choose("rounds", full=2, quick=1)
    bench.input("workers", WORKERS)
    with tempfile.TemporaryDirectory(prefix="evstream-bench-") as folder:
        ground = Ground(Path(folder), ranges)
        walls = bench.interleave({"bare": ground.bare, "task": ground.task}, rounds)
        if not bench.quick:
            walls |= bench.interleave({"command": ground.whole_command}, 1)
        for name, samples in walls.items():
            bench.measure(f"{name} wall", samples, "s")
        ideal = ranges * CPU_S / WORKERS
        bench.measure("bare wall / CPU seconds a worker", walls["bare"].median / ideal, "")
        ratio = walls["task"].median / walls["bare"].median
        bench.ask("task: wall over the bare payloads'", ratio, "<=", 1.05)
        if not bench.quick:
            ratio = walls["command"].median / walls["bare"].median
            bench.ask("evstream run, start and end included: wall over bare", ratio, "<=", 1.05)
        (Path(folder) / "empty").mkdir()
        nothing = Ground(Path(folder) / "empty", empty)
        walls = bench.interleave({"empty": nothing.empty_task}, rounds)
        rate = empty / bench.measure("empty task wall", walls["empty"], "s")
        bench.measure("empty ranges", rate, "ranges/s")
        bench.ask("empty ranges end to end, per second", rate, ">=", 200.0)
    return bench.finish()


if __name__ == "__main__":
    if len(sys.argv) == 4 and sys.argv[1] == "--pilot":
        run_empty_pilot(Path(sys.argv[3]))
    else:
        sys.exit(main())
