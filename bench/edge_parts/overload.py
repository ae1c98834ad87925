"""Ten times more on-demand work than an edge can make: how fast refusals are, what the rest keeps.

A whole edge (its API on a socket, its cache on a disk, a head in its process) makes cuts in its
prepared lane, alone at first. Then another process asks for products that nobody has, at ten
times the pace of the on-demand lane's reserve, and times the refusals.

    python -m bench.edge_parts.overload [--seconds 10] [--switch-s 0.0005]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
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
from evstream.domain.dataset import Fingerprint
from evstream.domain.descriptor import Descriptor, slice_of
from evstream.domain.lanes import Ask, Lane
from evstream.settings import Settings
from evstream.web.file_sending import FileSendingProtocol
from evstream.wire import messages as m
from evstream.wire.signed_urls import descriptor_query

ENTRIES = 400_000
EVENTS = 20_000
TOKEN = "bench"
TIMES = 10


@dataclass(frozen=True)
class Figures:
    """What was measured.

    Attributes
    ----------
    alone, beside : float
        Products per second of the prepared lane, without overload and with it.
    kept : float
        ``beside`` as a part of what is not reserved of ``alone``.
    refused_ms : tuple of float
        Median, 95th and 99th percentile of the time of a refusal.
    """

    makers: int
    reserved: int
    alone: float
    beside: float
    kept: float
    on_demand: float
    asked: float
    refusals: int
    refused_ms: tuple[float, float, float]
    switch_s: float


def make_source(path: Path) -> None:
    """Write a file of numbers that compress badly, in baskets of about 30 kB."""
    import uproot

    rng = np.random.default_rng(1)
    with uproot.recreate(path) as file:
        tree = file.mktree("Events", {f"x{number}": "float32" for number in range(8)})
        for _ in range(ENTRIES // 10_000):
            tree.extend({f"x{n}": rng.normal(size=10_000).astype("f4") for n in range(8)})


def cuts(fingerprint: Fingerprint, first: int, step: int) -> Iterator[Descriptor]:
    """Yield cuts that end within baskets, none twice."""
    start = first
    while True:
        start = (start + step) % (ENTRIES - EVENTS)
        yield slice_of(fingerprint, "Events", (start, start + EVENTS), None)


@asynccontextmanager
async def edge_on(folder: Path, settings: Settings) -> AsyncIterator[tuple[Any, Fingerprint, int]]:
    """Serve an edge on loopback; give it, the source and the port."""
    source = folder / "source.root"
    make_source(source)
    clock, ids, offload = SystemClock(), RandomIds(), Threads(16)
    database = MemoryDatabase(clock)
    opener, formats = FsspecOpener(), KnownFormats()
    parts = Parts(
        clock,
        ids,
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
    dataset = await service.add_dataset(m.NewDataset([m.NewFile(str(source))], "bench:x"))
    edge_parts = EdgeParts(clock, RandomIds(), offload, opener, formats)
    edge = EdgeApplication(head.client(), edge_parts, settings, "http://127.0.0.1", TOKEN)
    await edge.cache.open()
    await edge.joining.beat()
    protocol: Any = FileSendingProtocol
    config = uvicorn.Config(
        edge.app,
        port=0,
        http=protocol,
        loop="asyncio",
        log_config=None,
        access_log=False,
        lifespan="off",
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    try:
        port = server.servers[0].sockets[0].getsockname()[1]
        yield edge, dataset.files[0].fingerprint, port
    finally:
        server.should_exit = True
        await serving
        await edge.close()
        await service.close()
        await head.close()


async def pace(edge: Any, seconds: float) -> float:
    """Return how many products a second the prepared lane makes."""
    before, began = edge.lanes.states()[1].made, time.monotonic()
    await asyncio.sleep(seconds)
    return float((edge.lanes.states()[1].made - before) / (time.monotonic() - began))


async def keep_preparing(edge: Any, wanted: Iterator[Descriptor]) -> None:
    """Prepare one product after the other; what was made makes room at once."""
    while True:
        kept = await edge.deliveries.prepare(next(wanted), Ask(Lane.PREPARED))
        if kept is not None:
            await edge.cache.drop(kept.name)


async def measure(seconds: float, switch_s: float) -> Figures:
    """Measure an edge of four makers, one of them reserved."""
    sys.setswitchinterval(switch_s)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = Settings(
            data_dir=str(folder / "edge"),
            edge_name="bench",
            cache_bytes_max=1 << 30,
            makers=4,
            on_demand_depth=4,
        )
        async with edge_on(folder, settings) as (edge, fingerprint, port):
            wanted = cuts(fingerprint, 1, 37)
            makers = edge.lanes.rules.makers
            preparing = [
                asyncio.create_task(keep_preparing(edge, wanted)) for _ in range(2 * makers)
            ]
            await asyncio.sleep(1.0)
            alone = await pace(edge, seconds)
            reserved = edge.lanes.rules.reserved
            asked = TIMES * alone / makers * reserved
            urls = [
                f"/v1/products/{one.key}?{descriptor_query(one)}"
                for one, _ in zip(
                    cuts(fingerprint, 17, 41), range(int(asked * (seconds + 3)) + 1), strict=False
                )
            ]
            client = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "bench.edge_parts.overload",
                "--client",
                str(port),
                "--rate",
                str(asked),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            telling = asyncio.create_task(client.communicate("\n".join(urls).encode()))
            while not edge.lanes.states()[0].refused:  # noqa: ASYNC110 - states have no event
                await asyncio.sleep(0.1)
            made = edge.lanes.states()[0].made
            beside = await pace(edge, seconds)
            on_demand = (edge.lanes.states()[0].made - made) / seconds
            told, _ = await telling
            for task in preparing:
                task.cancel()
            await asyncio.gather(*preparing, return_exceptions=True)
            times = np.array(json.loads(told)["refused_s"]) * 1e3
    low, middle, high = np.percentile(times, [50, 95, 99]) if len(times) else (0.0, 0.0, 0.0)
    kept = beside / (alone * (makers - reserved) / makers)
    return Figures(
        makers,
        reserved,
        alone,
        beside,
        kept,
        on_demand,
        asked,
        len(times),
        (float(low), float(middle), float(high)),
        switch_s,
    )


async def ask(port: int, urls: list[str], rate: float) -> list[float]:
    """Ask for products at a rate, each on a connection of its own; return times of refusals."""
    refused: list[float] = []

    async def one(url: str) -> None:
        began = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            f"GET {url} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
            "Connection: close\r\n\r\n".encode()
        )
        status = await reader.readline()
        if b" 503 " in status:
            refused.append(time.monotonic() - began)
        await reader.read()
        writer.close()

    async with asyncio.TaskGroup() as group:
        began = time.monotonic()
        for number, url in enumerate(urls):
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
            group.create_task(one(url))
    return refused


def main() -> None:
    """Measure, or be the one who asks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--switch-s", type=float, default=0.0005)
    parser.add_argument("--client", type=int)
    parser.add_argument("--rate", type=float)
    given = parser.parse_args()
    if given.client:
        urls = sys.stdin.read().split()
        print(json.dumps({"refused_s": asyncio.run(ask(given.client, urls, given.rate))}))
    else:
        print(asyncio.run(measure(given.seconds, given.switch_s)))


if __name__ == "__main__":
    main()
