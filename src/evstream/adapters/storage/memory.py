"""An output store in memory."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import AsyncIterator
from datetime import timedelta

from evstream.adapters.storage.names import PIECE_BYTES_MAX, check_name, check_offset
from evstream.domain.errors import ConflictError, NotFoundError
from evstream.domain.names import Pfn
from evstream.ports.storage import Stored


class MemoryStore:
    """The `OutputStore` port on a dictionary.

    Attributes
    ----------
    contents : dict of str to bytes
        By name; names of objects are their physical names too.
    """

    def __init__(self) -> None:
        self._stored: dict[str, Stored] = {}
        self.contents: dict[str, bytes] = {}

    async def put(self, name: str, content: AsyncIterator[bytes]) -> Stored:
        """Store an object; the same content again under the same name is no error."""
        check_name(name)
        data = b"".join([piece async for piece in content])
        stored = Stored(
            name, len(data), hashlib.sha256(data).hexdigest(), f"{zlib.adler32(data):08x}"
        )
        if self._stored.setdefault(name, stored) != stored:
            raise ConflictError(
                f"{name} is stored with other content", hint="choose another name", name=name
            )
        self.contents[name] = data
        return stored

    def places(self, name: str, life: timedelta) -> tuple[str, ...]:
        """Nobody else gets at it."""
        return ()

    def pfn(self, name: str) -> Pfn:
        """Return the name of an object, as `contents` knows it."""
        return Pfn(check_name(name))

    async def stat(self, name: str) -> Stored:
        """Describe an object."""
        if check_name(name) not in self._stored:
            raise NotFoundError(f"there is no object {name}", name=name)
        return self._stored[name]

    async def read(
        self, name: str, offset: int = 0, size: int | None = None
    ) -> AsyncIterator[bytes]:
        """Yield the bytes of an object from an offset on."""
        check_offset(offset, size)
        await self.stat(name)
        data = self.contents[name]
        stop = len(data) if size is None else min(offset + size, len(data))
        for start in range(offset, stop, PIECE_BYTES_MAX):
            yield data[start : min(start + PIECE_BYTES_MAX, stop)]

    async def names(self, prefix: str = "") -> list[str]:
        """Return the names that begin with a prefix, sorted."""
        return sorted(name for name in self._stored if name.startswith(prefix))

    async def delete(self, name: str) -> None:
        """Remove an object; one that is not there is no error."""
        if self._stored.pop(check_name(name), None) is not None:
            del self.contents[name]
