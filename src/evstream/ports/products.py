"""Products that are prepared, and where; replicas of files; what is wanted how much."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol

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
)


class ProductCatalogue(Protocol):
    """What is prepared where. Changes are durable when they return; nothing is a promise.

    An edge may lose a product before it says so: what is found here is where to ask first.
    Searches answer from what was committed when they began, and wait for no change.
    """

    async def beat(
        self,
        name: str,
        url: str,
        kind: PlaceKind = "edge",
        capacity_bytes: int = 0,
        life: timedelta | None = None,
        status: EdgeStatus | None = None,
    ) -> Edge:
        """Say that an edge is there and where; it counts as alive for a time, or for good.

        What it says of itself stays where it says nothing.
        """
        ...

    async def set_edge_state(self, name: str, state: EdgeState, reason: str = "") -> Edge:
        """Decide what an edge may do.

        Searches find no product at one in maintenance or quarantine.

        Raises
        ------
        NotFoundError
        """
        ...

    async def edges(self) -> list[Edge]:
        """Return all edges and stores, by name, the silent ones too."""
        ...

    async def remove_edge(self, name: str) -> None:
        """Take an edge out: at once for searches, its products by `expire_products`.

        Raises
        ------
        NotFoundError
        """
        ...

    async def register_products(
        self, edge: str, products: Sequence[PreparedProduct], life: timedelta | None = None
    ) -> int:
        """Say what an edge has; again is no error, and begins its life again.

        Returns
        -------
        int
            How many it did not have before.

        Raises
        ------
        NotFoundError
            No such edge: it has not beaten yet.
        ConflictError
            A product of this key and encoder is known with other bytes. Nothing is registered.
            What an edge in quarantine has does not count. Its fields are the product's `key` and
            `encoder_id`, and the `edges` that have the other bytes, by name: none where
            the two are told here.
        """
        ...

    async def drop_products(self, edge: str, names: Sequence[tuple[ProductKey, str]]) -> int:
        """Say what an edge has no more, by key and encoder; return how many it had.

        Raises
        ------
        NotFoundError
            No such edge.
        """
        ...

    async def held_at(self, edge: str, after: int, limit: int) -> list[tuple[int, ProductKey, str]]:
        """Return what an edge has, in numbers above one: number, key and encoder, by number.

        Raises
        ------
        NotFoundError
            No such edge.
        """
        ...

    async def products_of(self, key: ProductKey) -> list[FoundProduct]:
        """Return what there is of a key, of each encoder, with the living places."""
        ...

    async def best_matches(self, wanted: Sequence[Descriptor]) -> list[FoundProduct | None]:
        """Return for each descriptor the smallest product that holds all that it asks for.

        It is at a living edge, and holds at least the interval and the branches; all else of
        the recipe is equal. None where there is none.

        Raises
        ------
        RequestError
            A descriptor has several intervals.
        """
        ...

    async def ready(
        self, files: Sequence[Fingerprint], wanted: Recipe
    ) -> list[dict[str, IntervalSet]]:
        """Return for each file the entries that each living edge has ready, by its name."""
        ...

    async def expire_products(self, limit: int) -> int:
        """Forget products past their life, of removed edges, and what nobody wants any more.

        Returns
        -------
        int
            How many went, ``limit`` at most; 0 once there is nothing left to forget.
        """
        ...

    async def recipes(self, fingerprint: Fingerprint) -> list[Recipe]:
        """Return by which recipes products of a file are there, by digest."""
        ...

    async def count_requests(self, requests: Sequence[tuple[Fingerprint, Recipe, int]]) -> None:
        """Add to what is wanted; each is a file, a recipe and a number of requests."""
        ...

    async def most_wanted(
        self, limit: int, files: Sequence[Fingerprint] | None = None
    ) -> list[Wanted]:
        """Return what is wanted most, of some files or of all, most first."""
        ...

    async def popular(self, limit: int) -> list[PopularProduct]:
        """Return the products of what is wanted most, ``limit`` of them at most."""
        ...

    async def popularity_after(self, after: int, limit: int) -> list[tuple[int, PopularProduct]]:
        """Return products of numbers above one, in their order, with these numbers."""
        ...

    async def add_replicas(self, replicas: Sequence[Replica]) -> None:
        """Say where copies of files are; a known PFN takes the new site and state."""
        ...

    async def remove_replicas(self, replicas: Sequence[tuple[Fingerprint, Pfn]]) -> int:
        """Forget copies; return how many were known."""
        ...

    async def replicas(self, files: Sequence[Fingerprint]) -> list[Replica]:
        """Return the copies of some files that were added, in the files' order, then by PFN."""
        ...

    async def now(self) -> datetime:
        """Return the database's time, aware, in UTC."""
        ...
