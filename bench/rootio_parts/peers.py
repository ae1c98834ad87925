"""Processes that do one thing at a time and say what it cost."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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

    `peers.C` and `worker.py` are such processes.
    """

    def __init__(self, command: Sequence[str | Path], folder: Path) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self._said, text=True,
        )  # fmt: skip
        self._answer()

    @contextmanager
    def forked(self) -> Iterator[Self]:
        """Have a child answer the requests made within."""
        self._send("fork")
        self._answer()
        yield self
        self._send("end")
        self._answer()

    def ask(self, *words: str | int | Path, entries: int | None = None) -> Cost:
        """Have a request done; check how many entries it wrote."""
        self._send("\t".join(map(str, words)))
        wall_s, cpu_s, written = self._answer()
        if entries is not None and int(written) != entries:
            raise CannotMeasureError(f"{written} entries were written, not {entries}: {words}")
        return Cost(float(wall_s), float(cpu_s))

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _answer(self) -> Sequence[str]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            words = line.split()
            if words[:2] == ["@@", "ended"] and words[2] != "0":
                break
            if words[:1] == ["@@"]:
                return words[1:]
        self._said.seek(0)
        raise CannotMeasureError(f"a peer ended: {self._said.read()[-2000:].decode()}")

    def close(self) -> None:
        """Let it end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(timeout=60)
        self._said.close()


class Peers:
    """Those who are asked. A context manager.

    Parameters
    ----------
    workshop : Workshop
    forks : bool
        Whether one process of each is started, and its children asked, which saves seconds
        each time; what they touch first is then copied for them, which is counted as
        theirs: ROOT takes 50 to 100 ms more.
    """

    def __init__(self, workshop: Workshop, *, forks: bool) -> None:
        self._workshop = workshop
        self._forks = forks
        self._started: dict[str, Peer] = {}

    @contextmanager
    def fresh(self, who: str) -> Iterator[Peer]:
        """Give "root", "evstream" or "uproot": with all loaded, and nothing done yet."""
        if not self._forks:
            peer = self._start(who)
            try:
                yield peer
            finally:
                peer.close()
            return
        if who not in self._started:
            self._started[who] = self._start(who)
        with self._started[who].forked() as child:
            yield child

    def _start(self, who: str) -> Peer:
        if who == "root":
            macros = ["-e", ".L inputs.C+O", "peers.C+O"]
            return Peer([self._workshop.root, "-b", "-q", "-l", *macros], self._workshop.build)
        module = [sys.executable, "-m", "bench.rootio_parts.worker", who]
        return Peer(module, Path(__file__).resolve().parents[2])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for peer in self._started.values():
            peer.close()
