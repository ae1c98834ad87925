"""One child process in a session of its own, and how it ended.

`subprocess` starts it; its end is watched through a descriptor and reaped here, since
only `os.wait4` tells what it and its children have used, and asyncio's watchers do not.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evstream.adapters.payload.usage import cpu_s_of


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended.

    Attributes
    ----------
    exit_status : int
        As a shell program returns it; minus the signal's number if one killed it.
    cpu_s : float
        User and system seconds of the process and of the children it waited for.
    """

    exit_status: int
    cpu_s: float


class Child:
    """A running process and its group. Start and use it in the event loop's thread.

    Parameters
    ----------
    words : sequence of str
        Program and arguments; no shell sees them.
    log : Path
        Where standard output and error go; what it held before is lost. It may be cut
        short while the process runs.
    keeps : sequence of int
        Descriptors of ours that it has too.

    Raises
    ------
    OSError
        It cannot be started.
    """

    def __init__(
        self,
        words: Sequence[str],
        directory: Path,
        environment: Mapping[str, str],
        log: Path,
        keeps: Sequence[int] = (),
    ) -> None:
        log.unlink(missing_ok=True)
        with log.open("ab") as output:
            # In this thread, not in a pool's: setpriv's --pdeathsig strikes when the
            # thread that made the child ends.
            self._process = subprocess.Popen(
                words,
                cwd=directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=keeps,
            )
        self.pid = self._process.pid
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[Ended] = self._loop.create_future()
        self._watch()

    def _watch(self) -> None:
        """Have `_reap` called in the loop when the process has ended."""
        try:
            fd = os.pidfd_open(self.pid)
        except (AttributeError, OSError):
            # Older kernels and other systems: a thread waits, and leaves the reaping.
            threading.Thread(target=self._wait, name="evstream-payload", daemon=True).start()
        else:
            self._loop.add_reader(fd, self._reap, fd)

    def _wait(self) -> None:
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        # A closed loop means that nobody is left to be told.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._reap, -1)

    def _reap(self, fd: int) -> None:
        if fd >= 0:
            self._loop.remove_reader(fd)
            os.close(fd)
        # Before its number is given back: until then nobody else's group can have it.
        self.signal(signal.SIGKILL)
        try:
            _, status, usage = os.wait4(self.pid, 0)
        except ChildProcessError:
            # Somebody else in this process reaps every child; how it ended is lost.
            ended = Ended(os.EX_SOFTWARE, 0.0)
        else:
            cpu_s = usage.ru_utime + usage.ru_stime
            ended = Ended(os.waitstatus_to_exitcode(status), cpu_s)
        # Popen must not wait for it again.
        self._process.returncode = ended.exit_status
        if not self._ended.done():
            self._ended.set_result(ended)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the whole group; nothing happens once it has ended."""
        if self._process.returncode is None:
            # A child with another user's rights is beyond our reach.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    async def wait(self, seconds: float) -> Ended | None:
        """Wait for the end, at most so long; return how it ended, or None."""
        # Not awaited itself: whoever is cancelled here must not cancel the reaping.
        await asyncio.wait([self._ended], timeout=seconds)
        return self._ended.result() if self._ended.done() else None

    async def end(self) -> Ended:
        """Wait for the end, however long it takes; return how it ended."""
        await asyncio.wait([self._ended])
        return self._ended.result()

    def cpu_s(self) -> float:
        """Return the CPU seconds that the process and all below it have used so far."""
        return cpu_s_of(self.pid)
