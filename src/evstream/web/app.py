"""The ASGI application: routes, the door before them, errors as problems."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

from evstream.domain.errors import EvstreamError, NotFoundError, RequestError
from evstream.head.access import Access
from evstream.ports import Clock
from evstream.web.access_routes import access_routes
from evstream.web.catalogue_routes import catalogue_routes
from evstream.web.content_routes import content_routes
from evstream.web.control_routes import control_routes
from evstream.web.delivery_routes import delivery_routes, redirect_routes
from evstream.web.doors import Doors
from evstream.web.event_routes import event_routes
from evstream.web.fleet_routes import fleet_routes
from evstream.web.openapi import openapi_document
from evstream.web.operations import Served, routes_of
from evstream.web.plan_routes import plan_routes
from evstream.web.product_routes import edge_routes, product_routes
from evstream.web.readiness import ReadinessDoor
from evstream.web.replies import problem_reply
from evstream.web.request_routes import request_routes
from evstream.web.sandbox_routes import sandbox_routes
from evstream.web.service_routes import described, service_routes
from evstream.web.services import Services
from evstream.web.task_routes import task_routes
from evstream.web.whiteboard_routes import whiteboard_routes
from evstream.web.who_may import guarded
from evstream.web.work_routes import work_routes
from evstream.wire.signed_urls import UrlSigner


def make_app(services: Services, access: Access, signer: UrlSigner, clock: Clock) -> Starlette:
    """Return the API of a service."""
    return Starlette(
        routes=guarded(routes_of(described(all_routes(services, redirects=services.redirects)))),
        middleware=[
            Middleware(ReadinessDoor, find=lambda: services.readiness),
            Middleware(Doors, access=access, signer=signer, clock=clock),
        ],
        exception_handlers=ERROR_HANDLERS,
    )


def all_routes(services: Services, *, redirects: bool = False) -> list[Served]:
    """Return what the API can be asked, and what answers."""
    products = redirect_routes if redirects else delivery_routes
    return [
        # Looked through in order, so the busiest stand first.
        *work_routes(services),
        *products(services),
        *content_routes(services),
        *sandbox_routes(services),
        *catalogue_routes(services),
        *task_routes(services),
        *control_routes(services),
        *product_routes(services),
        *plan_routes(services),
        *edge_routes(services),
        *fleet_routes(services),
        *request_routes(services),
        *event_routes(services),
        *whiteboard_routes(services),
        *service_routes(services),
        *access_routes(services),
    ]


def api_document() -> dict[str, Any]:
    """Return the OpenAPI document of the whole API."""
    # Handlers are closures: making them asks nothing of the services behind them.
    return openapi_document(
        [one.operation for one in described(all_routes(cast("Services", None)))]
    )


async def _on_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, EvstreamError)
    return problem_reply(error)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return problem_reply(NotFoundError(f"there is nothing at {request.url.path}"))
    problem = RequestError(f"{request.method} {request.url.path}: {error.detail}")
    answer = problem_reply(problem, error.status_code)
    answer.headers.update(error.headers or {})
    return answer


async def _on_bug(request: Request, error: Exception) -> Response:
    # The server logs it with its trace; whoever asked learns nothing of our inside.
    return problem_reply(EvstreamError("the service failed", hint="its log says how; report it"))


ERROR_HANDLERS: dict[type[Exception], Callable[[Request, Exception], Awaitable[Response]]] = {
    EvstreamError: _on_error,
    HTTPException: _on_http_error,
    Exception: _on_bug,
}
