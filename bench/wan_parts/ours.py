"""The rows of evstream: a pilot near the link's one end, a head and its edges at the other."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import psutil

from bench.wan_parts.ground import ORIGIN_PORT, Ground, end, python_path
from bench.wan_parts.link import FAR
from bench.wan_parts.rows import Outcome, Workload, run_all
from bench.wan_parts.work import added
from evstream.assembly import connect
from evstream.client import Address, Service
from evstream.domain.granularity import Granularity
from evstream.domain.payload import Payload
from evstream.domain.states import TaskState
from evstream.domain.streams import OutputStream
from evstream.wire.messages import NewDataset, NewFile, NewTask, TaskView

HEAD_PORT, EDGE_PORT, ALONE_PORT = 8400, 8401, 8402
ENVIRONMENT = {
    "EVSTREAM_SOURCE_NETWORKS": "any",
    "EVSTREAM_PILOT_IDLE_S_MAX": "0",
    "EVSTREAM_BEAT_S": "0.5",
}

T = TypeVar("T")


class Ours:
    """A head with an edge, and a head without any."""

    def __init__(self, place: Ground) -> None:
        self._place = place
        self._edge: psutil.Popen | None = None
        self._edges = 0
        self._datasets: dict[tuple[int, int], str] = {}
        for port in (HEAD_PORT, ALONE_PORT):
            self._serve(port, place.folder / f"head-{port}")

    def alone(self, work: Workload, workers: int) -> Outcome:
        """Have the pilot cut the files by itself: there is no edge."""
        return self._run(ALONE_PORT, work, workers)

    def cold_edge(self, work: Workload, workers: int) -> Outcome:
        """Fetch from an edge beside the origin that has never seen the files."""
        if self._edge is not None:
            end(self._edge)
        self._edges += 1
        token = self._address(HEAD_PORT).token
        data = self._place.folder / f"edge-{self._edges}"
        self._edge = self._serve(EDGE_PORT, data, f"http://{FAR}:{HEAD_PORT}", token)
        self._until_joined()
        return self._run(HEAD_PORT, work, workers)

    def warm_edge(self, work: Workload, workers: int) -> Outcome:
        """Fetch what the edge has just served."""
        return self._run(HEAD_PORT, work, workers)

    def _serve(self, port: int, data: Path, *head: str) -> psutil.Popen:
        module = [sys.executable, "-m", "bench.wan_parts.service", FAR, port, data, *head]
        return self._place.start(self._place.far, module, (FAR, port), ENVIRONMENT)

    def _address(self, port: int) -> Address:
        return Address.read(self._place.folder / f"head-{port}")

    def _ask(self, port: int, work: Callable[[Service], Awaitable[T]]) -> T:
        """Talk with a head as one of its own machine."""

        async def talk() -> T:
            service = connect(self._address(port), 30.0)
            try:
                return await work(service)
            finally:
                await service.close()

        return self._place.far.call(lambda: asyncio.run(talk()))

    def _until_joined(self) -> None:
        # The product of an edge that the head does not know would be made by the head.
        until = time.monotonic() + 30
        while time.monotonic() < until:
            ready = self._place.far.call(lambda: _get(f"http://{FAR}:{EDGE_PORT}/v1/ready"))
            if ready:
                return
            time.sleep(0.1)
        raise RuntimeError(f"the edge does not come in: {self._place.tail()}")

    def _run(self, port: int, work: Workload, workers: int) -> Outcome:
        task = self._submit(port, work)
        pilot = [sys.executable, "-m", "evstream", "pilot", "--url", f"http://{FAR}:{port}"]
        pilot += ["--token", self._address(port).token, "--task", str(task)]
        pilot += ["--cores", str(workers), "--json"]
        variables = [f"{name}={value}" for name, value in ENVIRONMENT.items()]
        before = self._place.link.counts()
        started = time.time()
        (ended,) = run_all(self._place, [["env", *variables, *pilot]])
        exit_s = time.time() - started
        down = self._place.link.counts().since(before).down
        view, files = self._ask(port, lambda service: self._results(port, service, task))
        if view.state is not TaskState.DONE:
            raise RuntimeError(f"task {task} is {view.state}: {view.reason}; {self._place.tail()}")
        summary = json.loads(ended.out)
        # By the clock of the machine, which is the head's too.
        stored = [path.stat().st_mtime - started for path in files]
        assert view.ended is not None
        notes = {
            "failed": float(summary["units_failed"]),
            "bytes in": float(summary["bytes_in"]),
            "first": min(stored),
            "last": max(stored),
            "exit": exit_s,
        }
        sums = added(json.loads(path.read_text()) for path in files)
        return Outcome(view.ended.timestamp() - started, ended.cpu_s, down, sums, notes)

    def _submit(self, port: int, work: Workload) -> int:
        key = port, len(work.files)

        async def submit(service: Service) -> int:
            if key not in self._datasets:
                files = [f"root://{FAR}:{ORIGIN_PORT}//{path.name}" for path in work.files]
                name = f"user:wan{len(files)}"
                view = await service.add_dataset(NewDataset([NewFile(pfn) for pfn in files], name))
                self._datasets[key] = view.name
            environment = {
                "WAN_BRANCHES": ",".join(work.branches),
                "WAN_BURN_S": str(work.burn_s),
                "PYTHONPATH": python_path(),
            }
            command = f"{sys.executable} -m bench.wan_parts.work"
            new = NewTask(
                name=work.name,
                dataset=self._datasets[key],
                payload=Payload(command, kind="long-lived", environment=environment),
                branches=list(work.branches),
                granularity=Granularity(events=work.range_entries),
                outputs=(OutputStream(suffix=".json"),),
            )
            return (await service.submit(new)).id

        return self._ask(port, submit)

    async def _results(self, port: int, service: Service, task: int) -> tuple[TaskView, list[Path]]:
        view = await service.task(task)
        folder = self._place.folder / f"head-{port}" / "outputs"
        outputs = await service.outputs(task)
        return view, [folder / output.name for output in outputs]


def _get(url: str) -> bool:
    import urllib.error
    import urllib.request

    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except urllib.error.URLError:
        return False
