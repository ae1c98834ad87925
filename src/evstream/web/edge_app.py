"""The ASGI application of an edge: products, and how it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

import evstream
from evstream.edge import Deliveries, Products
from evstream.edge.information import Information
from evstream.head.access import Access
from evstream.ports import Clock, Metrics
from evstream.web.app import ERROR_HANDLERS
from evstream.web.delivery_routes import Told, delivery_routes
from evstream.web.doors import Doors
from evstream.web.early_refusals import EarlyRefusals
from evstream.web.operations import routes_of
from evstream.web.readiness import Readiness, ReadinessDoor
from evstream.web.replies import reply
from evstream.web.service_routes import HEALTH, METRICS, described
from evstream.web.short_way import KnownUrls
from evstream.web.who_may import guarded
from evstream.wire.readiness import Health
from evstream.wire.signed_urls import UrlSigner


@dataclass(frozen=True, slots=True)
class EdgeServices:
    """What an edge's routes call."""

    products: Products
    deliveries: Deliveries
    information: Information
    metrics: Metrics
    readiness: Readiness
    accel_location: str = ""
    site: str = ""


def make_edge_app(
    services: EdgeServices,
    access: Access,
    signer: UrlSigner,
    clock: Clock,
    allow: Callable[[], None],
) -> Starlette:
    """Return the API of an edge.

    Parameters
    ----------
    access : Access
        Who may have all of it; products are for whoever has a URL that the head signed.
    allow : callable
        Raises where the head has decided that this edge serves nobody.
    """

    async def health(request: Request) -> Response:
        return reply(Health(evstream.__version__, ""))

    async def metrics(request: Request) -> Response:
        return Response(services.metrics.text(), media_type=services.metrics.media_type)

    known = KnownUrls(services.deliveries, signer, clock, allow, services.accel_location)
    told = Told(services.information.tell, signer, clock, allow)
    served = [
        *delivery_routes(services, services.information.descriptor, told, known),
        HEALTH.by(health),
        METRICS.by(metrics),
    ]
    app = Starlette(
        routes=guarded(routes_of(described(served))),
        middleware=[
            Middleware(ReadinessDoor, find=lambda: services.readiness),
            Middleware(Doors, access=access, signer=signer, clock=clock),
        ],
        exception_handlers=ERROR_HANDLERS,
    )
    early = EarlyRefusals(services.deliveries, services.site)
    # For the server, which asks there first.
    app.state.at_once = lambda scope: known.answer(scope) or early.answer(scope)
    return app
