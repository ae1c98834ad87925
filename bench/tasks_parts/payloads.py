"""Long-lived payloads: one initialisation for many workers, and units over the channel."""

from __future__ import annotations

import asyncio
import resource
import shlex
import sys
import tempfile
import time
from pathlib import Path

from bench.harness import Bench, Samples
from evstream.adapters.payload.long_lived import LongLivedRunner
from evstream.domain.payload import Payload
from evstream.ports.payload import PayloadCall

WORKERS = 8

PAYLOAD = """
import sys, time
from evstream.payload import serve

def initialise():
    until = time.process_time() + float(sys.argv[1])
    while time.process_time() < until:
        sum(range(20_000))

def process(unit):
    # The clock is the machine's, the same in all processes.
    unit.output.write_text(repr(time.monotonic()))

serve(process, initialise)
"""


def measure_initialisation(bench: Bench) -> None:
    """Compare eight workers after one initialisation with one worker alone."""
    init_s = bench.choose("CPU seconds of an initialisation", full=20.0, quick=2.0)
    rounds = bench.choose("rounds of initialisations", full=3, quick=1)
    bench.input("workers after one initialisation", WORKERS)
    walls: dict[int, list[float]] = {1: [], WORKERS: []}

    def start(workers: int) -> float:
        began, before = time.perf_counter(), _cpu_of_children()
        asyncio.run(_one_unit_each(init_s, workers))
        walls[workers].append(time.perf_counter() - began)
        return _cpu_of_children() - before

    cpu = bench.interleave({"one": lambda: start(1), "many": lambda: start(WORKERS)}, rounds)
    one = bench.measure("one worker, until its first unit is done: CPU", cpu["one"], "s")
    many = bench.measure(f"{WORKERS} workers, until each has done a unit: CPU", cpu["many"], "s")
    one_wall = bench.measure("one worker: wall", Samples(tuple(walls[1])), "s")
    many_wall = bench.measure(f"{WORKERS} workers: wall", Samples(tuple(walls[WORKERS])), "s")
    told = f"{WORKERS} workers after one initialisation, against one worker"
    bench.ask(f"{told}: CPU", many / one, "<=", 1.2)
    bench.ask(f"{told}: wall", many_wall / one_wall, "<=", 1.2)


def measure_hand_out(bench: Bench) -> None:
    """Take the time from a unit's being there to a worker's having it."""
    units = bench.choose("units handed out", full=5000, quick=500)
    for at_once in (1, WORKERS):
        latencies, wall_s = asyncio.run(_hand_out(units, at_once))
        told = f"{at_once} outstanding" if at_once > 1 else "one at a time"
        latency = bench.measure(
            f"hand-out, {told}: median", 1e3 * Samples(tuple(latencies)).median, "ms"
        )
        late = sorted(latencies)[int(0.99 * units)]
        bench.measure(f"hand-out, {told}: 99 in 100 within", 1e3 * late, "ms")
        bench.measure(f"units of nothing, {told}", units / wall_s, "1/s")
        if at_once == 1:
            bench.ask("hand-out of a unit over the channel, ms", latency, "<=", 1.0)


async def _one_unit_each(init_s: float, workers: int) -> None:
    with tempfile.TemporaryDirectory(prefix="evstream-bench-") as folder:
        runner = LongLivedRunner(workers)
        try:
            calls = _calls(Path(folder), init_s, workers)
            await asyncio.gather(*(runner.run(call, lambda cpu_s: None) for call in calls))
        finally:
            await runner.close()


async def _hand_out(units: int, at_once: int) -> tuple[list[float], float]:
    with tempfile.TemporaryDirectory(prefix="evstream-bench-") as folder:
        runner = LongLivedRunner(at_once)
        try:
            first, *calls = _calls(Path(folder), 0.0, units + 1)
            await runner.run(first, lambda cpu_s: None)
            queue = iter(calls)
            given: list[float] = []

            async def work() -> None:
                for call in queue:
                    given.append(time.monotonic())
                    mine = len(given) - 1
                    await runner.run(call, lambda cpu_s: None)
                    given[mine] = _begun(call) - given[mine]

            began = time.perf_counter()
            await asyncio.gather(*(work() for _ in range(at_once)))
            return given, time.perf_counter() - began
        finally:
            await runner.close()


def _begun(call: PayloadCall) -> float:
    return float(Path(call.values["output"]).read_text(encoding="utf-8"))


def _calls(folder: Path, init_s: float, units: int) -> list[PayloadCall]:
    words = [sys.executable, "-c", PAYLOAD, str(init_s)]
    payload = Payload(shlex.join(words), kind="long-lived")
    calls = []
    for number in range(units):
        directory = folder / f"unit-{number}"
        directory.mkdir()
        values = {
            "input": str(directory / "input.root"),
            "output": str(directory / "output.txt"),
            "output:output": str(directory / "output.txt"),
            "entry_start": str(number),
            "entry_stop": str(number + 1),
            "range_id": f"unit-{number}",
        }
        calls.append(PayloadCall(payload, values, directory, directory / "log.txt"))
    return calls


def _cpu_of_children() -> float:
    """Return the CPU seconds of the processes that have ended below this one."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
