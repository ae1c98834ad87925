"""Cuts that are made where they are used, out of sources that may be far away."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from evstream.domain.descriptor import Descriptor


@dataclass(frozen=True, slots=True)
class Made:
    """What a cut has left.

    Attributes
    ----------
    read : int
        Bytes of the source that were read for it.
    etag : str
        The product's: who makes another of the same ETag makes the same bytes.
    """

    read: int
    etag: str


class Cutter(Protocol):
    """Makes products out of their sources, without anybody's help."""

    def can(self, descriptor: Descriptor) -> bool:
        """Say whether products of this kind are made here."""
        ...

    async def cut(self, descriptor: Descriptor, path: Path, bytes_max: int | None = None) -> Made:
        """Leave a product at a path.

        Raises
        ------
        EvstreamError
            Its source is not known, cannot be read from here, or is not what it was.
        TooLargeError
            The product has more bytes than may be.
        """
        ...

    async def close(self) -> bool:
        """Close what is open; say whether all is: a thread may still wait for a source."""
        ...
