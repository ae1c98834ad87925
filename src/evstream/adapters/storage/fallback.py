"""Two output stores as one: the second has what could not be written to the first."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import timedelta

from evstream.domain.errors import AccessError, EvstreamError, NotFoundError, TransientError
from evstream.domain.names import Pfn
from evstream.ports.storage import OutputStore, Stored

_LOG = logging.getLogger(__name__)

NAMES_KEPT_MAX = 100_000
AWAY_S = 30.0
"""A store that did not answer is spared for so long, as far as the second has what is asked."""


class FallbackStore:
    """The `OutputStore` port on two: objects have the same name in both.

    An object is looked for in the first, then in the second. While the first does not answer,
    what the second does not have may be in the first: that is an error that passes.

    Nobody waits for a store that was silent a moment ago: for `AWAY_S` what is new goes to the
    second, and the first is asked for what the second has not got alone. Then one request tries.

    Parameters
    ----------
    about : str
        What the log calls the first.
    monotonic : callable
        Seconds that never go back.
    """

    def __init__(
        self,
        first: OutputStore,
        second: OutputStore,
        about: str = "the first output store",
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._first, self._second = first, second
        self._about, self._monotonic = about, monotonic
        self._is_away = False
        self._tried = -math.inf
        # Where to open what was found in the second, once it was looked for.
        self._in_second: dict[str, None] = {}

    def places(self, name: str, life: timedelta) -> tuple[str, ...]:
        """Return the places in the first, unless it is away, then those in the second."""
        if self._is_spared():
            return self._second.places(name, life)
        return (*self._first.places(name, life), *self._second.places(name, life))

    def _is_spared(self) -> bool:
        return self._is_away and self._monotonic() - self._tried < AWAY_S

    def _may_try(self) -> bool:
        """Whether to ask the first before the second; one of many does while it is away."""
        if self._is_spared():
            return False
        self._tried = self._monotonic()
        return True

    def _saw(self, error: EvstreamError | None) -> None:
        """Note whether the first answered, as it did if it refused."""
        if not isinstance(error, TransientError):
            if self._is_away:
                _LOG.warning("%s is back", self._about)
            self._is_away = False
            return
        self._tried = self._monotonic()
        if not self._is_away:
            _LOG.warning("%s is away, outputs go to the second store: %s", self._about, error)
        self._is_away = True

    async def put(self, name: str, content: AsyncIterator[bytes]) -> Stored:
        """Store an object in the first, or in the second if that is away."""
        if not self._may_try():
            return await self._put_in_second(name, content)
        seen: list[bytes] = []
        size = 0
        broken = False

        async def kept() -> AsyncIterator[bytes]:
            nonlocal size, broken
            try:
                async for piece in content:
                    if size <= REPEATED_BYTES_MAX:
                        seen.append(piece)
                    size += len(piece)
                    yield piece
            except EvstreamError:
                broken = True
                raise

        try:
            stored = await self._first.put(name, kept())
        except (TransientError, AccessError) as error:
            if broken:
                # Whoever sends it went away; what came must not pass for the whole.
                raise
            self._saw(error)
            if size > REPEATED_BYTES_MAX:
                # Whoever sent it sends it again.
                raise
        else:
            self._saw(None)
            return stored
        return await self._second.put(name, _all_of(seen, content))

    async def _put_in_second(self, name: str, content: AsyncIterator[bytes]) -> Stored:
        try:
            return await self._second.put(name, content)
        except (TransientError, AccessError):
            # Then the first is worth another try before its time.
            self._tried = -math.inf
            raise

    async def _holder(self, name: str) -> tuple[OutputStore, Stored]:
        if not self._may_try():
            with suppress(NotFoundError, TransientError, AccessError):
                return await self._in_the_second(name)
            # The first alone knows. Being asked, it may be back.
        try:
            found = await self._first.stat(name)
        except (NotFoundError, TransientError, AccessError) as error:
            self._saw(error)
            away = error
        else:
            self._saw(None)
            return self._first, found
        try:
            return await self._in_the_second(name)
        except NotFoundError:
            if isinstance(away, NotFoundError):
                raise
            raise away from None

    async def _in_the_second(self, name: str) -> tuple[OutputStore, Stored]:
        found = await self._second.stat(name)
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
