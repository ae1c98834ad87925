"""Scratch folders of pilots, and what becomes of those that killed pilots left."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "evstream-pilot-"


@contextmanager
def scratch_folder(workdir: Path | None = None) -> Iterator[Path]:
    """Make a folder that goes at the end; what dead pilots left beside it goes first.

    It is locked while the context lasts. A lock dies with its process, however that
    dies: whoever can lock a folder may remove it.

    Parameters
    ----------
    workdir : Path, optional
        Where; by default where the system has its temporary files.

    Raises
    ------
    OSError
        No folder can be made there.
    """
    parent = Path(tempfile.gettempdir()) if workdir is None else workdir
    sweep(parent)
    folder, lock = _locked_folder(parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def sweep(parent: Path) -> None:
    """Remove the scratch folders of pilots that live no more."""
    for folder in parent.glob(f"{PREFIX}*"):
        # Taken away meanwhile, somebody else's, or alive.
        with suppress(OSError):
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)


def _locked_folder(parent: Path) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        # Somebody who sweeps may come between the making and the locking, and take it.
        with suppress(FileNotFoundError):
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if os.fstat(lock).st_nlink:
                return folder, lock
            os.close(lock)
