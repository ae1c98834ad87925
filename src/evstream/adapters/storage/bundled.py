"""Outputs that are no objects of their own, but lie in bundles: their names say where."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

from evstream.adapters.storage.names import check_offset
from evstream.domain.errors import RequestError
from evstream.domain.names import Pfn
from evstream.domain.outputs import place_of
from evstream.ports.storage import OutputStore, Stored


class BundledStore:
    """The `OutputStore` port on another store, in which some objects are bundles.

    What is in a bundle is read, and described by its size; it is not written or removed by
    itself.
    """

    def __init__(self, store: OutputStore) -> None:
        self._store = store

    def places(self, name: str, life: timedelta) -> tuple[str, ...]:
        """Return where a pilot may write an object by itself."""
        return self._store.places(_whole(name), life)

    async def put(self, name: str, content: AsyncIterator[bytes]) -> Stored:
        """Store an object."""
        return await self._store.put(_whole(name), content)

    def pfn(self, name: str) -> Pfn:
        """Return a name that ends as the output's own, for openers that know bundles."""
        holder, inside = place_of(name)
        pfn = self._store.pfn(holder)
        return pfn if inside is None else Pfn(pfn.removesuffix(holder) + name)

    async def stat(self, name: str) -> Stored:
        """Describe an object, or what is there of an output in a bundle."""
        holder, inside = place_of(name)
        found = await self._store.stat(holder)
        if inside is None:
            return found
        there = min(inside.size, max(0, found.size - inside.offset))
        return Stored(name, there, "", "")

    async def read(
        self, name: str, offset: int = 0, size: int | None = None
    ) -> AsyncIterator[bytes]:
        """Yield the bytes of an object, or of an output in a bundle."""
        holder, inside = place_of(name)
        if inside is not None:
            check_offset(offset, size)
            left = max(0, inside.size - offset)
            size = left if size is None else min(size, left)
            offset += inside.offset
        async for piece in self._store.read(holder, offset, size):
            yield piece

    async def names(self, prefix: str = "") -> list[str]:
        """Return the names of objects, bundles among them."""
        return await self._store.names(prefix)

    async def delete(self, name: str) -> None:
        """Remove an object."""
        await self._store.delete(_whole(name))


def _whole(name: str) -> str:
    if place_of(name)[1] is not None:
        raise RequestError(
            f"{name} is a part of a bundle", hint="it comes and goes with the bundle", name=name
        )
    return name
