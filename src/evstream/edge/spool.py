"""Files that are being made on the edge's disk. Blocking."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from pathlib import Path


def open_spool(folder: Path, name: str) -> tuple[int, Path]:
    """Make a file, locked so that no sweep takes it for a dead process's."""
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        fd, path = tempfile.mkstemp(prefix=f".{name[:16]}.", suffix=".part", dir=folder)
        fcntl.flock(fd, fcntl.LOCK_SH)
        if os.fstat(fd).st_nlink:
            return fd, Path(path)
        os.close(fd)  # Swept between its creation and its lock.


def write_at(fd: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of some bytes."""
    rest = memoryview(data)
    while rest:
        done = os.pwrite(fd, rest, offset)
        rest, offset = rest[done:], offset + done


def discard(path: Path) -> None:
    """Remove a file, if it is there."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
