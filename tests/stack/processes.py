"""A server of the test's own: started, waited for, paused, killed, and always ended."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

WAIT_S_MAX = 60.0
LOOK_EVERY_S = 0.02
LOG_BYTES = 4_000
"""So much of a log's end is shown with a failure."""


def wait_until(
    condition: Callable[[], bool], what: str, patience_s: float = WAIT_S_MAX, tell: str = ""
) -> None:
    """Wait until a condition holds; fails after a generous time."""
    pause = threading.Event()
    for _ in range(int(patience_s / LOOK_EVERY_S)):
        if condition():
            return
        pause.wait(LOOK_EVERY_S)
    raise AssertionError(f"waited in vain for {what}\n{tell}")


def answers(host: str, port: int) -> bool:
    """Tell whether somebody listens there."""
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


class Daemon:
    """A process in a session of its own, with its output in a file.

    Parameters
    ----------
    command : sequence of str
        Stays in the foreground.
    log : Path
        Added to.
    ready : callable
        Tells whether it serves.
    environment : mapping, optional
        Laid over ours.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        log: Path,
        ready: Callable[[], bool],
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.command = [str(word) for word in command]
        self.log = log
        self._ready = ready
        self._environment = {**os.environ, **(environment or {})}
        self._cwd = cwd
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def runs(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def start(self, *, wait: bool = True) -> None:
        """Start it, and wait until it serves."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                cwd=self._cwd,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if wait:
            self.wait_ready()

    def wait_ready(self) -> None:
        """Wait until it serves."""
        wait_until(lambda: not self.runs or self._ready(), self.command[0])
        assert self.runs, f"{self.command} ended:\n{self.tail()}"

    def tail(self) -> str:
        """Return the end of its log."""
        return self.log.read_text(errors="replace")[-LOG_BYTES:] if self.log.exists() else ""

    def pause(self) -> None:
        """Let it stand still, connections open: what a stalled server looks like."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it, and what it started, without a word of warning."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Ask it to end, and wait until it has."""
        if self.runs:
            self._signal(signal.SIGCONT)
            self._end(signal.SIGTERM)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        # Its session is a process group of that number: servers have workers.
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        self._signal(number)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._process.wait(WAIT_S_MAX)
        # Whatever outlived its parent.
        self._signal(signal.SIGKILL)
        self._process = None
