"""Where an edge keeps the products that it has made. Nothing in it is precious."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

_OBJECT = re.compile(r"([0-9a-f]{64}-[0-9a-f]{16})\.(\d{1,18})\.([0-9a-f]{64})\.([0-9a-f]{8})")
"""Name, size and digests: what is to be known of a product stands in its object's name."""


@dataclass(frozen=True, slots=True)
class KeptProduct:
    """A product that a store holds.

    Attributes
    ----------
    name : str
        Its key, and 16 hexadecimal digits for the encoder that made it: two makers with
        different codecs make different bytes.
    size : int
        Bytes.
    sha256, adler32 : str
        Hex digests of the content, 64 and 8 characters.
    created : datetime
        When it was put there, in UTC.
    """

    name: str
    size: int
    sha256: str
    adler32: str
    created: datetime

    @property
    def object_name(self) -> str:
        """What a store calls its object."""
        return f"{self.name}.{self.size}.{self.sha256}.{self.adler32}"

    @classmethod
    def parse(cls, object_name: str, created: datetime) -> KeptProduct | None:
        """Return the product whose object has a name; None where it is no product's."""
        found = _OBJECT.fullmatch(object_name)
        if found is None:
            return None
        name, size, sha256, adler32 = found.groups()
        return cls(name, int(size), sha256, adler32, created)


class ProductStore(Protocol):
    """Keeps whole products by content.

    A product appears whole under its name or not at all. Anybody may remove any of them
    at any time, also while the edge runs: that is a miss. What waits to be put lies in
    ``spool_dir``, as files whose names begin with a dot and end with ``.part``; those that
    a killed process left behind are removed by `sweep`.
    """

    @property
    def spool_dir(self) -> Path:
        """A folder of this machine for products that are being made; it may have vanished."""
        ...

    async def put(self, kept: KeptProduct, spool: Path) -> None:
        """Keep a product whose bytes are in a file of the spool folder, which goes.

        The same product again is no error.

        Raises
        ------
        TransientError
            No space, or the store does not answer. The product is not kept.
        """
        ...

    def open(self, kept: KeptProduct) -> int | None:
        """Return a file descriptor, the caller's to close; None from stores without files.

        Raises
        ------
        NotFoundError
            It is gone, or is not what was put there.
        """
        ...

    def path(self, kept: KeptProduct) -> str | None:
        """Return where its file is below the store's folder; None from stores without files."""
        ...

    def read(self, kept: KeptProduct, offset: int, size: int) -> AsyncIterator[bytes]:
        """Yield some bytes of a product, in pieces of at most 1 MiB.

        Raises
        ------
        NotFoundError
            It is gone, or is not what was put there.
        TransientError
            The store does not answer.
        """
        ...

    async def delete(self, kept: KeptProduct) -> None:
        """Remove a product; one that is not there is no error."""
        ...

    async def listing(self) -> list[KeptProduct]:
        """Return what is there, by looking; no order."""
        ...

    async def sweep(self) -> int:
        """Remove what was being made when a process died; return how many files went."""
        ...

    def free_bytes(self) -> int | None:
        """Return how much room its disk has left; None where there is no telling."""
        ...

    def spool_free_bytes(self) -> int:
        """Return how much room the spool folder's disk has left."""
        ...
