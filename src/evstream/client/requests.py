"""Requests to prepare as clients see them: a method per route."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import quote

import msgspec

from evstream.client.connection import Connection
from evstream.domain.names import LeaseId
from evstream.wire import request_messages as m
from evstream.wire.pages import NumberedPage

WAIT_S = 30.0
"""How long one question is left open; a proxy between may cut longer ones."""


class Requests:
    """What is to be prepared.

    Parameters
    ----------
    connection : Connection
        The service's, which closes it.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def submit(self, request: m.NewRequest, request_id: str = "") -> m.RequestView:
        """Have products made ahead; the same request id again gives the same request."""
        return await self._connection.call(
            "POST", "/v1/requests", m.RequestView, request, key=request_id
        )

    async def request(self, number: int) -> m.RequestView:
        """Return a request with its progress."""
        return await self._connection.call("GET", f"/v1/requests/{number}", m.RequestView)

    async def wait(self, number: int, ready: float = 1.0, wait_s: float = WAIT_S) -> m.RequestView:
        """Return a request once enough is ready, it has ended, or the time is over."""
        return await self._connection.call(
            "GET",
            f"/v1/requests/{number}?wait_s={wait_s:g}&ready={ready:g}",
            m.RequestView,
            answer_s_max=wait_s + WAIT_S,
        )

    async def page(self, limit: int = 100, after: int = 0) -> NumberedPage[m.RequestView]:
        """Return requests, the newest first; those that come behind a number's."""
        path = f"/v1/requests?limit={limit}&after={after}"
        return await self._connection.call("GET", path, NumberedPage[m.RequestView])

    async def watch(self, number: int) -> AsyncIterator[m.RequestView]:
        """Yield a request as it gets on, until it has ended.

        Raises
        ------
        TransientError
            The connection broke; what was told is true, and the next call goes on.
        """
        async with self._connection.stream(f"/v1/requests/{number}/events") as response:
            async for line in response.aiter_lines():
                if line.startswith("data: "):
                    yield msgspec.json.decode(line[6:], type=m.RequestView)

    async def cancel(self, number: int) -> m.RequestView:
        """Have no more made; what was made is kept for its time."""
        return await self._connection.call("POST", f"/v1/requests/{number}/cancel", m.RequestView)

    async def claim(self, edge: str, claim: m.EdgeClaim, lease: LeaseId) -> m.EdgeClaimAnswer:
        """Ask for products to prepare, as an edge, under a lease id of its own choosing."""
        path = f"/v1/edges/{quote(edge, '')}/claims"
        return await self._connection.call("POST", path, m.EdgeClaimAnswer, claim, key=lease)
