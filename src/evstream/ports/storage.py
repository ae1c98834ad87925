"""Where outputs are kept until they are part of a result."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from evstream.domain.names import Pfn


@dataclass(frozen=True, slots=True)
class Stored:
    """What the store holds under a name.

    Attributes
    ----------
    size : int
        Bytes.
    sha256, adler32 : str
        Hex digests of the content, 64 and 8 characters.
    """

    name: str
    size: int
    sha256: str
    adler32: str


class OutputStore(Protocol):
    """A flat store of immutable objects whose names hold ``/``.

    An object appears whole under its name or not at all, survives a kill once
    `put` has returned, and is never overwritten.
    """

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
        """Describe an object.

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
