"""Searches among many prepared products, through the port, on a PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import random
import time
from dataclasses import dataclass

import psycopg

from evstream.adapters.catalogue.postgresql import PostgresDatabase
from evstream.adapters.catalogue.product_search import BEST_MATCH
from evstream.domain.dataset import Fingerprint
from evstream.domain.descriptor import slice_of
from evstream.domain.products import Recipe

EDGES = 20
PRODUCTS_PER_FILE = 10_000
RANGE = 1_000
"""Entries of a product, at least; some hold up to 64 times as many."""
BRANCHES = tuple(f"branch{number:02}" for number in range(40))
SETS: tuple[tuple[str, ...] | None, ...] = (
    None,
    *(tuple(sorted(BRANCHES[: 4 * number])) for number in range(1, 8)),
)
CHECKED = 50

# Products of a file lie one after another, 1250 by each recipe; each seventh is eight ranges wide,
# each hundredth 64, over its neighbours. Two in three are at one edge, the others at two.
_FILL = """
    CREATE TEMPORARY TABLE made AS
        SELECT n AS product, 1 + (n - 1) / {per_file} AS source, 1 + n % {sets} AS recipe,
            ((n - 1) % {per_file}) / {sets} * {width}
                AS entry_start,
            {width} * CASE WHEN n % 100 = 0 THEN 64 WHEN n % 7 = 0 THEN 8 ELSE 1 END AS width,
            100000 + (n * 7919) % 900000 AS size
        FROM generate_series(1::bigint, {products}) n;
    DROP INDEX product_by_key; DROP INDEX piece_by_product; DROP INDEX place_by_edge;
    INSERT INTO product (product, key, encoder, recipe, size, sha256)
        SELECT product, sha256(product::text::bytea), 'e1', recipe, size,
            sha256(size::text::bytea) FROM made ORDER BY product;
    INSERT INTO piece (source, recipe, reach, entry_start, entry_stop, product, size)
        SELECT source, recipe, (2::bigint ^ (floor(log(2, width)) + 1))::bigint,
            entry_start, entry_start + width, product, size FROM made
        ORDER BY source, recipe, 3, entry_start;
    INSERT INTO piece_span (source, recipe, reach, pieces)
        SELECT source, recipe, reach, count(*) FROM piece GROUP BY 1, 2, 3;
    INSERT INTO place (product, edge)
        SELECT product, 1 + product % {edges} FROM made
        UNION ALL SELECT product, 1 + (product + 7) % {edges} FROM made WHERE product % 3 = 0;
    CREATE UNIQUE INDEX product_by_key ON product (key, encoder);
    CREATE INDEX piece_by_product ON piece (product);
    CREATE INDEX place_by_edge ON place (edge, product);
    DROP TABLE made;"""

# What looking at every product of the file finds.
_SMALLEST = """
    SELECT min(size) FROM piece WHERE source = %s AND recipe = ANY(%s)
    AND entry_start <= %s AND entry_stop >= %s"""


@dataclass(frozen=True, slots=True)
class Searched:
    """What searches took, one at a time, from the call of the port to its answer.

    Attributes
    ----------
    bytes_per_product : float
        Of the tables and their indices.
    found : int
        Searches that had an answer.
    checked : int
        Answers that were compared with looking at every product of the file.
    """

    products: int
    searches: int
    found: int
    checked: int
    p50_ms: float
    p99_ms: float
    bytes_per_product: float


def _file(number: int) -> Fingerprint:
    return Fingerprint(10**9 + number, "", f"{number:064x}")


def fill(url: str, products: int) -> None:
    """Put products into an empty catalogue, beside the port: a million take seconds, not hours."""
    files = -(-products // PRODUCTS_PER_FILE)
    recipes = [Recipe.of(slice_of(_file(0), "Events", (0, 1), names)) for names in SETS]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET maintenance_work_mem = '512MB'")
        connection.cursor().executemany(
            "INSERT INTO source (source, digest, size, uuid) VALUES (%s, %s, %s, %s)",
            [(n + 1, _file(n).digest, _file(n).size, "") for n in range(files)],
        )
        connection.cursor().executemany(
            "INSERT INTO recipe (recipe, digest, name, version, parameters, format)"
            " VALUES (%s, %s, %s, %s, %s, %s)",
            [
                (
                    n + 1,
                    recipe.digest,
                    recipe.name,
                    recipe.version,
                    json.dumps(dict(recipe.parameters)),
                    recipe.format,
                )
                for n, recipe in enumerate(recipes)
            ],
        )
        connection.cursor().executemany(
            "INSERT INTO edge (edge, name, url, kind, capacity_bytes)"
            " VALUES (%s, %s, '', 'edge', 0)",
            [(n + 1, f"edge{n}") for n in range(EDGES)],
        )
        statement = _FILL.format(
            products=products, per_file=PRODUCTS_PER_FILE, sets=len(SETS), width=RANGE, edges=EDGES
        )
        connection.execute(statement.encode())
        for table in ("product", "piece", "piece_span", "place", "source", "recipe", "edge"):
            connection.execute(f"VACUUM ANALYZE {table}".encode())


def _bytes(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT sum(pg_total_relation_size(name::regclass))"
            " FROM unnest(ARRAY['product', 'piece', 'piece_span', 'place']) name"
        ).fetchone()
        assert row is not None
        return int(row[0])


async def _search(url: str, products: int, searches: int, seed: int) -> Searched:
    database = PostgresDatabase(url)
    chance = random.Random(seed)
    took, found, checked = [], 0, 0
    files = -(-products // PRODUCTS_PER_FILE)
    entries = PRODUCTS_PER_FILE // len(SETS) * RANGE
    try:
        for number in range(searches):
            file = chance.randrange(files)
            start = chance.randrange(entries)
            stop = start + chance.randrange(1, RANGE)
            wanted = tuple(sorted(chance.sample(BRANCHES[:28], chance.randrange(1, 5))))
            descriptor = slice_of(_file(file), "Events", (start, stop), wanted)
            before = time.perf_counter()
            (match,) = await database.products.best_matches([descriptor])
            took.append(time.perf_counter() - before)
            found += match is not None
            if number % (searches // CHECKED) == 0:
                size = match.product.size if match else None
                _check(url, file, (start, stop), wanted, size)
                checked += 1
    finally:
        await database.close()
    took.sort()
    return Searched(
        products, searches, found, checked,
        1e3 * took[len(took) // 2], 1e3 * took[len(took) * 99 // 100], _bytes(url) / products,
    )  # fmt: skip


def _check(
    url: str, file: int, interval: tuple[int, int], wanted: tuple[str, ...], size: int | None
) -> None:
    serving = [n + 1 for n, names in enumerate(SETS) if names is None or set(wanted) <= set(names)]
    with psycopg.connect(url) as connection:
        row = connection.execute(_SMALLEST, (file + 1, serving, *interval)).fetchone()
    assert row is not None
    if row[0] != size:
        raise RuntimeError(f"file {file}, {interval}, {wanted}: found {size}, smallest {row[0]}")


def measure_best_match(url: str, products: int, searches: int = 10_000, seed: int = 1) -> Searched:
    """Fill a PostgreSQL's empty schema with products and search among them.

    Raises
    ------
    RuntimeError
        An answer is not the smallest product that covers what was asked for.
    """
    asyncio.run(PostgresDatabase(url).close())
    fill(url, products)
    return asyncio.run(_search(url, products, searches, seed))


def plan_of_search(url: str) -> str:
    """Return how the server goes about a search once it no longer looks at the values."""
    statement = BEST_MATCH.format(recipes="?, ?").strip()
    for number in range(1, 10):
        statement = statement.replace("?", f"${number}", 1)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET plan_cache_mode = force_generic_plan")
        connection.execute(f"PREPARE search AS {statement.replace('CROSS ', '')}".encode())
        values = 1, 1, 2, RANGE, 5 * RANGE, 6 * RANGE, 6 * RANGE, 0, 0
        shown = f"EXPLAIN EXECUTE search({', '.join(map(str, values))})"
        return "\n".join(line for (line,) in connection.execute(shown.encode()))
