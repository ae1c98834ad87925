"""``evstream pilots``: keep pilots alive somewhere while there is work."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.console import Console

from evstream.cli.commands import EXIT_INCOMPLETE
from evstream.cli.engine_options import EngineOptions, pilot_environment
from evstream.cli.pilot import AGAIN_S
from evstream.cli.printing import print_json
from evstream.cli.service import DEFAULT_DOOR, Door, find_service, run_async
from evstream.client import Address, Service
from evstream.domain.errors import ConfigError, ConflictError, LimitError, TransientError
from evstream.domain.names import WorkerId
from evstream.domain.states import TaskState
from evstream.pilot.concurrency import either
from evstream.wire.messages import TaskView

if TYPE_CHECKING:
    from evstream.daemons.keep_pilots import PilotKeeper

PILOTS_MAX = 10_000
WORK_EVERY_S = 2.0
LINE_EVERY_S = 5.0
END_S_MORE = 10.0
"""Beyond the time for running payloads, a pilot has this to give back and leave."""

BUSY = (TaskState.RUNNING, TaskState.MERGING)

DEFAULT_ENGINE = EngineOptions()


def pilots(
    *flags: Annotated[
        str, Parameter(help="Further flags for each pilot, after --.", allow_leading_hyphen=True)
    ],
    n: Annotated[int, Parameter(name="--n", help="How many to keep alive.")] = 1,
    cores: Annotated[int | None, Parameter(help="Payloads that each runs at once.")] = None,
    task: Annotated[int | None, Parameter(help="Work for this task alone.")] = None,
    until_done: Annotated[
        bool, Parameter(negative="", help="Leave when there is no work any more.")
    ] = False,
    options: EngineOptions = DEFAULT_ENGINE,
    door: Door = DEFAULT_DOOR,
) -> None:
    """Keep pilots alive while there is work, and replace those that end.

    Killed, the same command goes on with the pilots that it had. SIGTERM and SIGINT end
    them first. With --until-done it exits with 3 if some events were not processed.

    For example:

        evstream pilots --engine slurm --n 20 --option=--time=8:00:00 --until-done
    """
    from evstream.assembly import connect
    from evstream.assembly.engines import make_keeper
    from evstream.ports import PilotOrder

    if not 1 <= n <= PILOTS_MAX:
        raise LimitError(f"{n} pilots are asked for", hint=f"give --n from 1 to {PILOTS_MAX}")
    settings = door.settings(cores=cores)
    work = _Work(task, settings.pilot_idle_s_max)

    async def main() -> tuple[int, PilotKeeper]:
        address = await find_service(settings, settings.patience_s)
        service = connect(address, settings.patience_s)
        try:
            with _locked(options.folder), _token_file(address, options) as token_file:
                order = PilotOrder(
                    WorkerId(options.name),
                    _command(options, settings.cores, task, flags),
                    pilot_environment(address, token_file),
                    settings.cores,
                )
                engine = options.make(order.name, n)
                keeper = make_keeper(service, engine, order)
                await engine.open()
                try:
                    patience_s = settings.drain_s + END_S_MORE
                    return await _keep(keeper, service, work, n, until_done, patience_s), keeper
                finally:
                    await engine.close()
        finally:
            await service.close()

    code, keeper = run_async(main)
    if door.json:
        print_json(keeper.kept)
    if code:
        sys.exit(code)


class _Work:
    """Whether there is something to do, as the service said last."""

    def __init__(self, task: int | None, idle_s_max: float) -> None:
        self._task = task
        self._idle_s_max = idle_s_max
        self._worked: set[int] = set()
        self._last = -float("inf")
        self.views: list[TaskView] = []
        self.busy = False

    async def look(self, service: Service) -> None:
        """Ask the service."""
        one = self._task
        self.views = await service.tasks() if one is None else [await service.task(one)]
        active = {view.id for view in self.views if view.state in BUSY}
        self._worked |= active
        self.busy = bool(active)
        if active:
            self._last = time.monotonic()

    @property
    def wanted(self) -> bool:
        """Whether there should be pilots: they do not leave at once when work ends."""
        return self.busy or time.monotonic() - self._last < self._idle_s_max

    def incomplete(self) -> list[TaskView]:
        """Return those that were worked for, or named, and ended without all of their events."""
        worked = self._worked | {self._task}
        views = [view for view in self.views if view.id in worked and view.state.final]
        return [view for view in views if view.state is not TaskState.DONE]

    def paused(self) -> TaskView | None:
        """Return the task that is waited for and has paused by itself."""
        for view in self.views:
            if view.id == self._task and view.state is TaskState.PAUSED and view.reason:
                return view
        return None


async def _keep(
    keeper: PilotKeeper,
    service: Service,
    work: _Work,
    n: int,
    until_done: bool,
    patience_s: float,
) -> int:
    """Keep pilots until a signal or the end of work; returns the exit code."""
    loop = asyncio.get_running_loop()
    signals: asyncio.Queue[int] = asyncio.Queue()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, signals.put_nowait, number)
    await work.look(service)
    keeping = loop.create_task(keeper.keep(lambda: n if work.wanted else 0))
    watching = loop.create_task(_watch(keeper, service, work, until_done))
    waiting = loop.create_task(signals.get())
    everything: set[asyncio.Task[Any]] = {keeping, watching, waiting}
    try:
        done, _ = await asyncio.wait(everything, return_when=asyncio.FIRST_COMPLETED)
        for failed in done & {keeping, watching}:
            await failed
    finally:
        for one in everything:
            one.cancel()
        await asyncio.gather(*everything, return_exceptions=True)
        _say("the pilots are told to leave")
        if not await either(keeper.end_all(patience_s), _told_again(signals)):
            _say("the pilots are ended")
            await keeper.end_all(0.0)
    if waiting in done and watching not in done:
        return 128 + waiting.result()
    for view in work.incomplete():
        _say(f"task {view.id} {view.state.value}: {view.reason}")
    return EXIT_INCOMPLETE if work.incomplete() else 0


async def _told_again(signals: asyncio.Queue[int]) -> None:
    """Wait for a signal that is not the first one, come by another way."""
    began = time.monotonic()
    while time.monotonic() - began < AGAIN_S:
        await signals.get()


async def _watch(keeper: PilotKeeper, service: Service, work: _Work, until_done: bool) -> None:
    """Look for work and tell how it is, until there is none and that is the end."""
    with _status_line() as show:
        while not (until_done and not work.busy):
            show(f"pilots: {keeper.kept}; {_of_tasks(work)}")
            await asyncio.sleep(WORK_EVERY_S)
            try:
                await work.look(service)
            except TransientError as error:
                # Pilots wait for it too.
                show(f"pilots: {keeper.kept}; {error.message}")
    if view := work.paused():
        raise TransientError(
            f"task {view.id} paused: {view.reason}",
            hint=f"mend the cause, 'evstream task resume {view.id}', then the same command again",
        )


def _of_tasks(work: _Work) -> str:
    busy = [view for view in work.views if view.state in BUSY]
    if not busy:
        return "no work"
    done = sum(view.process.finished for view in busy)
    total = sum(view.process.entries for view in busy)
    return f"{len(busy)} active task{'s' * (len(busy) != 1)}, {done}/{total} events"


@contextmanager
def _status_line() -> Iterator[Callable[[str], None]]:
    """Give what shows a line that is replaced on a terminal, and comes now and then elsewhere."""
    console = Console(stderr=True)
    if console.is_terminal:
        with console.status("") as status:
            yield status.update
        return
    last, at = "", -LINE_EVERY_S

    def show(line: str) -> None:
        nonlocal last, at
        if line != last and time.monotonic() - at >= LINE_EVERY_S:
            _say(line)
            last, at = line, time.monotonic()

    yield show


def _command(
    options: EngineOptions, cores: int, task: int | None, flags: tuple[str, ...]
) -> tuple[str, ...]:
    words = [*options.words(), "pilot", "--worker", "{name}", "--cores", str(cores)]
    words += ["--task", str(task)] if task is not None else []
    return (*words, *flags)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Have the folder for ourselves: two keepers would replace each other's pilots."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise ConfigError(
            f"cannot use {folder}: {error.strerror}", hint="choose another with --folder"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise ConflictError(
            f"another 'evstream pilots' keeps the pilots of {folder}",
            hint="stop that one, or choose another --folder",
        ) from None
    try:
        yield
    finally:
        os.close(lock)


@contextmanager
def _token_file(address: Address, options: EngineOptions) -> Iterator[str]:
    """Give the file that pilots read their token from; empty if the door needs none.

    A token that is in no file yet is written to one, for as long as pilots may need it.
    """
    named = options.pilot_token_file or address.token_file
    if named or not address.token:
        yield str(Path(named).absolute()) if named else ""
        return
    path = options.folder.absolute() / "token"
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(address.token)
    try:
        yield str(path)
    finally:
        path.unlink(missing_ok=True)


def _say(line: str) -> None:
    print(f"evstream: {line}", file=sys.stderr, flush=True)
