"""A ledger in the middle of its work: bytes of a thousand million ranges, progress, expiry."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta

from bench.catalogue_parts.ground import Ground, ask
from bench.catalogue_parts.ours import LEASE_TIME, chunks, success_on
from bench.harness import Bench, Samples
from evstream.adapters.catalogue.postgresql import PostgresDatabase
from evstream.domain.ledger import BookRules, LeasedInterval
from evstream.domain.names import LeaseId, WorkerId
from evstream.domain.states import Answer
from evstream.ports.ledger import Ledger

LARGE, MIDDLE, EXPIRING = 2, 4, 6
AT_ONCE = 500
BUNDLE = 1_000
LEASES_EXPIRING, RANGES_A_LEASE = 10_000, 100
LIVE_TABLES = ("book", "chunk", "free", "lease", "failed", "closed")
EXPIRY_TIME = timedelta(milliseconds=1)


def measure_live(ground: Ground) -> None:
    """Make the state through the port, then look at it."""
    asyncio.run(_measure(ground.bench, ground.new_database()))


async def _measure(bench: Bench, url: str) -> None:
    database = PostgresDatabase(url)
    ledger = database.ledger
    try:
        await _make(bench, ledger)
        _weigh(bench, url)
        await _ask_progress(bench, ledger)
        await _let_expire(bench, ledger)
    finally:
        await database.close()


async def _make(bench: Bench, ledger: Ledger) -> None:
    ranges = bench.choose("ranges of live state", full=1_000_000_000, quick=10_000_000)
    leases = bench.choose("leases of live state", full=200_000, quick=2_000)
    done = int(0.4 * ranges) // BUNDLE
    bench.input("ranges a lease and a bundle of live state", BUNDLE)
    await ledger.open_book(LARGE, BookRules(events_per_range=1), chunks(ranges))
    await ledger.open_book(MIDDLE, BookRules(events_per_range=1), chunks(ranges // 10))
    started = time.perf_counter()

    async def one(number: int) -> None:
        lease, worker = LeaseId(f"bundle-{number:016x}"), WorkerId(f"worker-{number % 5000}")
        held = await ledger.claim_ranges(lease, worker, BUNDLE, LEASE_TIME, [LARGE])
        if number < done:
            answers = await ledger.report_ranges([success_on(row) for row in held])
            assert set(answers) == {Answer.ACCEPTED}

    await _all(one(number) for number in range(done + leases))
    bench.measure("making the live state", time.perf_counter() - started, "s")
    progress = await ledger.progress(LARGE)
    assert progress.finished == done * BUNDLE
    assert progress.sent == leases * BUNDLE


async def _all(work: Iterable[Awaitable[None]]) -> None:
    """Await all, without as many tasks as there are."""
    rest = iter(work)

    async def worker() -> None:
        for one in rest:
            await one

    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))


def _weigh(bench: Bench, url: str) -> None:
    def size(table: str) -> int:
        return ask(url, f"SELECT pg_total_relation_size('{table}')")[0]

    live = {table: size(table) for table in LIVE_TABLES}
    for table, weight in live.items():
        if weight > 1_000_000:
            bench.measure(f"live state, table {table} with its indices", weight / 1e6, "MB")
    done = size("done")
    (outputs,) = ask(url, "SELECT sum(octet_length(outputs)) FROM done")
    bench.measure("table done, output records of finished bundles among it", done / 1e6, "MB")
    bench.measure("output records of finished bundles: their JSON", outputs / 1e6, "MB")
    total = sum(live.values()) + done - outputs
    bench.ask("live state without output records, GB", total / 1e9, "<=", 1.0)
    (ranges,) = ask(url, f"SELECT ranges FROM book WHERE book = {LARGE}")
    bench.measure("live state, a range", total / ranges, "B")


async def _ask_progress(bench: Bench, ledger: Ledger) -> None:
    times = []
    for _ in range(20):
        started = time.perf_counter()
        await ledger.progress(MIDDLE)
        times.append(1e3 * (time.perf_counter() - started))
    progress = bench.measure("progress of a tenth as many ranges", Samples(tuple(times)), "ms")
    bench.ask("progress of a task, ms", progress, "<=", 50.0)


async def _let_expire(bench: Bench, ledger: Ledger) -> None:
    ranges = LEASES_EXPIRING * RANGES_A_LEASE
    bench.input("ranges that expire at once", ranges)
    await ledger.open_book(EXPIRING, BookRules(events_per_range=1), chunks(ranges))

    async def claim(name: str) -> None:
        worker = WorkerId("gone")
        held = await ledger.claim_ranges(
            LeaseId(name), worker, RANGES_A_LEASE, EXPIRY_TIME, [EXPIRING]
        )
        assert sum(row.entries for row in held) == RANGES_A_LEASE

    times = []
    for turn in range(5):
        await _all(claim(f"expiring-{turn}-{number}") for number in range(LEASES_EXPIRING))
        lost, wall_s = await _timed(ledger.expire_leases)
        assert sum(row.entries for row in lost) == ranges
        times.append(1e3 * wall_s)
    sweep = bench.measure("expiry of 10⁶ ranges", Samples(tuple(times)), "ms")
    bench.ask("expiry of 10⁶ ranges, ms", sweep, "<=", 300.0)


async def _timed(
    call: Callable[[], Awaitable[list[LeasedInterval]]],
) -> tuple[list[LeasedInterval], float]:
    started = time.perf_counter()
    found = await call()
    return found, time.perf_counter() - started
