"""Two output stores as one: the second has what could not be written to the first."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

from evstream.domain.errors import AccessError, EvstreamError, NotFoundError, TransientError
from evstream.domain.names import Pfn
from evstream.ports.storage import OutputStore, Stored

NAMES_KEPT_MAX = 100_000


class FallbackStore:
    """The `OutputStore` port on two: objects have the same name in both.

    An object is looked for in the first, then in the second. While the first does not answer,
    what the second does not have may be in the first: that is an error that passes.
    """

    def __init__(self, first: OutputStore, second: OutputStore) -> None:
        self._first, self._second = first, second
        # Where to open what was found in the second, once it was looked for.
        self._in_second: dict[str, None] = {}

    def places(self, name: str, life: timedelta) -> tuple[str, ...]:
        """Return the places in the first, then those in the second."""
        return (*self._first.places(name, life), *self._second.places(name, life))

    async def put(self, name: str, content: AsyncIterator[bytes]) -> Stored:
        """Store an object in the first, or in the second if that is away."""
        seen: list[bytes] = []
        size = 0

        async def kept() -> AsyncIterator[bytes]:
            nonlocal size
            async for piece in content:
                if size <= REPEATED_BYTES_MAX:
                    seen.append(piece)
                size += len(piece)
                yield piece

        try:
            return await self._first.put(name, kept())
        except (TransientError, AccessError):
            if size > REPEATED_BYTES_MAX:
                # Whoever sent it sends it again.
                raise
        return await self._second.put(name, _all_of(seen, content))

    async def _holder(self, name: str) -> tuple[OutputStore, Stored]:
        try:
            return self._first, await self._first.stat(name)
        except (NotFoundError, TransientError, AccessError) as error:
            away = error
        try:
            found = await self._second.stat(name)
        except NotFoundError:
            if isinstance(away, NotFoundError):
                raise
            raise away from None
        if len(self._in_second) >= NAMES_KEPT_MAX:
            self._in_second.clear()
        self._in_second[name] = None
        return self._second, found

    def pfn(self, name: str) -> Pfn:
        """Return the name in the first, unless `stat` has found it in the second."""
        return (self._second if name in self._in_second else self._first).pfn(name)

    async def stat(self, name: str) -> Stored:
        """Describe an object of either."""
        return (await self._holder(name))[1]

    async def read(
        self, name: str, offset: int = 0, size: int | None = None
    ) -> AsyncIterator[bytes]:
        """Yield the bytes of an object of either."""
        holder, _ = await self._holder(name)
        async for piece in holder.read(name, offset, size):
            yield piece

    async def names(self, prefix: str = "") -> list[str]:
        """Return the names in either that answers."""
        found: set[str] = set()
        errors: list[EvstreamError] = []
        for store in (self._first, self._second):
            try:
                found.update(await store.names(prefix))
            except TransientError as error:
                errors.append(error)
        if len(errors) == 2:
            raise errors[0]
        return sorted(found)

    async def delete(self, name: str) -> None:
        """Remove an object from both, as far as they answer."""
        errors: list[EvstreamError] = []
        for store in (self._first, self._second):
            try:
                await store.delete(name)
            except TransientError as error:
                errors.append(error)
        self._in_second.pop(name, None)
        if len(errors) == 2:
            raise errors[0]


REPEATED_BYTES_MAX = 32 << 20


async def _all_of(seen: list[bytes], rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    for piece in seen:
        yield piece
    async for piece in rest:
        yield piece
