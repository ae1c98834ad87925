"""Worker processes of `evstream run`: started, watched, replaced when they die."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sys
from pathlib import Path

from evstream.client import Service
from evstream.domain.errors import ConfigError
from evstream.domain.names import WorkerId

LEASE_S = 15
"""Short, since a job that is killed and given again waits for the leases of the first."""
PATIENCE_S = 20
"""A worker whose service has vanished leaves after this; a restarted one may reuse it."""
DEATHS_MAX = 5
"""So many workers in a row that died, not over a unit of work: something else is wrong.

One that dies over a range is the ledger's to count: such a range is set aside in time.
"""


class Workers:
    """Keeps a number of pilots alive beside a service.

    Parameters
    ----------
    url : str
        Where the service listens.
    service : Service
        Told when a worker dies, so that its leases need not run out.
    folder : Path
        For scratch space and logs.
    cores : int
        Units that each works on at once.
    """

    def __init__(
        self, url: str, service: Service, folder: Path, number: int, task: int, cores: int = 1
    ) -> None:
        self._url = url
        self._service = service
        self._folder = folder
        self._number = number
        self._task = task
        self._cores = cores
        self._processes: dict[WorkerId, asyncio.subprocess.Process] = {}
        self._deaths = 0

    async def keep_alive(self) -> None:
        """Start the workers and replace each that dies, until cancelled.

        Raises
        ------
        ConfigError
            Workers end one after another, be it that their node lacks something.
        """
        (self._folder / "logs").mkdir(parents=True, exist_ok=True)
        async with asyncio.TaskGroup() as group:
            for slot in range(self._number):
                group.create_task(self._keep_one(slot))

    async def _keep_one(self, slot: int) -> None:
        while True:
            name = WorkerId(f"worker{slot + 1}-{secrets.token_hex(3)}")
            process = await self._start(name)
            self._processes[name] = process
            try:
                status = await process.wait()
            finally:
                del self._processes[name]
                if process.returncode is None:
                    await _end(process)
            lost = (await self._service.forget_worker(name)).held
            if status == 0 or any(row.running for row in lost):
                self._deaths = 0
            else:
                self._count_death(name, status)

    async def _start(self, name: WorkerId) -> asyncio.subprocess.Process:
        # Who sets them knows better.
        environment = {
            "EVSTREAM_LEASE_S": str(LEASE_S),
            "EVSTREAM_PILOT_PATIENCE_S": str(PATIENCE_S),
            **os.environ,
        }
        command = [sys.executable, "-m", "evstream", "pilot", "--url", self._url]
        command += ["--cores", str(self._cores), "--task", str(self._task), "--worker", name]
        command += ["--workdir", str(self._folder)]
        with (self._folder / "logs" / f"{name}.log").open("wb") as log:
            # A session of its own: an interrupt from the terminal is ours to pass on.
            return await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )

    def _count_death(self, name: WorkerId, status: int) -> None:
        self._deaths += 1
        if self._deaths >= DEATHS_MAX:
            cause = f"signal {-status}" if status < 0 else f"exit {status}"
            log = self._folder / "logs" / f"{name}.log"
            last = last_words(log)
            raise ConfigError(
                f"{DEATHS_MAX} workers ended one after another, the last by {cause}"
                + (f": {last}" if last else ""),
                hint=f"see {log}; when that is mended, give the same command again",
            )


def last_words(log: Path) -> str:
    """Return what a pilot said last of why it left; empty if it said nothing."""
    said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return said[-1].removeprefix("evstream: error: ") if said else ""


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a worker that we started: first asked, then made to."""
    process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(5):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
