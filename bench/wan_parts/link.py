"""A long way between two network namespaces: see link.c. Needs root, iproute2 and a C compiler."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
QUEUE_MS = 100
NET = "10.199.79"
NEAR, FAR = f"{NET}.1", f"{NET}.2"


class CannotMeasureError(Exception):
    """Something that the benchmark needs is not on this machine."""


@dataclass(frozen=True, slots=True)
class Condition:
    """What a link is like.

    Attributes
    ----------
    loss : float
        Share of the packets that get lost, each way.
    """

    mbit_per_s: float
    round_trip_ms: float
    loss: float = 0.0

    def __str__(self) -> str:
        lossy = f", {self.loss:.2%} lost" if self.loss else ""
        return f"{self.mbit_per_s:g} Mbit/s, {self.round_trip_ms:g} ms{lossy}"


@dataclass(frozen=True, slots=True)
class Counts:
    """What has gone over the link.

    Attributes
    ----------
    down, up : int
        Bytes of TCP's payload that entered the link towards the near side, and away
        from it: what is sent again counts again.
    dropped, dropped_up : int
        Packets towards the near side, and away from it, that got lost: in a full queue, by
        chance or by a cut.
    """

    down: int
    up: int
    packets: int
    dropped: int
    dropped_up: int

    def since(self, before: Counts) -> Counts:
        """Return what has come since."""
        return Counts(
            self.down - before.down,
            self.up - before.up,
            self.packets - before.packets,
            self.dropped - before.dropped,
            self.dropped_up - before.dropped_up,
        )


class Link:
    """Two namespaces and what carries packets between them, at every condition in turn."""

    def __init__(self, process: subprocess.Popen[str], near: str, far: str) -> None:
        self._process = process
        self._one_at_a_time = threading.Lock()
        self.near, self.far = near, far

    def enter(self, place: str) -> list[str]:
        """Return the words before a command that make it run in a namespace."""
        return ["ip", "netns", "exec", place]

    def run(
        self, place: str, words: Sequence[object], environment: Mapping[str, str] | None = None
    ) -> str:
        """Run a command in a namespace; return what it printed."""
        done = subprocess.run(
            [*self.enter(place), *map(str, words)],
            env={**os.environ, **(environment or {})},
            capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{words}: {done.stderr[-2000:] or done.stdout[-2000:]}")
        return done.stdout

    def set(self, condition: Condition) -> None:
        """Be like this from now on; nobody remembers how it was before."""
        one_way_us = condition.round_trip_ms * 500
        self._tell(f"set {condition.mbit_per_s} {one_way_us} {condition.loss} {QUEUE_MS}")
        for place in (self.near, self.far):
            self.run(place, ["ip", "tcp_metrics", "flush"])

    def cut(self) -> None:
        """Carry nothing."""
        self._tell("cut")

    def mend(self) -> None:
        """Carry packets again."""
        self._tell("mend")

    def counts(self) -> Counts:
        """Return what has gone over it so far."""
        packets, down, dropped, _, up, dropped_up = map(int, self._tell("count").split())
        return Counts(down, up, packets, dropped, dropped_up)

    def _tell(self, line: str) -> str:
        assert self._process.stdin
        assert self._process.stdout
        with self._one_at_a_time:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline().strip()
        if not answer or answer == "what?":
            raise RuntimeError(f"the link does not take {line!r}")
        return answer


def build(folder: Path) -> Path:
    """Compile what carries the packets."""
    compiler = shutil.which("cc")
    if os.geteuid() != 0 or not Path("/dev/net/tun").exists() or shutil.which("ip") is None:
        raise CannotMeasureError("needs root, /dev/net/tun and iproute2 (apt-get install iproute2)")
    if compiler is None:
        raise CannotMeasureError("needs a C compiler (apt-get install gcc libc6-dev)")
    program = folder / "link"
    subprocess.run([compiler, "-O2", "-o", program, HERE / "link.c"], check=True)
    return program


@contextmanager
def link(program: Path) -> Iterator[Link]:
    """Make the namespaces and the link; all of it goes with the context."""
    near, far = (f"evw{end}{os.getpid()}" for end in "no")
    process = subprocess.Popen(
        [program, near, far], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    made = Link(process, near, far)
    try:
        assert process.stdout
        if process.stdout.readline() != "ok\n":
            raise CannotMeasureError("no TUN devices can be made here")
        for place, address in ((near, NEAR), (far, FAR)):
            _ip("netns", "add", place)
            _ip("link", "set", place, "netns", place)
            _ip("-n", place, "addr", "add", f"{address}/24", "dev", place)
            _ip("-n", place, "link", "set", "lo", "up")
            _ip("-n", place, "link", "set", place, "up")
            # What most sites run; by route, since namespaces have no setting of their own.
            _ip("-n", place, "route", "replace", f"{NET}.0/24", "dev", place,
                "src", address, "congctl", "cubic")  # fmt: skip
        yield made
    finally:
        assert process.stdin
        with contextlib.suppress(OSError):
            process.stdin.close()
        process.wait(10)
        if process.stdout is not None:
            process.stdout.close()
        for place in (near, far):
            subprocess.run(["ip", "netns", "del", place], capture_output=True, check=False)


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotMeasureError(f"ip {' '.join(words)}: {done.stderr.strip()}")
