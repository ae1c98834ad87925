"""What the head wants an edge to hold: fetched from other edges, or made, one after the other."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import zlib
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial

from evstream.client.edges import Edges
from evstream.domain.descriptor import Descriptor
from evstream.domain.errors import EvstreamError, TransientError
from evstream.domain.lanes import Ask, Lane
from evstream.domain.names import ProductKey
from evstream.edge.cache import ProductCache
from evstream.edge.delivery import Deliveries, Heard
from evstream.edge.products import PIECE_BYTES, Identity, Products
from evstream.edge.spool import discard, open_spool, write_at
from evstream.ports import Clock, KeptProduct, Offload
from evstream.wire.edge_messages import PlacementOrder

_LOG = logging.getLogger(__name__)

ORDERS_MAX = 500
KEPT_S = 3600.0
"""What was ordered stays for so long, and what has come by itself is not dropped before."""
_PLACED = "placed"


class Placing:
    """Carries out orders: in the lane of what nobody waits for, and one at a time.

    Parameters
    ----------
    heard : callable
        Is told what a product is before it is kept.
    """

    def __init__(
        self,
        head: Edges,
        products: Products,
        deliveries: Deliveries,
        cache: ProductCache,
        offload: Offload,
        clock: Clock,
        heard: Heard,
    ) -> None:
        self._head = head
        self._products = products
        self._deliveries = deliveries
        self._cache = cache
        self._offload = offload
        self._clock = clock
        self._heard = heard
        self._orders: OrderedDict[tuple[str, str], PlacementOrder] = OrderedDict()
        self._something = asyncio.Event()

    def take(self, orders: Sequence[PlacementOrder]) -> None:
        """Take orders, the last one of each product; too many are left: they come again."""
        for order in orders:
            name = (order.key, order.encoder_id)
            if name in self._orders or len(self._orders) < ORDERS_MAX:
                self._orders[name] = order
                self._something.set()

    async def run(self) -> None:
        """Carry out orders until cancelled."""
        while True:
            await self._something.wait()
            await self.carry_out()

    async def carry_out(self) -> None:
        """Carry out what has been ordered; what fails is written down and left."""
        while self._orders:
            _, order = self._orders.popitem(last=False)
            try:
                if order.do == "drop":
                    await self._drop(order)
                else:
                    await self._fetch(order)
            except EvstreamError as error:
                what = (order.do, order.key[:12])
                _LOG.info("evstream: the order to %s product %s failed: %s", *what, error)
        self._something.clear()

    async def _drop(self, order: PlacementOrder) -> None:
        name = Identity.of(ProductKey(order.key), order.encoder_id).name
        kept = self._cache.kept(name)
        # The head decided by what it knew a moment ago.
        if kept is not None and self._clock.now().timestamp() - kept.created.timestamp() >= KEPT_S:
            await self._cache.drop(name)

    async def _fetch(self, order: PlacementOrder) -> None:
        descriptor = Descriptor.from_wire(order.descriptor)
        identity = await self._products.identity(descriptor)
        if self._cache.holds(identity.name):
            return
        # Another encoder's bytes would never be found here.
        for url in order.urls if identity.encoder_id == order.encoder_id else ():
            try:
                self._heard(descriptor, identity, 0)
                await self._copy(url, order, identity.name)
                return
            except EvstreamError as error:
                where = (order.key[:12], url.partition("?")[0])
                _LOG.info("evstream: product %s was not had from %s: %s", *where, error)
        await self._deliveries.prepare(descriptor, Ask(lane=Lane.BACKGROUND), keep_s=KEPT_S)

    async def _copy(self, url: str, order: PlacementOrder, name: str) -> None:
        """Copy a product from another edge into the cache."""
        async with self._cache.room(order.size) as has_room:
            if not has_room:
                raise TransientError("there is no room for it")
            fd, spool = await self._offload(partial(open_spool, self._cache.store.spool_dir, name))
            try:
                kept = await self._download(url, order, name, fd)
                self._cache.pin(name, _PLACED, self._clock.now().timestamp() + KEPT_S)
                await self._cache.add(kept, spool, float(order.size))
            finally:
                os.close(fd)
                await self._offload(partial(discard, spool))

    async def _download(self, url: str, order: PlacementOrder, name: str, fd: int) -> KeptProduct:
        sha256, adler32, written = hashlib.sha256(), 1, 0

        def keep(piece: bytes) -> None:
            nonlocal adler32
            write_at(fd, piece, written)
            sha256.update(piece)
            adler32 = zlib.adler32(piece, adler32)

        async with self._head.product(url) as pieces:
            async for piece in pieces(PIECE_BYTES):
                if written + len(piece) > order.size:
                    raise TransientError("more came than there should be")
                await self._offload(partial(keep, piece))
                written += len(piece)
        if sha256.hexdigest() != order.sha256:
            raise TransientError("other bytes came than are known")
        now = self._clock.now()
        return KeptProduct(name, written, order.sha256, f"{adler32:08x}", now)
