"""What a client sees of the ways to edges is what it tells of them."""

from __future__ import annotations

import asyncio
import http.server
import threading
from collections.abc import Iterator

import pytest

from evstream.adapters.clock import SystemClock
from evstream.adapters.ids import RandomIds
from evstream.client import Connection
from evstream.client.carrier import Carrier
from evstream.client.link_meter import BODY_BYTES_MIN


class _Bodies(http.server.BaseHTTPRequestHandler):
    """Serves bodies of as many bytes as the path's last part says."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        size = int(self.path.rpartition("/")[2])
        self.send_response(200)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        self.wfile.write(b"x" * size)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Bodies) as serving:
        serving.daemon_threads = True
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{serving.server_port}"
        finally:
            serving.shutdown()
            thread.join()


@pytest.mark.server
def test_connections_and_bodies_are_measured(server: str) -> None:
    large = 4 * BODY_BYTES_MIN

    async def main() -> None:
        transport = Carrier()
        connection = Connection(transport, SystemClock(), RandomIds())
        try:
            for size in (10, large, large):
                url = f"{server}/site/v1/products/{size}"
                async with connection.stream(url) as response:
                    assert len(await response.aread()) == size
            (seen,) = connection.meter.take("LYON")
            assert connection.meter.take("LYON") == []
        finally:
            await connection.close()
        assert (seen.site, seen.edge, seen.direction) == ("LYON", f"{server}/site", "to_site")
        # One connection served them all, and the small body says nothing of the pace.
        assert seen.trips == 1
        assert seen.trips_s > 0
        assert seen.bytes == 2 * large
        assert seen.seconds > 0

    asyncio.run(main())
