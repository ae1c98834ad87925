"""Worker processes of `evstream run`: pilots of the local engine, beside the service."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from evstream.client import Service
from evstream.domain.names import WorkerId

LEASE_S = 15
"""Short, since a job that is killed and given again waits for the leases of the first."""
PATIENCE_S = 20
"""A worker whose service has vanished leaves after this; a restarted one may reuse it."""
END_S = 5.0
"""A worker that was asked to leave and is there after so long is made to."""


async def keep_workers(
    url: str, service: Service, folder: Path, number: int, task: int, cores: int = 1
) -> None:
    """Start the workers and replace each that dies, until cancelled.

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

    Raises
    ------
    ConfigError
        Workers end one after another, be it that their node lacks something.
    """
    from evstream.assembly.engines import make_job_keeper, make_local_engine
    from evstream.ports import PilotOrder

    command = [sys.executable, "-m", "evstream", "pilot", "--url", url, "--worker", "{name}"]
    command += ["--cores", str(cores), "--task", str(task), "--workdir", str(folder)]
    values = {"EVSTREAM_LEASE_S": LEASE_S, "EVSTREAM_PILOT_PATIENCE_S": PATIENCE_S}
    # Who sets them knows better.
    environment = {name: os.environ.get(name, str(value)) for name, value in values.items()}
    order = PilotOrder(WorkerId(f"task{task}"), tuple(command), environment, cores)
    engine = make_local_engine(folder, order.name)
    keeper = make_job_keeper(service, engine, order)
    await engine.open()
    try:
        await keeper.keep(lambda: number)
    finally:
        await keeper.end_all(END_S)
        await engine.close()
