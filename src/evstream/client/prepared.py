"""Prepared products as clients see them: a method per route."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode

from evstream.client.connection import Connection
from evstream.domain.products import Edge
from evstream.wire import product_messages as m
from evstream.wire.pages import NumberedPage


class Prepared:
    """What is prepared where.

    Parameters
    ----------
    connection : Connection
        The service's, which closes it.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def beat(self, edge: str, beat: m.Beat) -> Edge:
        """Say that an edge is there."""
        return await self._connection.call("PUT", f"/v1/edges/{quote(edge, '')}", Edge, beat)

    async def edges(self) -> list[Edge]:
        """Return all edges and stores."""
        return await self._connection.pages("/v1/edges", Edge)

    async def remove_edge(self, edge: str) -> None:
        """Take an edge out; what it had is forgotten."""
        await self._connection.call("DELETE", f"/v1/edges/{quote(edge, '')}", m.Changed)

    async def register(self, edge: str, held: m.HeldProducts) -> int:
        """Say what an edge has; return how much of it is new there."""
        path = f"/v1/edges/{quote(edge, '')}/products"
        return (await self._connection.call("POST", path, m.Changed, held)).changed

    async def count_requests(self, asked: m.WantedRequest) -> None:
        """Count requests for products, by file and recipe."""
        await self._connection.call("POST", "/v1/wanted", m.Changed, asked)

    async def held(self, edge: str, after: int | None = None) -> NumberedPage[m.ProductName]:
        """Return what the head believes that an edge has, a page of it."""
        path = f"/v1/edges/{quote(edge, '')}/products?{urlencode({'after': after or 0})}"
        return await self._connection.call("GET", path, NumberedPage[m.ProductName])

    async def drop(self, edge: str, dropped: m.DroppedProducts) -> int:
        """Say what an edge has no more; return how many it had."""
        path = f"/v1/edges/{quote(edge, '')}/drops"
        return (await self._connection.call("POST", path, m.Changed, dropped)).changed

    async def places(self, key: str) -> list[m.FoundView]:
        """Return what there is of a key, of each encoder, and where."""
        return await self._connection.pages(f"/v1/products/{key}/places", m.FoundView)

    async def search(self, search: m.Search) -> list[m.FoundView | None]:
        """Return the smallest product for each slice or descriptor that holds all of it."""
        path = "/v1/product-searches"
        return (await self._connection.call("POST", path, m.SearchAnswer, search)).found

    async def ready(self, asked: m.ReadyRequest) -> m.ReadyAnswer:
        """Return what is ready where of some files of a dataset."""
        return await self._connection.call("POST", "/v1/readiness", m.ReadyAnswer, asked)

    async def recipes(self, dataset: str, lfn: str) -> list[m.RecipeView]:
        """Return by which recipes products of a file are there."""
        return await self._connection.pages("/v1/recipes", m.RecipeView, dataset=dataset, lfn=lfn)

    async def count_request(self, descriptor: dict[str, Any], requests: int = 1) -> None:
        """Count requests for a product; a repeat counts again, since these are estimates."""
        asked = m.WantedRequest([m.Requested(descriptor, requests)])
        await self._connection.call("POST", "/v1/wanted", m.Changed, asked)

    async def most_wanted(self, dataset: str = "", limit: int = 100) -> list[m.WantedView]:
        """Return what is wanted most, of a dataset or of all."""
        query = urlencode({"dataset": dataset, "limit": limit})
        answer = NumberedPage[m.WantedView]
        return (await self._connection.call("GET", f"/v1/wanted?{query}", answer)).items

    async def add_replicas(self, new: m.NewReplicas) -> None:
        """Say where copies of a dataset's files are."""
        await self._connection.call("POST", "/v1/replicas", m.Changed, new)

    async def remove_replicas(self, gone: m.NewReplicas) -> int:
        """Forget copies; return how many were known."""
        path = "/v1/replica-removals"
        return (await self._connection.call("POST", path, m.Changed, gone)).changed

    async def replicas(self, dataset: str, lfn: str = "") -> list[m.ReplicaView]:
        """Return the copies of a dataset's files, or of one of them."""
        return await self._connection.pages("/v1/replicas", m.ReplicaView, dataset=dataset, lfn=lfn)
