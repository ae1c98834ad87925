"""The data directory: on a disk of this machine, and owned by one process."""

from __future__ import annotations

import fcntl
import os
import re
from pathlib import Path

from evstream.domain.errors import ConfigError, ConflictError

# Locks and shared memory are unreliable, or not common to all hosts, on these; SQLite
# would be damaged in silence.
NETWORK_FILE_SYSTEMS = frozenset(
    {
        *("nfs", "nfs4", "afs", "auristorfs", "cifs", "smb3", "smbfs", "ncpfs", "davfs"),
        *("lustre", "gpfs", "beegfs", "ceph", "glusterfs", "panfs", "pvfs2", "orangefs"),
        *("ocfs2", "gfs2", "mmfs", "weka", "wekafs", "cvmfs2"),
        *("fuse.sshfs", "fuse.glusterfs", "fuse.eosxd", "fuse.ceph", "fuse.ceph-fuse"),
        *("fuse.s3fs", "fuse.rclone", "fuse.davfs2", "fuse.xrootdfs", "fuse.dcachefs"),
        *("fuse.juicefs", "fuse.cvmfs2", "fuse.afs", "fuse.goofys", "fuse.gcsfuse"),
    }
)
LOCK_NAME = "owner.lock"


def file_system_of(path: Path, mountinfo: str) -> str:
    """Return the type of the file system that holds a path, or "" if unknown.

    Parameters
    ----------
    path : Path
        Absolute, without symbolic links.
    mountinfo : str
        Text of ``/proc/self/mountinfo`` (proc(5)).
    """
    best, found = -1, ""
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split()
        if len(fields) < 5 or not right:
            continue
        mount_point = _unescape(fields[4])
        # A later mount on the same point hides the earlier one, so equal length wins.
        if path.is_relative_to(mount_point) and len(mount_point) >= best:
            best, found = len(mount_point), right.split()[0]
    return found


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), text)


def refuse_network_file_system(directory: Path, mountinfo: str | None = None) -> None:
    """Raise `ConfigError` if a directory lies on a network file system."""
    if mountinfo is None:
        try:
            mountinfo = Path("/proc/self/mountinfo").read_text(errors="replace")
        except OSError:
            # Only Linux tells; elsewhere the operator has to know.
            return
    kind = file_system_of(directory.resolve(), mountinfo)
    if kind in NETWORK_FILE_SYSTEMS:
        raise ConfigError(
            f"{directory} is on {kind}, where a ledger can be damaged in silence",
            hint="choose a data directory on a local disk",
            path=str(directory),
            file_system=kind,
        )


class DirectoryLock:
    """Holds a data directory for this process until closed; a kill frees it too.

    Raises
    ------
    ConflictError
        Another owner holds it; ``pid`` is among the fields if it is known.
    ConfigError
        The directory cannot be made or written.
    """

    def __init__(self, directory: Path) -> None:
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._fd = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(
                f"data directory {directory} cannot be used: {error.strerror}",
                hint="choose one that you may write to",
                path=str(directory),
            ) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._fd, 20, 0).decode(errors="replace").strip()
            os.close(self._fd)
            raise _held(directory, holder, error) from error
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        """Give the directory back; again is no error."""
        if self._fd >= 0:
            # The file stays: removing it would let two owners lock two files.
            os.close(self._fd)
            self._fd = -1


def _held(directory: Path, holder: str, error: OSError) -> ConflictError | ConfigError:
    if not isinstance(error, BlockingIOError):
        return ConfigError(
            f"data directory {directory} cannot be locked: {error.strerror}",
            hint="choose one on a local disk",
            path=str(directory),
        )
    pid = int(holder) if holder.isdigit() else None
    by = f"process {pid}" if pid else "another process"
    return ConflictError(
        f"data directory {directory} is in use by {by}",
        hint="talk to that service, stop it, or choose another directory with --data",
        path=str(directory),
        pid=pid,
    )
