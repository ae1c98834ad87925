"""The door: a bearer token, or a URL that we signed. Nothing else gets in."""

from __future__ import annotations

import hmac

from starlette.datastructures import Headers, QueryParams
from starlette.types import ASGIApp, Receive, Scope, Send

from evstream.domain.errors import AccessError, NotFoundError
from evstream.ports import Clock
from evstream.web.replies import problem_reply
from evstream.wire.signed_urls import UrlSigner

SIGNED_PREFIXES = ("/v1/products/", "/v1/outputs/", "/v1/sandboxes/")


class Doors:
    """ASGI middleware that lets in whoever shows the token or a signed URL.

    Parameters
    ----------
    token : str
        The bearer token; empty where the socket's permissions are the door.
    """

    def __init__(self, app: ASGIApp, token: str, signer: UrlSigner, clock: Clock) -> None:
        self._app = app
        self._token = token
        self._signer = signer
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with a problem."""
        if scope["type"] == "http" and "\0" in scope["path"]:
            nowhere = NotFoundError(f"there is nothing at {scope['path']}")
            await problem_reply(nowhere)(scope, receive, send)
            return
        if scope["type"] == "http" and self._token:
            try:
                self._check(scope)
            except AccessError as error:
                await problem_reply(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        given = Headers(scope=scope).get("authorization", "")
        if hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode()):
            return
        query = dict(QueryParams(scope["query_string"]))
        if scope["path"].startswith(SIGNED_PREFIXES) and "s" in query:
            self._signer.check(scope["method"], scope["path"], query, self._clock.now())
            return
        raise AccessError(
            "credentials are missing or wrong",
            hint="give the token that the service's owner finds in its data directory (--token)",
        )
