"""Bytes on their way into files: seen whole or not at all, and not all in memory."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

# Beyond this many bytes, what waits to be read is in a file.
MEMORY_BYTES_MAX = 64 << 20
# Of a product's name in its temporary one, which has some more.
NAME_BYTES = 64


class Spool:
    """Bytes that wait to be read, in memory as long as they are few.

    More of them are in a file that has no name and goes with the object.
    """

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(MEMORY_BYTES_MAX)  # noqa: SIM115 - see __del__
        self.size = 0

    def append(self, data: bytes) -> int:
        """Put bytes behind all others; return where they begin."""
        at = self.size
        self._file.seek(at)
        self._file.write(data)
        self.size += len(data)
        return at

    def overwrite(self, offset: int, data: bytes | bytearray) -> None:
        """Put bytes in the place of others."""
        self._file.seek(offset)
        self._file.write(data)

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes from a position on."""
        self._file.seek(offset)
        return self._file.read(size)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill a buffer from a position on."""
        self._file.seek(offset)
        done = 0
        while done < len(buffer):
            got = self._file.readinto(buffer[done:])
            if not got:
                raise OSError("a temporary file is shorter than what was written to it")
            done += got

    def __del__(self) -> None:
        self._file.close()


@contextmanager
def spooled(path: Path, size: int = 0) -> Iterator[BinaryIO]:
    """Write under a temporary name beside a path; rename at the end, remove on errors.

    Parameters
    ----------
    size : int
        Bytes that it will have, if that is known: a disk without the room refuses them
        before any is written, and one that has it need not look for it again and again.
    """
    # A name may be as long as the disk takes names: the temporary one must not be longer.
    start = path.name.encode(errors="ignore")[:NAME_BYTES].decode(errors="ignore")
    fd, name = tempfile.mkstemp(prefix=f".{start}.", suffix=".part", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(fd, "wb") as out:
            _reserve(fd, size)
            yield out
        # mkstemp makes private files; products are as readable as any other file.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _reserve(fd: int, size: int) -> None:
    """Take room for a file of a size, on systems and disks that can."""
    if size > 0 and hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(fd, 0, size)
        except OSError as problem:
            if problem.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                raise
