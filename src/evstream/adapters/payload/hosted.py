"""One long-lived payload process: its channel, the units it is on, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from evstream.adapters.payload.child import Child, Ended
from evstream.adapters.payload.command import WATCHING_SHARE
from evstream.adapters.payload.logs import copy_tail, cut_log, last_line
from evstream.adapters.payload.starting import how_it_ended, start
from evstream.adapters.payload.usage import beyond_limits, cpu_s_of
from evstream.domain.errors import EvstreamError, PayloadError
from evstream.domain.payload import Payload
from evstream.ports.payload import PayloadCall, PayloadRange, PayloadResult
from evstream.wire.payload_channel import (
    LINE_BYTES_MAX,
    BesideUnit,
    Cancel,
    Done,
    End,
    Error,
    GivenUnit,
    Heard,
    Ready,
    Running,
    ToPayload,
    decode_line,
    encode_line,
)

CANCEL_S_MAX = 1.0
"""How long a unit that nobody wants any more is waited for before its process is ended."""
LOG_NAME = "log.txt"
_GROWING = "use evstream.payload.GrowingFile, or leave out ranges_per_file"


@dataclass(eq=False, slots=True)
class Job:
    """A unit on its way through a process.

    Attributes
    ----------
    ended : Future
        Its result, or why there is none.
    given_at : float
        When the process was given its range, and after that has begun, when it began.
    number : int
        Which of its ranges the process is on; those before are in the open file.
    close : bool
        Whether the file is to be closed after that range.
    cpu_before, wall_before : float
        Seconds that the ranges before took.
    refused : EvstreamError or None
        Why the process was told to give it up.
    alone : bool
        It was one of several when a process died, so that it is given to the next one by
        itself: if that dies as well, it is known whose fault it is.
    """

    id: str
    call: PayloadCall
    on_cpu: Callable[[float], None]
    ended: asyncio.Future[PayloadResult]
    given_at: float = 0.0
    number: int = 0
    close: bool = True
    cpu_before: float = 0.0
    wall_before: float = 0.0
    log_offset: int = 0
    begun: bool = False
    pid: int = 0
    cpu_begun: float = 0.0
    cpu_s: float = 0.0
    refused: PayloadError | None = None
    refused_at: float = 0.0
    alone: bool = False
    given: frozenset[str] = frozenset()
    answered: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def ranges(self) -> Sequence[PayloadRange]:
        """Its ranges, in order."""
        return self.call.ranges or (PayloadRange({}, self.call.secondary),)

    @property
    def name(self) -> str:
        """What the range that it is at is called on the channel."""
        return f"{self.id}.{self.number}" if self.number else self.id

    def begin(self) -> None:
        """Be at the first range; what another process did of it is lost, and goes."""
        self.number, self.cpu_before, self.wall_before = 0, 0.0, 0.0
        directory, log = self.call.directory, self.call.log.name
        with contextlib.suppress(OSError):
            there = list(directory.iterdir())
            self.given = self.given or frozenset([log, *(path.name for path in there)])
            for left in [path for path in there if path.name not in self.given]:
                _remove(left)

    def go_on(self, wall_s: float) -> None:
        """Be at the next range."""
        self.number += 1
        self.cpu_before = self.cpu_s
        self.wall_before += wall_s

    def spent(self, cpu_s: float) -> None:
        """Note CPU seconds of its range; they never become fewer."""
        self.cpu_s = max(self.cpu_s, self.cpu_before + cpu_s)
        self.on_cpu(self.cpu_s)

    def error(self, what: str, hint: str = "see its log", wall_s: float = 0.0) -> PayloadError:
        """Return the error of this unit, and the last thing that its log says."""
        last = last_line(self.call.log)
        told = what if not last or last in what else f"{what}: {last}"
        wall_s = wall_s or time.monotonic() - self.given_at
        return PayloadError(told, hint=hint, cpu_s=self.cpu_s, wall_s=wall_s)

    def fail(self, error: EvstreamError) -> None:
        """End it without a result."""
        self.answered.set()
        if not self.ended.done():
            self.ended.set_exception(error)


class Owner(Protocol):
    """Who gives a process its units."""

    def changed(self) -> None:
        """There may be a free place, or the process is gone."""
        ...

    def again(self, job: Job) -> None:
        """Take back a unit that the process cannot be blamed for."""
        ...

    def never_ready(self, error: EvstreamError, log: Path) -> None:
        """Take note of a process that never was ready; its log is there until this returns."""
        ...


class HostedProcess:
    """A long-lived process and the units that it has been given.

    Parameters
    ----------
    words : list of str
        Program and arguments.
    directory : Path
        Its working directory; made here, removed at the end.
    values : dict of str to str
        Variables of its environment, without ``EVSTREAM_`` in front.
    owner : Owner
        Told what becomes of it.
    """

    def __init__(
        self,
        words: list[str],
        payload: Payload,
        directory: Path,
        values: dict[str, str],
        grace_s: float,
        watch_every_s: float,
        owner: Owner,
    ) -> None:
        self._words = words
        self._payload = payload
        self._directory = directory
        self._log = directory / LOG_NAME
        self._values = values
        self._grace_s = grace_s
        self._watch_every_s = watch_every_s
        self._owner = owner
        self._jobs: dict[str, Job] = {}
        self._child: Child | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._started_at = time.monotonic()
        self._heard_at = self._started_at
        self._killed_for: str | None = None
        self.leaving = False
        """It takes no more units."""
        self.places = 0
        """How many units it takes at once; 0 until it has initialised."""
        self.gone = False
        self.life = asyncio.get_running_loop().create_task(self._live())

    def takes(self, job: Job) -> bool:
        """Whether it would take a unit now."""
        if self.leaving or self.gone or len(self._jobs) >= self.places:
            return False
        return not self._jobs or not any(each.alone for each in (job, *self._jobs.values()))

    @property
    def idle(self) -> bool:
        """Whether it has initialised and has nothing to do."""
        return self.places > 0 and not self._jobs

    @property
    def starting(self) -> bool:
        """Whether it initialises."""
        return not (self.places or self.gone or self.leaving)

    def give(self, job: Job) -> None:
        """Give it a unit that it takes."""
        job.begin()
        if not self._jobs:
            # Nobody needs it any more; the process appends, wherever the end is.
            with contextlib.suppress(OSError):
                os.truncate(self._log, 0)
        job.log_offset = self._log_size()
        self._tell(job)

    def _tell(self, job: Job) -> None:
        """Give it the range that a unit is at."""
        job.given_at = self._heard_at = time.monotonic()
        # A unit by itself begins when it is given; others are to say so.
        job.begun, job.pid, job.cpu_begun = self.places == 1 or job.alone, 0, 0.0
        self._jobs[job.name] = job
        each, call = job.ranges[job.number], job.call
        job.close = job.number + 1 == len(job.ranges) or call.closing()
        values = {**call.values, **each.values}
        self._say(
            GivenUnit(
                id=job.name,
                input=values["input"],
                outputs=_places(call),
                entry_start=int(values["entry_start"]),
                entry_stop=int(values["entry_stop"]),
                range_id=values["range_id"],
                lfn=values.get("lfn", ""),
                tree=values.get("tree", ""),
                directory=str(call.directory),
                log=str(call.log),
                wall_s_max=call.payload.wall_s_max,
                file=job.id,
                close=job.close,
                secondary={
                    name: BesideUnit(files.paths, files.tree)
                    for name, files in each.secondary.items()
                },
            )
        )

    async def drop(self, job: Job) -> None:
        """Take back a unit that nobody wants any more; returns when nobody works on it."""
        self._refuse(job, job.error("nobody wants it any more"))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CANCEL_S_MAX):
                await job.answered.wait()
            return
        self.kill("")
        await asyncio.wait([self.life], timeout=self._grace_s)

    def end(self) -> None:
        """Ask it to end; it has the grace period for that, then it is made to."""
        self.leaving = True
        if not self.places:
            self.kill("")
            return
        self._say(End())
        asyncio.get_running_loop().call_later(self._grace_s, self.kill, "")

    def kill(self, why: str) -> None:
        """End it at once; units that it cannot be blamed for go to another."""
        if self._killed_for is None:
            self._killed_for = why
        self.leaving = True
        if self._child is not None:
            self._child.signal(signal.SIGKILL)

    async def _live(self) -> None:
        ended, nonsense = Ended(os.EX_SOFTWARE, 0.0), ""
        not_started: EvstreamError | None = None
        try:
            reader = await self._start()
            watching = asyncio.get_running_loop().create_task(self._watch())
            try:
                await self._listen(reader)
            except PayloadError as error:
                nonsense = error.message
            finally:
                watching.cancel()
            ended = await self._end_of_child()
        except EvstreamError as error:
            not_started = error
        except asyncio.CancelledError:
            self.kill("")
            raise
        finally:
            if self._child is not None:
                self._child.signal(signal.SIGKILL)
            if self._writer is not None:
                self._writer.close()
            self.gone = True
            if not self.places and self._killed_for != "":
                self._owner.never_ready(not_started or self._never_ready(ended), self._log)
            self._settle(ended, nonsense)
            shutil.rmtree(self._directory, ignore_errors=True)
            self._owner.changed()

    async def _start(self) -> asyncio.StreamReader:
        ours, theirs = socket.socketpair()
        number = theirs.fileno()
        values = {"channel_fd": str(number), **self._values}
        try:
            self._directory.mkdir()
            self._child = start(
                self._words, self._payload, values, self._directory, self._log, (number,)
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        reader, self._writer = await asyncio.open_connection(sock=ours, limit=LINE_BYTES_MAX)
        return reader

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        """Handle what it says until it says no more.

        Raises
        ------
        PayloadError
            What it says makes no sense.
        """
        try:
            while line := await reader.readline():
                self._hear(decode_line(line))
        except ConnectionError:
            return
        except ValueError as error:
            raise PayloadError(f"the payload's line on its channel is too long: {error}") from error

    async def _end_of_child(self) -> Ended:
        assert self._child is not None
        ended = await self._child.wait(self._grace_s)
        if ended is None:
            # It has closed its channel: whatever it does now, it answers for no unit.
            self._child.signal(signal.SIGKILL)
            ended = await self._child.end()
        return ended

    def _hear(self, said: Heard) -> None:
        self._heard_at = time.monotonic()
        if isinstance(said, Ready):
            self.places = max(1, said.units_max)
            self._owner.changed()
            return
        job = self._jobs.get(said.id)
        if job is None:
            raise PayloadError(f"the payload spoke of a unit {said.id!r} that it was not given")
        if isinstance(said, Running):
            job.begun, job.pid, job.cpu_begun = True, said.pid, said.cpu_s
            job.given_at = self._heard_at
            return
        del self._jobs[said.id]
        job.spent(said.cpu_s)
        if isinstance(said, Done) and said.open and not (job.close or said.outputs or job.refused):
            job.go_on(said.wall_s or time.monotonic() - job.given_at)
            self._tell(job)
            return
        self._keep_log(job)
        if job.refused is not None:
            job.fail(job.refused)
        elif isinstance(said, Error):
            job.fail(job.error(f"payload failed: {said.reason}", wall_s=said.wall_s))
        else:
            self._finish(job, said)
        self._owner.changed()

    def _finish(self, job: Job, said: Done) -> None:
        """End a job whose outputs are complete, wherever they were written."""
        places = _places(job.call)
        try:
            if not job.close and said.outputs:
                raise job.error("payload named outputs before it was told to close them")
            if not job.close:
                raise job.error("payload does not keep its file open for the next range", _GROWING)
            for stream, written in said.outputs.items():
                if stream not in places:
                    raise job.error(f"payload wrote for a stream {stream!r} that it was not given")
                if written != places[stream]:
                    shutil.move(self._directory / written, places[stream])
        except OSError as error:
            job.fail(job.error(f"payload's output cannot be taken away: {error}"))
        except PayloadError as error:
            job.fail(error)
        else:
            job.answered.set()
            wall_s = job.wall_before + (said.wall_s or time.monotonic() - job.given_at)
            if not job.ended.done():
                job.ended.set_result(PayloadResult(job.cpu_s, wall_s, job.number + 1))

    async def _watch(self) -> None:
        """Look at limits now and then."""
        pause = self._watch_every_s
        while True:
            await asyncio.sleep(pause)
            looked = time.thread_time()
            self._look(time.monotonic())
            pause = max(self._watch_every_s, WATCHING_SHARE * (time.thread_time() - looked))

    def _look(self, now: float) -> None:
        if not self.places and now > self._started_at + self._payload.start_s_max:
            self.kill(f"was not ready after {self._payload.start_s_max:g} s")
        jobs = list(self._jobs.values())
        if cut_log(self._log):
            for job in jobs:
                job.log_offset = 0
        for number, job in enumerate(jobs):
            cut_log(job.call.log)
            if job.refused is not None:
                if now > job.refused_at + self._grace_s:
                    self.kill("")
                continue
            pid = job.pid or (self._child.pid if self._child and self.places == 1 else 0)
            if job.pid:
                job.spent(cpu_s_of(job.pid) - job.cpu_begun)
            beyond = beyond_limits(job.call.payload, pid, job.call.directory)
            # One that waits behind another has time; if none has begun, the first is late.
            nobody = number == 0 and not any(other.begun for other in jobs)
            since = job.given_at if job.begun else self._heard_at
            if (job.begun or nobody) and now > since + self._payload.wall_s_max:
                beyond = f"payload hung: no answer after {self._payload.wall_s_max:g} s"
            if beyond:
                self._refuse(job, job.error(beyond, "see its log, or allow it more"))

    def _refuse(self, job: Job, error: PayloadError) -> None:
        """Have a unit given up; whatever is answered for it, it has failed."""
        job.refused = job.refused or error
        job.refused_at = time.monotonic()
        self._say(Cancel(job.name))

    def _settle(self, ended: Ended, nonsense: str) -> None:
        """Say of each unit what the process's end means for it."""
        jobs, self._jobs = list(self._jobs.values()), {}
        how, hint = how_it_ended(ended)
        begun = [job for job in jobs if job.begun] or jobs
        for job in jobs:
            self._keep_log(job)
            if job.refused is not None:
                job.fail(job.refused)
            elif job.ended.done():
                job.answered.set()
            elif self._killed_for is not None or job not in begun:
                self._owner.again(job)
            elif len(begun) > 1:
                # Any of them may have been its end: the others are innocent.
                job.alone = True
                self._owner.again(job)
            elif nonsense:
                job.fail(job.error(nonsense))
            else:
                job.fail(job.error(f"payload {how} before it had answered", hint))

    def _never_ready(self, ended: Ended) -> PayloadError:
        how, hint = how_it_ended(ended)
        if self._killed_for:
            how, hint = self._killed_for, "see its log, or allow it more time"
        last = last_line(self._log)
        what = f"payload {how} before it was ready"
        wall_s = time.monotonic() - self._started_at
        return PayloadError(
            f"{what}: {last}" if last else what, hint=hint, cpu_s=0.0, wall_s=wall_s
        )

    def _say(self, message: ToPayload) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(encode_line(message))

    def _log_size(self) -> int:
        try:
            return self._log.stat().st_size
        except OSError:
            return 0

    def _keep_log(self, job: Job) -> None:
        """Add to a unit's log what the process wrote while it had the unit."""
        copy_tail(self._log, job.call.log, job.log_offset)


def _places(call: PayloadCall) -> dict[str, str]:
    """Return the file to write for each stream that has one, in the streams' order."""
    pairs = [(name.partition(":"), path) for name, path in call.values.items()]
    return {stream: path for (kind, _, stream), path in pairs if kind == "output" and stream}


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
