"""An edge's delivery of one file's cuts, in a process of its own; without its doors.

``python -m bench.edge_parts.server SOURCE CACHE PORT ACCEL [CERTIFICATE KEY]``
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from evstream.adapters.clock import SystemClock
from evstream.adapters.formats import KnownFormats
from evstream.adapters.offload import Threads
from evstream.adapters.product_store.disk import DiskProductStore
from evstream.adapters.source.fsspec import FsspecOpener
from evstream.assembly.listening import protocol_of
from evstream.assembly.tls import ServerTls
from evstream.domain.caching.queues import Lru
from evstream.domain.dataset import Fingerprint, SourceFile
from evstream.domain.descriptor import slice_of
from evstream.domain.names import Guid, Lfn, Pfn
from evstream.edge import Deliveries, ProductCache, Products
from evstream.edge.sources import Sources
from evstream.ports import ByteSource
from evstream.web.representations import answer

QUOTA_BYTES = 1 << 40


class CountedSource:
    """A source that counts the bytes that are read of it."""

    def __init__(self, inner: ByteSource, counts: list[int]) -> None:
        self._inner = inner
        self._counts = counts

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return self._inner.size

    def read_ranges(self, ranges: Sequence[tuple[int, int]]) -> Sequence[bytes | memoryview]:
        """Read, and count."""
        self._counts.append(sum(size for _, size in ranges))
        return self._inner.read_ranges(ranges)


class CountingOpener(FsspecOpener):
    """Opens sources that count."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: list[int] = []

    @contextmanager
    def open(self, pfn: str) -> Iterator[ByteSource]:
        """Open a file for reading."""
        with super().open(pfn) as inner:
            yield CountedSource(inner, self.counts)


async def serve(source: Path, cache_dir: Path, port: int, accel: str, tls: list[str]) -> None:
    """Serve ``/START-STOP``: a cut of those entries."""
    offload, formats, clock = Threads(8), KnownFormats(), SystemClock()
    opener = CountingOpener()
    with opener.open(str(source)) as opened:
        _, index = formats.inspect(opened)
    (tree,) = index.trees
    fingerprint = Fingerprint(index.size, index.uuid, index.fingerprint)
    entries = {tree: index.trees[tree].entries}
    file = SourceFile(Lfn("a"), Guid(index.uuid), (Pfn(str(source)),), fingerprint, entries)

    async def find_file(_: Fingerprint) -> SourceFile:
        return file

    store = DiskProductStore(cache_dir, offload)
    cache = ProductCache(store, Lru(QUOTA_BYTES), clock, QUOTA_BYTES)
    await cache.open()
    products = Products(find_file, Sources(opener, formats), offload)
    deliveries = Deliveries(products, offload, clock, cache)

    async def get(request: Request) -> Response:
        start, stop = map(int, request.path_params["span"].split("-"))
        descriptor = slice_of(fingerprint, tree, (start, stop), None)
        delivery = await deliveries.open(descriptor, begin=request.method != "HEAD")
        return await answer(request, delivery, accel)

    async def counts(request: Request) -> Response:
        state = cache.state
        return Response(f"{sum(opener.counts)} {state.products}")

    routes = [Route("/counts", counts), Route("/{span}", get, methods=["GET"])]
    protocol: Any = protocol_of(ServerTls(Path(tls[0]), Path(tls[1])) if tls else None)
    config = uvicorn.Config(
        Starlette(routes=routes),
        host="127.0.0.1",
        port=port,
        http=protocol,
        loop="asyncio",
        backlog=2048,
        timeout_keep_alive=600,
        access_log=False,
        log_config=None,
        lifespan="off",
    )
    await uvicorn.Server(config).serve()


if __name__ == "__main__":
    asyncio.run(
        serve(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5:])
    )
