"""Routes of prepared products: edges, what they have, searches, replicas, what is wanted."""

from __future__ import annotations

import re

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from evstream.domain.errors import RequestError
from evstream.domain.names import ProductKey
from evstream.domain.payload import SHA256
from evstream.domain.products import EDGE_NAME
from evstream.web.replies import read, reply
from evstream.web.services import Services
from evstream.wire import product_messages as m

_EDGE = re.compile(EDGE_NAME)


def edge_routes(services: Services) -> list[Route]:
    """Return the routes under /v1/edges."""

    async def beat(request: Request) -> Response:
        message = await read(request, m.Beat)
        return reply(await services.prepared.beat(_edge_of(request), message))

    async def list_edges(request: Request) -> Response:
        return reply(await services.prepared.edges())

    async def remove(request: Request) -> Response:
        await services.prepared.remove_edge(_edge_of(request))
        return reply(m.Changed(1))

    async def register(request: Request) -> Response:
        message = await read(request, m.HeldProducts)
        return reply(m.Changed(await services.prepared.register(_edge_of(request), message)))

    async def drop(request: Request) -> Response:
        message = await read(request, m.DroppedProducts)
        return reply(m.Changed(await services.prepared.drop(_edge_of(request), message)))

    return [
        Route("/v1/edges", list_edges, methods=["GET"]),
        Route("/v1/edges/{edge}", beat, methods=["PUT"]),
        Route("/v1/edges/{edge}", remove, methods=["DELETE"]),
        Route("/v1/edges/{edge}/products", register, methods=["POST"]),
        Route("/v1/edges/{edge}/drops", drop, methods=["POST"]),
    ]


def product_routes(services: Services) -> list[Route]:
    """Return the routes of searches, readiness, recipes, replicas and what is wanted."""

    async def places(request: Request) -> Response:
        key = str(request.path_params["key"])
        if not re.fullmatch(SHA256, key):
            raise RequestError(f"{key[:80]!r} is no key", hint="give 64 hexadecimal digits")
        return reply(await services.prepared.places(ProductKey(key)))

    async def search(request: Request) -> Response:
        return reply(await services.prepared.search(await read(request, m.Search)))

    async def ready(request: Request) -> Response:
        return reply(await services.prepared.ready(await read(request, m.ReadyRequest)))

    async def recipes(request: Request) -> Response:
        query = request.query_params
        return reply(
            await services.prepared.recipes(query.get("dataset", ""), query.get("lfn", ""))
        )

    async def count_requests(request: Request) -> Response:
        message = await read(request, m.WantedRequest)
        await services.prepared.count_requests(message)
        return reply(m.Changed(len(message.requests)))

    async def most_wanted(request: Request) -> Response:
        limit = number_in(request, "limit", 100, 1, m.WANTED_MAX)
        dataset = request.query_params.get("dataset", "")
        return reply(await services.prepared.most_wanted(dataset, limit))

    async def add_replicas(request: Request) -> Response:
        message = await read(request, m.NewReplicas)
        await services.prepared.add_replicas(message)
        return reply(m.Changed(len(message.replicas)))

    async def remove_replicas(request: Request) -> Response:
        message = await read(request, m.NewReplicas)
        return reply(m.Changed(await services.prepared.remove_replicas(message)))

    async def replicas(request: Request) -> Response:
        query = request.query_params
        dataset, lfn = query.get("dataset", ""), query.get("lfn", "")
        return reply(await services.prepared.replicas(dataset, lfn))

    return [
        Route("/v1/products/{key}/places", places, methods=["GET"]),
        Route("/v1/product-searches", search, methods=["POST"]),
        Route("/v1/readiness", ready, methods=["POST"]),
        Route("/v1/recipes", recipes, methods=["GET"]),
        Route("/v1/wanted", count_requests, methods=["POST"]),
        Route("/v1/wanted", most_wanted, methods=["GET"]),
        Route("/v1/replicas", add_replicas, methods=["POST"]),
        Route("/v1/replicas", replicas, methods=["GET"]),
        Route("/v1/replica-removals", remove_replicas, methods=["POST"]),
    ]


def _edge_of(request: Request) -> str:
    name = str(request.path_params["edge"])
    if not _EDGE.fullmatch(name):
        raise RequestError(
            f"{name[:100]!r} cannot name an edge",
            hint="use at most 100 letters, digits, '.', '_' and '-'",
        )
    return name


def number_in(request: Request, name: str, default: int, low: int, high: int) -> int:
    """Return a whole number of a query.

    Raises
    ------
    RequestError
        It is none, or out of its bounds.
    """
    text = request.query_params.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 20 and low <= int(text) <= high):
        raise RequestError(
            f"{name} cannot be {text[:20]!r}", hint=f"give a number from {low} to {high}"
        )
    return int(text)
