"""What each row does with the same events, and what that took.

Wall time is from the start of the worker processes to the end of the last one: interpreters,
libraries and connections are in it, for everybody alike. CPU is of all processes at the workers'
end.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from bench.wan_parts import inputs
from bench.wan_parts.ground import CACHE_PORT, HTTP_PORT, ORIGIN_PORT, Ground, end, python_path
from bench.wan_parts.link import FAR
from bench.wan_parts.work import Sums, added

RUN_S_MAX = 900.0


@dataclass(frozen=True, slots=True)
class Workload:
    """What is to be done.

    Attributes
    ----------
    branches : tuple of str
        In the order of the files.
    burn_s : float
        CPU seconds for each event.
    needed : int
        Compressed bytes of these branches in these files.
    """

    name: str
    files: tuple[Path, ...]
    branches: tuple[str, ...]
    burn_s: float
    needed: int

    @property
    def entries(self) -> int:
        """Events in all."""
        return inputs.ENTRIES * len(self.files)

    @property
    def range_entries(self) -> int:
        """Events in a unit of work: a file where it takes some 50 ms, half of one else."""
        return inputs.ENTRIES // 2 if self.burn_s else inputs.ENTRIES


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a row took, and what came out.

    Attributes
    ----------
    down : int
        Bytes of TCP's payload that came over the link.
    notes : dict of str to float
        What else it tells.
    """

    wall_s: float
    cpu_s: float
    down: int
    sums: Sums
    notes: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class _Ended:
    out: str = ""
    cpu_s: float = 0.0
    status: int = -1


class Peers:
    """Those who read the files themselves, on so many workers."""

    def __init__(self, place: Ground) -> None:
        self._place = place
        self._cache: psutil.Popen | None = None
        self._reader = inputs.reader()

    def local_uproot(self, work: Workload, workers: int) -> Outcome:
        """Read from the local disk by uproot."""
        return self._uproot(work, workers, str(work.files[0].parent) + "/")

    def local_root(self, work: Workload, workers: int) -> Outcome:
        """Read from the local disk by ROOT."""
        return self._root(work, workers, str(work.files[0].parent) + "/", "cache")

    def uproot_root(self, work: Workload, workers: int) -> Outcome:
        """Read over root:// by uproot."""
        return self._uproot(work, workers, f"root://{FAR}:{ORIGIN_PORT}//")

    def uproot_http(self, work: Workload, workers: int) -> Outcome:
        """Read over HTTP by uproot."""
        return self._uproot(work, workers, f"http://{FAR}:{HTTP_PORT}/")

    def root_cache(self, work: Workload, workers: int) -> Outcome:
        """Read over root:// by ROOT with TTreeCache."""
        return self._root(work, workers, f"root://{FAR}:{ORIGIN_PORT}//", "cache")

    def root_ahead(self, work: Workload, workers: int) -> Outcome:
        """Read over root:// by ROOT with asynchronous prefetching."""
        return self._root(work, workers, f"root://{FAR}:{ORIGIN_PORT}//", "ahead")

    def xrdcp(self, work: Workload, workers: int) -> Outcome:
        """Copy whole files by four streams, then read them by uproot."""
        folder = self._place.folder / "copies"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        commands = []
        for part in _shares(work, workers):
            urls = " ".join(f"root://{FAR}:{ORIGIN_PORT}//{path.name}" for path in part)
            copy = f"xrdcp --silent --streams 4 --parallel {min(4, len(part))} {urls} {folder}/"
            read = " ".join(map(str, _reading(work, [str(folder / path.name) for path in part])))
            commands.append(["sh", "-c", f"{copy} && exec {read}"])
        try:
            return self._run(commands)
        finally:
            shutil.rmtree(folder)

    def cold_cache(self, work: Workload, workers: int) -> Outcome:
        """Read by uproot through an XCache that holds nothing."""
        if self._cache is not None:
            end(self._cache)
        self._cache = self._place.empty_cache()
        return self._uproot(work, workers, f"root://127.0.0.1:{CACHE_PORT}//", self._cache)

    def warm_cache(self, work: Workload, workers: int) -> Outcome:
        """Read by uproot through an XCache that has just served the same."""
        assert self._cache is not None
        return self._uproot(work, workers, f"root://127.0.0.1:{CACHE_PORT}//", self._cache)

    def _uproot(
        self, work: Workload, workers: int, where: str, server: psutil.Popen | None = None
    ) -> Outcome:
        shares = _shares(work, workers)
        return self._run(
            [_reading(work, [where + path.name for path in part]) for part in shares], server
        )

    def _root(self, work: Workload, workers: int, where: str, cache: str) -> Outcome:
        head = [self._reader, cache, work.burn_s, ",".join(work.branches)]
        shares = _shares(work, workers)
        return self._run([[*head, *(where + path.name for path in part)] for part in shares])

    def _run(
        self, commands: Sequence[Sequence[object]], server: psutil.Popen | None = None
    ) -> Outcome:
        before, spent = self._place.link.counts(), cpu_s(server)
        started = time.perf_counter()
        ended = run_all(self._place, commands)
        wall_s = time.perf_counter() - started
        return Outcome(
            wall_s,
            sum(one.cpu_s for one in ended) + cpu_s(server) - spent,
            self._place.link.counts().since(before).down,
            added(json.loads(one.out) for one in ended),
        )


def cpu_s(server: psutil.Popen | None) -> float:
    """Return the CPU seconds that a server has spent so far."""
    if server is None:
        return 0.0
    times = server.cpu_times()
    return float(times.user + times.system)


def run_all(place: Ground, commands: Sequence[Sequence[object]]) -> list[_Ended]:
    """Run processes of workers at once, until all have ended."""
    ended = [_Ended() for _ in commands]

    def run(command: Sequence[object], into: _Ended) -> None:
        process = subprocess.Popen(
            [*place.link.enter(place.link.near), *map(str, command)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": python_path()},
        )  # fmt: skip
        assert process.stdout
        timer = threading.Timer(RUN_S_MAX, process.kill)
        timer.start()
        with process.stdout:
            into.out = process.stdout.read()
        # With what its children took, those that it has waited for.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = into.status = os.waitstatus_to_exitcode(status)
        timer.cancel()
        into.cpu_s = usage.ru_utime + usage.ru_stime

    threads = [
        threading.Thread(target=run, args=pair) for pair in zip(commands, ended, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, command in zip(ended, commands, strict=True):
        if one.status:
            raise RuntimeError(f"{' '.join(map(str, command))[:300]}: {one.status}")
    return ended


def _shares(work: Workload, workers: int) -> list[tuple[Path, ...]]:
    return [work.files[k::workers] for k in range(workers)]


def _reading(work: Workload, urls: Sequence[str]) -> list[object]:
    module = [sys.executable, "-m", "bench.wan_parts.work"]
    return [*module, work.burn_s, ",".join(work.branches), *urls]
