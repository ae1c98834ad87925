"""A whole edge in this process, with its doors, beside a head that it asks without a socket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import uvicorn

from evstream.adapters.catalogue.memory import MemoryDatabase
from evstream.adapters.clock import SystemClock
from evstream.adapters.formats import KnownFormats
from evstream.adapters.ids import RandomIds
from evstream.adapters.offload import Threads
from evstream.adapters.source.fsspec import FsspecOpener
from evstream.adapters.storage.memory import MemoryStore
from evstream.assembly import Application, Keys, Parts
from evstream.assembly.edge import EdgeApplication, EdgeParts
from evstream.assembly.listening import protocol_of
from evstream.assembly.tls import ServerTls
from evstream.domain.dataset import SourceFile
from evstream.domain.descriptor import Descriptor
from evstream.domain.lanes import Asker
from evstream.domain.names import DatasetName
from evstream.ports import Formats, SourceOpener
from evstream.settings import Settings
from evstream.wire import messages as m
from evstream.wire.signed_urls import UrlSigner, descriptor_query, packed_asker, packed_source

TOKEN = "bench"
DATASET = "bench:x"


@dataclass(frozen=True)
class Whole:
    """An edge, and the one file that its head knows."""

    edge: EdgeApplication
    file: SourceFile


@asynccontextmanager
async def whole_edge(
    folder: Path,
    source: Path,
    settings: Settings,
    opener: SourceOpener | None = None,
    formats: Formats | None = None,
) -> AsyncIterator[Whole]:
    """Put an edge together that has its keys and serves."""
    clock, offload = SystemClock(), Threads(settings.threads)
    opener, formats = opener or FsspecOpener(), formats or KnownFormats()
    database = MemoryDatabase(clock)
    parts = Parts(
        clock,
        RandomIds(),
        offload,
        database.ledger,
        database.catalogue,
        database.products,
        database.whiteboard,
        database.links,
        MemoryStore(),
        opener,
        formats,
    )
    head = Application(parts, Keys(b"u" * 32, b"r" * 32), Settings(data_dir=str(folder)), TOKEN)
    service = head.client()
    await service.add_dataset(m.NewDataset([m.NewFile(str(source))], DATASET))
    file = (await database.catalogue.dataset(DatasetName(DATASET))).files[0]
    edge_parts = EdgeParts(clock, RandomIds(), offload, opener, formats)
    edge = EdgeApplication(head.client(), edge_parts, settings, "http://127.0.0.1", TOKEN)
    try:
        await edge.cache.open()
        await edge.joining.beat()
        yield Whole(edge, file)
    finally:
        await edge.close()
        await service.close()
        await head.close()


@asynccontextmanager
async def listening(
    app: Any, port: int = 0, tls: ServerTls | None = None, edge: Any = None
) -> AsyncIterator[uvicorn.Server]:
    """Serve an application on loopback as an edge's is served; ``edge`` is the one within it."""
    protocol: Any = protocol_of(tls, edge or app)
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=port,
        http=protocol,
        loop="asyncio",
        backlog=2048,
        timeout_keep_alive=600,
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        lifespan="off",
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    await until(lambda: server.started or serving.done())
    try:
        yield server
    finally:
        server.should_exit = True
        with contextlib.suppress(asyncio.CancelledError):
            await serving


def signer_of(edge: Any, file: SourceFile) -> Callable[[Descriptor], str]:
    """Return what makes URLs as plans have them: for whom, and of what source, they say too."""
    signer, now = UrlSigner(edge.joining.keys), SystemClock().now()
    bound = {"f": packed_source(file), "w": packed_asker(Asker("physicist"))}

    def signed(one: Descriptor) -> str:
        path, until = f"/v1/products/{one.key}", now + timedelta(days=1)
        return signer.sign("GET", path, now, until, bound, descriptor_query(one))

    return signed


async def until(condition: Callable[[], object]) -> None:
    """Wait for what has no event."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.01)
