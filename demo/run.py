"""The demonstration: a dataset, a service, two workers, one of them killed, and the receipt.

Run as ``make demo``, or ``python -m demo.run`` in the environment that it sets up. It leaves
``demo/dimuon.png`` and ``demo/receipt.json``; the service's folder, logs and the merged output
are in ``demo/run`` until the next time.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from demo.generate import DATA, EVENTS_PER_CLUSTER, FILES, generate
from demo.payload import BRANCHES
from demo.plot import draw
from evstream.assembly import connect
from evstream.cli.printing import print_pairs, size_text
from evstream.cli.status import watch_task
from evstream.cli.summary import summarize
from evstream.client import Address, Service
from evstream.client.results import fetch_results
from evstream.wire.messages import TaskView

DEMO = Path(__file__).resolve().parent
RUN = DEMO / "run"
RESULTS, LOGS, WORK = RUN / "results", RUN / "logs", RUN / "work"
RECEIPT, PICTURE = DEMO / "receipt.json", DEMO / "dimuon.png"
WORKERS = 2
EVENTS_PER_RANGE = 2 * EVENTS_PER_CLUSTER
# Short, so that what the killed worker held goes out again within the demonstration. Workers
# renew four times a lease, and tell what their payloads have spent; the kill comes after that.
LEASE_S = 4
PAYLOAD_CPU_S_MIN = 1.2 * LEASE_S / 4
START_S_MAX, PATIENCE_S = 60.0, 60.0


class DemoError(Exception):
    """A part of the demonstration did not do what it should; the message says where to look."""


def environment() -> dict[str, str]:
    """Return the environment of commands, without settings of the user's own service."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("EVSTREAM_")}
    return {**kept, "EVSTREAM_LEASE_S": str(LEASE_S)}


class Processes:
    """Commands that run beside the demonstration, and end with it."""

    def __init__(self) -> None:
        self._started: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *words: object) -> subprocess.Popen[bytes]:
        """Start ``evstream WORDS`` with its output in ``demo/run/logs/NAME.log``."""
        with (LOGS / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "evstream", *map(str, words)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment(),
                start_new_session=True,
            )
        self._started[name] = process
        return process

    def start_worker(self, number: int, data: Path, task: int) -> subprocess.Popen[bytes]:
        """Start a worker with one core."""
        name = f"worker-{number}"
        words = ("--data", data, "--cores", 1, "--task", task, "--worker", name)
        return self.start(name, "pilot", *words, "--workdir", WORK)

    def died(self) -> list[str]:
        """Name the processes that ended badly, other than by our own SIGKILL."""
        return [
            name
            for name, process in self._started.items()
            if process.poll() not in (None, 0, -signal.SIGKILL)
        ]

    def end_all(self) -> None:
        """Ask everything that still runs to end; make it after ten seconds."""
        # Workers first: a service that is gone leaves them asking for it.
        for process in reversed(self._started.values()):
            if process.poll() is None:
                process.terminate()
        for process in reversed(self._started.values()):
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def only_one() -> Iterator[None]:
    """Hold the demonstration's folder; a second call at the same time is refused."""
    with (DEMO / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DemoError("another demonstration runs here; wait until it has ended") from None
        yield


@contextmanager
def fresh_processes() -> Iterator[Processes]:
    """Empty the folder of the last run; end what this one starts, whatever happens."""
    shutil.rmtree(RUN, ignore_errors=True)
    for folder in (LOGS, WORK):
        folder.mkdir(parents=True)
    RECEIPT.unlink(missing_ok=True)
    PICTURE.unlink(missing_ok=True)
    processes = Processes()
    try:
        yield processes
    finally:
        processes.end_all()


def evstream(*words: object) -> str:
    """Run a command as a user would, show it, and return what it printed.

    Raises
    ------
    DemoError
        It failed.
    """
    texts = [str(word) for word in words]
    done = subprocess.run(
        [sys.executable, "-m", "evstream", *texts],
        cwd=DEMO.parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=environment(),
        text=True,
        check=False,
    )
    if done.returncode:
        print(done.stdout, end="")
        raise DemoError(f"evstream {texts[0]} failed with status {done.returncode}")
    return done.stdout


def start_service(processes: Processes, data: Path) -> None:
    """Start the embedded service and wait until it answers."""
    service = processes.start("service", "serve", "--data", data)
    started = time.monotonic()
    while not (data / "address.json").exists():
        if service.poll() is not None or time.monotonic() - started > START_S_MAX:
            raise DemoError(f"the service did not start; see {shown(LOGS / 'service.log')}")
        time.sleep(0.05)


def submit(data: Path, files: Sequence[Path]) -> int:
    """Declare the task; return its number."""
    payload = shlex.join([sys.executable, str(DEMO / "payload.py")]) + " {input} {output}"
    options = ["--tree", "Events", "--events-per-range", EVENTS_PER_RANGE, "--merge"]
    options += ["--name", "dimuon", "--branches", *BRANCHES]
    return int(evstream("submit", *files, "--payload", payload, *options, "--data", data))


async def process(processes: Processes, data: Path, task: int) -> tuple[TaskView, float, str]:
    """Process the task with two workers, of which one is killed half-way.

    Returns
    -------
    TaskView, float, str
        The task's end, wall seconds from the start of the first worker, and the service's
        public key, which receipts are checked with.
    """
    service = connect(Address.read(data), PATIENCE_S)
    started = time.monotonic()
    try:
        victim, *_ = [processes.start_worker(n + 1, data, task) for n in range(WORKERS)]
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(watch_task(service, task))
            guarding = group.create_task(guard(processes))
            await kill_half_way(service, task, victim)
            processes.start_worker(WORKERS + 1, data, task)
            view = await watching
            guarding.cancel()
        wall_s = time.monotonic() - started
        await fetch_results(service, task, RESULTS)
        key = (await service.health()).receipt_key
    finally:
        await service.close()
    return view, wall_s, key


async def guard(processes: Processes) -> None:
    """Raise when a process ends badly, instead of waiting for what will not come."""
    while not (died := processes.died()):
        await asyncio.sleep(0.5)
    raise DemoError(f"{died[0]} ended; see {shown(LOGS / f'{died[0]}.log')}")


async def kill_half_way(service: Service, task: int, victim: subprocess.Popen[bytes]) -> None:
    """Kill a worker with SIGKILL once half the ranges are done and its payload is at work."""
    while True:
        view = await service.task(task)
        done, ranges = view.process.ranges_finished, view.process.ranges
        busy = payload_cpu_s(victim.pid)
        if view.state.final:
            raise DemoError("the task ended before a worker could be killed")
        if done * 2 >= ranges and busy > PAYLOAD_CPU_S_MIN:
            break
        await asyncio.sleep(0.05)
    victim.kill()
    victim.wait()
    say(
        f"worker-1 killed with SIGKILL after {done} of {ranges} ranges, {busy:.1f} CPU s into "
        f"a payload; its leases run out within {LEASE_S} s. worker-{WORKERS + 1} starts."
    )


def payload_cpu_s(worker: int) -> float:
    """Return the CPU seconds that a worker's running payload has spent."""
    try:
        children = psutil.Process(worker).children(recursive=True)
        return max((sum(child.cpu_times()[:2]) for child in children), default=0.0)
    except psutil.Error:
        return 0.0


def say(text: str) -> None:
    """Print a step; the live progress has standard error for itself."""
    print(f"\n{text}", flush=True)


def shown(path: Path) -> str:
    """Return a path as it is seen from the repository."""
    return os.path.relpath(path, DEMO.parent)


def demonstrate(jobs: int | None) -> None:
    """Do everything, from collisions to the receipt."""
    begun = time.monotonic()
    say(f"1. A dataset: Pythia 8 collisions in {shown(DATA)}")
    files = generate(jobs=jobs)
    size = sum(path.stat().st_size for path in files)
    print(f"{FILES} files, {size_text(size)}")
    with fresh_processes() as processes:
        data = RUN / "service"
        say(f"2. The embedded service in {shown(data)}, a task, and {WORKERS} workers")
        start_service(processes, data)
        task = submit(data, files)
        view, wall_s, key = asyncio.run(process(processes, data, task))
        if view.state.value != "done":
            raise DemoError(f"the task ended {view.state.value}: {view.reason}")
    report(wall_s, key)
    print(f"\nThe whole demonstration took {time.monotonic() - begun:.0f} s.")


def report(wall_s: float, key: str) -> None:
    """Verify the receipt, draw the merged output, and print what it took."""
    shutil.copyfile(RESULTS / "receipt.json", RECEIPT)
    [merged] = RESULTS.glob("*.root")
    say("3. What it took")
    print_pairs(summarize(json.loads(RECEIPT.read_text()), wall_s, WORKERS).rows())
    words = ("verify", shown(RECEIPT), "--outputs", shown(RESULTS), "--key", key)
    say(f"4. The receipt, verified offline: evstream {' '.join(words)}")
    print(evstream(*words), end="")
    pairs = draw(merged, PICTURE)
    say(f"5. {pairs} muon pairs of {shown(merged)} drawn: {shown(PICTURE)}")


def main() -> int:
    """Demonstrate from the command line."""
    parser = argparse.ArgumentParser(prog="python -m demo.run", description=__doc__)
    parser.add_argument("--jobs", type=int, help="processes that make collisions; one a core")
    jobs = parser.parse_args().jobs
    try:
        with only_one():
            demonstrate(jobs)
    except DemoError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except BaseExceptionGroup as group:
        errors = group.subgroup(DemoError)
        if errors is None:
            raise
        print(f"demo: {errors.exceptions[0]}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
