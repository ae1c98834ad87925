"""What output stores behind a network have in common: content is gathered, written, looked at.

Content that comes in pieces is gathered on this machine first: a store never sees a part of it,
however the way here breaks. A store that refuses to overwrite does so itself; with others, names
are looked up before they are written, and one service writes a name once at a time. No two
attempts share a name, so nothing else ever meets here.
"""

from __future__ import annotations

import asyncio
import tempfile
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from typing import IO
from weakref import WeakValueDictionary

from evstream.adapters.storage.digests import Digests
from evstream.adapters.storage.names import PIECE_BYTES_MAX, check_name, check_offset
from evstream.domain.errors import ConflictError, EvstreamError, NotFoundError, TransientError
from evstream.domain.names import Pfn
from evstream.ports.offload import Offload
from evstream.ports.storage import Stored

IN_MEMORY_BYTES = 4 << 20
"""What has no more is gathered in memory, all else in a temporary file."""
READ_BYTES = 16 << 20
"""So much is asked for at once."""


class RemoteStore(ABC):
    """The `OutputStore` port but for how the store is spoken to.

    Parameters
    ----------
    about : str
        What errors call the store; no secrets.
    """

    def __init__(self, about: str, offload: Offload) -> None:
        self.about = about
        self._offload = offload
        self._writing: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    # How the store is spoken to.

    @abstractmethod
    async def _write(self, name: str, file: IO[bytes], stored: Stored) -> None:
        """Write a whole file from its beginning; ConflictError if the name is seen to be taken."""

    @abstractmethod
    async def _stat(self, name: str) -> Stored:
        """Describe an object with what the store tells; NotFoundError."""

    @abstractmethod
    async def _read(self, name: str, offset: int, size: int) -> bytes:
        """Return bytes that are there."""

    @abstractmethod
    async def _delete(self, name: str) -> None:
        """Remove an object, if there is one."""

    @abstractmethod
    async def _names(self, prefix: str) -> list[str]:
        """Return the names with a prefix, and maybe others."""

    @abstractmethod
    def pfn(self, name: str) -> Pfn:
        """Return the name under which a `SourceOpener` reads an object."""

    @abstractmethod
    def places(self, name: str, life: timedelta) -> tuple[str, ...]:
        """Return where a pilot may write an object by itself."""

    # What all of them make of it.

    async def put(self, name: str, content: AsyncIterator[bytes]) -> Stored:
        """Store an object; the same content again under the same name is no error."""
        check_name(name)
        with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY_BYTES) as file:
            digests = Digests()
            async for piece in content:
                digests.add(piece)
                await self._gather(file, piece, digests.size)
            stored = digests.describe(name)
            lock = self._writing.setdefault(name, asyncio.Lock())
            async with lock:
                with suppress(NotFoundError):
                    return await self._same(await self._stat(name), stored)
                await self._write_checked(name, file, stored)
        return stored

    async def _gather(self, file: IO[bytes], piece: bytes, size: int) -> None:
        try:
            if size > IN_MEMORY_BYTES:
                await self._offload(lambda: file.write(piece))
            else:
                file.write(piece)
        except OSError as error:
            raise TransientError(
                f"there is no room to gather an output for {self.about}: {error.strerror}",
                hint="free space where temporary files are (TMPDIR)",
            ) from error

    async def _write_checked(self, name: str, file: IO[bytes], stored: Stored) -> None:
        file.seek(0)
        try:
            await self._write(name, file, stored)
        except ConflictError:
            # By another process, or by ourselves, and the answer was lost.
            await self._same(await self._stat(name), stored)
            return
        except EvstreamError:
            await self._take_back(name)
            raise
        if (await self._stat(name)).agrees(stored) is False:
            await self._take_back(name)
            raise TransientError(
                f"{self.about} has other bytes of {name} than were sent", hint="try again"
            )

    async def _take_back(self, name: str) -> None:
        # Under this name there was nothing, so that it is ours. A store that is away now has
        # it swept later.
        with suppress(EvstreamError):
            await self._delete(name)

    async def _same(self, found: Stored, stored: Stored) -> Stored:
        """Return what is stored, if the store has the same; what it cannot tell is read."""
        same = found.agrees(stored)
        if same is None:
            digests = Digests()
            async for piece in self.read(found.name):
                digests.add(piece)
            same = digests.describe(found.name).agrees(stored)
        if not same:
            raise ConflictError(
                f"{stored.name} is stored with other content",
                hint="choose another name",
                name=stored.name,
            )
        return stored

    async def stat(self, name: str) -> Stored:
        """Describe an object, with the digests that the store has at hand."""
        return await self._stat(check_name(name))

    async def read(
        self, name: str, offset: int = 0, size: int | None = None
    ) -> AsyncIterator[bytes]:
        """Yield the bytes of an object from an offset on."""
        check_offset(offset, size)
        whole = (await self._stat(check_name(name))).size
        stop = whole if size is None else min(offset + size, whole)
        for start in range(offset, stop, READ_BYTES):
            wanted = min(READ_BYTES, stop - start)
            data = await self._read(name, start, wanted)
            if len(data) != wanted:
                raise TransientError(f"{self.about} sent less of {name} than was asked")
            for at in range(0, wanted, PIECE_BYTES_MAX):
                yield data[at : at + PIECE_BYTES_MAX]

    async def names(self, prefix: str = "") -> list[str]:
        """Return the names that begin with a prefix, sorted."""
        return sorted(name for name in await self._names(prefix) if name.startswith(prefix))

    async def delete(self, name: str) -> None:
        """Remove an object; one that is not there is no error."""
        await self._delete(check_name(name))
