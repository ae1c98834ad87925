"""Payloads that are commands: one process per unit, without a shell."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from evstream.adapters.payload.child import Child, Ended
from evstream.adapters.payload.logs import cut_log, last_line
from evstream.adapters.payload.starting import how_it_ended, start
from evstream.adapters.payload.usage import beyond_limits
from evstream.domain.errors import PayloadError
from evstream.domain.payload import Payload, fill_command, split_command
from evstream.ports.payload import PayloadCall, PayloadResult

# A look at a process tree reads all of /proc: spend at most one part in so many on it.
WATCHING_SHARE = 100


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
        beside = {f"secondary:{name}": files.paths for name, files in call.secondary.items()}
        words = fill_command(split_command(call.payload.command), call.values, beside)
        values = {**call.values, **{name: "\n".join(paths) for name, paths in beside.items()}}
        begun = time.monotonic()
        child = start(words, call.payload, values, call.directory, call.log)
        seen, beyond = 0.0, ""

        def look() -> bool:
            nonlocal seen, beyond
            seen = max(seen, child.cpu_s())
            on_cpu(seen)
            cut_log(call.log)
            beyond = beyond_limits(call.payload, child.pid, call.directory)
            return bool(beyond)

        try:
            ended = await self._watch(child, begun + call.payload.wall_s_max, look)
            if ended is None:
                beyond = beyond or _hung(call)
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
        if beyond or ended.exit_status != 0:
            raise _failed(call, ended, beyond, cpu_s, wall_s)
        return PayloadResult(cpu_s, wall_s)

    def prepare(self, payload: Payload, staged: Mapping[str, str], directory: Path) -> None:
        """Nothing is to be begun before there is a unit."""

    async def close(self) -> None:
        """Nothing is kept running between units."""

    async def _watch(self, child: Child, deadline: float, look: Callable[[], bool]) -> Ended | None:
        """Wait for a child's end, looking at it now and then; None if it is to be ended."""
        pause = self._watch_every_s
        while (left := deadline - time.monotonic()) > 0:
            ended = await child.wait(min(pause, left))
            if ended is not None:
                return ended
            looked = time.thread_time()
            if look():
                return None
            pause = max(self._watch_every_s, WATCHING_SHARE * (time.thread_time() - looked))
        return None

    async def _end(self, child: Child) -> Ended:
        """Ask a child that hangs to end, then make it."""
        child.signal(signal.SIGTERM)
        ended = await child.wait(self._grace_s)
        if ended is None:
            child.signal(signal.SIGKILL)
            ended = await child.end()
        return ended


def _hung(call: PayloadCall) -> str:
    return f"payload hung: it had not ended after {call.payload.wall_s_max:g} s"


def _failed(
    call: PayloadCall, ended: Ended, beyond: str, cpu_s: float, wall_s: float
) -> PayloadError:
    """Return the error that says how a payload ended, and the last thing it said."""
    if beyond:
        what, hint = beyond, "see its log, or allow it more"
    else:
        how, hint = how_it_ended(ended)
        what = f"payload {how}"
    last = last_line(call.log)
    return PayloadError(
        f"{what}: {last}" if last else what,
        hint=hint,
        exit_status=ended.exit_status,
        cpu_s=cpu_s,
        wall_s=wall_s,
    )
