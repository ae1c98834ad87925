"""Routes about the service itself: how it fares, and what it can be asked."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

import evstream
from evstream.web.openapi import openapi_document
from evstream.web.operations import JSON, Operation, Served
from evstream.web.readiness import PATH
from evstream.web.replies import reply
from evstream.web.services import Services
from evstream.wire.messages import encode
from evstream.wire.readiness import Health, Ready

DESCRIBE = Operation("GET", "/v1/openapi.json", "this API as OpenAPI 3.1", gives=dict[str, Any])
HEALTH = Operation(
    "GET", "/v1/health", "the version, and the key that signs receipts", gives=Health
)
READY = Operation("GET", PATH, "whether it can do its work now", gives=Ready, open=True)
METRICS = Operation("GET", "/metrics", "how the service fares, for Prometheus", gives=str)


def service_routes(services: Services) -> list[Served]:
    """Return the routes of health and metrics."""

    async def health(request: Request) -> Response:
        return reply(Health(evstream.__version__, services.receipt_key))

    async def ready(request: Request) -> Response:
        # Only with a query, which is refused before: else `ReadinessDoor` has answered.
        return await services.readiness.answer()

    async def metrics(request: Request) -> Response:
        return Response(services.metrics.text(), media_type=services.metrics.media_type)

    return [
        HEALTH.by(health),
        READY.by(ready),
        METRICS.by(metrics),
    ]


def described(served: Sequence[Served]) -> list[Served]:
    """Return routes with the one that describes them all."""

    async def describe(request: Request) -> Response:
        return Response(text(), media_type=JSON)

    listed = [*served, DESCRIBE.by(describe)]

    @cache
    def text() -> bytes:
        return encode(openapi_document([one.operation for one in listed]))

    return listed
