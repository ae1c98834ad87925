"""The door: whoever comes in shows a token, or a URL that we signed. Nothing else gets in."""

from __future__ import annotations

from starlette.datastructures import Headers, QueryParams
from starlette.types import ASGIApp, Receive, Scope, Send

from evstream.domain.access import Caller
from evstream.domain.errors import AccessError, EvstreamError, NotFoundError
from evstream.head.access import Access, refused
from evstream.ports import Clock
from evstream.web.replies import problem_reply
from evstream.wire.signed_urls import Signed, UrlSigner

SIGNED_PREFIXES = ("/v1/products/", "/v1/outputs/", "/v1/sandboxes/")
SIGNED = Caller("a signed URL", frozenset())
"""Whoever has a signed URL: they may do what it names, and are nobody."""
CREDENTIAL_CHARS_MAX = 16 << 10
_CALLER = "evstream.caller"
_SIGNED = "evstream.signed"


def caller_of(scope: Scope) -> Caller:
    """Return who a request that came through the door is from."""
    caller: Caller = scope[_CALLER]
    return caller


def signed_of(scope: Scope) -> Signed | None:
    """Return by what signature a request came through the door, if by one."""
    signed: Signed | None = scope.get(_SIGNED)
    return signed


class Doors:
    """ASGI middleware that lets in whoever shows good credentials or a signed URL.

    What they may do once they are in, `evstream.web.who_may` says.
    """

    def __init__(self, app: ASGIApp, access: Access, signer: UrlSigner, clock: Clock) -> None:
        self._app = app
        self._access = access
        self._signer = signer
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with a problem."""
        if scope["type"] == "http":
            try:
                scope[_CALLER] = await self._who(scope)
            except EvstreamError as error:
                await problem_reply(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _who(self, scope: Scope) -> Caller:
        if "\0" in scope["path"]:
            raise NotFoundError(f"there is nothing at {scope['path']}")
        scheme, _, credential = Headers(scope=scope).get("authorization", "").partition(" ")
        shown = credential if scheme.lower() == "bearer" else ""
        if self._access.is_open:
            return await self._access.who(shown)
        if scope["path"].startswith(SIGNED_PREFIXES) and b"s=" in scope["query_string"]:
            query = dict(QueryParams(scope["query_string"]))
            if "s" in query:
                try:
                    now = self._clock.now()
                    signed = self._signer.check(scope["method"], scope["path"], query, now)
                except AccessError:
                    if not shown:
                        raise
                else:
                    scope[_SIGNED] = signed
                    return SIGNED
        if not shown or len(shown) > CREDENTIAL_CHARS_MAX:
            raise refused()
        return await self._access.who(shown)
