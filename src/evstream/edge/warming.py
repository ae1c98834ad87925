"""Whoever reads a file from range to range finds the next one made."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from evstream.domain.dataset import Fingerprint, SourceFile
from evstream.domain.descriptor import COPY, Descriptor, SourceSlice
from evstream.domain.errors import EvstreamError
from evstream.domain.intervals import Interval
from evstream.domain.placement import SEQUENTIAL_MIN, expected_next
from evstream.domain.products import ENTRY_MAX, Recipe

_LOG = logging.getLogger(__name__)

READERS_MAX = 10_000
WAITING_MAX = 64
AHEAD = 2
"""Ranges that are made before they are asked for."""

FindFile = Callable[[Fingerprint], Awaitable[SourceFile]]
Make = Callable[[Descriptor], Awaitable[object]]


class Warming:
    """Makes what is expected to be asked for next, one product after the other.

    Parameters
    ----------
    make : callable
        Makes a product in the lane of what nobody waits for, unless it is there.
    """

    def __init__(self, find_file: FindFile, make: Make) -> None:
        self._find_file = find_file
        self._make = make
        self._recent: OrderedDict[tuple[Fingerprint, bytes], list[Interval]] = OrderedDict()
        self._places: OrderedDict[str, tuple[Fingerprint, bytes]] = OrderedDict()
        self._waiting: OrderedDict[str, Descriptor] = OrderedDict()
        self._something = asyncio.Event()

    def heard(self, wanted: Descriptor) -> None:
        """Note that somebody asked for a product."""
        if len(wanted.sources) != 1 or len(wanted.sources[0].entries) != 1:
            return
        if wanted.recipe == COPY:
            return
        (source,) = wanted.sources
        place = self._place(wanted)
        recent = self._recent.setdefault(place, [])
        self._recent.move_to_end(place)
        if len(self._recent) > READERS_MAX:
            self._recent.popitem(last=False)
        (interval,) = source.entries
        # Whoever reads the same beside the first is not ahead of it.
        if interval in recent:
            return
        recent.append(interval)
        del recent[:-SEQUENTIAL_MIN]
        recipe = Recipe.of(wanted)
        for following in expected_next(recent, ENTRY_MAX, AHEAD):
            part = SourceSlice(source.fingerprint, (following,))
            descriptor = recipe.descriptor((part,))
            if len(self._waiting) < WAITING_MAX:
                self._waiting.setdefault(descriptor.key, descriptor)
                self._something.set()

    def _place(self, wanted: Descriptor) -> tuple[Fingerprint, bytes]:
        """Return what is read from range to range; for one that comes again, without digests."""
        place = self._places.get(wanted.key)
        if place is None:
            place = (wanted.sources[0].fingerprint, Recipe.of(wanted).digest)
            self._places[wanted.key] = place
            if len(self._places) > READERS_MAX:
                self._places.popitem(last=False)
        return place

    async def run(self) -> None:
        """Make what is expected until cancelled."""
        while True:
            await self._something.wait()
            await self.make_expected()

    async def make_expected(self) -> None:
        """Make what is expected now; what fails is left to whoever asks for it."""
        while self._waiting:
            _, expected = self._waiting.popitem(last=False)
            try:
                within = await self._within(expected)
                if within is not None:
                    await self._make(within)
            except EvstreamError as error:
                _LOG.info("evstream: product %s was not made ahead: %s", expected.key[:12], error)
        self._something.clear()

    async def _within(self, expected: Descriptor) -> Descriptor | None:
        """Return a descriptor with its range cut at the file's end; None past it."""
        (source,) = expected.sources
        file = await self._find_file(source.fingerprint)
        entries = file.trees.get(str(expected.parameter("tree", "")), 0)
        ((start, stop),) = source.entries
        if start >= entries:
            return None
        part = SourceSlice(source.fingerprint, ((start, min(stop, entries)),))
        return Recipe.of(expected).descriptor((part,))
