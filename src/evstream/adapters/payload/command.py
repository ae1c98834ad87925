"""Payloads that are commands: one process per unit, without a shell."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

from evstream.adapters.payload.child import Child, Ended
from evstream.domain.errors import EvstreamError, PayloadError, TransientError
from evstream.domain.payload import fill_command, split_command
from evstream.domain.streams import variable_of
from evstream.ports.payload import PayloadCall, PayloadResult

ENVIRONMENT_PREFIX = "EVSTREAM_"
_LAST_LINE_CHARS_MAX = 200
_LOG_TAIL_BYTES = 4096
# A look at a process tree reads all of /proc: spend at most one part in so many on it.
_WATCHING_SHARE = 100
_NODE_AT_FAULT = {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC}


@cache
def _dies_with_us() -> tuple[str, ...]:
    """Return the words that make a command die with this process, if the system has them."""
    program = shutil.which("setpriv")
    if program is None:
        return ()
    words = (program, "--pdeathsig", "KILL", "--")
    probe = subprocess.run((*words, "true"), capture_output=True, check=False)
    return words if probe.returncode == 0 else ()


class CommandRunner:
    """The `PayloadRunner` port on processes of this machine.

    A payload runs in its unit's directory, in a session of its own, with nothing on its
    standard input; its values are also in its environment, as ``EVSTREAM_INPUT`` and so
    on. Whatever it leaves running is killed when it ends. Where util-linux's setpriv is
    there, the payload's own process dies with the pilot, even if that is killed.

    Parameters
    ----------
    grace_s : float
        Seconds between SIGTERM and SIGKILL for a payload that hangs.
    watch_every_s : float
        Seconds between two looks at what a payload has used so far.
    """

    def __init__(self, grace_s: float = 10.0, watch_every_s: float = 1.0) -> None:
        self._grace_s = grace_s
        self._watch_every_s = watch_every_s

    async def run(self, call: PayloadCall, on_cpu: Callable[[float], None]) -> PayloadResult:
        """Run one unit to its end."""
        words = fill_command(split_command(call.payload.command), call.values)
        environment = _environment(call.values)
        words[0] = _find_program(words[0], call.directory, environment)
        begun = time.monotonic()
        try:
            child = Child((*_dies_with_us(), *words), call.directory, environment, call.log)
        except (OSError, ValueError) as error:
            raise _not_started(words[0], error) from error
        seen = 0.0

        def look() -> None:
            nonlocal seen
            seen = max(seen, child.cpu_s())
            on_cpu(seen)

        try:
            ended = await self._watch(child, begun + call.payload.wall_s_max, look)
            hung = ended is None
            if ended is None:
                ended = await self._end(child)
        except asyncio.CancelledError:
            child.signal(signal.SIGKILL)
            # The directory is about to go; let nobody write into it any more.
            await child.wait(self._grace_s)
            raise
        finally:
            child.signal(signal.SIGKILL)
        # What was killed never waited for its children; what was seen of them counts.
        cpu_s, wall_s = max(seen, ended.cpu_s), time.monotonic() - begun
        on_cpu(cpu_s)
        if hung or ended.exit_status != 0:
            raise _failed(call, ended, hung, cpu_s, wall_s)
        return PayloadResult(cpu_s, wall_s)

    async def _watch(self, child: Child, deadline: float, look: Callable[[], None]) -> Ended | None:
        """Wait for a child's end, looking at it now and then; None if it hangs."""
        pause = self._watch_every_s
        while (left := deadline - time.monotonic()) > 0:
            ended = await child.wait(min(pause, left))
            if ended is not None:
                return ended
            looked = time.thread_time()
            look()
            pause = max(self._watch_every_s, _WATCHING_SHARE * (time.thread_time() - looked))
        return None

    async def _end(self, child: Child) -> Ended:
        """Ask a child that hangs to end, then make it."""
        child.signal(signal.SIGTERM)
        ended = await child.wait(self._grace_s)
        if ended is None:
            child.signal(signal.SIGKILL)
            ended = await child.end()
        return ended


def _environment(values: dict[str, str]) -> dict[str, str]:
    """Return the payload's environment: ours without our own settings and secrets."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(ENVIRONMENT_PREFIX)}
    return kept | {ENVIRONMENT_PREFIX + variable_of(name): value for name, value in values.items()}


def _find_program(program: str, directory: Path, environment: dict[str, str]) -> str:
    """Return the path of a program, found as a shell would find it.

    Raises
    ------
    PayloadError
        There is none, or it may not be executed.
    """
    if "/" in program:
        found: str | None = os.fspath(directory / program)
    else:
        found = shutil.which(program, path=environment.get("PATH", os.defpath))
    if found is None or not Path(found).is_file():
        raise PayloadError(
            f"payload {program} is not there",
            hint="give a program on the PATH or an absolute path",
            program=program,
            cpu_s=0.0,
            wall_s=0.0,
        )
    if not os.access(found, os.X_OK):
        raise PayloadError(
            f"payload {program} is not executable",
            hint=f"run 'chmod +x {program}', or name its interpreter first",
            program=program,
            cpu_s=0.0,
            wall_s=0.0,
        )
    return found


def _not_started(program: str, error: OSError | ValueError) -> EvstreamError:
    what = str(error)
    if isinstance(error, OSError):
        what = error.strerror or what
        if error.errno in _NODE_AT_FAULT:
            return TransientError(
                f"no payload can be started here: {what}", hint="run fewer at once"
            )
    hint = "check the command line"
    if isinstance(error, OSError) and error.errno == errno.ENOEXEC:
        hint = "begin it with a line such as '#!/bin/sh', or name its interpreter first"
    return PayloadError(
        f"payload {program} cannot be started: {what}",
        hint=hint,
        program=program,
        cpu_s=0.0,
        wall_s=0.0,
    )


def _failed(call: PayloadCall, ended: Ended, hung: bool, cpu_s: float, wall_s: float) -> Exception:
    """Return the error that says how a payload ended, and the last thing it said."""
    status = ended.exit_status
    hint = "see its log"
    if hung:
        what = f"payload hung: it had not ended after {call.payload.wall_s_max:g} s"
        hint = "see its log, or allow it more time"
    elif status < 0:
        what = f"payload was killed by {_signal_name(-status)}"
        if status == -signal.SIGKILL:
            hint = "see its log, and whether the machine ran out of memory"
    else:
        what = f"payload exited with status {status}"
    last = _last_line(call.log)
    return PayloadError(
        f"{what}: {last}" if last else what,
        hint=hint,
        exit_status=status,
        cpu_s=cpu_s,
        wall_s=wall_s,
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _last_line(log: Path) -> str:
    """Return the last line of a log that says anything, made fit for a message."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _LOG_TAIL_BYTES))
            tail = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    lines = [line.strip() for line in tail.splitlines() if line.strip()]
    if not lines:
        return ""
    printable = "".join(c if c.isprintable() else " " for c in lines[-1])
    return printable[:_LAST_LINE_CHARS_MAX]
