"""Payloads that are long-lived processes: initialised once, then given units."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from evstream.adapters.payload.hosted import HostedProcess, Job
from evstream.adapters.payload.logs import copy_tail
from evstream.domain.errors import EvstreamError, TransientError
from evstream.domain.payload import Payload, fill_command, split_payload
from evstream.ports.payload import PayloadCall, PayloadResult

WITHOUT_THREADS = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    # Arrow's allocator, which awkward loads, has a thread of its own otherwise.
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}
"""n workers on n cores gain nothing by n threads each, and threads hinder forks."""


class LongLivedRunner:
    """The `PayloadRunner` port on processes that are given units over a channel.

    There are as many processes of a payload as it takes to have a unit for each core
    placed; a process says how many it takes. One of a payload that has nothing
    to do ends when another payload's are started, and all end with `close`.

    Parameters
    ----------
    cores : int
        Units that are worked on at once. Processes are told, so that they have as many
        workers.
    grace_s : float
        Seconds between being asked to end, or to give a unit up, and being made to.
    watch_every_s : float
        Seconds between two looks at what units use.
    """

    def __init__(self, cores: int = 1, grace_s: float = 10.0, watch_every_s: float = 1.0) -> None:
        self._cores = cores
        self._grace_s = grace_s
        self._watch_every_s = watch_every_s
        self._pools: dict[bytes, _Pool] = {}
        self._leaving: list[_Pool] = []
        self._numbers = itertools.count(1)

    async def run(self, call: PayloadCall, on_cpu: Callable[[float], None]) -> PayloadResult:
        """Have one unit processed."""
        staged = {k: value for k, value in call.values.items() if k in ("sandbox", "files")}
        pool = self._pool(call.payload, staged, call.directory.parent)
        loop = asyncio.get_running_loop()
        job = Job(str(next(self._numbers)), call, on_cpu, loop.create_future())
        pool.add(job)
        try:
            return await job.ended
        except asyncio.CancelledError:
            await pool.drop(job)
            raise
        finally:
            pool.forget(job)

    def prepare(self, payload: Payload, staged: Mapping[str, str], directory: Path) -> None:
        """Start a process, unless there are some: what they have may be all that there is."""
        if not any(pool.alive for pool in (*self._pools.values(), *self._leaving)):
            self._pool(payload, staged, directory).prepare()

    async def close(self) -> None:
        """End all processes: those without a unit by asking, others at once."""
        pools = [*self._pools.values(), *self._leaving]
        self._pools, self._leaving = {}, []
        await asyncio.gather(*(pool.close() for pool in pools))

    def _pool(self, payload: Payload, staged: Mapping[str, str], directory: Path) -> _Pool:
        key = msgspec.json.encode(payload)
        if key not in self._pools:
            self._leaving = [pool for pool in self._leaving if pool.alive]
            for other, pool in list(self._pools.items()):
                if pool.end_if_idle():
                    self._leaving.append(self._pools.pop(other))
            self._pools[key] = _Pool(
                self._cores, lambda pool: self._start(pool, payload, staged, directory)
            )
        return self._pools[key]

    def _start(
        self, pool: _Pool, payload: Payload, staged: Mapping[str, str], directory: Path
    ) -> HostedProcess:
        return HostedProcess(
            fill_command(_words(payload), staged),
            _with_defaults(payload),
            # Beside the units' own, so that it is on the same disk and goes with them.
            directory / f"payload-{os.getpid()}-{next(self._numbers)}",
            {"cores": str(self._cores), **staged},
            self._grace_s,
            self._watch_every_s,
            pool,
        )


class _Pool:
    """The processes of one payload, and the units that wait for a place."""

    def __init__(self, cores: int, start: Callable[[_Pool], HostedProcess]) -> None:
        self._cores = cores
        self._start = start
        self._waiting: deque[Job] = deque()
        self._processes: list[HostedProcess] = []
        self._given: dict[Job, HostedProcess] = {}
        self._places = 0
        self._closed = False

    @property
    def alive(self) -> bool:
        """Whether any process is there still."""
        return any(not process.gone for process in self._processes)

    def prepare(self) -> None:
        """Have a process there before there is a unit."""
        if not self.alive:
            self._processes.append(self._start(self))

    def add(self, job: Job) -> None:
        """Have a unit wait for a place."""
        self._waiting.append(job)
        self.changed()

    def again(self, job: Job) -> None:
        """Have a unit wait once more, before the others."""
        self._waiting.appendleft(job)

    async def drop(self, job: Job) -> None:
        """Take a unit away, wherever it is."""
        if job in self._waiting:
            self._waiting.remove(job)
        elif job in self._given:
            await self._given[job].drop(job)

    def forget(self, job: Job) -> None:
        """Forget a unit that has ended."""
        self._given.pop(job, None)

    def changed(self) -> None:
        """Give units to whoever has a place; start processes for those that are left."""
        if self._closed:
            return
        self._processes = [process for process in self._processes if not process.gone]
        for process in self._processes:
            self._places = process.places or self._places
            while self._waiting and process.takes(self._waiting[0]):
                job = self._waiting.popleft()
                self._given[job] = process
                process.give(job)
        placed = sum(process.places for process in self._processes if not process.leaving)
        missing = min(len(self._waiting), self._cores - placed)
        # Until one has told how many units it takes, one is started and no more.
        wanted = -(-missing // self._places) if self._places else min(missing, 1)
        starting = sum(process.starting for process in self._processes)
        for _ in range(wanted - starting):
            self._processes.append(self._start(self))

    def never_ready(self, error: EvstreamError, log: Path) -> None:
        """Let one unit fail by a process that never was ready; for the others it is tried anew."""
        if self._waiting:
            job = self._waiting.popleft()
            copy_tail(log, job.call.log)
            job.fail(error)

    def end_if_idle(self) -> bool:
        """Ask the processes to end if none has anything to do; returns whether."""
        if self._waiting or not all(process.idle for process in self._processes):
            return False
        for process in self._processes:
            process.end()
        return True

    async def close(self) -> None:
        """End all processes and wait for that."""
        self._closed = True
        for job in [*self._waiting, *self._given]:
            job.fail(TransientError("the pilot is leaving", hint="the range goes out again"))
        for process in self._processes:
            if process.idle:
                process.end()
            else:
                process.kill("")
        if self._processes:
            await asyncio.wait([process.life for process in self._processes])


def _words(payload: Payload) -> list[str]:
    if payload.kind == "callable":
        arrays = ["--arrays"] if payload.arrays else []
        python = "python3" if payload.container else sys.executable
        return [python, "-m", "evstream.payload", *arrays, payload.command]
    return split_payload(payload)


def _with_defaults(payload: Payload) -> Payload:
    defaults = {k: value for k, value in WITHOUT_THREADS.items() if k not in os.environ}
    return msgspec.structs.replace(payload, environment=defaults | payload.environment)
