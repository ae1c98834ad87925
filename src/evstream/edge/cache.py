"""What an edge keeps: how much, what goes first, and what must stay while it is used."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from evstream.domain.errors import EvstreamError, NotFoundError
from evstream.edge.access_log import AccessLog
from evstream.ports import Clock, KeptProduct, ProductStore

_LOG = logging.getLogger(__name__)

HIGH_WATERMARK = 0.98
LOW_WATERMARK = 0.94
"""Shares of the quota: beyond the high one, products go until the low one is reached."""
PINS_SPARE = 1_000
"""So many more pins than twice the products, and those whose time is over are forgotten."""
DISK_SHARE_MIN = 0.02
DISK_BYTES_MIN = 256 << 20
"""What is left free on the disk, whatever the quota says: of the quota, and at least."""


class CachePolicy(Protocol):
    """Chooses what to keep and what goes; pure. See `evstream.domain.caching`."""

    def record(self, key: str, size: int, cost: float, now: float) -> None:
        """Note a request, for what is held and for what is not."""
        ...

    def admits(self, key: str, size: int, cost: float, now: float) -> bool:
        """Tell whether to keep a product that was asked for and is not held."""
        ...

    def keep(self, key: str, size: int, cost: float, now: float) -> None:
        """Enter a product that is held from now on."""
        ...

    def remove(self, key: str) -> None:
        """Strike out what is not held any more."""
        ...

    def victims(self, bytes_needed: int, is_busy: Callable[[str], bool]) -> list[str]:
        """Choose what to give up, and strike it out; what is busy stays."""
        ...


@dataclass(slots=True)
class _Entry:
    kept: KeptProduct
    cost: float
    readers: int = 0


@dataclass(frozen=True, slots=True)
class CacheState:
    """What a cache holds, and what it has done since it was opened.

    Attributes
    ----------
    bytes_kept, bytes_making : int
        In the store, and taken by what is being made.
    hits, misses : int
        Requests for products that were held, and that were not.
    evicted : int
        Products that made room for others.
    """

    products: int
    bytes_kept: int
    bytes_making: int
    bytes_max: int
    hits: int
    misses: int
    evicted: int


class HeldProduct:
    """A product of the cache that is being read: it stays until `close`."""

    def __init__(self, cache: ProductCache, entry: _Entry, fd: int | None) -> None:
        self._cache = cache
        self._entry = entry
        self.fd = fd

    @property
    def kept(self) -> KeptProduct:
        """What it is."""
        return self._entry.kept

    @property
    def place(self) -> str | None:
        """Where its file is below the cache's folder, if it is a file."""
        return self._cache.store.path(self._entry.kept)

    def read(self, start: int, stop: int) -> AsyncIterator[bytes]:
        """Yield bytes ``[start, stop)``, as `ProductStore.read` does."""
        return self._cache.store.read(self._entry.kept, start, stop - start)

    def gone(self) -> None:
        """Say that the store does not have it any more."""
        self._cache.forget(self._entry.kept.name)

    def close(self) -> None:
        """Say that it is not read here any more. The descriptor is the caller's."""
        self._entry.readers -= 1


class ProductCache:
    """Keeps products in a store within a quota; never removes what is read or pinned.

    Nothing of it is written down but the products themselves: it is built again from the
    store's list, and whatever vanishes from the store is a miss.

    Parameters
    ----------
    bytes_max : int
        The quota, for what is kept and what is being made together.
    log : AccessLog, optional
        Where requests are written down.
    """

    def __init__(
        self,
        store: ProductStore,
        policy: CachePolicy,
        clock: Clock,
        bytes_max: int,
        log: AccessLog | None = None,
    ) -> None:
        self.store = store
        self._log = log
        self._policy = policy
        self._clock = clock
        self._bytes_max = bytes_max
        self._encoders: set[str] = set()
        self._entries: dict[str, _Entry] = {}
        self._pins: dict[str, dict[str, float]] = {}
        self._bytes_kept = 0
        self._bytes_making = 0
        self._hits = self._misses = self._evicted = 0
        self._watch: Callable[[str, KeptProduct | None], None] = _watch_nothing

    def watch(self, changed: Callable[[str, KeptProduct | None], None]) -> None:
        """Have somebody told of each product that comes, and by None of each that goes."""
        self._watch = changed

    async def open(self) -> None:
        """Sweep what a killed process left behind, and find what the store has.

        A store that does not answer is an empty one: what it has is found by `look_again`.
        """
        await self.store.sweep()
        try:
            await self.look_again()
        except EvstreamError as error:
            _LOG.warning("the product cache starts empty: %s", error)

    async def look_again(self) -> int:
        """Compare the books with the store; return how many products they were wrong about."""
        before = set(self._entries)
        found = {kept.name: kept for kept in await self.store.listing()}
        # What came or went while the store was listed is right in the books.
        gone = [name for name in before if name not in found and name in self._entries]
        for name in gone:
            self.forget(name)
        come = [kept for name, kept in found.items() if name not in self._entries]
        for kept in sorted(come, key=lambda one: one.created):
            self._enter(kept, float(kept.size))
        await self._make_room(0)
        return len(gone) + len(come)

    def _now(self) -> float:
        return self._clock.now().timestamp()

    def _enter(self, kept: KeptProduct, cost: float) -> None:
        before = self._entries.get(kept.name)
        if before is not None:
            self._bytes_kept -= before.kept.size
        self._entries[kept.name] = _Entry(kept, cost)
        self.note_encoder(kept.name)
        self._bytes_kept += kept.size
        self._policy.keep(kept.name, kept.size, cost, self._now())
        self._watch(kept.name, kept)

    def forget(self, name: str) -> None:
        """Strike out a product that the store does not have any more."""
        entry = self._entries.pop(name, None)
        if entry is not None:
            self._bytes_kept -= entry.kept.size
            self._policy.remove(name)
            self._watch(name, None)

    def note_encoder(self, name: str) -> None:
        """Note by which encoder a product is made that is here, or was asked for."""
        self._encoders.add(name.rpartition("-")[2])

    def names_of(self, key: str) -> list[str]:
        """Return what products of a key are called here, by each encoder that was met."""
        return [f"{key}-{encoder}" for encoder in self._encoders]

    def kept(self, name: str) -> KeptProduct | None:
        """Return what is to be known of a product that is in the books."""
        entry = self._entries.get(name)
        return None if entry is None else entry.kept

    def holds(self, name: str) -> bool:
        """Say whether a product is in the books."""
        return name in self._entries

    async def throw_away(self) -> None:
        """Remove all that nobody reads; what is read goes once it is not."""
        for name in list(self._entries):
            entry = self._entries[name]
            self.forget(name)
            await self._delete(entry.kept)

    def names(self) -> list[KeptProduct]:
        """Return what is in the books."""
        return [entry.kept for entry in self._entries.values()]

    def readers(self) -> dict[str, int]:
        """Return how many read each product now, by its name; those that nobody reads are not."""
        return {name: one.readers for name, one in self._entries.items() if one.readers}

    def hold(self, name: str, site: str = "") -> HeldProduct | None:
        """Return a product to read, for whoever is at a site, if it is there. Close it."""
        entry = self._entries.get(name)
        if entry is None:
            return None
        try:
            fd = self.store.open(entry.kept)
        except EvstreamError as error:
            # Wiped under us, or unreadable: a miss either way.
            if not isinstance(error, NotFoundError):
                _LOG.warning("%s", error)
            self.forget(name)
            return None
        entry.readers += 1
        self._hits += 1
        self._record(name, entry.kept.size, entry.cost, site, hit=True)
        return HeldProduct(self, entry, fd)

    def missed(self, name: str, size: int, cost: float, site: str = "") -> None:
        """Count a request for a product that is not held."""
        self._misses += 1
        self._record(name, max(size, 1), cost, site, hit=False)

    def _record(self, name: str, size: int, cost: float, site: str, hit: bool) -> None:
        self._policy.record(name, size, cost, self._now())
        if self._log is not None:
            self._log.note(name, size, cost, site, hit)

    def pin(self, name: str, request: str, until: float) -> None:
        """Keep a product for a request until a time (seconds since 1970), or until `unpin`.

        One that is not there yet is kept once it is made, whatever the policy thinks of it.
        """
        if len(self._pins) > 2 * len(self._entries) + PINS_SPARE:
            self._pins = {one: pins for one, pins in self._pins.items() if self._is_pinned(one)}
        pins = self._pins.setdefault(name, {})
        pins[request] = max(until, pins.get(request, until))

    def unpin(self, request: str) -> None:
        """Say that a request has ended."""
        for pins in self._pins.values():
            pins.pop(request, None)

    def _is_pinned(self, name: str) -> bool:
        pins = self._pins.get(name)
        if not pins:
            return False
        now = self._now()
        return any(until > now for until in pins.values())

    def _is_busy(self, name: str) -> bool:
        entry = self._entries.get(name)
        return entry is not None and (entry.readers > 0 or self._is_pinned(name))

    @contextlib.asynccontextmanager
    async def room(self, size: int) -> AsyncIterator[bool]:
        """Set room aside for a product that is being made, while the context lasts.

        Yields whether there is any: without it, a product is sent and not kept.
        """
        self._bytes_making += size
        try:
            yield await self._make_room(0)
        finally:
            self._bytes_making -= size

    @property
    def _spared(self) -> int:
        """Bytes of the disk that are left to others."""
        return max(int(DISK_SHARE_MIN * self._bytes_max), DISK_BYTES_MIN)

    @property
    def free_bytes(self) -> int:
        """Room for more products without giving one up: what may be kept, and the disk takes."""
        left = self._bytes_max - self._bytes_kept - self._bytes_making
        disk = self.store.free_bytes()
        if disk is not None:
            left = min(left, disk - self._spared - self._bytes_making)
        return max(0, left)

    async def _make_room(self, more: int) -> bool:
        used = self._bytes_kept + self._bytes_making + more
        excess = 0
        if used > HIGH_WATERMARK * self._bytes_max:
            excess = used - int(LOW_WATERMARK * self._bytes_max)
        spared = self._spared
        # Bytes that are being made and not written yet are not missing from the disk.
        lacking = spared + self._bytes_making - self.store.spool_free_bytes()
        if self.store.free_bytes() is not None:
            excess = max(excess, lacking)
        if excess > 0:
            await self._evict(excess)
        fits = self._bytes_kept + self._bytes_making + more <= self._bytes_max
        return fits and self.store.spool_free_bytes() >= spared + self._bytes_making

    async def _evict(self, excess: int) -> None:
        for name in self._policy.victims(excess, self._is_busy):
            entry = self._entries.pop(name, None)
            if entry is None:
                continue
            self._bytes_kept -= entry.kept.size
            self._evicted += 1
            self._watch(name, None)
            await self._delete(entry.kept)

    async def _delete(self, kept: KeptProduct) -> None:
        try:
            await self.store.delete(kept)
        except EvstreamError as error:
            _LOG.warning("product %s cannot be removed: %s", kept.name, error)

    async def drop(self, name: str) -> bool:
        """Remove a product unless it is being read or pinned; return whether it went."""
        entry = self._entries.get(name)
        if entry is None or self._is_busy(name):
            return False
        self.forget(name)
        await self._delete(entry.kept)
        return True

    async def add(self, kept: KeptProduct, spool: Path, cost: float) -> bool:
        """Keep a product that was made, if it is worth it; the file goes. Return whether."""
        wanted = self._is_pinned(kept.name)
        if not (wanted or self._policy.admits(kept.name, max(kept.size, 1), cost, self._now())):
            _discard(spool)
            return False
        try:
            await self.store.put(kept, spool)
        except EvstreamError as error:
            _LOG.warning("product %s is not kept: %s", kept.name, error)
            return False
        self._enter(kept, cost)
        return True

    @property
    def state(self) -> CacheState:
        """What it holds and has done."""
        return CacheState(
            products=len(self._entries),
            bytes_kept=self._bytes_kept,
            bytes_making=self._bytes_making,
            bytes_max=self._bytes_max,
            hits=self._hits,
            misses=self._misses,
            evicted=self._evicted,
        )


async def look_now_and_then(cache: ProductCache, clock: Clock, every_s: float) -> None:
    """Compare a cache's books with its store until cancelled."""
    while True:
        await clock.sleep(every_s)
        try:
            await cache.look_again()
        except EvstreamError as error:
            _LOG.warning("the store of products does not answer: %s", error)


def _watch_nothing(name: str, kept: KeptProduct | None) -> None:
    """Tell nobody."""


def _discard(spool: Path) -> None:
    """Remove a file that is not to be kept; it takes no longer than opening one."""
    with contextlib.suppress(OSError):
        spool.unlink(missing_ok=True)
