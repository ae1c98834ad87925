"""Searches among prepared products: a few statements each, through the index of pieces."""

# ruff: noqa: S608 - lists of question marks are put into statements, and nothing else

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec

from evstream.adapters.catalogue.database import Database, from_microseconds, to_microseconds
from evstream.adapters.catalogue.product_records import known_sources
from evstream.adapters.catalogue.value_lists import value_lists
from evstream.domain.dataset import Fingerprint
from evstream.domain.descriptor import Descriptor, SourceSlice
from evstream.domain.edges import EdgeStatus
from evstream.domain.intervals import Interval, IntervalSet
from evstream.domain.names import ProductKey
from evstream.domain.products import (
    Edge,
    FoundProduct,
    PreparedProduct,
    Recipe,
    wanted_part,
)

RECIPES_KEPT_MAX = 50_000

# Of a place and its edge: what is past its life is not waited for to be swept away.
_ALIVE = (
    "e.removed = 0 AND e.state IN ('serving', 'draining')"
    " AND (e.alive_until IS NULL OR e.alive_until > ?)"
    " AND (l.expires IS NULL OR l.expires > ?)"
)
_EDGE_COLUMNS = (
    "e.name, e.url, e.kind, e.capacity_bytes, e.alive_until, e.products, e.bytes,"
    " e.state, e.reason, e.status"
)
EDGE = f"SELECT {_EDGE_COLUMNS}"

_RECIPES_OF_FILE = """
    SELECT DISTINCT s.source, s.recipe FROM source c CROSS JOIN piece_span s
    ON s.source = c.source
    WHERE c.digest = ? AND c.size = ? AND c.uuid = ? ORDER BY s.recipe"""

# Of each recipe and each reach that the file has: what begins near enough to hold all of it. The
# smallest are looked at first, until one is at a living edge.
BEST_MATCH = f"""
    SELECT c.size, c.product FROM (
        SELECT p.size, p.product FROM piece_span s CROSS JOIN piece p
        ON p.source = s.source AND p.recipe = s.recipe AND p.reach = s.reach
        WHERE s.source = ? AND s.recipe IN ({{recipes}}) AND s.reach > ?
        AND p.entry_start <= ? AND p.entry_start > ? - s.reach AND p.entry_stop >= ?
        ORDER BY p.size, p.product) c
    WHERE EXISTS (
        SELECT 1 FROM place l JOIN edge e ON e.edge = l.edge
        WHERE l.product = c.product AND {_ALIVE})
    ORDER BY c.size, c.product LIMIT 1"""

# A row for each living edge, and one without where there is none. Pieces come only with products
# whose one piece says it all.
_PRODUCT = f"""
    SELECT d.product, d.encoder, d.recipe, d.size, d.sha256, d.sources,
        c.digest, c.size, c.uuid, p.entry_start, p.entry_stop,
        {_EDGE_COLUMNS}
    FROM product d LEFT JOIN piece p ON p.product = d.product AND d.sources IS NULL
    LEFT JOIN source c ON c.source = p.source
    LEFT JOIN place l ON l.product = d.product
    LEFT JOIN edge e ON e.edge = l.edge AND {_ALIVE}"""


def edge_of(row: Sequence[Any]) -> Edge:
    """Return an edge from its row, in the columns of `EDGE`."""
    name, url, kind, capacity_bytes, alive_until, products, size, state, reason, status = row
    until = None if alive_until is None else from_microseconds(alive_until)
    told = msgspec.json.decode(status, type=EdgeStatus)
    return Edge(name, url, kind, capacity_bytes, until, products, size, state, reason, told)


class ProductSearch:
    """Finds products; remembers recipes, whose numbers never mean another."""

    def __init__(self) -> None:
        self._recipes: dict[int, Recipe] = {}

    def best_matches(self, db: Database, wanted: Sequence[Descriptor]) -> list[FoundProduct | None]:
        """Return for each descriptor the smallest living product that holds all of it."""
        now = to_microseconds(db.now())
        serving: dict[tuple[Fingerprint, bytes], tuple[int, list[int]]] = {}
        numbers: list[int | None] = []
        for descriptor in wanted:
            file, interval = wanted_part(descriptor)
            recipe = Recipe.of(descriptor)
            place = (file, recipe.digest)
            if place not in serving:
                serving[place] = self._serving(db, file, recipe)
            source, recipes = serving[place]
            numbers.append(self._best(db, source, recipes, interval, now) if recipes else None)
        found = self.products(db, [number for number in numbers if number is not None], now)
        return [None if number is None else found[number] for number in numbers]

    def _serving(self, db: Database, file: Fingerprint, wanted: Recipe) -> tuple[int, list[int]]:
        """Return a file's number, and those of its recipes whose products serve."""
        rows = db.execute(_RECIPES_OF_FILE, (file.digest, file.size, file.uuid)).fetchall()
        known = self.recipes_by_number(db, [int(recipe) for _, recipe in rows])
        serving = [number for number, recipe in known.items() if recipe.serves(wanted)]
        return (int(rows[0][0]) if rows else 0), serving

    @staticmethod
    def _best(
        db: Database, source: int, recipes: Sequence[int], interval: Interval, now: int
    ) -> int | None:
        start, stop = interval
        best: tuple[Any, ...] | None = None
        for marks, some in value_lists(recipes):
            row = db.execute(
                BEST_MATCH.format(recipes=marks),
                (source, *some, stop - start, start, stop, stop, now, now),
            ).fetchone()
            if row is not None and (best is None or tuple(row) < best):
                best = tuple(row)
        return None if best is None else int(best[1])

    def recipes_by_number(self, db: Database, numbers: Sequence[int]) -> dict[int, Recipe]:
        """Return recipes by their numbers, in the order of these."""
        missing = [number for number in numbers if number not in self._recipes]
        found: dict[int, Recipe] = {}
        for marks, some in value_lists(missing):
            rows = db.execute(
                "SELECT recipe, name, version, parameters, format FROM recipe"
                f" WHERE recipe IN ({marks})",
                some,
            )
            for number, name, version, parameters, file_format in rows:
                pairs = tuple(sorted(json.loads(parameters).items()))
                found[int(number)] = Recipe(name, version, pairs, file_format)
        known = {number: self._recipes.get(number) or found[number] for number in numbers}
        if len(self._recipes) + len(found) > RECIPES_KEPT_MAX:
            self._recipes = {}
        self._recipes |= found
        return known

    def products(self, db: Database, numbers: Sequence[int], now: int) -> dict[int, FoundProduct]:
        """Return products by their numbers, with the edges that have them and are alive."""
        places: dict[int, list[Edge]] = defaultdict(list)
        products: dict[int, PreparedProduct] = {}
        for marks, some in value_lists(sorted(set(numbers))):
            rows = db.execute(
                f"{_PRODUCT} WHERE d.product IN ({marks}) ORDER BY e.name", (now, now, *some)
            )
            records = rows.fetchall()
            recipes = self.recipes_by_number(db, [int(row[2]) for row in records])
            for product, encoder, recipe, size, sha256, listed, *rest in records:
                number, piece, edge = int(product), rest[:5], rest[5:]
                sources = _sources_of(listed) if listed is not None else _single_source(*piece)
                descriptor = recipes[int(recipe)].descriptor(sources)
                products[number] = PreparedProduct(descriptor, encoder, size, bytes(sha256).hex())
                if edge[0] is not None:
                    places[number].append(edge_of(edge))
        return {
            number: FoundProduct(product, tuple(places[number]))
            for number, product in products.items()
        }

    def of_key(self, db: Database, key: ProductKey) -> list[FoundProduct]:
        """Return what there is of a key, by encoder."""
        rows = db.execute(
            "SELECT product FROM product WHERE key = ? ORDER BY encoder", (bytes.fromhex(key),)
        ).fetchall()
        numbers = [int(product) for (product,) in rows]
        found = self.products(db, numbers, to_microseconds(db.now()))
        return [found[number] for number in numbers]

    def recipes(self, db: Database, file: Fingerprint) -> list[Recipe]:
        """Return by which recipes products of a file are there."""
        rows = db.execute(_RECIPES_OF_FILE, (file.digest, file.size, file.uuid)).fetchall()
        known = self.recipes_by_number(db, [int(recipe) for _, recipe in rows])
        return sorted(known.values(), key=lambda recipe: recipe.digest)

    def ready(
        self, db: Database, files: Sequence[Fingerprint], wanted: Recipe, now: datetime
    ) -> list[dict[str, IntervalSet]]:
        """Return for each file the entries that each living edge has ready."""
        numbers = known_sources(db, files)
        serving = self._serving_any(db, list(numbers.values()), wanted)
        time = to_microseconds(now)
        held: dict[int, dict[str, list[Interval]]] = defaultdict(lambda: defaultdict(list))
        for of_sources, sources in value_lists(sorted(numbers.values())):
            for of_recipes, recipes in value_lists(serving):
                rows = db.execute(
                    "SELECT p.source, e.name, p.entry_start, p.entry_stop FROM piece p"
                    " JOIN place l ON l.product = p.product JOIN edge e ON e.edge = l.edge"
                    f" WHERE p.source IN ({of_sources}) AND p.recipe IN ({of_recipes})"
                    f" AND {_ALIVE}",
                    (*sources, *recipes, time, time),
                )
                for source, edge, start, stop in rows:
                    held[int(source)][edge].append((start, stop))
        return [_unions(held.get(numbers.get(file, 0), {})) for file in files]

    def _serving_any(self, db: Database, sources: Sequence[int], wanted: Recipe) -> list[int]:
        """Return the recipes of some files whose products serve."""
        numbers: set[int] = set()
        for marks, some in value_lists(sorted(sources)):
            rows = db.execute(
                f"SELECT DISTINCT recipe FROM piece_span WHERE source IN ({marks})", some
            )
            numbers |= {int(recipe) for (recipe,) in rows}
        known = self.recipes_by_number(db, sorted(numbers))
        return [number for number, recipe in known.items() if recipe.serves(wanted)]


def _unions(held: dict[str, list[Interval]]) -> dict[str, IntervalSet]:
    return {edge: IntervalSet.of(intervals) for edge, intervals in sorted(held.items())}


def _single_source(
    digest: str, size: int, uuid: str, start: int, stop: int
) -> tuple[SourceSlice, ...]:
    return (SourceSlice(Fingerprint(size, uuid, digest), ((start, stop),)),)


def _sources_of(text: str) -> tuple[SourceSlice, ...]:
    """Read a descriptor's sources, as they were sent."""
    plain: Iterable[dict[str, Any]] = json.loads(text)
    return tuple(
        SourceSlice(
            Fingerprint(**part["fingerprint"]),
            tuple((int(start), int(stop)) for start, stop in part["entries"]),
        )
        for part in plain
    )
