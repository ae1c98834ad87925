"""Pilots as processes of this machine."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
import psutil

from evstream.adapters.engines.folder import PilotFolder, ended_by
from evstream.domain.errors import ConfigError
from evstream.domain.names import WorkerId
from evstream.ports import PilotOrder, PilotStage, PilotState

SECRETS = ("EVSTREAM_TOKEN",)
"""Variables that pilots do not inherit: tokens go by file."""

_RUNS = PilotState(PilotStage.RUNNING)


@dataclass(frozen=True, slots=True)
class _Record:
    """A process that was started, told from a later one of the same number by its start."""

    pid: int
    began: float


class LocalEngine:
    """Starts pilots beside itself.

    Parameters
    ----------
    folder : Path
        For logs, and for what a later engine needs to find the processes.
    group : str
        Names of its pilots begin with it.
    """

    look_every_s = 0.1

    def __init__(self, folder: Path, group: str) -> None:
        self._folder = PilotFolder(folder, group, suffix=".process")
        self._ours: dict[WorkerId, asyncio.subprocess.Process] = {}

    async def open(self) -> None:
        self._folder.make()

    async def start(self, order: PilotOrder) -> None:
        inherited = {name: value for name, value in os.environ.items() if name not in SECRETS}
        try:
            with self._folder.log(order.name).open("wb") as log:
                # A session of its own: an interrupt from the terminal is ours to pass on.
                process = await asyncio.create_subprocess_exec(
                    *order.command,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**inherited, **order.environment},
                    start_new_session=True,
                )
        except OSError as error:
            raise ConfigError(
                f"{order.command[0]} cannot be started: {error}", hint="name another --command"
            ) from error
        self._ours[order.name] = process
        with suppress(psutil.Error):
            record = _Record(process.pid, psutil.Process(process.pid).create_time())
            self._folder.path(order.name).write_bytes(msgspec.json.encode(record))

    async def look(self) -> Mapping[WorkerId, PilotState]:
        return {name: self._state(name) for name in {*self._folder.names(), *self._ours}}

    def _state(self, name: WorkerId) -> PilotState:
        if (process := self._ours.get(name)) is not None:
            if process.returncode is None:
                return _RUNS
            code = process.returncode
            return ended_by(code, self._folder.last_words(name))
        if self._found(name) is not None:
            return _RUNS
        return PilotState(PilotStage.ENDED, "unknown", None, self._folder.last_words(name))

    def _found(self, name: WorkerId) -> psutil.Process | None:
        """Return the process that another keeper started, if it lives."""
        try:
            record = msgspec.json.decode(self._folder.path(name).read_bytes(), type=_Record)
            process = psutil.Process(record.pid)
            same = process.create_time() == record.began
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except (OSError, msgspec.DecodeError, psutil.Error):
            return None

    async def end(self, name: WorkerId, *, at_once: bool = False) -> None:
        number = signal.SIGKILL if at_once else signal.SIGTERM
        if (process := self._ours.get(name)) is not None:
            with suppress(ProcessLookupError):
                process.send_signal(number)
        elif (found := self._found(name)) is not None:
            with suppress(psutil.Error):
                found.send_signal(number)

    async def forget(self, name: WorkerId) -> None:
        self._ours.pop(name, None)
        self._folder.remove(name)

    async def close(self) -> None:
        self._ours.clear()
