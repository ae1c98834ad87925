"""Size and digests of bytes on their way."""

from __future__ import annotations

import hashlib
import zlib

from evstream.ports.storage import Stored


class Digests:
    """Adds up pieces; any store can be compared with what it describes."""

    def __init__(self) -> None:
        self.size = 0
        self._sha256 = hashlib.sha256()
        # What S3 calls an ETag; it guards against accidents alone.
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._adler32 = 1

    def add(self, piece: bytes) -> None:
        """Take the next piece."""
        self.size += len(piece)
        self._sha256.update(piece)
        self._md5.update(piece)
        self._adler32 = zlib.adler32(piece, self._adler32)

    def describe(self, name: str) -> Stored:
        """Describe what was added."""
        return Stored(
            name,
            self.size,
            self._sha256.hexdigest(),
            f"{self._adler32:08x}",
            self._md5.hexdigest(),
        )
