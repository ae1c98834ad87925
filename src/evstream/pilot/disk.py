"""Whether the disk that a pilot works on has room."""

from __future__ import annotations

import errno
import os
from pathlib import Path

ROOM_BYTES_LEAST = 1 << 20
"""A disk with less is full: what failed on it may have failed for that."""
NO_ROOM = tuple(os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT))
"""What programs say that found a disk full, or their share of it used up."""


def is_full(directory: Path) -> bool:
    """Return whether a directory's disk has no room, be it for bytes or for more files."""
    try:
        found = os.statvfs(directory)
    except OSError:
        return False
    # Some disks keep a part for root alone; some have no number of files to run out of.
    blocks = found.f_bavail if os.geteuid() else found.f_bfree
    no_names = found.f_files > 0 and found.f_ffree == 0
    return blocks * found.f_frsize < ROOM_BYTES_LEAST or no_names
