"""What a payload's processes and its directory have used so far."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import psutil

from evstream.domain.payload import Payload


def cpu_s_of(pid: int) -> float:
    """Return the CPU seconds that a process and all below it have used so far."""
    total = 0.0
    for process in _tree(pid):
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system
            total += times.children_user + times.children_system
    return total


def memory_of(pid: int) -> int:
    """Return the bytes of memory of a process and all below it.

    A page that several processes share counts for each by its share, where the system
    tells it: what forked workers have in common counts once.
    """
    total = 0
    for process in _tree(pid):
        with contextlib.suppress(psutil.Error, OSError):
            total += _share(process)
    return total


def _share(process: psutil.Process) -> int:
    try:
        for line in Path(f"/proc/{process.pid}/smaps_rollup").read_bytes().splitlines():
            if line.startswith(b"Pss:"):
                return int(line.split()[1]) << 10
    except OSError:
        pass
    return int(process.memory_info().rss)


def disk_of(directory: Path) -> int:
    """Return the bytes on disk of a directory's files, at any depth."""
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(OSError):
                total += (Path(folder) / name).lstat().st_blocks * 512
    return total


def beyond_limits(payload: Payload, pid: int, directory: Path) -> str:
    """Return what says that a unit uses more than it may; empty if it does not.

    Parameters
    ----------
    pid : int
        The process that works on it; 0 if that is not known.
    """
    if payload.memory_bytes_max and pid:
        used = memory_of(pid)
        if used > payload.memory_bytes_max:
            return f"payload used {used} bytes of memory, and may use {payload.memory_bytes_max}"
    if payload.disk_bytes_max:
        used = disk_of(directory)
        if used > payload.disk_bytes_max:
            return f"payload used {used} bytes of disk, and may use {payload.disk_bytes_max}"
    return ""


def _tree(pid: int) -> Iterator[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        leader = psutil.Process(pid)
        yield leader
        below = _below(pid)
        if below is None:
            # Another system than Linux: psutil looks at every process that there is.
            yield from leader.children(recursive=True)
            return
        for each in below:
            with contextlib.suppress(psutil.Error):
                yield psutil.Process(each)


def _below(pid: int) -> list[int] | None:
    """Return the processes below one, or None where the system does not list children."""
    tasks = Path(f"/proc/{pid}/task")
    if not (tasks / str(pid) / "children").exists():
        return None
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in tasks.iterdir():
            for child in map(int, (task / "children").read_bytes().split()):
                found += [child, *(_below(child) or ())]
    return found
