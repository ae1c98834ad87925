"""What an edge knows of datasets: asked of the head on first use, kept for a while.

Nothing here is precious. With the head gone, what is known stays good, and signed URLs
say of their sources what the head knew when it signed them.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Generic, TypeVar

from evstream.client.edges import Edges
from evstream.domain.dataset import Fingerprint, SourceFile
from evstream.domain.descriptor import Descriptor
from evstream.domain.errors import TransientError
from evstream.domain.names import ProductKey
from evstream.ports import Clock

FILES_MAX = 100_000
DESCRIPTORS_MAX = 10_000
ANSWER_S_MAX = 2.0
"""So long a head is waited for where something is known already."""
AWAY_S = 10.0
"""So long it is not asked again then."""

K = TypeVar("K")
V = TypeVar("V")


class Information:
    """An edge's memory of what the head told it.

    Parameters
    ----------
    head : Edges
        The head, as edges ask it.
    fresh_s : float
        After so long the head is asked again; if it does not answer, what is known counts.
    edge : str
        Who asks: it is not sent to itself.
    """

    def __init__(self, head: Edges, clock: Clock, fresh_s: float, edge: str = "") -> None:
        ask = partial(head.source, edge=edge)
        self._files = _Memory[Fingerprint, SourceFile](ask, clock, fresh_s, FILES_MAX)
        # What a key stands for never changes.
        self._descriptors = _Memory[ProductKey, Descriptor](
            head.descriptor, clock, float("inf"), DESCRIPTORS_MAX
        )

    async def file(self, fingerprint: Fingerprint) -> SourceFile:
        """Return a file by its content.

        Raises
        ------
        NotFoundError
            The head does not know it.
        TransientError
            The head is away, and nobody has told of the file.
        """
        return await self._files.get(fingerprint)

    def tell(self, file: SourceFile) -> None:
        """Take what a signed URL says of a file, should the head not answer."""
        self._files.tell(file.fingerprint, file)

    async def descriptor(self, key: ProductKey) -> Descriptor:
        """Return the descriptor of a product that a URL does not describe.

        Raises
        ------
        DescriptorUnknownError
        """
        return await self._descriptors.get(key)


class _Memory(Generic[K, V]):
    def __init__(
        self, ask: Callable[[K], Awaitable[V]], clock: Clock, fresh_s: float, items_max: int
    ) -> None:
        self._ask = ask
        self._clock = clock
        self._fresh_s = fresh_s
        self._items_max = items_max
        self._known: OrderedDict[K, tuple[float, V]] = OrderedDict()
        self._asking: dict[K, asyncio.Task[V]] = {}
        self._away_until = float("-inf")

    def tell(self, key: K, value: V) -> None:
        if key not in self._known:
            self._keep(key, value, float("-inf"))

    async def get(self, key: K) -> V:
        known = self._known.get(key)
        if known is not None and self._clock.monotonic() < known[0]:
            self._known.move_to_end(key)
            return known[1]
        if known is None:
            return await self._asked(key)
        if self._clock.monotonic() < self._away_until:
            return known[1]
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                return await self._asked(key)
        except (TransientError, TimeoutError):
            # Whoever asks for a product waits for one question to a head that is away, not
            # for one after the other.
            self._away_until = self._clock.monotonic() + AWAY_S
            return self._known.get(key, known)[1]

    async def _asked(self, key: K) -> V:
        """Ask the head, once for all who want to know."""
        if (asking := self._asking.get(key)) is None:
            asking = asyncio.ensure_future(self._ask(key))
            self._asking[key] = asking
            asking.add_done_callback(lambda done: self._note(key, done))
        return await asyncio.shield(asking)

    def _note(self, key: K, done: asyncio.Task[V]) -> None:
        self._asking.pop(key, None)
        if not done.cancelled() and done.exception() is None:
            self._keep(key, done.result(), self._clock.monotonic() + self._fresh_s)

    def _keep(self, key: K, value: V, until: float) -> None:
        self._known[key] = (until, value)
        self._known.move_to_end(key)
        while len(self._known) > self._items_max:
            self._known.popitem(last=False)
