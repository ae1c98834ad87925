"""Cycles of a claim and a report: PanDA's row per range against our intervals, in turn."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from bench.catalogue_parts import panda
from bench.catalogue_parts.driver import Drive, drive
from bench.catalogue_parts.ground import CLIENTS, RUNS, Ground, ask, with_commits
from bench.catalogue_parts.ours import OurSide
from evstream.adapters.catalogue.postgresql import PostgresDatabase

OUR_RANGES = 200_000_000
BATCHED_CLIENTS = 300
BOOK = 2


def prepare(ground: Ground) -> None:
    """Fill PanDA's table and open our task."""
    rows = ground.bench.choose("rows on PanDA's side", full=50_000_000, quick=2_000_000)
    ground.bench.input("ranges on our side", OUR_RANGES)
    panda.fill(ground.panda, rows, CLIENTS)
    asyncio.run(_open(ground.ours))
    for url in (ground.panda, ground.ours):
        ask(url, "SELECT 1 FROM (SELECT pg_stat_reset()) AS done")


async def _open(url: str) -> None:
    async with OurSide(PostgresDatabase(url), BOOK) as side:
        await side.open(OUR_RANGES)


def measure_cycles(ground: Ground) -> None:
    """Drive both sides by the same clients, in turn, with commits that wait for the disk or not."""
    bench = ground.bench
    seconds = bench.choose("seconds of each run", full=30.0, quick=4.5)
    rounds = bench.choose("rounds", full=3, quick=2)
    bench.input("clients", CLIENTS)
    limits = {False: ("async commit", 25.0), True: ("durable commit", 8.0)}
    runs: dict[str, Callable[[float], Awaitable[Drive]]] = {}
    for durable, (name, _) in limits.items():
        runs[f"PanDA's rows, {name}"] = partial(_drive_panda, ground.panda, durable)
        runs[f"intervals, {name}"] = partial(_drive_ours, ground.ours, durable, CLIENTS)
    subjects = {name: partial(_per_second, run, seconds) for name, run in runs.items()}
    found = bench.interleave(subjects, rounds)
    for name, samples in found.items():
        bench.measure(f"{name}: cycles", samples, "1/s")
    for name, limit in limits.values():
        theirs, mine = found[f"PanDA's rows, {name}"], found[f"intervals, {name}"]
        told = f"cycles of 100 ranges, {CLIENTS} clients, {name}: ours over PanDA's"
        bench.ask(told, mine.median / theirs.median, ">=", limit)


def measure_batches(ground: Ground) -> None:
    """Drive our side alone by many clients, with durable commits."""
    bench = ground.bench
    seconds = bench.choose("seconds of batches", full=30.0, quick=4.5)
    bench.input("clients of batches", BATCHED_CLIENTS)
    cycles = asyncio.run(_drive_ours(ground.ours, True, BATCHED_CLIENTS, seconds)).per_second
    bench.measure("intervals, durable commit, many clients: cycles", cycles, "1/s")
    bench.ask("durable claims and reports, batched, per second", 2 * cycles, ">=", 8_000.0)


def _per_second(run: Callable[[float], Awaitable[Drive]], seconds: float) -> float:
    async def main() -> Drive:
        return await run(seconds)

    return asyncio.run(main()).per_second


async def _drive_panda(url: str, durable: bool, seconds: float) -> Drive:
    async with panda.PandaSide(with_commits(url, durable=durable), CLIENTS) as side:
        return await drive(side, CLIENTS, seconds, next(RUNS))


async def _drive_ours(url: str, durable: bool, clients: int, seconds: float) -> Drive:
    database = PostgresDatabase(with_commits(url, durable=durable))
    async with OurSide(database, BOOK) as side:
        return await drive(side, clients, seconds, next(RUNS))
