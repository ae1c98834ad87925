"""How much each product is wanted: its share of what its file and recipe are asked for."""

# ruff: noqa: S608 - lists of question marks are put into statements, and nothing else

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from evstream.adapters.catalogue.database import Database, to_microseconds
from evstream.adapters.catalogue.product_search import ProductSearch
from evstream.adapters.catalogue.value_lists import value_lists
from evstream.domain.products import PopularProduct, score_of

_SHARES = """
    SELECT p.product, w.heat, (
        SELECT SUM(s.pieces) FROM piece_span s WHERE s.source = p.source AND s.recipe = p.recipe)
    FROM piece p JOIN wanted w ON w.source = p.source AND w.recipe = p.recipe"""


def most_popular(db: Database, limit: int) -> list[int]:
    """Return the numbers of the products of what is wanted most."""
    rows = db.execute(
        "SELECT p.product FROM (SELECT source, recipe, heat FROM wanted"
        " ORDER BY heat DESC LIMIT ?) w JOIN piece p"
        " ON p.source = w.source AND p.recipe = w.recipe"
        " ORDER BY w.heat DESC, p.product LIMIT ?",
        (limit, limit),
    )
    return list(dict.fromkeys(int(number) for (number,) in rows))


def numbers_after(db: Database, after: int, limit: int) -> list[int]:
    """Return the numbers of products above one, in their order."""
    rows = db.execute(
        "SELECT product FROM product WHERE product > ? ORDER BY product LIMIT ?", (after, limit)
    )
    return [int(number) for (number,) in rows]


def popularity(
    db: Database, search: ProductSearch, numbers: Sequence[int]
) -> list[tuple[int, PopularProduct]]:
    """Return products by their numbers, in the order of these, with how much they are wanted."""
    now = db.now()
    scores: dict[int, float] = defaultdict(float)
    pinned: dict[int, set[str]] = defaultdict(set)
    for marks, some in value_lists(sorted(numbers)):
        for number, heat, pieces in db.execute(f"{_SHARES} WHERE p.product IN ({marks})", some):
            scores[int(number)] += score_of(heat, now) / max(int(pieces or 1), 1)
        rows = db.execute(
            "SELECT l.product, e.name FROM place l JOIN edge e ON e.edge = l.edge"
            f" WHERE l.expires IS NOT NULL AND l.product IN ({marks})",
            some,
        )
        for number, edge in rows:
            pinned[int(number)].add(edge)
    found = search.products(db, numbers, to_microseconds(now))
    return [
        (number, PopularProduct(found[number], scores[number], frozenset(pinned[number])))
        for number in numbers
    ]
