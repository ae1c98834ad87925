"""Processes that do one thing at a time and say what it cost."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.rootio_parts.inputs import CannotMeasureError, Workshop


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds by the clock and of CPU, of all threads."""

    wall_s: float
    cpu_s: float


def timed(work: Callable[[], object]) -> Cost:
    """Run something in this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Cost(time.perf_counter() - wall, time.process_time() - cpu)


class Peer:
    """A process that has started, loaded its libraries, and waits for requests.

    Use it as a context manager. `peers.C` and `worker.py` are such processes.
    """

    def __init__(self, command: Sequence[str | Path], folder: Path) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self._said, text=True,
        )  # fmt: skip
        self._answer()

    def ask(self, *words: str | int | Path, entries: int | None = None) -> Cost:
        """Have a request done; check how many entries it wrote."""
        assert self._process.stdin is not None
        self._process.stdin.write("\t".join(map(str, words)) + "\n")
        self._process.stdin.flush()
        wall_s, cpu_s, written = self._answer()
        if entries is not None and int(written) != entries:
            raise CannotMeasureError(f"{written} entries were written, not {entries}: {words}")
        return Cost(float(wall_s), float(cpu_s))

    def _answer(self) -> Sequence[str]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("@@ "):
                return line.split()[1:]
        self._said.seek(0)
        raise CannotMeasureError(f"a peer ended: {self._said.read()[-2000:].decode()}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(timeout=60)
        self._said.close()


def start(who: str, workshop: Workshop) -> Peer:
    """Start "root", "evstream" or "uproot"."""
    if who == "root":
        macros = ["-e", ".L inputs.C+O", "peers.C+O"]
        return Peer([workshop.root, "-b", "-q", "-l", *macros], workshop.build)
    module = [sys.executable, "-m", "bench.rootio_parts.worker", who]
    return Peer(module, Path(__file__).resolve().parents[2])
