"""The `ProductCatalogue` port on lists: what it means, in the plainest form."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from evstream.domain.dataset import Fingerprint
from evstream.domain.descriptor import Descriptor
from evstream.domain.edges import EdgeState, EdgeStatus
from evstream.domain.errors import ConflictError, NotFoundError
from evstream.domain.intervals import IntervalSet
from evstream.domain.names import Pfn, ProductKey
from evstream.domain.products import (
    Edge,
    FoundProduct,
    PlaceKind,
    PopularProduct,
    PreparedProduct,
    Recipe,
    Replica,
    Wanted,
    coldest_kept,
    heat_after,
    score_of,
    wanted_part,
)
from evstream.ports.clock import Clock


@dataclass(frozen=True, slots=True)
class _Place:
    product: PreparedProduct
    edge: str
    expires: datetime | None

    def lives(self, now: datetime) -> bool:
        """Whether it is not past its life."""
        return self.expires is None or self.expires > now


def _bytes_differ(
    told: dict[tuple[ProductKey, str], PreparedProduct], one: PreparedProduct
) -> bool:
    """Whether other bytes of a product are told."""
    same = told.get(one.name, one)
    return (same.size, same.sha256) != (one.size, one.sha256)


class MemoryProducts:
    """Keeps every place of every product in one list."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._edges: dict[str, Edge] = {}
        self._places: list[_Place] = []
        self._removed: list[_Place] = []
        self._heats: dict[tuple[Fingerprint, bytes], tuple[Recipe, float]] = {}
        self._replicas: dict[tuple[Fingerprint, Pfn], Replica] = {}

    async def beat(
        self,
        name: str,
        url: str,
        kind: PlaceKind = "edge",
        capacity_bytes: int = 0,
        life: timedelta | None = None,
        status: EdgeStatus | None = None,
    ) -> Edge:
        """Say that an edge is there and where."""
        until = None if life is None else self._clock.now() + life
        known = self._edges.get(name, Edge(name, url))
        self._edges[name] = replace(
            known,
            url=url,
            kind=kind,
            capacity_bytes=capacity_bytes,
            alive_until=until,
            status=known.status if status is None else status,
        )
        return self._counted(self._edges[name])

    async def set_edge_state(self, name: str, state: EdgeState, reason: str = "") -> Edge:
        """Decide what an edge may do."""
        self._known(name)
        self._edges[name] = replace(self._edges[name], state=state, reason=reason)
        return self._counted(self._edges[name])

    def _counted(self, edge: Edge) -> Edge:
        sizes = [place.product.size for place in self._places if place.edge == edge.name]
        return replace(edge, products=len(sizes), bytes=sum(sizes))

    async def edges(self) -> list[Edge]:
        """Return all edges and stores, by name."""
        return [self._counted(edge) for _, edge in sorted(self._edges.items())]

    def _known(self, name: str) -> None:
        if name not in self._edges:
            raise NotFoundError(
                f"there is no edge {name}", hint="it has to beat before it registers products"
            )

    async def remove_edge(self, name: str) -> None:
        """Take an edge out."""
        self._known(name)
        del self._edges[name]
        self._removed += [place for place in self._places if place.edge == name]
        self._places = [place for place in self._places if place.edge != name]

    async def register_products(
        self, edge: str, products: Sequence[PreparedProduct], life: timedelta | None = None
    ) -> int:
        """Say what an edge has; return how much of it is new there."""
        self._known(edge)
        told = {product.name: product for product in products}
        for product in products:
            Recipe.of(product.descriptor)
            assert product.pieces
        now = self._clock.now()
        counted = [place for place in self._places if self._counts(place, now)]
        for other in (*products, *(place.product for place in counted)):
            if _bytes_differ(told, other):
                key, encoder = other.name
                raise ConflictError(
                    f"product {key[:12]} is known with other bytes",
                    key=key,
                    encoder_id=encoder,
                    edges=sorted(p.edge for p in counted if p.product == other),
                )
        # Bytes that are nowhere any more give way.
        self._places = [p for p in self._places if not _bytes_differ(told, p.product)]
        self._removed = [p for p in self._removed if not _bytes_differ(told, p.product)]
        before = len(self._places)
        expires = None if life is None else now + life
        kept = [replace(p, expires=expires) if self._is(p, edge, told) else p for p in self._places]
        held = {place.product.name for place in kept if place.edge == edge}
        fresh = [product for name, product in told.items() if name not in held]
        self._places = [*kept, *(_Place(product, edge, expires) for product in fresh)]
        return len(self._places) - before

    def _counts(self, place: _Place, now: datetime) -> bool:
        edge = self._edges.get(place.edge)
        return place.lives(now) and edge is not None and edge.state != "quarantined"

    @staticmethod
    def _is(place: _Place, edge: str, told: dict[tuple[ProductKey, str], PreparedProduct]) -> bool:
        return place.edge == edge and place.product.name in told

    async def held_at(self, edge: str, after: int, limit: int) -> list[tuple[int, ProductKey, str]]:
        """Return what an edge has, a page of it."""
        self._known(edge)
        held = [
            (number, *place.product.name)
            for number, place in enumerate(self._places, 1)
            if place.edge == edge and number > after
        ]
        return held[:limit]

    async def drop_products(self, edge: str, names: Sequence[tuple[ProductKey, str]]) -> int:
        """Say what an edge has no more; return how many it had."""
        self._known(edge)
        before = len(self._places)
        self._places = [
            place
            for place in self._places
            if place.edge != edge or place.product.name not in set(names)
        ]
        return before - len(self._places)

    def _living(self) -> dict[tuple[ProductKey, str], FoundProduct]:
        """Return every product with its living places, in the order in which they came."""
        now = self._clock.now()
        found: dict[tuple[ProductKey, str], FoundProduct] = {}
        for place in (*self._places, *self._removed):
            known = found.setdefault(place.product.name, FoundProduct(place.product, ()))
            edge = self._edges.get(place.edge)
            if edge is None or place in self._removed or not place.lives(now):
                continue
            if edge.state not in ("serving", "draining"):
                continue
            if edge.alive_until is None or edge.alive_until > now:
                places = sorted((*known.places, self._counted(edge)), key=lambda one: one.name)
                found[place.product.name] = FoundProduct(place.product, tuple(places))
        return found

    async def products_of(self, key: ProductKey) -> list[FoundProduct]:
        """Return what there is of a key, of each encoder."""
        return [found for name, found in sorted(self._living().items()) if name[0] == key]

    async def best_matches(self, wanted: Sequence[Descriptor]) -> list[FoundProduct | None]:
        """Return for each descriptor the smallest product that holds all that it asks for."""
        living = [found for found in self._living().values() if found.places]
        return [self._best(living, descriptor) for descriptor in wanted]

    @staticmethod
    def _best(living: Sequence[FoundProduct], descriptor: Descriptor) -> FoundProduct | None:
        file, (start, stop) = wanted_part(descriptor)
        recipe = Recipe.of(descriptor)
        fitting = [
            found
            for found in living
            if Recipe.of(found.product.descriptor).serves(recipe)
            and any(
                of == file and held[0] <= start and stop <= held[1]
                for of, held in found.product.pieces
            )
        ]
        return min(fitting, key=lambda found: found.product.size, default=None)

    async def ready(
        self, files: Sequence[Fingerprint], wanted: Recipe
    ) -> list[dict[str, IntervalSet]]:
        """Return for each file the entries that each living edge has ready."""
        ready: list[dict[str, IntervalSet]] = []
        for file in files:
            held: dict[str, IntervalSet] = {}
            for found in self._living().values():
                if not Recipe.of(found.product.descriptor).serves(wanted):
                    continue
                entries = IntervalSet.of(i for of, i in found.product.pieces if of == file)
                for edge in found.places if entries else ():
                    held[edge.name] = held.get(edge.name, IntervalSet()) | entries
            ready.append(held)
        return ready

    async def expire_products(self, limit: int) -> int:
        """Forget what is past its life; return how many went."""
        now = self._clock.now()
        over = [place for place in self._places if not place.lives(now)][:limit]
        self._places = [place for place in self._places if place not in over]
        left = limit - len(over)
        removed, self._removed = self._removed[:left], self._removed[left:]
        left -= len(removed)
        cold = (
            sorted(
                (heat, place)
                for place, (_, heat) in self._heats.items()
                if heat < coldest_kept(now)
            )[:left]
            if left
            else []
        )
        for _, place in cold:
            del self._heats[place]
        return len(over) + len(removed) + len(cold)

    async def recipes(self, fingerprint: Fingerprint) -> list[Recipe]:
        """Return by which recipes products of a file are there."""
        held = [place.product for place in (*self._places, *self._removed)]
        found = [
            Recipe.of(product.descriptor)
            for product in held
            if any(file == fingerprint for file, _ in product.pieces)
        ]
        return [recipe for _, recipe in sorted({one.digest: one for one in found}.items())]

    async def count_requests(self, requests: Sequence[tuple[Fingerprint, Recipe, int]]) -> None:
        """Add to what is wanted."""
        now = self._clock.now()
        for file, recipe, number in requests:
            place = (file, recipe.digest)
            known = self._heats.get(place)
            self._heats[place] = recipe, heat_after(known and known[1], number, now)

    async def most_wanted(
        self, limit: int, files: Sequence[Fingerprint] | None = None
    ) -> list[Wanted]:
        """Return what is wanted most, most first."""
        now = self._clock.now()
        wanted = [
            Wanted(file, recipe, score_of(heat, now))
            for (file, _), (recipe, heat) in self._heats.items()
            if files is None or file in files
        ]
        return sorted(wanted, key=lambda one: -one.score)[:limit]

    def _popularity(self) -> list[PopularProduct]:
        """Return every product, in the order in which they came."""
        now, living = self._clock.now(), self._living()
        held = [(found, Recipe.of(found.product.descriptor).digest) for found in living.values()]
        pieces = Counter((f, digest) for one, digest in held for f, _ in one.product.pieces)
        scores = {place: score_of(heat, now) for place, (_, heat) in self._heats.items()}
        return [
            PopularProduct(
                one,
                sum(
                    scores.get((file, digest), 0.0) / pieces[file, digest]
                    for file, _ in one.product.pieces
                ),
                frozenset(
                    place.edge
                    for place in self._places
                    if place.expires is not None and place.product.name == one.product.name
                ),
            )
            for one, digest in held
        ]

    async def popular(self, limit: int) -> list[PopularProduct]:
        """Return the products of what is wanted most."""
        wanted = [one for one in self._popularity() if one.score > 0.0]
        heats = {place: heat for place, (_, heat) in self._heats.items()}

        def heat(one: PopularProduct) -> float:
            product = one.found.product
            digest = Recipe.of(product.descriptor).digest
            return max(heats.get((file, digest), -math.inf) for file, _ in product.pieces)

        return sorted(wanted, key=lambda one: -heat(one))[:limit]

    async def popularity_after(self, after: int, limit: int) -> list[tuple[int, PopularProduct]]:
        """Return products of numbers above one, with these numbers."""
        return list(enumerate(self._popularity(), 1))[after : after + limit]

    async def add_replicas(self, replicas: Sequence[Replica]) -> None:
        """Say where copies of files are."""
        self._replicas |= {(one.fingerprint, one.pfn): one for one in replicas}

    async def remove_replicas(self, replicas: Sequence[tuple[Fingerprint, Pfn]]) -> int:
        """Forget copies; return how many were known."""
        return sum(self._replicas.pop(place, None) is not None for place in dict.fromkeys(replicas))

    async def replicas(self, files: Sequence[Fingerprint]) -> list[Replica]:
        """Return the copies of some files that were added."""
        return [
            replica
            for file in dict.fromkeys(files)
            for (of, _), replica in sorted(self._replicas.items(), key=lambda item: item[0][1])
            if of == file
        ]

    async def now(self) -> datetime:
        """Return the database's time, aware, in UTC."""
        return self._clock.now()
