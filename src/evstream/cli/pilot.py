"""``evstream pilot``: work for a service."""

from __future__ import annotations

import asyncio
import math
import os
import re
import secrets
import signal
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

from cyclopts import Parameter

from evstream.cli.printing import print_json
from evstream.cli.service import DEFAULT_DOOR, Door, find_service, run_async
from evstream.domain.errors import ConfigError, EvstreamError, RequestError

if TYPE_CHECKING:
    from evstream.pilot import Pilot, PilotSettings
    from evstream.settings import Settings

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
"""What terminals and batch systems send before they kill."""
AGAIN_S = 1.0
"""A signal within this time of the first is the same one, come by another way."""

Near = Annotated[str | None, Parameter(help="Edge: work whose input it holds comes first.")]
NearOnly = Annotated[bool, Parameter(help="Take no other work than that, but merges.", negative="")]


def pilot(
    *,
    cores: Annotated[int | None, Parameter(help="Payloads to run at once.")] = None,
    task: Annotated[int | None, Parameter(help="Work for this task alone.")] = None,
    workdir: Annotated[Path | None, Parameter(help="Scratch space; default a new one.")] = None,
    near: Near = None,
    near_only: NearOnly = False,
    walltime_s: Annotated[float | None, Parameter(help="Time that it may live.")] = None,
    steps: Annotated[str | None, Parameter(help="An experiment's steps: name or class.")] = None,
    worker: Annotated[str, Parameter(help="Name of this worker; default host, pid, chance.")] = "",
    door: Door = DEFAULT_DOOR,
) -> None:
    """Claim event ranges, run their payload, send the outputs back, until all is done.

    SIGTERM, SIGINT and what else batch systems send have it leave: what runs may end, for a
    few seconds, and the rest is given back. Sent once more, it leaves at once.

    For example:

        EVSTREAM_TOKEN=$(cat token) evstream pilot --url http://127.0.0.1:8400
    """
    from evstream.pilot import PilotSettings
    from evstream.wire.work_messages import WORKER_NAME

    settings = door.settings(cores=cores, walltime_s=walltime_s, pilot_steps=steps)
    if worker and not re.fullmatch(WORKER_NAME, worker):
        raise RequestError(
            f"{worker[:200]!r} cannot be a worker's name",
            hint="use letters, digits and . _ @ : - alone, 200 at most",
        )
    name = worker or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
    pilot_settings = PilotSettings(
        cores=settings.cores,
        lease_s=settings.lease_s,
        prefetch_bytes_max=settings.prefetch_bytes_max,
        idle_s_max=settings.pilot_idle_s_max,
        away_s_max=settings.pilot_patience_s,
        drain_s=settings.drain_s,
        staged_bytes_max=settings.staged_bytes_max,
        store_s_max=settings.store_s_max,
        walltime_s=settings.walltime_s or math.inf,
        task=task,
        near=near,
        near_only=near_only,
        site=settings.site or None,
    )

    if workdir is not None:
        _make_folder(workdir)

    run_async(lambda: _work(settings, pilot_settings, workdir, name, as_json=door.json))


async def _work(
    settings: Settings,
    pilot_settings: PilotSettings,
    workdir: Path | None,
    name: str,
    *,
    as_json: bool,
) -> None:
    from evstream.assembly import connect, make_pilot
    from evstream.cli.commands import tell
    from evstream.domain.names import WorkerId
    from evstream.pilot.scratch import scratch_folder

    service = connect(await find_service(settings, settings.pilot_patience_s), settings.patience_s)
    one: Pilot | None = None
    try:
        with scratch_folder(workdir) as scratch:
            one = make_pilot(service, settings, pilot_settings, scratch, WorkerId(name))
            _leave_when_told(one)
            summary = await one.run()
    except EvstreamError as error:
        if one is not None and one.is_held_up:
            _end_at_once(tell(error))
        raise
    finally:
        await service.close()
    if as_json:
        print_json(summary)
    else:
        print(f"{name}: {summary}", file=sys.stderr)
    if one.is_held_up:
        _end_at_once(0)


def _leave_when_told(one: Pilot) -> None:
    """Stop a pilot at a signal; at once when it is sent again."""
    first = 0.0

    def told() -> None:
        nonlocal first
        now = time.monotonic()
        if not first:
            first = now
            one.stop()
        elif now - first >= AGAIN_S:
            one.stop(0.0)

    for number in SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, told)


def _end_at_once(code: int) -> NoReturn:
    """End, although a thread still waits for a server that says nothing: Python would wait for it.

    All work is given back by now, and scratch space is gone.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _make_folder(workdir: Path) -> None:
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"cannot use {workdir}: {error.strerror}", hint="choose another with --workdir"
        ) from error
