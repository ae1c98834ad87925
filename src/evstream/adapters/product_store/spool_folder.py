"""The folder where products lie while they are made."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

PREFIX, SUFFIX = ".", ".part"


def sweep_folder(folder: Path) -> int:
    """Remove files that no living process holds a lock on; return how many went."""
    gone = 0
    with contextlib.suppress(FileNotFoundError):
        for path in folder.glob(f"{PREFIX}*{SUFFIX}"):
            gone += _removed(path)
    return gone


def _removed(path: Path) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


def free_bytes_of(folder: Path) -> int:
    """Return the room that is left to us on a folder's disk, or on its nearest parent's."""
    for place in (folder, *folder.parents):
        with contextlib.suppress(FileNotFoundError):
            found = os.statvfs(place)
            return found.f_bavail * found.f_frsize
    return 0


def discard(spool: Path) -> None:
    """Remove a spool file, if it is there and can be removed."""
    with contextlib.suppress(OSError):
        spool.unlink(missing_ok=True)
