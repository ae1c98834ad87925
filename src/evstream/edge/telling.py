"""What an edge holds and what was asked of it, told to the head.

Nothing of it is a promise: what could not be told is told later, and after a restart
the edge compares what the head believes of it with what it has.
"""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from dataclasses import dataclass

from msgspec import structs

from evstream.client.prepared import Prepared
from evstream.domain.descriptor import Descriptor
from evstream.domain.errors import ConflictError, EvstreamError
from evstream.domain.names import ProductKey
from evstream.edge.cache import ProductCache
from evstream.edge.products import Identity
from evstream.ports import Clock, KeptProduct
from evstream.wire import product_messages as m

_LOG = logging.getLogger(__name__)

AT_ONCE = 500
HEARD_MAX = 200_000
"""Descriptors that are remembered: the cache knows its products by name alone."""
COMPARE_EVERY_S = 3600.0


@dataclass(frozen=True, slots=True)
class _Heard:
    descriptor: Descriptor
    encoder_id: str


class Telling:
    """Tells the head what an edge holds.

    Parameters
    ----------
    edge : str
        Its name.
    """

    def __init__(self, head: Prepared, cache: ProductCache, clock: Clock, edge: str) -> None:
        self._head = head
        self._cache = cache
        self._clock = clock
        self._edge = edge
        self._heard: OrderedDict[str, _Heard] = OrderedDict()
        self._asked: Counter[str] = Counter()
        self._come: dict[str, KeptProduct] = {}
        self._gone: dict[str, None] = {}
        self._told: dict[str, m.ProductName] = {}
        self._compare_at = float("-inf")
        cache.watch(self._changed)

    def heard(self, descriptor: Descriptor, identity: Identity, asked: int) -> None:
        """Note what a product is, and how often somebody asked for it just now."""
        name = identity.name
        if name not in self._heard:
            self._heard[name] = _Heard(descriptor, identity.encoder_id)
            if len(self._heard) > HEARD_MAX:
                self._heard.popitem(last=False)
            if name not in self._told and (kept := self._cache.kept(name)) is not None:
                # Here since before a restart, when nobody knew what it is.
                self._come[name] = kept
        self._heard.move_to_end(name)
        if asked:
            self._asked[name] += asked

    @property
    def known(self) -> set[str]:
        """Names of the products of which it is known what they are."""
        return set(self._heard)

    def _changed(self, name: str, kept: KeptProduct | None) -> None:
        if kept is None:
            self._come.pop(name, None)
            # What was prepared, the report of the work has told.
            self._gone[name] = None
        else:
            self._gone.pop(name, None)
            self._come[name] = kept

    def compare_soon(self) -> None:
        """Compare at the next turn: the head seems to have forgotten what it was told."""
        self._compare_at = float("-inf")

    async def register(self, products: m.HeldProducts) -> None:
        """Tell of products that were prepared; those that have gone since are left out.

        Raises
        ------
        EvstreamError
            As `tell`.
        """
        made = {_name(one): one for one in products.products}
        here = [one for name, one in made.items() if self._cache.kept(name) is not None]
        if here:
            await self._head.register(self._edge, structs.replace(products, products=here))
        for name in made:
            if self._cache.kept(name) is None:
                # Thrown away while the head took it: what was told of that came before.
                self._gone[name] = None

    async def tell(self) -> None:
        """Tell what has changed since the last time; what cannot be told now waits.

        Raises
        ------
        EvstreamError
            The head does not answer, or refuses.
        """
        if self._clock.monotonic() >= self._compare_at:
            await self._compare()
            self._compare_at = self._clock.monotonic() + COMPARE_EVERY_S
        await self._tell_gone()
        await self._tell_come()
        await self._tell_asked()

    async def _compare(self) -> None:
        """Find what the head believes is here and is not, and what it does not know of."""
        after: int | None = None
        believed: set[str] = set()
        while True:
            page = await self._head.held(self._edge, after)
            for one in page.items:
                name = Identity.of(ProductKey(one.key), one.encoder_id).name
                self._told[name] = one
                believed.add(name)
                if self._cache.kept(name) is None:
                    self._gone[name] = None
            after = page.next
            if after is None:
                break
        # It was told, and forgotten since: the edge was taken out, or the database is an older one.
        for name in self._heard:
            if name not in believed and (kept := self._cache.kept(name)) is not None:
                self._told.pop(name, None)
                self._come[name] = kept

    async def _tell_gone(self) -> None:
        while self._gone:
            names = list(self._gone)[:AT_ONCE]
            known = [one for name in names if (one := self._name_of(name)) is not None]
            if known:
                await self._head.drop(self._edge, m.DroppedProducts(known))
            for name in names:
                self._told.pop(name, None)
                self._gone.pop(name, None)

    def _name_of(self, name: str) -> m.ProductName | None:
        heard = self._heard.get(name)
        own = None if heard is None else m.ProductName(heard.descriptor.key, heard.encoder_id)
        return self._told.get(name, own)

    async def _tell_come(self) -> None:
        # What nobody has asked for since a restart is told once somebody does.
        telling = {
            name: (kept, self._heard[name])
            for name, kept in self._come.items()
            if name in self._heard
        }
        names = list(telling)
        for first in range(0, len(names), AT_ONCE):
            some = names[first : first + AT_ONCE]
            products = [_held(*telling[name]) for name in some]
            try:
                await self._head.register(self._edge, m.HeldProducts(products))
            except ConflictError as error:
                # Which of them, the head has found out, and has put somebody in quarantine.
                _LOG.warning("evstream: what this edge holds is not what another has: %s", error)
                for name in some:
                    self._come.pop(name, None)
                continue
            for name in some:
                kept, heard = telling[name]
                if self._come.get(name) is kept:
                    del self._come[name]
                self._told[name] = m.ProductName(heard.descriptor.key, heard.encoder_id)
        for name in [name for name in self._come if self._cache.kept(name) is None]:
            del self._come[name]

    async def _tell_asked(self) -> None:
        asked, self._asked = self._asked, Counter()
        known = [
            m.Requested(self._heard[name].descriptor.to_wire(), count)
            for name, count in asked.items()
            if name in self._heard
        ]
        for first in range(0, len(known), AT_ONCE):
            # Counts fade anyway: what is lost here is not told twice.
            await self._head.count_requests(m.WantedRequest(known[first : first + AT_ONCE]))


async def tell_now_and_then(telling: Telling, clock: Clock, every_s: float) -> None:
    """Tell until cancelled."""
    while True:
        await clock.sleep(every_s)
        try:
            await telling.tell()
        except EvstreamError as error:
            _LOG.info("evstream: the head was not told what is here: %s", error)


def _name(held: m.HeldProduct) -> str:
    return Identity.of(Descriptor.from_wire(held.descriptor).key, held.encoder_id).name


def _held(kept: KeptProduct, heard: _Heard) -> m.HeldProduct:
    return m.HeldProduct(heard.descriptor.to_wire(), heard.encoder_id, kept.size, kept.sha256)
