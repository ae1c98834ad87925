"""An output store in memory."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import AsyncIterator

from evstream.adapters.storage.names import PIECE_BYTES_MAX, check_name, check_offset
from evstream.domain.errors import ConflictError, NotFoundError
from evstream.ports.storage import Stored


class MemoryStore:
    """The `OutputStore` port on a dictionary."""

    def __init__(self) -> None:
        self._objects: dict[str, tuple[Stored, bytes]] = {}

    async def put(self, name: str, content: AsyncIterator[bytes]) -> Stored:
        """Store an object; the same content again under the same name is no error."""
        check_name(name)
        data = b"".join([piece async for piece in content])
        stored = Stored(
            name, len(data), hashlib.sha256(data).hexdigest(), f"{zlib.adler32(data):08x}"
        )
        known, _ = self._objects.setdefault(name, (stored, data))
        if known != stored:
            raise ConflictError(
                f"{name} is stored with other content", hint="choose another name", name=name
            )
        return stored

    async def stat(self, name: str) -> Stored:
        """Describe an object."""
        return self._object(name)[0]

    def _object(self, name: str) -> tuple[Stored, bytes]:
        if check_name(name) not in self._objects:
            raise NotFoundError(f"there is no object {name}", name=name)
        return self._objects[name]

    async def read(
        self, name: str, offset: int = 0, size: int | None = None
    ) -> AsyncIterator[bytes]:
        """Yield the bytes of an object from an offset on."""
        check_offset(offset, size)
        data = self._object(name)[1]
        stop = len(data) if size is None else min(offset + size, len(data))
        for start in range(offset, stop, PIECE_BYTES_MAX):
            yield data[start : min(start + PIECE_BYTES_MAX, stop)]

    async def names(self, prefix: str = "") -> list[str]:
        """Return the names that begin with a prefix, sorted."""
        return sorted(name for name in self._objects if name.startswith(prefix))

    async def delete(self, name: str) -> None:
        """Remove an object; one that is not there is no error."""
        self._objects.pop(check_name(name), None)
