"""Simulated pilots in an open loop: claims and reports come when they are due, answered or not.

A pilot that vanished in the network does not wait for the service to catch up before the next
one comes. So every request is sent at its time, which a Poisson process has laid down before, and
its latency counts from that time: what a slow answer delays is not hidden.

One head, on a database server that it shares with nobody, over HTTP on the loopback interface
and without TLS. Each arrival is a claim of one unit; its report, with an output beside it, is due
`COMPUTE_S` after the claim was, or at once if the claim took longer.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil
import uproot

from bench.harness import Bench
from evstream.assembly import connect, verify_receipt
from evstream.client import Address
from evstream.domain.granularity import Granularity
from evstream.domain.ledger import Success
from evstream.domain.outputs import OutputRecord
from evstream.domain.payload import Payload
from evstream.domain.states import Answer, TaskState
from evstream.domain.streams import OutputStream
from evstream.wire import work_messages as w
from evstream.wire.messages import NewDataset, NewFile, NewTask
from tests.postgresql import server

RATE = 300.0
COMPUTE_S = 2.0
OUTPUT_BYTES = 4096
IDLE_S_MAX = 60.0
START_S_MAX = 60.0
END_S_MAX = 600.0
WORKERS = 2000
"""So many names of workers; each comes again and again."""
SEED = 20261123

_ENCODE = msgspec.json.Encoder().encode
_CLAIM = msgspec.json.Decoder(w.ClaimAnswer)
_REPORT = msgspec.json.Decoder(w.ReportAnswer)


class Connections:
    """Connections that are kept; as many as requests are under way.

    One that nobody has used for `IDLE_S_MAX` is left, as evstream's own clients do.
    """

    def __init__(self, host: str, port: int, token: str) -> None:
        self._host, self._port = host, port
        self._common = (
            f" HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {token}\r\n"
            "Content-Type: application/json\r\n"
        )
        self._idle: deque[tuple[float, asyncio.StreamReader, asyncio.StreamWriter]] = deque()
        self.opened = 0

    async def post(self, path: str, body: bytes, key: str = "") -> tuple[int, bytes]:
        """Send a request; return its answer's status and body."""
        # The one that was used last is the next; those that nobody needs come to the front.
        while self._idle and self._idle[0][0] < time.monotonic() - IDLE_S_MAX:
            self._idle.popleft()[2].close()
        if self._idle:
            _, reader, writer = self._idle.pop()
        else:
            reader, writer = await asyncio.open_connection(self._host, self._port)
            self.opened += 1
        named = f"Idempotency-Key: {key}\r\n" if key else ""
        head = f"POST {path}{self._common}{named}Content-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        found = await reader.readuntil(b"\r\n\r\n")
        length = found.lower().index(b"content-length: ") + 16
        size = int(found[length : found.index(b"\r", length)])
        content = await reader.readexactly(size)
        self._idle.append((time.monotonic(), reader, writer))
        return int(found[9:12]), content

    def close(self) -> None:
        """Close all."""
        for _, _, writer in self._idle:
            writer.close()


@dataclass
class Outcome:
    """What the pilots have seen.

    Attributes
    ----------
    claims, reports : list of float
        Seconds from the time at which each was due.
    accepted : int
        Reports that count.
    """

    claims: list[float] = field(default_factory=list)
    reports: list[float] = field(default_factory=list)
    accepted: int = 0
    errors: list[str] = field(default_factory=list)


class Pilots:
    """Claims and reports of many pilots.

    Parameters
    ----------
    task : int
        What they work for.
    """

    def __init__(self, connections: Connections, task: int) -> None:
        self._connections = connections
        self._task = task
        self._output = random.Random(SEED).randbytes(OUTPUT_BYTES)
        self._digests = (
            hashlib.sha256(self._output).hexdigest(),
            f"{zlib.adler32(self._output):08x}",
        )
        self.outcome = Outcome()

    async def work(self, arrivals: list[float]) -> None:
        """Have pilots arrive at these times, and wait for the last one's report."""
        begin = time.monotonic() + 0.1
        running: set[asyncio.Task[None]] = set()
        for number, arrival in enumerate(arrivals):
            due = begin + arrival
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            pilot = asyncio.ensure_future(self._pilot(number, due))
            running.add(pilot)
            pilot.add_done_callback(running.discard)
        if running:
            await asyncio.wait(running, timeout=END_S_MAX)
        self.outcome.errors += ["never answered"] * len(running)
        for pilot in running:
            pilot.cancel()

    async def _pilot(self, number: int, due: float) -> None:
        try:
            await self._claim_and_report(number, due)
        except (OSError, asyncio.IncompleteReadError, ValueError, msgspec.MsgspecError) as error:
            self.outcome.errors.append(repr(error)[:300])

    async def _claim_and_report(self, number: int, due: float) -> None:
        worker, lease = f"pilot-{number % WORKERS}", f"lease-{number}"
        request = _ENCODE(w.ClaimRequest(worker, 1, 600.0, self._task))
        status, content = await self._connections.post("/v1/claims", request, lease)
        self.outcome.claims.append(time.monotonic() - due)
        if status != 200:
            raise ValueError(f"claim: {status} {content[:200]!r}")
        units = _CLAIM.decode(content).units
        if len(units) != 1:
            raise ValueError(f"claim: {len(units)} units")
        due = max(due + COMPUTE_S, time.monotonic())
        await asyncio.sleep(due - time.monotonic())
        report = _ENCODE(w.ReportRequest([self._done(worker, lease, units[0])]))
        status, content = await self._connections.post("/v1/reports", report)
        self.outcome.reports.append(time.monotonic() - due)
        if status != 200:
            raise ValueError(f"report: {status} {content[:200]!r}")
        (answer,) = _REPORT.decode(content).answers
        if answer is not Answer.ACCEPTED:
            raise ValueError(f"report: {answer}")
        self.outcome.accepted += 1

    def _done(self, worker: str, lease: str, unit: w.RangeUnit | w.MergeUnit) -> w.UnitReport:
        assert isinstance(unit, w.RangeUnit)
        slot = unit.outputs[0]
        record = OutputRecord(slot.stream, slot.name, OUTPUT_BYTES, *self._digests, {})
        success = Success((record,), cpu_s=1.9, wall_s=2.0, bytes_in=100_000)
        return w.UnitReport(
            lease, worker, unit.ref, success=success, contents={slot.name: self._output}
        )


def arrivals(seconds: float, rate: float) -> list[float]:
    """Return the times of a Poisson process."""
    gaps = np.random.default_rng(SEED).exponential(1 / rate, int(2 * seconds * rate) + 100)
    times = np.cumsum(gaps)
    return [float(one) for one in times[times < seconds]]


@contextmanager
def _head(folder: Path, catalogue: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start a head on a database; it has ended when the context ends."""
    data = folder / "head"
    words = ["head", "--data", str(data), "--catalogue", catalogue, "--port", "0"]
    environment = {**os.environ, "EVSTREAM_SOURCE_ROOTS": "any"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "evstream", *words], env=environment, stdout=log, stderr=log
        )
    try:
        until = time.monotonic() + START_S_MAX
        while not (data / "address.json").exists():
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"the head does not start: {(folder / 'log').read_text()}")
            time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        process.wait(60)


async def _submit(data: Path, source: Path) -> int:
    service = connect(Address.read(data), 60.0)
    try:
        dataset = await service.add_dataset(NewDataset([NewFile(str(source))]))
        new = NewTask(
            name="open-loop",
            dataset=dataset.name,
            payload=Payload("true {input} {output}"),
            granularity=Granularity(events=1),
            outputs=(OutputStream(suffix=".bin"),),
        )
        return (await service.submit(new)).id
    finally:
        await service.close()


async def _ended(data: Path, task: int) -> tuple[TaskState, int, dict[str, Any] | None]:
    """Wait until a task has ended; return its state, ranges that are committed, its receipt."""
    service = connect(Address.read(data), 60.0)
    try:
        until = time.monotonic() + END_S_MAX
        view = await service.task(task)
        while not view.state.final and time.monotonic() < until:
            await asyncio.sleep(0.5)
            view = await service.task(task)
        receipt = await service.receipt(task) if view.state.final else None
        return view.state, view.process.ranges_finished, receipt
    finally:
        await service.close()


def _cpu_s(process: psutil.Process) -> float:
    """Return what a process and those below it have spent."""
    spent = 0.0
    for one in (process, *process.children(recursive=True)):
        times = one.cpu_times()
        spent += times.user + times.system
    return spent


def measure_open_loop(bench: Bench) -> None:
    """Measure claims and reports of pilots that do not wait for each other."""
    seconds = bench.choose("open loop: seconds", full=600, quick=10)
    bench.input("open loop: claims and reports a second", RATE)
    times = arrivals(seconds, RATE)
    with tempfile.TemporaryDirectory() as name, server({}) as database:
        folder = Path(name)
        source = folder / "events.root"
        with uproot.recreate(source) as file:
            file["Events"] = {"x": np.arange(len(times), dtype=np.int32)}
        with _head(folder, database.new_database()) as process:
            _measure(bench, folder, process.pid, times, source)


def _measure(bench: Bench, folder: Path, pid: int, times: list[float], source: Path) -> None:
    data, receipt = folder / "head", folder / "receipt.json"
    task = asyncio.run(_submit(data, source))
    address = json.loads((data / "address.json").read_text())
    host, _, port = address["url"].removeprefix("http://").rpartition(":")
    head, mine = psutil.Process(pid), psutil.Process()
    before = _cpu_s(head), mine.cpu_times().user + mine.cpu_times().system

    async def drive() -> Outcome:
        connections = Connections(host, int(port), (data / "token").read_text().strip())
        pilots = Pilots(connections, task)
        # Pauses of ours would count as the head's.
        gc.collect()
        gc.freeze()
        gc.disable()
        try:
            await pilots.work(times)
        finally:
            gc.enable()
            connections.close()
        bench.measure("open loop: connections", connections.opened, "1")
        return pilots.outcome

    outcome = asyncio.run(drive())
    both = outcome.claims + outcome.reports
    for name, values in (("claims", outcome.claims), ("reports", outcome.reports)):
        for share in (50, 99, 100):
            bench.measure(f"open loop: {name}, p{share}", 1e3 * _percentile(values, share), "ms")
    spent = mine.cpu_times().user + mine.cpu_times().system - before[1]
    a_pair = 1e3 / len(times)
    bench.measure("open loop: CPU of the head", (_cpu_s(head) - before[0]) * a_pair, "ms a pair")
    bench.measure("open loop: CPU of the pilots", spent * a_pair, "ms a pair")
    state, committed, found = asyncio.run(_ended(data, task))
    for error in sorted(set(outcome.errors))[:5]:
        bench.report(f"open loop: error, {outcome.errors.count(error)} times", error)
    bench.ask("open loop: claims and reports, p99, ms", 1e3 * _percentile(both, 99), "<=", 100)
    bench.ask("open loop: requests that failed", len(outcome.errors), "==", 0)
    lost = max(len(times) - outcome.accepted, len(times) - committed)
    bench.ask("open loop: units lost", lost, "==", 0)
    receipt.write_text(json.dumps(found))
    # Outputs were compared with the store as they were reported; they stay there.
    levels = {one.name: one.holds for one in verify_receipt(receipt)}
    exact = state is TaskState.DONE and bool(levels["ledger"] and levels["complete"])
    bench.ask("open loop: receipt has each event once", float(exact), "==", 1)


def _percentile(values: list[float], share: float) -> float:
    return float(np.percentile(values, share)) if values else float("inf")


def main() -> int:
    """Run it alone; the benchmark ``wan`` has it among its parts."""
    bench = Bench.from_command_line("wan_open_loop", __doc__)
    bench.ready()
    measure_open_loop(bench)
    return bench.finish()


if __name__ == "__main__":
    sys.exit(main())
