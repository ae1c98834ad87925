"""Ten times more on-demand work than an edge can make: how fast refusals are, what the rest keeps.

A whole edge (its API on a socket, its cache on a disk, its makers as they are in production, a head
in its process) makes cuts in its prepared lane, alone, and then while another process asks for
products that nobody has, at ten times the pace of the on-demand lane's reserve, and times the
refusals. The two turn by turn, for a machine has slow minutes.

Who asks has a processor of its own, and the edge all others: it is no part of the edge's load. It
also tells how late it is itself: a refusal is not read before its reader runs.

    python -m bench.edge_parts.overload [--seconds 10] [--rounds 3]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from bench.edge_parts.whole import TOKEN, listening, until, whole_edge
from evstream.adapters.formats import KnownFormats
from evstream.assembly.making import start_makers
from evstream.domain.dataset import Fingerprint
from evstream.domain.descriptor import Descriptor, slice_of
from evstream.domain.lanes import Ask, Lane
from evstream.settings import Settings
from evstream.wire.signed_urls import descriptor_query

ENTRIES = 400_000
EVENTS = 20_000
TIMES = 10
LOOK_S = 0.005


@dataclass(frozen=True)
class Turn:
    """What one round gave.

    Attributes
    ----------
    alone, beside : float
        Products per second of the prepared lane, without overload and with it.
    cpu_alone, cpu_beside : float
        The same for each CPU second of the edge and its makers.
    kept, cpu_kept : float
        ``beside`` as a part of what is not reserved of ``alone``.
    refused_ms, late_ms : tuple of float
        Median, 95th and 99th percentile: of the time of a refusal, and of how late the one
        who asks was.
    """

    alone: float
    beside: float
    cpu_alone: float
    cpu_beside: float
    kept: float
    cpu_kept: float
    on_demand: float
    asked: float
    refusals: int
    refused_ms: tuple[float, float, float]
    late_ms: tuple[float, float, float]


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
    """Serve an edge on loopback; give it, its source and its port."""
    source = folder / "source.root"
    make_source(source)
    makers = start_makers(settings)
    try:
        async with (
            whole_edge(folder, source, settings, formats=KnownFormats(makers)) as whole,
            listening(whole.edge.app) as server,
        ):
            port = server.servers[0].sockets[0].getsockname()[1]
            yield whole.edge, whole.file.fingerprint, port
    finally:
        makers.close()


def cpu_s() -> float:
    """Return the CPU seconds of this process and its makers."""
    mine = psutil.Process()
    makers = [one for one in mine.children() if "root_maker" in " ".join(one.cmdline())]
    spent = [one.cpu_times() for one in (mine, *makers)]
    return float(sum(one.user + one.system for one in spent))


async def pace(edge: Any, seconds: float) -> tuple[float, float]:
    """Return how many products a second the prepared lane makes, and how many a CPU second."""
    before, began, spent = edge.lanes.states()[1].made, time.monotonic(), cpu_s()
    await asyncio.sleep(seconds)
    made = edge.lanes.states()[1].made - before
    return made / (time.monotonic() - began), made / max(cpu_s() - spent, 0.01)


async def keep_preparing(edge: Any, wanted: Iterator[Descriptor]) -> None:
    """Prepare one product after the other; what was made makes room at once."""
    while True:
        kept = await edge.deliveries.prepare(next(wanted), Ask(Lane.PREPARED))
        if kept is not None:
            await edge.cache.drop(kept.name)


def percentiles(seconds: list[float]) -> tuple[float, float, float]:
    """Return median, 95th and 99th percentile in milliseconds."""
    low, middle, high = np.percentile(np.array(seconds or [0.0]) * 1e3, [50, 95, 99])
    return float(low), float(middle), float(high)


async def one_turn(
    edge: Any, port: int, wanted: Iterator[Descriptor], seconds: float, processor: int
) -> Turn:
    """Measure the prepared lane alone, and then beside too many who wait."""
    rules = edge.lanes.rules
    alone, cpu_alone = await pace(edge, seconds)
    rate = TIMES * alone / rules.makers * rules.reserved
    urls = [
        f"/v1/products/{one.key}?{descriptor_query(one)}"
        for one, _ in zip(wanted, range(int(rate * (seconds + 3)) + 1), strict=False)
    ]
    words = ["-m", "bench.edge_parts.overload", "--client", str(port), "--rate", str(rate)]
    words += ["--processor", str(processor)]
    pipe = asyncio.subprocess.PIPE
    client = await asyncio.create_subprocess_exec(sys.executable, *words, stdin=pipe, stdout=pipe)
    refused = edge.lanes.states()[0].refused
    telling = asyncio.create_task(client.communicate("\n".join(urls).encode()))
    await until(lambda: edge.lanes.states()[0].refused > refused)
    made = edge.lanes.states()[0].made
    beside, cpu_beside = await pace(edge, seconds)
    on_demand = (edge.lanes.states()[0].made - made) / seconds
    told = json.loads((await telling)[0])
    share = (rules.makers - rules.reserved) / rules.makers
    return Turn(
        alone,
        beside,
        cpu_alone,
        cpu_beside,
        beside / (alone * share),
        cpu_beside / (cpu_alone * share),
        on_demand,
        rate,
        len(told["refused_s"]),
        percentiles(told["refused_s"]),
        percentiles(told["late_s"]),
    )


async def measure(seconds: float, rounds: int) -> list[Turn]:
    """Measure an edge of four makers, one of them reserved."""
    processors = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, processors[:-1] or processors)
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
            mine, theirs = cuts(fingerprint, 1, 37), cuts(fingerprint, 17, 41)
            preparing = [
                asyncio.create_task(keep_preparing(edge, mine))
                for _ in range(2 * edge.lanes.rules.makers)
            ]
            # Makers take a while to start.
            await until(lambda: edge.lanes.states()[1].made > 4 * edge.lanes.rules.makers)
            turns = [
                await one_turn(edge, port, theirs, seconds, processors[-1]) for _ in range(rounds)
            ]
            for task in preparing:
                task.cancel()
            await asyncio.gather(*preparing, return_exceptions=True)
    os.sched_setaffinity(0, processors)
    return turns


def middle(turns: list[Turn]) -> dict[str, float]:
    """Return the median of what is asked for, by name."""
    return {
        "refused_ms": statistics.median(turn.refused_ms[1] for turn in turns),
        "late_ms": statistics.median(turn.late_ms[1] for turn in turns),
        "kept": statistics.median(turn.kept for turn in turns),
        "cpu_kept": statistics.median(turn.cpu_kept for turn in turns),
    }


async def ask(port: int, urls: list[str], rate: float) -> dict[str, list[float]]:
    """Ask for products at a rate, each on a connection of its own; return times of refusals."""
    refused: list[float] = []
    late: list[float] = []

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

    async def look_how_late() -> None:
        while True:
            due = time.monotonic() + LOOK_S
            await asyncio.sleep(LOOK_S)
            late.append(time.monotonic() - due)

    looking = asyncio.create_task(look_how_late())
    async with asyncio.TaskGroup() as group:
        began = time.monotonic()
        for number, url in enumerate(urls):
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
            group.create_task(one(url))
    looking.cancel()
    return {"refused_s": refused, "late_s": late}


def main() -> None:
    """Measure, or be the one who asks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--client", type=int)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--processor", type=int)
    given = parser.parse_args()
    if given.client:
        os.sched_setaffinity(0, {given.processor})
        urls = sys.stdin.read().split()
        print(json.dumps(asyncio.run(ask(given.client, urls, given.rate))))
    else:
        turns = asyncio.run(measure(given.seconds, given.rounds))
        print(*turns, middle(turns), sep="\n")


if __name__ == "__main__":
    main()
