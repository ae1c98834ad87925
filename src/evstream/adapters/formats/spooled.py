"""Products that cannot be read before they are whole: made once, then read at any offset."""

from __future__ import annotations

import os
import tempfile
from abc import abstractmethod
from typing import BinaryIO

from evstream.ports import ByteSource

MEMORY_BYTES_MAX = 4 << 20


class SpooledCut:
    """A cut that `prepare` makes whole: in memory if it is small, else in a nameless file.

    The file goes with the object.
    """

    beside: tuple[str, ...] = ()
    left_behind: tuple[str, ...] = ()

    def __init__(self, entries: int) -> None:
        self.entries = entries
        self._small: bytes | None = None
        self._file: BinaryIO | None = None
        self._size = 0

    @abstractmethod
    def make(self, source: ByteSource, out: BinaryIO) -> None:
        """Write the product."""

    @property
    def size(self) -> int:
        """Length of the product in bytes; call `prepare` first."""
        if self._small is None and self._file is None:
            raise RuntimeError("call prepare() before asking for a product's size or bytes")
        return self._size

    @property
    def boundary_bytes(self) -> int:
        """All of it is made anew and kept."""
        return self._size

    def prepare(self, source: ByteSource) -> None:
        """Make the product; again is nothing."""
        if self._small is not None or self._file is not None:
            return
        out = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the product
        try:
            self.make(source, out)
            out.flush()
            self._size = os.fstat(out.fileno()).st_size
            if self._size <= MEMORY_BYTES_MAX:
                self._small = os.pread(out.fileno(), self._size, 0)
        except BaseException:
            out.close()
            raise
        if self._small is None:
            self._file = out
        else:
            out.close()

    def read(self, offset: int, size: int, source: ByteSource) -> bytes:
        """Return the product's bytes ``[offset, offset + size)``, fewer at its end."""
        if self._small is not None:
            return self._small[offset : offset + size]
        if self._file is None:
            raise RuntimeError("call prepare() before asking for a product's size or bytes")
        return os.pread(self._file.fileno(), size, offset)
