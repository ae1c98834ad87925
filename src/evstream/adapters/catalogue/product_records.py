"""Products, where they are and what they are made of: how the records change."""

# ruff: noqa: S608 - lists of question marks are put into statements, and nothing else

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from evstream.adapters.catalogue.database import MICROSECOND, Database, to_microseconds
from evstream.adapters.catalogue.value_lists import value_lists
from evstream.domain.dataset import Fingerprint
from evstream.domain.errors import ConflictError, NotFoundError
from evstream.domain.names import ProductKey
from evstream.domain.products import PreparedProduct, Recipe, coldest_kept, reach_of

_Name = tuple[bytes, str]


def edge_number(db: Database, name: str) -> int:
    """Return the number of an edge.

    Raises
    ------
    NotFoundError
    """
    row = db.execute("SELECT edge FROM edge WHERE name = ? AND removed = 0", (name,)).fetchone()
    if row is None:
        raise NotFoundError(
            f"there is no edge {name}", hint="it has to beat before it registers products"
        )
    return int(row[0])


def known_sources(db: Database, files: Iterable[Fingerprint]) -> dict[Fingerprint, int]:
    """Return the numbers of contents that have one."""
    wanted = set(files)
    found = {}
    for marks, digests in value_lists(sorted({file.digest for file in wanted})):
        rows = db.execute(
            f"SELECT source, digest, size, uuid FROM source WHERE digest IN ({marks})", digests
        )
        for source, digest, size, uuid in rows:
            found[Fingerprint(size, uuid, digest)] = int(source)
    return {file: found[file] for file in wanted if file in found}


def number_sources(db: Database, files: Sequence[Fingerprint]) -> dict[Fingerprint, int]:
    """Return the numbers of contents; those that have none get one."""
    numbers = known_sources(db, files)
    fresh = [file for file in dict.fromkeys(files) if file not in numbers]
    first = next_number(db, "source")
    numbers |= {file: first + index for index, file in enumerate(fresh)}
    rows = [(numbers[file], file.digest, file.size, file.uuid) for file in fresh]
    db.insert("source", "source, digest, size, uuid", rows)
    return numbers


def number_recipes(db: Database, recipes: Iterable[Recipe]) -> dict[bytes, int]:
    """Return the numbers of recipes by digest; those that have none get one."""
    by_digest = {recipe.digest: recipe for recipe in recipes}
    numbers: dict[bytes, int] = {}
    for marks, digests in value_lists(list(by_digest)):
        rows = db.execute(f"SELECT digest, recipe FROM recipe WHERE digest IN ({marks})", digests)
        numbers |= {bytes(digest): int(number) for digest, number in rows}
    fresh = [recipe for digest, recipe in by_digest.items() if digest not in numbers]
    first = next_number(db, "recipe")
    numbers |= {recipe.digest: first + index for index, recipe in enumerate(fresh)}
    db.insert(
        "recipe",
        "recipe, digest, name, version, parameters, format",
        [
            (numbers[r.digest], r.digest, r.name, r.version, r.parameters_json, r.format)
            for r in fresh
        ],
    )
    return numbers


def next_number(db: Database, table: str) -> int:
    """Return the number after a table's last; nobody else writes meanwhile."""
    (last,) = db.execute(f"SELECT coalesce(max({table}), 0) FROM {table}").fetchone()
    return int(last) + 1


def register(
    db: Database, edge_name: str, products: Sequence[PreparedProduct], life: timedelta | None
) -> int:
    """Enter what an edge has; return how much of it is new there."""
    edge = edge_number(db, edge_name)
    by_name: dict[_Name, PreparedProduct] = {}
    for product in products:
        name = (bytes.fromhex(product.descriptor.key), product.encoder_id)
        _refuse_other_bytes(by_name.setdefault(name, product), product)
    numbers = _known(db, by_name)
    fresh = [name for name in by_name if name not in numbers]
    first = next_number(db, "product")
    numbers |= {name: first + index for index, name in enumerate(fresh)}
    _insert_products(db, {numbers[name]: by_name[name] for name in fresh})
    held: set[int] = set()
    expires = None if life is None else to_microseconds(db.now()) + life // MICROSECOND
    for marks, some in value_lists(list(numbers.values())):
        rows = db.execute(
            f"UPDATE place SET expires = ? WHERE edge = ? AND product IN ({marks})"
            " RETURNING product",
            (expires, edge, *some),
        )
        held |= {int(product) for (product,) in rows.fetchall()}
    added = {number: by_name[name] for name, number in numbers.items() if number not in held}
    db.insert("place", "product, edge, expires", [(number, edge, expires) for number in added])
    db.execute(
        "UPDATE edge SET products = products + ?, bytes = bytes + ? WHERE edge = ?",
        (len(added), sum(product.size for product in added.values()), edge),
    )
    return len(added)


def _known(db: Database, by_name: dict[_Name, PreparedProduct]) -> dict[_Name, int]:
    """Return the numbers of the products that have one; refuse other bytes of one name.

    Bytes that are nowhere any more give way, though nothing has swept them up yet; so do those
    that an edge in quarantine has, or it would take the others there after it.
    """
    numbers = {}
    others: dict[int, PreparedProduct] = {}
    for marks, keys in value_lists(sorted({key for key, _ in by_name})):
        rows = db.execute(
            f"SELECT key, encoder, product, size, sha256 FROM product WHERE key IN ({marks})", keys
        )
        for key, encoder, number, size, sha256 in rows:
            name = (bytes(key), encoder)
            if name in by_name:
                told = by_name[name]
                if (told.size, told.sha256) == (size, bytes(sha256).hex()):
                    numbers[name] = int(number)
                else:
                    others[int(number)] = told
    places: list[tuple[int, int]] = []
    now = to_microseconds(db.now())
    for marks, some in value_lists(list(others)):
        rows = db.execute(
            "SELECT l.product, l.edge, e.name, e.removed = 1 OR e.state = 'quarantined'"
            " OR coalesce(l.expires <= ?, 1 = 0)"
            f" FROM place l JOIN edge e ON e.edge = l.edge WHERE l.product IN ({marks})"
            " ORDER BY l.product, e.name",
            (now, *some),
        )
        holders: dict[int, list[str]] = {}
        for number, edge, name, gone in rows.fetchall():
            places.append((int(number), int(edge)))
            if not gone:
                holders.setdefault(int(number), []).append(name)
        for product, edges in holders.items():
            raise _other_bytes(others[product], edges)
    _remove_places(db, places)
    return numbers


def _refuse_other_bytes(known: PreparedProduct, told: PreparedProduct) -> None:
    if (known.size, known.sha256) != (told.size, told.sha256):
        raise _other_bytes(told)


def _other_bytes(told: PreparedProduct, edges: Sequence[str] = ()) -> ConflictError:
    key = told.descriptor.key
    return ConflictError(
        f"product {key[:12]} of encoder {told.encoder_id} is known with other bytes",
        hint="compare the copies, and drop the damaged one where it is",
        key=key,
        encoder_id=told.encoder_id,
        edges=list(edges),
    )


def _insert_products(db: Database, products: dict[int, PreparedProduct]) -> None:
    """Put new products in, with their pieces."""
    recipe_of = {number: Recipe.of(product.descriptor) for number, product in products.items()}
    recipes = number_recipes(db, recipe_of.values())
    files = [file for product in products.values() for file, _ in product.pieces]
    sources = number_sources(db, files)
    rows: list[tuple[Any, ...]] = []
    pieces: list[tuple[Any, ...]] = []
    spans: Counter[tuple[int, int, int]] = Counter()
    for number, product in products.items():
        recipe = recipes[recipe_of[number].digest]
        key = bytes.fromhex(product.descriptor.key)
        digest = bytes.fromhex(product.sha256)
        listed = _sources_json(product)
        rows.append((number, key, product.encoder_id, recipe, product.size, digest, listed))
        for file, interval in product.pieces:
            span = (sources[file], recipe, reach_of(interval))
            spans[span] += 1
            pieces.append((*span, *interval, number, product.size))
    db.insert("product", "product, key, encoder, recipe, size, sha256, sources", rows)
    columns = "source, recipe, reach, entry_start, entry_stop, product, size"
    db.insert("piece", columns, pieces)
    db.executemany(
        "INSERT INTO piece_span (source, recipe, reach, pieces) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (source, recipe, reach)"
        " DO UPDATE SET pieces = piece_span.pieces + excluded.pieces",
        [(*span, count) for span, count in spans.items()],
    )


def _sources_json(product: PreparedProduct) -> str | None:
    sources = product.descriptor.sources
    if len(sources) == 1 and len(sources[0].entries) == 1:
        return None
    return json.dumps(product.descriptor.to_wire()["sources"], separators=(",", ":"))


def drop(db: Database, edge_name: str, names: Sequence[tuple[ProductKey, str]]) -> int:
    """Take products from an edge; return how many it had."""
    edge = edge_number(db, edge_name)
    wanted = {(bytes.fromhex(key), encoder) for key, encoder in names}
    numbers = []
    for marks, keys in value_lists(sorted({key for key, _ in wanted})):
        rows = db.execute(
            "SELECT key, encoder, product FROM product JOIN place USING (product)"
            f" WHERE key IN ({marks}) AND edge = ?",
            (*keys, edge),
        )
        numbers += [int(n) for key, encoder, n in rows if (bytes(key), encoder) in wanted]
    _remove_places(db, [(number, edge) for number in numbers])
    return len(numbers)


def expire(db: Database, limit: int) -> int:
    """Take away what is past its life, was at removed edges, or is wanted no more."""
    now = db.now()
    gone = db.execute(
        "SELECT product, edge FROM place WHERE expires IS NOT NULL AND expires <= ?"
        " ORDER BY expires LIMIT ?",
        (to_microseconds(now), limit),
    ).fetchall()
    for (edge,) in db.execute("SELECT edge FROM edge WHERE removed = 1").fetchall():
        left = limit - len(gone)
        rows = db.execute(
            "SELECT product, edge FROM place WHERE edge = ? ORDER BY product LIMIT ?", (edge, left)
        ).fetchall()
        gone += rows
        if len(rows) < left:
            db.execute("DELETE FROM edge WHERE edge = ?", (edge,))
    places = list(dict.fromkeys((int(product), int(edge)) for product, edge in gone))
    _remove_places(db, places)
    cold = db.execute(
        "SELECT source, recipe FROM wanted WHERE heat < ? ORDER BY heat LIMIT ?",
        (coldest_kept(now), limit - len(places)),
    ).fetchall()
    db.delete("wanted", "source, recipe", cold)
    return len(places) + len(cold)


def _remove_places(db: Database, places: Sequence[tuple[int, int]]) -> None:
    """Take products from edges; those that are nowhere any more leave altogether."""
    numbers = sorted({product for product, _ in places})
    sizes: dict[int, int] = {}
    for marks, some in value_lists(numbers):
        rows = db.execute(f"SELECT product, size FROM product WHERE product IN ({marks})", some)
        sizes |= {int(product): int(size) for product, size in rows}
    db.delete("place", "product, edge", places)
    counts = Counter(edge for _, edge in places)
    held = Counter[int]()
    for product, edge in places:
        held[edge] += sizes[product]
    db.executemany(
        "UPDATE edge SET products = products - ?, bytes = bytes - ? WHERE edge = ?",
        [(count, held[edge], edge) for edge, count in counts.items()],
    )
    for marks, some in value_lists(numbers):
        rows = db.execute(
            f"SELECT product FROM product WHERE product IN ({marks}) AND NOT EXISTS"
            " (SELECT 1 FROM place WHERE place.product = product.product)",
            some,
        )
        _remove_products(db, [int(product) for (product,) in rows.fetchall()])


def _remove_products(db: Database, numbers: Sequence[int]) -> None:
    spans: Counter[tuple[int, int, int]] = Counter()
    for marks, some in value_lists(numbers):
        rows = db.execute(
            f"DELETE FROM piece WHERE product IN ({marks}) RETURNING source, recipe, reach", some
        )
        spans.update((int(s), int(r), int(reach)) for s, r, reach in rows.fetchall())
        db.execute(f"DELETE FROM product WHERE product IN ({marks})", some)
    db.executemany(
        "UPDATE piece_span SET pieces = pieces - ? WHERE source = ? AND recipe = ? AND reach = ?",
        [(count, *span) for span, count in spans.items()],
    )
    db.executemany(
        "DELETE FROM piece_span WHERE source = ? AND recipe = ? AND reach = ? AND pieces = 0", spans
    )
