"""Orders for edges: what each should hold by what is wanted, worked out now and then.

The rules are pure and look at what all heads see. So every head comes to the same orders by
itself, and none is written down: one that was lost comes again, one that was carried out does not,
since the edge has said so by then. An order that comes twice, or too late, does nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta

from msgspec.structs import replace

from evstream.domain.descriptor import COPY, Descriptor
from evstream.domain.placement import EdgeRoom, PlacedProduct, Spreading, place
from evstream.domain.products import Edge, FoundProduct, PopularProduct
from evstream.head.edge_keys import EdgeKeys
from evstream.ports import ProductCatalogue
from evstream.wire.edge_messages import PlacementOrder
from evstream.wire.signed_urls import descriptor_query

POPULAR_MAX = 2_000
WALK = 2_000
"""Each round looks at what is wanted most, and at so many of all others, by turns."""
ROUND_BYTES_MAX = 64 << 30
ROOM_SPARED = 0.1
"""Share of an edge's room that is left free: its cache gives up products when it is that full."""
ORDERS_AT_ONCE = 50
URL_LIFE = timedelta(hours=1)
"""An order that was not carried out by then has come again."""


class Placing:
    """Decides what edges should hold, and tells each once a round.

    Parameters
    ----------
    keys : EdgeKeys
        Signs what edges fetch from each other, and says which products are compared.
    cross_check_every : int
        Of so many products two edges make one, each by itself; 0 for none.

    Attributes
    ----------
    cross_checks : int
        Orders to make a product that another edge has.
    """

    def __init__(
        self,
        products: ProductCatalogue,
        keys: EdgeKeys,
        rules: Spreading | None = None,
        cross_check_every: int = 0,
    ) -> None:
        self._products = products
        self._keys = keys
        self._rules = rules
        self._orders: dict[str, list[tuple[PlacementOrder, tuple[Edge, ...]]]] = {}
        self._after = 0
        self._cross_check_every = cross_check_every
        self.cross_checks = 0

    async def plan(self) -> int:
        """Work out orders in place of those from before; return how many."""
        now = await self._products.now()
        there = [one for one in await self._products.edges() if one.beats(now) and one.takes_work]
        edges = {one.name: one for one in there}
        self._orders = {}
        if not edges:
            return 0
        # Copies of files are fetched by whoever reads much of one.
        seen = [one for one in await self._look() if not _is_copy(one.found)]
        looked = _by_key(seen)
        readers: Counter[str] = Counter()
        for edge in edges.values():
            readers.update(edge.status.reading)
        compared = {key for key in looked if self._keys.compares(key, self._cross_check_every)}
        placed = [
            _placed(key, of_key, readers[key], key in compared) for key, of_key in looked.items()
        ]
        rooms = [EdgeRoom(name, _room(one)) for name, one in edges.items()]
        orders: dict[str, list[tuple[PlacementOrder, tuple[Edge, ...]]]] = defaultdict(list)
        for decided in place(placed, rooms, self._rules, ROUND_BYTES_MAX):
            found = [one.found for one in looked[decided.key]]
            if decided.deed == "drop":
                named = next(one for one in found if decided.edge in _names(one))
                order = _order("drop", named, decided.reason)
                orders[decided.edge].append((order, ()))
            else:
                # The bytes that most edges have are the likeliest to be this one's too.
                named = max(found, key=lambda one: len(one.places))
                order = _order("fetch", named, decided.reason)
                # What is copied would be the same by itself.
                anew = decided.key in compared
                self.cross_checks += anew
                orders[decided.edge].append((order, () if anew else _serving(named)))
        self._orders = orders
        return sum(map(len, orders.values()))

    async def _look(self) -> list[PopularProduct]:
        walked = await self._products.popularity_after(self._after, WALK)
        self._after = walked[-1][0] if len(walked) == WALK else 0
        return [*await self._products.popular(POPULAR_MAX), *(one for _, one in walked)]

    def orders(self, edge: str, now: datetime) -> list[PlacementOrder]:
        """Return what an edge has not been told in this round, some at a time."""
        waiting = self._orders.get(edge, [])
        given, waiting[:ORDERS_AT_ONCE] = waiting[:ORDERS_AT_ONCE], []
        return [_signed(order, places, self._keys, now) for order, places in given]


def _is_copy(found: FoundProduct) -> bool:
    return found.product.descriptor.recipe == COPY


def _serving(found: FoundProduct) -> tuple[Edge, ...]:
    return tuple(e for e in found.places if e.kind == "edge" and not e.status.leaving)


def _room(edge: Edge) -> int:
    return max(0, edge.status.free_bytes - int(ROOM_SPARED * edge.capacity_bytes))


def _by_key(looked: Iterable[PopularProduct]) -> dict[str, list[PopularProduct]]:
    """Return products by key, each once: those of several encoders are the same to readers."""
    unique = {one.found.product.name: one for one in looked}
    found: dict[str, list[PopularProduct]] = defaultdict(list)
    for (key, _), one in unique.items():
        found[key].append(one)
    return found


def _names(found: FoundProduct) -> frozenset[str]:
    return frozenset(edge.name for edge in found.places if edge.kind == "edge")


def _placed(key: str, of_key: list[PopularProduct], readers: int, compared: bool) -> PlacedProduct:
    return PlacedProduct(
        key,
        max(one.found.product.size for one in of_key),
        sum(one.score for one in of_key),
        readers,
        frozenset().union(*(_names(one.found) for one in of_key)),
        frozenset().union(*(one.pinned for one in of_key)),
        compared,
    )


def _order(do: str, found: FoundProduct, reason: str) -> PlacementOrder:
    product = found.product
    return PlacementOrder(
        "drop" if do == "drop" else "fetch",
        product.descriptor.key,
        product.encoder_id,
        product.descriptor.to_wire(),
        product.size,
        product.sha256,
        [],
        reason,
    )


def _signed(
    order: PlacementOrder, places: tuple[Edge, ...], keys: EdgeKeys, now: datetime
) -> PlacementOrder:
    """Return an order with where the product is fetched from."""
    if not places:
        return order
    path, until = f"/v1/products/{order.key}", now + URL_LIFE
    extra = descriptor_query(Descriptor.from_wire(order.descriptor))
    urls = [keys.url(edge, path, now, until, extra=extra) for edge in places]
    return replace(order, urls=urls)
