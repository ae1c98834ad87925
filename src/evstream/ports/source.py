"""Where source files are read from."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol


class ByteSource(Protocol):
    """Random access to the bytes of one file. Blocking; safe to use from threads."""

    @property
    def size(self) -> int:
        """Bytes in the file."""
        ...

    def read_ranges(self, ranges: Sequence[tuple[int, int]]) -> Sequence[bytes | memoryview]:
        """Return the bytes of each ``(offset, size)``, in the order asked.

        Raises
        ------
        DataError
            A range reaches beyond the end.
        TransientError
            The store does not answer.
        """
        ...


class SourceOpener(Protocol):
    """Opens files by physical name. Blocking: call it through `Offload`."""

    def open(self, pfn: str) -> AbstractContextManager[ByteSource]:
        """Open a file for reading.

        Raises
        ------
        NotFoundError
            There is no such file.
        AccessError
            It may not be read.
        TransientError
            The store does not answer.
        """
        ...

    def signature(self, pfn: str) -> str:
        """Return a cheap sign that changes when the file does (size, date, ETag).

        Equal signs do not prove equal files; a new sign calls for a new fingerprint.
        """
        ...
