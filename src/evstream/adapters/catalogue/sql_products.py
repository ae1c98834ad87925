"""The `ProductCatalogue` port: changes go to the owner, searches to the reader."""

# ruff: noqa: S608 - lists of question marks are put into statements, and nothing else

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from evstream.adapters.catalogue.database import MICROSECOND, Database, to_microseconds
from evstream.adapters.catalogue.owner import Owner
from evstream.adapters.catalogue.popularity import most_popular, numbers_after, popularity
from evstream.adapters.catalogue.product_records import (
    drop,
    edge_number,
    expire,
    known_sources,
    next_number,
    number_recipes,
    number_sources,
    register,
)
from evstream.adapters.catalogue.product_search import EDGE, ProductSearch, edge_of
from evstream.adapters.catalogue.reader import Reader
from evstream.adapters.catalogue.value_lists import value_lists
from evstream.domain.dataset import Fingerprint
from evstream.domain.descriptor import Descriptor
from evstream.domain.edges import EdgeState, EdgeStatus
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
    heat_after,
    score_of,
)


def _beat(db: Database, edge: Edge, life: timedelta | None, status: EdgeStatus | None) -> Edge:
    until = None if life is None else to_microseconds(db.now()) + life // MICROSECOND
    said = None if status is None else msgspec.json.encode(status).decode()
    told = (edge.url, edge.kind, edge.capacity_bytes, until)
    changed = db.execute(
        "UPDATE edge SET url = ?, kind = ?, capacity_bytes = ?, alive_until = ?,"
        " status = COALESCE(?, status) WHERE name = ? AND removed = 0",
        (*told, said, edge.name),
    )
    if not changed.rowcount:
        db.insert(
            "edge",
            "edge, name, url, kind, capacity_bytes, alive_until, status",
            [(next_number(db, "edge"), edge.name, *told, said or "{}")],
        )
    return _edge(db, edge.name)


def _edge(db: Database, name: str) -> Edge:
    row = db.execute(f"{EDGE} FROM edge e WHERE e.name = ? AND e.removed = 0", (name,))
    return edge_of(row.fetchone())


def _set_edge_state(db: Database, name: str, state: EdgeState, reason: str) -> Edge:
    number = edge_number(db, name)
    db.execute("UPDATE edge SET state = ?, reason = ? WHERE edge = ?", (state, reason, number))
    return _edge(db, name)


def _held_at(db: Database, name: str, after: int, limit: int) -> list[tuple[int, ProductKey, str]]:
    rows = db.execute(
        "SELECT l.product, p.key, p.encoder FROM place l JOIN product p ON p.product = l.product"
        " WHERE l.edge = ? AND l.product > ? ORDER BY l.product LIMIT ?",
        (edge_number(db, name), after, limit),
    )
    return [(int(number), ProductKey(bytes(key).hex()), encoder) for number, key, encoder in rows]


def _edges(db: Database) -> list[Edge]:
    rows = db.execute(f"{EDGE} FROM edge e WHERE e.removed = 0 ORDER BY e.name")
    return [edge_of(row) for row in rows.fetchall()]


def _remove_edge(db: Database, name: str) -> None:
    db.execute("UPDATE edge SET removed = 1 WHERE edge = ?", (edge_number(db, name),))


def _count_requests(db: Database, requests: Sequence[tuple[Fingerprint, Recipe, int]]) -> None:
    now = db.now()
    sources = number_sources(db, [file for file, _, _ in requests])
    recipes = number_recipes(db, [recipe for _, recipe, _ in requests])
    counts: dict[tuple[int, int], int] = defaultdict(int)
    for file, recipe, number in requests:
        counts[sources[file], recipes[recipe.digest]] += number
    heats: dict[tuple[int, int], float] = {}
    for marks, some in value_lists(sorted({source for source, _ in counts})):
        rows = db.execute(
            f"SELECT source, recipe, heat FROM wanted WHERE source IN ({marks})", some
        )
        heats |= {(int(source), int(recipe)): heat for source, recipe, heat in rows}
    db.executemany(
        "INSERT INTO wanted (source, recipe, heat) VALUES (?, ?, ?)"
        " ON CONFLICT (source, recipe) DO UPDATE SET heat = excluded.heat",
        [(*place, heat_after(heats.get(place), count, now)) for place, count in counts.items()],
    )


def _add_replicas(db: Database, replicas: Sequence[Replica]) -> None:
    sources = number_sources(db, [replica.fingerprint for replica in replicas])
    db.executemany(
        "INSERT INTO replica (source, pfn, site, state) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (source, pfn) DO UPDATE SET site = excluded.site, state = excluded.state",
        [(sources[r.fingerprint], r.pfn, r.site, r.state) for r in replicas],
    )


def _remove_replicas(db: Database, replicas: Sequence[tuple[Fingerprint, Pfn]]) -> int:
    sources = known_sources(db, [file for file, _ in replicas])
    return sum(
        db.execute(
            "DELETE FROM replica WHERE source = ? AND pfn = ?", (sources[file], pfn)
        ).rowcount
        for file, pfn in replicas
        if file in sources
    )


def _replicas(db: Database, files: Sequence[Fingerprint]) -> list[Replica]:
    numbers = known_sources(db, files)
    by_source: dict[int, list[tuple[Pfn, str, str]]] = defaultdict(list)
    for marks, some in value_lists(sorted(numbers.values())):
        rows = db.execute(
            f"SELECT source, pfn, site, state FROM replica WHERE source IN ({marks})", some
        )
        for source, pfn, site, state in rows:
            by_source[int(source)].append((Pfn(pfn), site, state))
    return [
        Replica(file, pfn, site, state)  # type: ignore[arg-type]
        for file in dict.fromkeys(files)
        for pfn, site, state in sorted(by_source.get(numbers.get(file, 0), []))
    ]


class SqlProducts:
    """The `ProductCatalogue` port on the owner's database.

    Parameters
    ----------
    owner : Owner
        Runs what changes something.
    reader : Reader
        Runs what does not.
    """

    def __init__(self, owner: Owner, reader: Reader) -> None:
        self._owner = owner
        self._reader = reader
        self._search = ProductSearch()

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
        edge = Edge(name, url, kind, capacity_bytes)
        return await self._owner.run(lambda db: _beat(db, edge, life, status))

    async def set_edge_state(self, name: str, state: EdgeState, reason: str = "") -> Edge:
        """Decide what an edge may do."""
        return await self._owner.run(lambda db: _set_edge_state(db, name, state, reason))

    async def edges(self) -> list[Edge]:
        """Return all edges and stores, by name."""
        return await self._reader.read(_edges)

    async def remove_edge(self, name: str) -> None:
        """Take an edge out."""
        await self._owner.run(lambda db: _remove_edge(db, name))

    async def register_products(
        self, edge: str, products: Sequence[PreparedProduct], life: timedelta | None = None
    ) -> int:
        """Say what an edge has; return how much of it is new there."""
        for product in products:
            # Hashed and cut up here: whatever waits for the owner waits for less.
            _, _ = product.name, product.pieces
        return await self._owner.run(lambda db: register(db, edge, products, life))

    async def drop_products(self, edge: str, names: Sequence[tuple[ProductKey, str]]) -> int:
        """Say what an edge has no more; return how many it had."""
        return await self._owner.run(lambda db: drop(db, edge, names))

    async def held_at(self, edge: str, after: int, limit: int) -> list[tuple[int, ProductKey, str]]:
        """Return what an edge has, a page of it."""
        return await self._reader.read(lambda db: _held_at(db, edge, after, limit))

    async def products_of(self, key: ProductKey) -> list[FoundProduct]:
        """Return what there is of a key, of each encoder."""
        return await self._reader.read(lambda db: self._search.of_key(db, key))

    async def best_matches(self, wanted: Sequence[Descriptor]) -> list[FoundProduct | None]:
        """Return for each descriptor the smallest product that holds all that it asks for."""
        return await self._reader.read(lambda db: self._search.best_matches(db, wanted))

    async def ready(
        self, files: Sequence[Fingerprint], wanted: Recipe
    ) -> list[dict[str, IntervalSet]]:
        """Return for each file the entries that each living edge has ready."""
        return await self._reader.read(lambda db: self._search.ready(db, files, wanted, db.now()))

    async def expire_products(self, limit: int) -> int:
        """Forget what is past its life; return how many went."""
        return await self._owner.run(lambda db: expire(db, limit))

    async def recipes(self, fingerprint: Fingerprint) -> list[Recipe]:
        """Return by which recipes products of a file are there."""
        return await self._reader.read(lambda db: self._search.recipes(db, fingerprint))

    async def count_requests(self, requests: Sequence[tuple[Fingerprint, Recipe, int]]) -> None:
        """Add to what is wanted."""
        await self._owner.run(lambda db: _count_requests(db, requests))

    async def most_wanted(
        self, limit: int, files: Sequence[Fingerprint] | None = None
    ) -> list[Wanted]:
        """Return what is wanted most, most first."""
        return await self._reader.read(lambda db: self._most_wanted(db, limit, files))

    def _most_wanted(
        self, db: Database, limit: int, files: Sequence[Fingerprint] | None
    ) -> list[Wanted]:
        hottest = (
            "SELECT w.heat, c.digest, c.size, c.uuid, w.recipe FROM wanted w"
            " JOIN source c ON c.source = w.source {} ORDER BY w.heat DESC LIMIT ?"
        )
        if files is None:
            rows = db.execute(hottest.format(""), (limit,)).fetchall()
        else:
            rows = []
            for marks, some in value_lists(sorted(known_sources(db, files).values())):
                which = f"WHERE w.source IN ({marks})"
                rows += db.execute(hottest.format(which), (*some, limit)).fetchall()
            rows = sorted(rows, key=lambda row: -row[0])[:limit]
        recipes = self._search.recipes_by_number(db, [int(row[4]) for row in rows])
        now = db.now()
        return [
            Wanted(Fingerprint(size, uuid, digest), recipes[int(recipe)], score_of(heat, now))
            for heat, digest, size, uuid, recipe in rows
        ]

    async def popular(self, limit: int) -> list[PopularProduct]:
        """Return the products of what is wanted most."""

        def read(db: Database) -> list[PopularProduct]:
            return [one for _, one in popularity(db, self._search, most_popular(db, limit))]

        return await self._reader.read(read)

    async def popularity_after(self, after: int, limit: int) -> list[tuple[int, PopularProduct]]:
        """Return products of numbers above one, with these numbers."""
        return await self._reader.read(
            lambda db: popularity(db, self._search, numbers_after(db, after, limit))
        )

    async def add_replicas(self, replicas: Sequence[Replica]) -> None:
        """Say where copies of files are."""
        await self._owner.run(lambda db: _add_replicas(db, replicas))

    async def remove_replicas(self, replicas: Sequence[tuple[Fingerprint, Pfn]]) -> int:
        """Forget copies; return how many were known."""
        return await self._owner.run(lambda db: _remove_replicas(db, replicas))

    async def replicas(self, files: Sequence[Fingerprint]) -> list[Replica]:
        """Return the copies of some files that were added."""
        return await self._reader.read(lambda db: _replicas(db, files))

    async def now(self) -> datetime:
        """Return the database's time, aware, in UTC."""
        return await self._reader.read(lambda db: db.now())
