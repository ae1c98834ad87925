"""The route that products come from: all of one, or ranges of its bytes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response

from evstream.domain.dataset import SourceFile
from evstream.domain.descriptor import Descriptor
from evstream.domain.lanes import Asker
from evstream.domain.names import ProductKey
from evstream.edge import Deliveries, Products
from evstream.ports import Clock
from evstream.web.doors import SIGNED, caller_of
from evstream.web.operations import Operation, Served
from evstream.web.product_routes import key_of
from evstream.web.representations import answer
from evstream.web.services import Services
from evstream.web.short_way import KnownUrls
from evstream.wire import queries as q
from evstream.wire.delivery_messages import Endpoint
from evstream.wire.replica_lists import links
from evstream.wire.signed_urls import (
    UrlSigner,
    asker_from_query,
    descriptor_from_query,
    source_from_query,
)

GET_PRODUCT = Operation(
    "GET",
    "/v1/products/{key}",
    "the bytes of a product; from a head, where an edge has them (307)",
    gives=bytes,
    query=q.ProductQuery,
    errors=(404, 422),
    signed=True,
    elsewhere=True,
)

FindDescriptor = Callable[[ProductKey], Awaitable[Descriptor]]


@dataclass(frozen=True, slots=True)
class Told:
    """Takes what signed URLs say of sources, and nothing that is not signed.

    Whoever could tell an edge what to read would read with its rights.
    """

    tell: Callable[[SourceFile], None]
    signer: UrlSigner
    clock: Clock
    allow: Callable[[], None]
    """Raises where this edge should serve nobody now."""

    def take(self, request: Request) -> None:
        """Take what a request's URL says, if it says anything."""
        self.allow()
        query = request.query_params
        if (packed := query.get("f")) is not None:
            path = request.scope["path"]
            self.signer.check(request.method, path, dict(query), self.clock.now())
            self.tell(source_from_query(packed))


def asker_of(request: Request) -> Asker:
    """Return for whom a product is: as a signed URL says, or whoever shows a token."""
    caller = caller_of(request.scope)
    if caller is not SIGNED:
        return Asker(caller.name)
    packed = request.query_params.get("w")
    return Asker() if packed is None else asker_from_query(packed)


async def described(request: Request, find: FindDescriptor) -> Descriptor:
    """Return the descriptor of the product that a request is for.

    Raises
    ------
    DescriptorUnknownError
        The URL holds none, and none is known of its key.
    RequestError
        The URL holds another one's.
    """
    key = key_of(request)
    packed = request.query_params.get("d")
    if packed is None:
        return await find(key)
    return descriptor_from_query(packed, key)


def redirect_routes(services: Services) -> list[Served]:
    """Return the route of products at a head: it names an edge, or serves parts of outputs."""

    async def redirect(request: Request) -> Response:
        descriptor = await described(request, services.products.described)
        urls = await services.slices.edge_urls(descriptor, asker_of(request))
        if not urls:
            return await _served(request, services, descriptor)
        location, *others = urls
        # The edge that is best now need not be so a moment later.
        headers = {"Location": location, "Cache-Control": "no-store"}
        answer = Response(status_code=307, headers=headers)
        for link in links([Endpoint(url) for url in others]):
            answer.headers.append("Link", link)
        return answer

    return [GET_PRODUCT.by(redirect)]


class Delivers(Protocol):
    """Whoever has products."""

    @property
    def products(self) -> Products:
        """Makes them."""
        ...

    @property
    def deliveries(self) -> Deliveries:
        """Brings their bytes."""
        ...

    @property
    def site(self) -> str:
        """Where it is; empty if nobody said."""
        ...

    @property
    def accel_location(self) -> str:
        """Where nginx has the cache's folder; empty without."""
        ...


def delivery_routes(
    services: Delivers,
    find: FindDescriptor | None = None,
    told: Told | None = None,
    known: KnownUrls | None = None,
) -> list[Served]:
    """Return the route of products.

    Parameters
    ----------
    find : callable, optional
        Finds descriptors that URLs do not hold; those that were registered here by default.
    told : Told, optional
        Takes what URLs say of sources; nothing does by default.
    known : KnownUrls, optional
        Remembers URLs that were let in.
    """

    async def get_product(request: Request) -> Response:
        if told is not None:
            told.take(request)
        descriptor = await described(request, find or services.products.described)
        return await _served(request, services, descriptor, known)

    return [GET_PRODUCT.by(get_product)]


async def _served(
    request: Request, services: Delivers, descriptor: Descriptor, known: KnownUrls | None = None
) -> Response:
    """Answer with a product's bytes."""
    ask = asker_of(request).ask(services.site)
    # Whoever asks for the head alone may never ask for the rest.
    delivery = await services.deliveries.open(descriptor, ask, begin=request.method != "HEAD")
    if known is not None:
        identity = await services.products.identity(descriptor)
        known.remember(request.scope, descriptor, identity, ask.site)
    return await answer(request, delivery, services.accel_location)
