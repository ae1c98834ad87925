"""Outputs that are complete while their payload still runs, and how one tells."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace as replace_slot

from evstream.domain.errors import DataError
from evstream.pilot.unit_files import OutputFile, find_files
from evstream.wire.work_messages import OutputSlot

SETTLED_S = 5.0
"""A file that nobody touched for so long is thought to be complete."""


@dataclass(frozen=True, slots=True)
class FileState:
    """By which one knows that a file has not been touched."""

    inode: int
    size: int
    modified_ns: int

    @classmethod
    def of(cls, path: Path) -> FileState:
        """Look at a file, not through links."""
        status = path.lstat()
        return cls(status.st_ino, status.st_size, status.st_mtime_ns)


def is_spotted(slot: OutputSlot) -> bool:
    """Whether files of a stream may be sent while the payload runs."""
    return bool(slot.pattern) or slot.complete == "closed"


def is_closed(path: Path) -> bool:
    """Whether no process has a file open for writing, or mapped so.

    The kernel is asked for a read lease, which it grants for such files only. False where
    it cannot tell: on file systems without leases, and for files of other users.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        # Whoever opens the file in this instant waits until the lease is given back, and
        # we are sent a signal: one that does nothing, not SIGIO, which ends a process.
        fcntl.fcntl(file, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except (OSError, AttributeError):
        # Another kernel than Linux has no such calls.
        return False
    else:
        return True
    finally:
        os.close(file)


class Spotted:
    """Looks at a unit's directory again and again, and tells which files are complete."""

    def __init__(self) -> None:
        self._seen: dict[Path, tuple[FileState, float]] = {}
        self._elsewhere: set[int] = set()
        self._told: dict[Path, FileState] = {}

    def complete(
        self,
        slots: Sequence[OutputSlot],
        directory: Path,
        now: float,
        besides: Collection[str] = (),
    ) -> list[OutputFile]:
        """Return the files that are complete since the last look.

        Parameters
        ----------
        now : float
            Seconds on a clock that only goes forward.
        besides : collection of str
            Names of files that are not the payload's.
        """
        several = [replace_slot(slot, optional=True) if slot.pattern else slot for slot in slots]
        try:
            found = [f for f in find_files(several, directory, besides) if is_spotted(f.slot)]
            states = {path: FileState.of(path) for path in directory.iterdir()}
        except (DataError, OSError):
            return []  # Too many files, or one that went meanwhile: the end will tell.
        complete = []
        for file in found:
            state = states.get(file.path)
            if state is None or not state.size:
                continue
            before, since = self._seen.get(file.path, (None, now))
            if before != state:
                since = now
            self._seen[file.path] = state, since
            if self._told.get(file.path) == state:
                continue
            if file.slot.complete == "closed":
                # Unchanged since the last look, so that whoever opens and closes it for
                # each line, or writes twice within a tick of the clock, is given time.
                whole = before == state and is_closed(file.path)
            else:
                renamed = before is None and state.inode in self._elsewhere
                whole = renamed or (before == state and now - since >= SETTLED_S)
            if whole:
                self._told[file.path] = state
                complete.append(file)
        named = {file.path for file in found}
        self._elsewhere = {s.inode for path, s in states.items() if path not in named}
        return complete
