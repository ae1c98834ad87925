"""An edge that sends other bytes than it has told of, and no digest by which that shows."""

from __future__ import annotations

import random

import httpx2

_TELLING = frozenset({"repr-digest", "digest", "content-length"})


class SilentLies(httpx2.AsyncBaseTransport):
    """A way to an edge on which whole products are changed, cut short or replaced.

    Parameters
    ----------
    rng : random.Random
        Chooses which: a changed byte, the first half, or the product that was sent before.
    """

    def __init__(self, inner: httpx2.AsyncBaseTransport, rng: random.Random) -> None:
        self._inner = inner
        self._rng = rng
        self._before = b""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await self._inner.handle_async_request(request)
        body = await response.aread()
        product = request.method == "GET" and request.url.path.startswith("/v1/products/")
        if not product or response.status_code != 200 or not body:
            return response
        middle = len(body) // 2
        changed = body[:middle] + bytes([body[middle] ^ 0xFF]) + body[middle + 1 :]
        stale = self._before if self._before not in (b"", body) else changed
        self._before = body
        lie = self._rng.choice((changed, body[:middle], stale))
        headers = [each for each in response.headers.items() if each[0].lower() not in _TELLING]
        return httpx2.Response(200, headers=headers, content=lie, request=request)
