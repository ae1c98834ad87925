"""Products on their way to whoever asks: from the cache, from a making, or from the source."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial

from evstream.domain.descriptor import Descriptor
from evstream.domain.errors import EvstreamError, NotFoundError, OverloadError, TransientError
from evstream.domain.lanes import Ask
from evstream.edge.cache import HeldProduct, ProductCache
from evstream.edge.lanes import MakingLanes
from evstream.edge.making import Making
from evstream.edge.products import PIECE_BYTES, Identity, Product, Products
from evstream.ports import Clock, KeptProduct, Offload

_LOG = logging.getLogger(__name__)

_PREPARED = "prepared"
BOUNDARY_COST = 10
"""So much more a byte costs that is made anew than one that is copied."""
ANYBODY = Ask()
"""Somebody who waits, of whom nothing is known."""

Heard = Callable[[Descriptor, Identity, int], None]
"""Is told of each product, and how often it was asked for just now."""


def unheard(descriptor: Descriptor, identity: Identity, asked: int) -> None:
    """Tell nobody."""


@dataclass(slots=True)
class Delivery:
    """A product that is ready to be sent. Close it when it is sent.

    Attributes
    ----------
    sha256, adler32 : str
        Hex digests of all of it; empty while they are not known.
    fd : int or None
        A file with all of it and nothing else, if there is one; valid until `close`.
    place : str or None
        Where that file is below the cache's folder.
    """

    size: int
    etag: str
    read: Callable[[int, int], AsyncIterator[bytes]]
    """Yields bytes ``[start, stop)`` in pieces of at most 1 MiB."""
    close: Callable[[], None]
    sha256: str = ""
    adler32: str = ""
    fd: int | None = None
    place: str | None = None


class Deliveries:
    """Delivers products: each is made once, however many ask, and kept if there is a cache.

    Without a cache every reader is served from the source, beside what `Products` keeps
    in memory.

    Parameters
    ----------
    lanes : MakingLanes, optional
        The gate that makers pass; what is at hand needs none.
    heard : callable, optional
        Is told of each product that is asked for, or prepared.
    """

    def __init__(
        self,
        products: Products,
        offload: Offload,
        clock: Clock,
        cache: ProductCache | None = None,
        lanes: MakingLanes | None = None,
        heard: Heard = unheard,
    ) -> None:
        self._products = products
        self._offload = offload
        self._clock = clock
        self._cache = cache
        self._lanes = lanes
        self._plans: dict[str, asyncio.Task[Product]] = {}
        self._heard = heard
        self._makings: dict[str, Making] = {}
        self._beginnings: dict[str, asyncio.Task[Making]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    @property
    def cache(self) -> ProductCache | None:
        """What keeps products, if anything does."""
        return self._cache

    async def open(
        self, descriptor: Descriptor, ask: Ask = ANYBODY, *, begin: bool = True
    ) -> Delivery:
        """Return a product to send.

        Parameters
        ----------
        ask : Ask
            Who asks; of what has to be made, it is made in that lane.
        begin : bool
            Whether one that is not at hand shall be made; else it is described alone.

        Raises
        ------
        OverloadError
            As many wait for makers as may.
        EvstreamError
            It cannot be made.
        """
        identity = await self._identity(descriptor)
        self._heard(descriptor, identity, 1)
        cache = self._cache
        if cache is None:
            product = await self._prepared(descriptor, ask)
            return self._direct(product)
        held = cache.hold(identity.name, ask.site)
        if held is not None:
            return self._from_cache(held, identity, descriptor)
        if not begin and identity.name not in self._makings:
            return self._direct(await self._prepared(descriptor, ask))
        making = await self._joined(descriptor, identity, ask)
        cache.missed(identity.name, making.product.size, _cost(making.product), ask.site)
        return self._along(making)

    async def _identity(self, descriptor: Descriptor) -> Identity:
        identity = await self._products.identity(descriptor)
        if self._cache is not None:
            self._cache.note_encoder(identity.name)
        return identity

    def turned_away(self, key: str, ask: Ask) -> OverloadError | None:
        """Return what is told to who asks for what is not at hand while its lane is full.

        `open` would raise it as well, and knows more then than has to be known.
        """
        if self._cache is None or self._lanes is None:
            return None
        for name in self._cache.names_of(key):
            if self._cache.holds(name) or name in self._makings or name in self._beginnings:
                return None
        try:
            self._lanes.check(ask)
        except OverloadError as error:
            return error
        return None

    def whole(
        self, descriptor: Descriptor, identity: Identity, bytes_max: int, site: str = ""
    ) -> tuple[KeptProduct, bytes] | None:
        """Return all of a product whose file is at hand, if it is small; else `open` it.

        As `open` does, it waits for the disk where the bytes are not in memory.
        """
        held = self._file_at_hand(identity, bytes_max, site)
        if held is None:
            return None
        fd, kept = held.fd, held.kept
        assert fd is not None
        try:
            content = os.pread(fd, kept.size, 0)
        except OSError:
            return None
        finally:
            os.close(fd)
        if len(content) != kept.size:
            return None
        self._heard(descriptor, identity, 1)
        return kept, content

    def placed(
        self, descriptor: Descriptor, identity: Identity, site: str = ""
    ) -> tuple[KeptProduct, str] | None:
        """Return where below the cache's folder a product's file is, if it is at hand.

        It is for whoever reads it there and opens it at once, as nginx does.
        """
        held = self._file_at_hand(identity, sys.maxsize, site)
        if held is None:
            return None
        assert held.fd is not None
        assert held.place is not None
        os.close(held.fd)
        self._heard(descriptor, identity, 1)
        return held.kept, held.place

    def _file_at_hand(self, identity: Identity, bytes_max: int, site: str) -> HeldProduct | None:
        """Return a product that is a file, with its descriptor open; nothing else is to close."""
        cache = self._cache
        kept = None if cache is None else cache.kept(identity.name)
        if cache is None or kept is None or kept.size > bytes_max or not cache.store.path(kept):
            return None
        held = cache.hold(identity.name, site)
        if held is None:
            return None
        held.close()
        return None if held.fd is None else held

    async def prepare(
        self, descriptor: Descriptor, ask: Ask = ANYBODY, *, keep_s: float = 0.0
    ) -> KeptProduct | None:
        """Make a product if it is not kept; return it as it is kept then, if it is.

        Parameters
        ----------
        keep_s : float
            For so long it stays, however little it is asked for.

        Raises
        ------
        EvstreamError
            It cannot be made.
        """
        identity = await self._identity(descriptor)
        self._heard(descriptor, identity, 0)
        if self._cache is None:
            await self._prepared(descriptor, ask)
            return None
        if keep_s > 0:
            until = self._clock.now().timestamp() + keep_s
            self._cache.pin(identity.name, _PREPARED, until)
        if not self._cache.holds(identity.name):
            making = await self._joined(descriptor, identity, ask)
            try:
                if (task := self._tasks.get(identity.name)) is not None:
                    # Whoever stops waiting must not stop the making.
                    await asyncio.wait([task])
                if making.error is not None:
                    raise making.error
            finally:
                making.release()
        return self._cache.kept(identity.name)

    async def _prepared(self, descriptor: Descriptor, ask: Ask) -> Product:
        """Return a product that is read from its source; one of those who ask passes the gate."""
        key = descriptor.key
        if self._lanes is None or self._products.has(key):
            return await self._products.product(descriptor)
        planning = self._plans.get(key)
        if planning is None:
            planning = asyncio.create_task(self._planned(descriptor, ask))
            self._plans[key] = planning
            planning.add_done_callback(lambda _: self._plans.pop(key, None))
        else:
            self._lanes.hasten(key, ask)
        # Whoever goes away must not cancel it for the others.
        return await asyncio.shield(planning)

    async def _planned(self, descriptor: Descriptor, ask: Ask) -> Product:
        async with self._gate(descriptor.key, ask):
            return await self._products.product(descriptor)

    def _gate(self, name: str, ask: Ask) -> contextlib.AbstractAsyncContextManager[None]:
        return contextlib.nullcontext() if self._lanes is None else self._lanes.admit(ask, name)

    async def _joined(self, descriptor: Descriptor, identity: Identity, ask: Ask) -> Making:
        """Return the making of a product, held; begin it if there is none.

        One that waits for its maker is made as soon as the most urgent of those who ask
        may have it.
        """
        making = self._makings.get(identity.name)
        if making is None:
            beginning = self._beginnings.get(identity.name)
            if beginning is None:
                if self._lanes is not None:
                    # Under overload this is what most are told: without a task of their own.
                    self._lanes.check(ask)
                beginning = asyncio.create_task(self._begin(descriptor, identity, ask))
                self._beginnings[identity.name] = beginning
            elif self._lanes is not None:
                self._lanes.hasten(identity.name, ask)
            # Whoever goes away must not cancel it for the others.
            making = await asyncio.shield(beginning)
        making.hold()
        return making

    async def _begin(self, descriptor: Descriptor, identity: Identity, ask: Ask) -> Making:
        gate = contextlib.AsyncExitStack()
        try:
            await gate.enter_async_context(self._gate(identity.name, ask))
            product = await self._products.product(descriptor)
            assert self._cache is not None
            making = Making(product, self._products, self._offload, self._cache.store.spool_dir)
        except BaseException:
            await gate.aclose()
            raise
        finally:
            self._beginnings.pop(identity.name, None)
        self._makings[identity.name] = making
        making.hold()
        self._tasks[identity.name] = asyncio.create_task(self._make(making, gate))
        return making

    async def _make(self, making: Making, gate: contextlib.AsyncExitStack) -> None:
        """Make a product beside those who read it, and keep it."""
        assert self._cache is not None
        name, product = making.identity.name, making.product
        try:
            async with gate, self._cache.room(product.size) as has_room:
                spool = await making.make(keeps=has_room)
                if spool is None:
                    return
                kept = KeptProduct(
                    name, product.size, making.sha256, making.adler32, self._clock.now()
                )
                await self._cache.add(kept, spool, _cost(product))
        except EvstreamError as error:
            # Its readers are told; nobody else waits for this.
            _LOG.info("product %s was not made: %s", name, error)
        finally:
            del self._makings[name], self._tasks[name]
            making.release()

    def _direct(self, product: Product) -> Delivery:
        def read(start: int, stop: int) -> AsyncIterator[bytes]:
            return self._products.read(product, start, stop)

        return Delivery(product.size, product.identity.etag, read, _nothing)

    def _along(self, making: Making) -> Delivery:
        product = making.product
        # What is in memory is sent from there.
        in_memory = product.whole is not None

        def read(start: int, stop: int) -> AsyncIterator[bytes]:
            if in_memory:
                return self._products.read(product, start, stop)
            return making.read(start, stop)

        return Delivery(
            product.size,
            product.identity.etag,
            read,
            making.release,
            making.sha256,
            making.adler32,
            fd=making.fd,
        )

    def _from_cache(
        self, held: HeldProduct, identity: Identity, descriptor: Descriptor
    ) -> Delivery:
        kept = held.kept

        async def read(start: int, stop: int) -> AsyncIterator[bytes]:
            at = start
            try:
                async for piece in held.read(start, stop):
                    at += len(piece)
                    yield piece
            except (NotFoundError, TransientError) as error:
                # The same encoder makes the same bytes: the source goes on where the store ended.
                if isinstance(error, NotFoundError):
                    held.gone()
                _LOG.info("product %s is read from its source: %s", kept.name, error)
                product = await self._prepared(descriptor, ANYBODY)
                async for piece in self._products.read(product, at, stop):
                    yield piece

        async def read_file(start: int, stop: int) -> AsyncIterator[bytes]:
            assert held.fd is not None
            for at in range(start, stop, PIECE_BYTES):
                size = min(PIECE_BYTES, stop - at)
                piece = await self._offload(partial(os.pread, held.fd, size, at))
                if len(piece) < size:
                    raise TransientError(f"product {kept.name} was cut short on the disk")
                yield piece

        def close() -> None:
            held.close()
            if held.fd is not None:
                os.close(held.fd)

        return Delivery(
            kept.size,
            identity.etag,
            read if held.fd is None else read_file,
            close,
            kept.sha256,
            kept.adler32,
            held.fd,
            held.place,
        )

    async def settled(self) -> None:
        """Wait until nothing is being made."""
        while tasks := [*self._beginnings.values(), *self._tasks.values()]:
            await asyncio.wait(tasks)

    async def close(self) -> None:
        """Stop what is being made."""
        tasks = [*self._tasks.values(), *self._beginnings.values(), *self._plans.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _cost(product: Product) -> float:
    """Return what it costs to make a product again, in bytes that are copied."""
    return float(product.size + BOUNDARY_COST * product.cut.boundary_bytes)


def _nothing() -> None:
    """Close nothing."""
