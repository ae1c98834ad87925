"""What a client sees of the ways to edges, while it fetches from them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx2

from evstream.client.carrier import MADE
from evstream.domain.sites import Measured
from evstream.wire.delivery_messages import LINKS_MAX, SeenLink

BODY_BYTES_MIN = 64 << 10
"""A smaller body says more of round trips than of how fast bytes come."""

Trace = Callable[[str, dict[str, Any]], Awaitable[None]]


class LinkMeter:
    """Adds up round trips and transfers, by the server that they were with.

    A round trip is what it takes to connect, which servers' work has no part in; a transfer
    counts from the head of its answer, when whatever had to be made first was made.

    Parameters
    ----------
    now : callable
        Tells seconds since some moment.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._seen: dict[str, Measured] = {}

    @asynccontextmanager
    async def measured(
        self, opening: Callable[[Trace], Any], url: str
    ) -> AsyncIterator[httpx2.Response]:
        """Open a body, measured while it is read.

        Parameters
        ----------
        opening : callable
            Given what is told of the connection, returns the body's context.
        """
        server = _server(url)
        # TLS takes another round trip, before anything is known of the server.
        trips = 2.0 if url.startswith("https:") else 1.0

        async def trace(event: str, told: dict[str, Any]) -> None:
            if event == MADE:
                self._add(server, Measured(trips, told["seconds"]))

        async with opening(trace) as response:
            begun = self._now()
            try:
                yield response
            finally:
                received = response.num_bytes_downloaded
                if received >= BODY_BYTES_MIN:
                    seconds = max(self._now() - begun, 1e-6)
                    self._add(server, Measured(bytes=float(received), seconds=seconds))

    def _add(self, server: str, more: Measured) -> None:
        if server in self._seen or len(self._seen) < LINKS_MAX:
            self._seen[server] = self._seen.get(server, Measured()) + more

    def take(self, site: str) -> list[SeenLink]:
        """Return what was seen from a site since the last time, and begin again."""
        seen, self._seen = self._seen, {}
        return [
            SeenLink(
                site,
                server,
                trips=one.trips,
                trips_s=one.trips_s,
                bytes=one.bytes,
                seconds=one.seconds,
            )
            for server, one in seen.items()
        ]


def _server(url: str) -> str:
    """Return where a URL leads, without what is asked for there."""
    parts = urlsplit(url)
    # The path of an edge behind a prefix is part of its address.
    prefix = parts.path.partition("/v1/")[0]
    return f"{parts.scheme}://{parts.netloc}{prefix}"
