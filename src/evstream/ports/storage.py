"""Where outputs are kept until they are part of a result."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from evstream.domain.names import Pfn


@dataclass(frozen=True, slots=True)
class Stored:
    """What the store holds under a name.

    Attributes
    ----------
    size : int
        Bytes.
    sha256, adler32, md5 : str
        Hex digests of the content, 64, 8 and 32 characters; empty those that the store cannot
        tell without reading all of it.
    """

    name: str
    size: int
    sha256: str
    adler32: str
    md5: str = field(default="", compare=False)

    def agrees(self, other: Stored) -> bool | None:
        """Whether two descriptions are of one content; None if that cannot be told.

        What a store gives for an MD5 is something else if it encrypts: it can say yes, not no.
        """
        pairs = ((self.sha256, other.sha256), (self.adler32, other.adler32))
        both = [one == another for one, another in pairs if one and another]
        if self.size != other.size or not all(both):
            return False
        return True if both or (self.md5 and self.md5 == other.md5) else None


class OutputStore(Protocol):
    """A flat store of immutable objects whose names hold ``/``.

    An object appears whole under its name or not at all, survives a kill once
    `put` has returned, and is never overwritten.
    """

    def places(self, name: str, life: timedelta) -> tuple[str, ...]:
        """Return URLs that a pilot may write an object to by itself, the best first.

        None where the way leads through the service.
        """
        ...

    async def put(self, name: str, content: AsyncIterator[bytes]) -> Stored:
        """Store an object; the same content again under the same name is no error.

        Raises
        ------
        ConflictError
            The name is taken by other content.
        TransientError
            No space, or the store does not answer. Nothing is left behind.
        """
        ...

    def pfn(self, name: str) -> Pfn:
        """Return the name under which a `SourceOpener` reads an object."""
        ...

    async def stat(self, name: str) -> Stored:
        """Describe an object, with what digests the store has at hand.

        Raises
        ------
        NotFoundError
        """
        ...

    def read(self, name: str, offset: int = 0, size: int | None = None) -> AsyncIterator[bytes]:
        """Yield the bytes of an object from an offset on, in pieces of at most 1 MiB.

        Raises
        ------
        NotFoundError
        """
        ...

    async def names(self, prefix: str = "") -> list[str]:
        """Return the names that begin with a prefix, sorted."""
        ...

    async def delete(self, name: str) -> None:
        """Remove an object; one that is not there is no error."""
        ...


class OutputWriter(Protocol):
    """Writes files to places that an `OutputStore` named."""

    async def write(self, place: str, path: Path, within_s: float = math.inf) -> Stored:
        """Write a file and have the store confirm what it got; the name is the place's.

        What was there before under the name, whole, is taken for an answer that was lost.

        Parameters
        ----------
        within_s : float
            A store that brings nothing for so long, or for some seconds if that is less, is
            given up. What goes on is not limited.

        Returns
        -------
        Stored
            With every digest, of the bytes that were sent.

        Raises
        ------
        ConflictError
            The name is taken, by a part of the file, say: write it under another.
        TransientError
            The store does not answer, or has other bytes than were sent.
        AccessError, ConfigError
            It cannot be written from here.
        """
        ...

    async def close(self) -> bool:
        """Close its connections; say whether all is over: a thread may still wait for a store."""
        ...
