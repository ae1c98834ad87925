"""Where bytes come from, and how the parsers ask for them.

Nothing in `evstream.rootio` reads by itself. Its parsers are generators that
yield lists of ``(offset, size)`` and are sent as many bytes-like objects. A
driver stands between them and the world: `drive` for anything that looks like
a `ByteSource`, `drive_async` for an asynchronous one.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Awaitable, Generator, Sequence
from pathlib import Path
from typing import Protocol, Self, TypeAlias, TypeVar, cast

from evstream.rootio.errors import CorruptFileError

Range: TypeAlias = tuple[int, int]
Data: TypeAlias = bytes | memoryview
_T = TypeVar("_T")
Steps: TypeAlias = Generator[Sequence[Range], Sequence[Data], _T]

# XRootD servers take at most 1024 ranges in one vector read.
RANGES_MAX = 1024
# Reading a gap of this many bytes costs less than asking twice.
GAP_BYTES_MAX = 4096
# Of reads that are smaller, a call that makes their bytes itself is the cheapest.
_SMALL_READ = 1 << 20


def fresh(size: int) -> memoryview:
    """Return memory to fill, whatever it holds.

    numpy asks the system for huge pages where there are some: megabytes that come in pages of
    four kilobytes take several times as long to get as to fill.
    """
    import numpy as np

    return np.empty(size, np.uint8).data


class ByteSource(Protocol):
    """Random access to the bytes of one file; storage adapters satisfy it by shape."""

    @property
    def size(self) -> int:
        """Length of the file in bytes."""
        ...

    def read_ranges(self, ranges: Sequence[Range]) -> Sequence[Data]:
        """Return the bytes of each ``(offset, size)``, in the order asked."""
        ...


class AsyncByteSource(Protocol):
    """The same, for event loops."""

    @property
    def size(self) -> int:
        """Length of the file in bytes."""
        ...

    def read_ranges(self, ranges: Sequence[Range]) -> Awaitable[Sequence[Data]]:
        """Return the bytes of each ``(offset, size)``, in the order asked."""
        ...


class DirectSource(ByteSource, Protocol):
    """A source that can put bytes where they are wanted, which saves copying them."""

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill a buffer from a position on; `CorruptFileError` if the file ends before."""
        ...


def direct(source: ByteSource) -> DirectSource | None:
    """Return a source as a direct one, if it is one."""
    return cast("DirectSource", source) if hasattr(source, "read_into") else None


class BytesSource:
    """A file that is in memory already."""

    def __init__(self, data: Data) -> None:
        self._data = memoryview(data)

    @property
    def size(self) -> int:
        """Length in bytes."""
        return len(self._data)

    def read_ranges(self, ranges: Sequence[Range]) -> Sequence[Data]:
        """Return views, without copying."""
        return [self._data[offset : offset + size] for offset, size in ranges]

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill a buffer."""
        found = self._data[offset : offset + len(buffer)]
        if len(found) != len(buffer):
            raise _too_short(offset, len(buffer), len(found))
        buffer[:] = found


class FileSource:
    """A local file, read at positions; safe to share between threads.

    Use it as a context manager, or call `close`.

    Attributes
    ----------
    path : Path
    state : tuple of int
        What tells it, as it was when it was opened, from any other file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._fd = -1  # should opening fail
        self.path = Path(path)
        # Without O_NONBLOCK, opening a pipe would wait for somebody to write into it.
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        status = os.fstat(self._fd)
        if not stat.S_ISREG(status.st_mode):
            self.close()
            if stat.S_ISDIR(status.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        self._size = status.st_size
        self.state = status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns

    @property
    def size(self) -> int:
        """Length in bytes when the file was opened."""
        return self._size

    def read_ranges(self, ranges: Sequence[Range]) -> Sequence[Data]:
        """Read each range; a file that became shorter gives short answers."""
        return [self._read(offset, size) for offset, size in ranges]

    def _read(self, offset: int, size: int) -> Data:
        if size < _SMALL_READ:
            return os.pread(self._fd, size, offset)
        buffer = fresh(size)
        return buffer[: self._fill(offset, buffer)]

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill a buffer."""
        done = self._fill(offset, buffer)
        if done < len(buffer):
            raise _too_short(offset, len(buffer), done)

    def _fill(self, offset: int, buffer: memoryview) -> int:
        """Fill a buffer as far as the file goes; return how far that is."""
        done = 0
        while done < len(buffer):
            # The kernel returns at most 2 GiB a call.
            got = os.preadv(self._fd, [buffer[done:]], offset + done)
            if not got:
                break
            done += got
        return done

    def close(self) -> None:
        """Give the descriptor back."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


class FewOpen:
    """Local files as sources, of which only so many are open at once.

    Use it as a context manager: leaving it closes them.

    Attributes
    ----------
    files_max : int
        Systems allow a process some hundreds.
    """

    files_max = 100

    def __init__(self) -> None:
        self._open: dict[_OneOfMany, FileSource] = {}

    def source(self, path: str | os.PathLike[str]) -> DirectSource:
        """Return a file as a source; it is opened when something is asked of it."""
        return _OneOfMany(self, path)

    def __len__(self) -> int:
        return len(self._open)

    def opened(self, one: _OneOfMany) -> FileSource:
        """Return one of the files, open; good until the next is asked for."""
        file = self._open.pop(one, None)
        if file is None:
            file = FileSource(one.path)
            if len(self._open) >= self.files_max:
                self._open.pop(next(iter(self._open))).close()
        # The last one that was used is behind all others.
        self._open[one] = file
        return file

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        while self._open:
            self._open.popitem()[1].close()


class _OneOfMany:
    """A file of a `FewOpen`."""

    def __init__(self, files: FewOpen, path: str | os.PathLike[str]) -> None:
        self.path = path
        self._files = files
        self._state: tuple[int, ...] | None = None

    @property
    def size(self) -> int:
        return self._file().size

    def read_ranges(self, ranges: Sequence[Range]) -> Sequence[Data]:
        return self._file().read_ranges(ranges)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self._file().read_into(offset, buffer)

    def _file(self) -> FileSource:
        file = self._files.opened(self)
        if self._state != file.state:
            if self._state is not None:
                raise CorruptFileError(
                    f"{os.fspath(self.path)} became another file while it was read",
                    hint="give files that nobody writes to any more",
                )
            self._state = file.state
        return file


def _too_short(offset: int, size: int, got: int) -> CorruptFileError:
    return CorruptFileError(
        f"asked for {size} bytes at {offset}, got {got}",
        hint="the file became shorter, or the transfer broke",
        offset=offset,
        size=size,
    )


def drive(steps: Steps[_T], source: ByteSource) -> _T:
    """Run a parser to its result, reading from a source what it asks for."""
    try:
        ranges = next(steps)
        while True:
            ranges = steps.send(source.read_ranges(ranges))
    except StopIteration as done:
        result: _T = done.value
        return result


async def drive_async(steps: Steps[_T], source: AsyncByteSource) -> _T:
    """Run a parser to its result on an event loop."""
    try:
        ranges = next(steps)
        while True:
            ranges = steps.send(await source.read_ranges(ranges))
    except StopIteration as done:
        result: _T = done.value
        return result


def fetch(ranges: Sequence[Range], size: int) -> Steps[list[memoryview]]:
    """Ask for many ranges with few requests.

    Neighbours with small gaps are read as one, and no request carries more than
    `RANGES_MAX` ranges.

    Parameters
    ----------
    ranges : sequence of (offset, size), in any order
    size : int
        Length of the file; nothing beyond it is asked for.

    Returns
    -------
    list of memoryview, one a range, in the order given.

    Raises
    ------
    CorruptFileError
        A range lies outside the file, or the source returned fewer bytes.
    """
    for offset, length in ranges:
        if offset < 0 or length < 0 or offset + length > size:
            raise CorruptFileError(
                f"bytes {offset} to {offset + length} lie outside a file of {size} bytes",
                hint="the file may be truncated; compare its size with the catalogue's",
                offset=offset,
                size=length,
            )
    order = sorted(range(len(ranges)), key=lambda i: ranges[i])
    runs: list[list[int]] = []  # [start, stop]
    run_of = [0] * len(ranges)
    for i in order:
        start, stop = ranges[i][0], ranges[i][0] + ranges[i][1]
        if runs and start - runs[-1][1] <= GAP_BYTES_MAX:
            runs[-1][1] = max(runs[-1][1], stop)
        else:
            runs.append([start, stop])
        run_of[i] = len(runs) - 1
    views: list[memoryview] = []
    for first in range(0, len(runs), RANGES_MAX):
        request = [(start, stop - start) for start, stop in runs[first : first + RANGES_MAX]]
        answer = yield request
        for (start, length), data in zip(request, answer, strict=True):
            if len(data) != length:
                raise _too_short(start, length, len(data))
            views.append(memoryview(data))
    out = []
    for i, (offset, length) in enumerate(ranges):
        begin = offset - runs[run_of[i]][0]
        out.append(views[run_of[i]][begin : begin + length])
    return out
