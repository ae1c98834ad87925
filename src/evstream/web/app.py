"""The ASGI application: routes, the door before them, errors as problems."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import evstream
from evstream.domain.errors import EvstreamError, NotFoundError, RequestError
from evstream.ports import Clock
from evstream.web.catalogue_routes import catalogue_routes
from evstream.web.content_routes import content_routes
from evstream.web.control_routes import control_routes
from evstream.web.doors import Doors
from evstream.web.event_routes import event_routes
from evstream.web.product_routes import edge_routes, product_routes
from evstream.web.replies import problem_reply, reply
from evstream.web.sandbox_routes import sandbox_routes
from evstream.web.services import Services
from evstream.web.task_routes import task_routes
from evstream.web.whiteboard_routes import whiteboard_routes
from evstream.web.work_routes import work_routes
from evstream.wire.messages import Health
from evstream.wire.signed_urls import UrlSigner


def make_app(services: Services, token: str, signer: UrlSigner, clock: Clock) -> Starlette:
    """Return the API of a service.

    Parameters
    ----------
    token : str
        What opens the door; empty where a socket's permissions do.
    """

    async def health(request: Request) -> Response:
        return reply(Health(evstream.__version__, services.receipt_key))

    async def metrics(request: Request) -> Response:
        return Response(services.metrics.text(), media_type=services.metrics.media_type)

    handlers: dict[type[Exception], Callable[[Request, Exception], Awaitable[Response]]] = {
        EvstreamError: _on_error,
        HTTPException: _on_http_error,
    }
    return Starlette(
        routes=[
            # Looked through in order, so the busiest stand first.
            *content_routes(services),
            *sandbox_routes(services),
            *work_routes(services),
            *catalogue_routes(services),
            *task_routes(services),
            *control_routes(services),
            *product_routes(services),
            *edge_routes(services),
            *event_routes(services),
            *whiteboard_routes(services),
            Route("/v1/health", health, methods=["GET"]),
            Route("/metrics", metrics, methods=["GET"]),
        ],
        middleware=[Middleware(Doors, token=token, signer=signer, clock=clock)],
        exception_handlers=handlers,
    )


async def _on_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, EvstreamError)
    return problem_reply(error)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return problem_reply(NotFoundError(f"there is nothing at {request.url.path}"))
    problem = RequestError(f"{request.method} {request.url.path}: {error.detail}")
    return problem_reply(problem, error.status_code)
