"""Ten times more on-demand work than an edge can make: how fast refusals are, what the rest keeps.

A whole edge (its API on a socket, its cache on a disk, its makers as they are in production, a head
in its process) makes cuts in its prepared lane, alone, and then while another process asks for
products that nobody has, at ten times the pace of the on-demand lane's reserve, and times the
refusals: as pilots do, which keep their connections, and with a new one for each request. Turn by
turn, for a machine has slow minutes.

Who asks has a processor of its own, and the edge all others: it is no part of the edge's load. It
also tells how late it is itself: a refusal is not read before its reader runs.

    python -m bench.edge_parts.overload [--seconds 10] [--rounds 3]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from bench.edge_parts.whole import listening, signer_of, until, whole_edge
from evstream.adapters.formats import KnownFormats
from evstream.assembly.making import start_makers
from evstream.domain.dataset import Fingerprint, SourceFile
from evstream.domain.descriptor import Descriptor, slice_of
from evstream.domain.lanes import Ask, Lane
from evstream.settings import Settings

ENTRIES = 400_000
EVENTS = 20_000
TIMES = 10
LOOK_S = 0.005


@dataclass(frozen=True)
class Overloaded:
    """What a time of overload gave.

    Attributes
    ----------
    prepared, on_demand : float
        Products per second of the two lanes.
    kept, cpu_kept : float
        ``prepared`` as a part of what is not reserved of what the lane makes alone; the same by
        the CPU seconds of the edge and its makers.
    refused_ms, late_ms : tuple of float
        Median, 95th and 99th percentile: of the time of a refusal, and of how late the one
        who asks was.
    """

    prepared: float
    on_demand: float
    kept: float
    cpu_kept: float
    refusals: int
    refused_ms: tuple[float, float, float]
    late_ms: tuple[float, float, float]


@dataclass(frozen=True)
class Turn:
    """What one round gave.

    Attributes
    ----------
    alone : float
        Products per second of the prepared lane without overload.
    asked : float
        Requests per second under it.
    by_pool, by_strangers : Overloaded
        From clients that keep their connections, as pilots do; and with a new connection for
        each request.
    """

    alone: float
    asked: float
    by_pool: Overloaded
    by_strangers: Overloaded


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
async def edge_on(folder: Path, settings: Settings) -> AsyncIterator[tuple[Any, SourceFile, int]]:
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
            yield whole.edge, whole.file, port
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


async def overloaded(
    edge: Any, urls: list[str], words: list[str], seconds: float, alone: tuple[float, float]
) -> Overloaded:
    """Measure the prepared lane beside too many who wait."""
    pipe = asyncio.subprocess.PIPE
    client = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.edge_parts.overload", *words, stdin=pipe, stdout=pipe
    )
    refused = edge.lanes.states()[0].refused
    telling = asyncio.create_task(client.communicate("\n".join(urls).encode()))
    await until(lambda: edge.lanes.states()[0].refused > refused)
    made = edge.lanes.states()[0].made
    prepared, cpu_prepared = await pace(edge, seconds)
    on_demand = (edge.lanes.states()[0].made - made) / seconds
    told = json.loads((await telling)[0])
    rules = edge.lanes.rules
    share = (rules.makers - rules.reserved) / rules.makers
    return Overloaded(
        prepared,
        on_demand,
        prepared / (alone[0] * share),
        cpu_prepared / (alone[1] * share),
        len(told["refused_s"]),
        percentiles(told["refused_s"]),
        percentiles(told["late_s"]),
    )


async def one_turn(
    edge: Any, port: int, urls: Callable[[int], list[str]], seconds: float, processor: int
) -> Turn:
    """Measure the prepared lane alone, and then beside either kind of clients."""
    rules = edge.lanes.rules
    alone = await pace(edge, seconds)
    rate = TIMES * alone[0] / rules.makers * rules.reserved
    found = []
    for words in ([], ["--strangers"]):
        words += ["--client", str(port), "--rate", str(rate), "--processor", str(processor)]
        wanted = urls(int(rate * (seconds + 3)) + 1)
        found.append(await overloaded(edge, wanted, words, seconds, alone))
    return Turn(alone[0], rate, *found)


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
        async with edge_on(folder, settings) as (edge, file, port):
            mine, theirs = cuts(file.fingerprint, 1, 37), cuts(file.fingerprint, 17, 41)
            signed = signer_of(edge, file)

            def urls(count: int) -> list[str]:
                return [signed(one) for one in islice(theirs, count)]

            preparing = [
                asyncio.create_task(keep_preparing(edge, mine))
                for _ in range(2 * edge.lanes.rules.makers)
            ]
            # Makers take a while to start.
            await until(lambda: edge.lanes.states()[1].made > 4 * edge.lanes.rules.makers)
            turns = [
                await one_turn(edge, port, urls, seconds, processors[-1]) for _ in range(rounds)
            ]
            for task in preparing:
                task.cancel()
            await asyncio.gather(*preparing, return_exceptions=True)
    os.sched_setaffinity(0, processors)
    return turns


def middle(found: list[Overloaded]) -> dict[str, float]:
    """Return the median of what is asked for, by name."""
    return {
        "refused_ms": statistics.median(one.refused_ms[1] for one in found),
        "late_ms": statistics.median(one.late_ms[1] for one in found),
        "kept": statistics.median(one.kept for one in found),
        "cpu_kept": statistics.median(one.cpu_kept for one in found),
    }


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def ask(
    port: int, urls: list[str], rate: float, *, strangers: bool
) -> dict[str, list[float]]:
    """Ask for products at a rate, without waiting for answers; return times of refusals."""
    refused: list[float] = []
    late: list[float] = []
    free: list[Connection] = []

    async def one(url: str) -> None:
        began = time.monotonic()
        reader, writer = free.pop() if free else await asyncio.open_connection("127.0.0.1", port)
        closes = "Connection: close\r\n" if strangers else ""
        writer.write(f"GET {url} HTTP/1.1\r\nHost: x\r\n{closes}\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 503 " in head.partition(b"\r")[0]:
            refused.append(time.monotonic() - began)
        (size,) = re.findall(rb"(?i)content-length: (\d+)", head)
        await reader.readexactly(int(size))
        if strangers:
            writer.close()
        else:
            free.append((reader, writer))

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
    for _, writer in free:
        writer.close()
    return {"refused_s": refused, "late_s": late}


def main() -> None:
    """Measure, or be the one who asks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--client", type=int)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--processor", type=int)
    parser.add_argument("--strangers", action="store_true")
    given = parser.parse_args()
    if given.client:
        os.sched_setaffinity(0, {given.processor})
        urls = sys.stdin.read().split()
        asking = ask(given.client, urls, given.rate, strangers=given.strangers)
        print(json.dumps(asyncio.run(asking)))
    else:
        turns = asyncio.run(measure(given.seconds, given.rounds))
        print(*turns, sep="\n")
        for kind in ("by_pool", "by_strangers"):
            print(kind, middle([getattr(turn, kind) for turn in turns]))


if __name__ == "__main__":
    main()
