"""Routes of prepared products: edges, what they have, searches, replicas, what is wanted."""

from __future__ import annotations

import re

from starlette.requests import Request
from starlette.responses import Response

from evstream.domain.errors import RequestError
from evstream.domain.names import ProductKey
from evstream.domain.payload import SHA256
from evstream.domain.products import EDGE_NAME, Edge
from evstream.web.operations import Operation, Served
from evstream.web.replies import query_of, read, reply
from evstream.web.services import Services
from evstream.wire import product_messages as m
from evstream.wire import queries as q
from evstream.wire.pages import (
    NamedPage,
    NamesQuery,
    NumberedPage,
    NumbersQuery,
    names_page,
    places_page,
)

_EDGE = re.compile(EDGE_NAME)


LIST_EDGES = Operation(
    "GET", "/v1/edges", "edges and stores", gives=NamedPage[Edge], query=NamesQuery
)
BEAT = Operation("PUT", "/v1/edges/{edge}", "say that an edge is there", takes=m.Beat, gives=Edge)
REMOVE = Operation("DELETE", "/v1/edges/{edge}", "take an edge out", gives=m.Changed, errors=(404,))
REGISTER = Operation(
    "POST",
    "/v1/edges/{edge}/products",
    "say what an edge has",
    takes=m.HeldProducts,
    gives=m.Changed,
    errors=(404, 409),
)
HELD = Operation(
    "GET",
    "/v1/edges/{edge}/products",
    "what an edge is believed to have",
    gives=NumberedPage[m.ProductName],
    query=NumbersQuery,
    errors=(404,),
)
DROP = Operation(
    "POST",
    "/v1/edges/{edge}/drops",
    "say what it has no more",
    takes=m.DroppedProducts,
    gives=m.Changed,
    errors=(404,),
)


def edge_routes(services: Services) -> list[Served]:
    """Return the routes under /v1/edges."""

    async def beat(request: Request) -> Response:
        message = await read(request, m.Beat)
        return reply(await services.prepared.beat(edge_of(request), message))

    async def list_edges(request: Request) -> Response:
        query = query_of(request, NamesQuery)
        edges = await services.prepared.edges()
        return reply(names_page(edges, lambda edge: edge.name, query))

    async def remove(request: Request) -> Response:
        await services.prepared.remove_edge(edge_of(request))
        return reply(m.Changed(1))

    async def register(request: Request) -> Response:
        message = await read(request, m.HeldProducts)
        return reply(m.Changed(await services.prepared.register(edge_of(request), message)))

    async def held(request: Request) -> Response:
        query = query_of(request, NumbersQuery)
        return reply(await services.prepared.held(edge_of(request), query.after, query.limit))

    async def drop(request: Request) -> Response:
        message = await read(request, m.DroppedProducts)
        return reply(m.Changed(await services.prepared.drop(edge_of(request), message)))

    return [
        LIST_EDGES.by(list_edges),
        BEAT.by(beat),
        REMOVE.by(remove),
        REGISTER.by(register),
        HELD.by(held),
        DROP.by(drop),
    ]


PLACES = Operation(
    "GET",
    "/v1/products/{key}/places",
    "what is prepared of a key, and where",
    gives=NumberedPage[m.FoundView],
    query=NumbersQuery,
    errors=(404,),
)
SEARCH = Operation(
    "POST",
    "/v1/product-searches",
    "the smallest prepared products that hold what is asked for",
    takes=m.Search,
    gives=m.SearchAnswer,
    errors=(404,),
)
READY = Operation(
    "POST",
    "/v1/readiness",
    "what of a dataset is ready where",
    takes=m.ReadyRequest,
    gives=m.ReadyAnswer,
    errors=(404,),
)
RECIPES = Operation(
    "GET",
    "/v1/recipes",
    "by which recipes products of a file are prepared",
    gives=NumberedPage[m.RecipeView],
    query=q.FileQuery,
    errors=(404,),
)
COUNT_REQUESTS = Operation(
    "POST", "/v1/wanted", "count requests", takes=m.WantedRequest, gives=m.Changed
)
MOST_WANTED = Operation(
    "GET",
    "/v1/wanted",
    "what is wanted most",
    gives=NumberedPage[m.WantedView],
    query=q.WantedQuery,
    errors=(404,),
)
ADD_REPLICAS = Operation(
    "POST",
    "/v1/replicas",
    "say where copies of files are",
    takes=m.NewReplicas,
    gives=m.Changed,
    errors=(404,),
)
REPLICAS = Operation(
    "GET",
    "/v1/replicas",
    "copies of files",
    gives=NumberedPage[m.ReplicaView],
    query=q.FileQuery,
    errors=(404,),
)
REMOVE_REPLICAS = Operation(
    "POST",
    "/v1/replica-removals",
    "forget copies",
    takes=m.NewReplicas,
    gives=m.Changed,
    errors=(404,),
)


def product_routes(services: Services) -> list[Served]:
    """Return the routes of searches, readiness, recipes, replicas and what is wanted."""

    async def places(request: Request) -> Response:
        query = query_of(request, NumbersQuery)
        return reply(places_page(await services.prepared.places(key_of(request)), query))

    async def search(request: Request) -> Response:
        return reply(await services.prepared.search(await read(request, m.Search)))

    async def ready(request: Request) -> Response:
        return reply(await services.prepared.ready(await read(request, m.ReadyRequest)))

    async def recipes(request: Request) -> Response:
        query = query_of(request, q.FileQuery)
        found = await services.prepared.recipes(query.dataset, query.lfn)
        return reply(places_page(found, query))

    async def count_requests(request: Request) -> Response:
        message = await read(request, m.WantedRequest)
        await services.prepared.count_requests(message)
        return reply(m.Changed(len(message.requests)))

    async def most_wanted(request: Request) -> Response:
        query = query_of(request, q.WantedQuery)
        return reply(NumberedPage(await services.prepared.most_wanted(query.dataset, query.limit)))

    async def add_replicas(request: Request) -> Response:
        message = await read(request, m.NewReplicas)
        await services.prepared.add_replicas(message)
        return reply(m.Changed(len(message.replicas)))

    async def remove_replicas(request: Request) -> Response:
        message = await read(request, m.NewReplicas)
        return reply(m.Changed(await services.prepared.remove_replicas(message)))

    async def replicas(request: Request) -> Response:
        query = query_of(request, q.FileQuery)
        found = await services.prepared.replicas(query.dataset, query.lfn)
        return reply(places_page(found, query))

    return [
        PLACES.by(places),
        SEARCH.by(search),
        READY.by(ready),
        RECIPES.by(recipes),
        COUNT_REQUESTS.by(count_requests),
        MOST_WANTED.by(most_wanted),
        ADD_REPLICAS.by(add_replicas),
        REPLICAS.by(replicas),
        REMOVE_REPLICAS.by(remove_replicas),
    ]


def edge_of(request: Request) -> str:
    """Return the edge that a path names; refuse what cannot name one."""
    name = str(request.path_params["edge"])
    if not _EDGE.fullmatch(name):
        raise RequestError(
            f"{name[:100]!r} cannot name an edge",
            hint="use at most 100 letters, digits, '.', '_' and '-'",
        )
    return name


def key_of(request: Request) -> ProductKey:
    """Return the key that a path names; refuse what is none."""
    key = str(request.path_params["key"])
    if not re.fullmatch(SHA256, key):
        raise RequestError(f"{key[:80]!r} is no key", hint="give 64 hexadecimal digits")
    return ProductKey(key)
