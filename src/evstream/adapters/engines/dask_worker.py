"""What runs inside Dask's workers: it goes there by value, so they need no evstream to run it.

Only the standard library and Dask itself are imported here.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import tempfile
from typing import Any

PR_SET_PDEATHSIG = 1
SAID_MAX = 4096


def run_pilot(name: str, command: list[str], environment: dict[str, str], log: str) -> list[Any]:
    """Run a pilot in a worker's thread until it ends.

    Returns
    -------
    list
        Exit status and last line. The status is None for one that was begun before:
        Dask begins the tasks of lost workers again, and a pilot's name is for once.
    """
    from distributed import Event, get_worker

    begun = Event(f"evstream-{name}")
    if begun.is_set():
        return [None, "its worker was lost"]
    begun.set()
    pilots = get_worker().__dict__.setdefault("evstream_pilots", {})
    libc = ctypes.CDLL(None)

    def follow() -> None:
        # A worker that is killed takes its pilot along, which has a moment to give work back.
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

    with _log(log) as file:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env={**os.environ, **environment},
            preexec_fn=follow,  # noqa: PLW1509 - prctl is safe between fork and exec
        )
        pilots[name] = process.pid
        try:
            code = process.wait()
        finally:
            del pilots[name]
        file.seek(0, 2)
        file.seek(max(0, file.tell() - SAID_MAX))
        said = file.read().decode("utf-8", "replace").strip().splitlines()
    return [code, said[-1] if said else ""]


def _log(path: str) -> Any:
    """Open a pilot's log; a place of its own where the folder is not there."""
    try:
        return open(path, "w+b")  # noqa: PTH123 - the caller closes it
    except OSError:
        return tempfile.TemporaryFile()


def list_pilots(dask_worker: Any) -> list[str]:
    """Return the pilots that run in a worker."""
    return list(dask_worker.__dict__.get("evstream_pilots", {}))


def signal_pilot(name: str, number: int, dask_worker: Any) -> None:
    """Send a signal to a pilot, if it runs in this worker."""
    pid = dask_worker.__dict__.get("evstream_pilots", {}).get(name)
    if pid is not None:
        os.kill(pid, number)
