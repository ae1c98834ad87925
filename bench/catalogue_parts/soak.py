"""Claims and reports at full load for a long time: as fast as at first, and no larger."""

from __future__ import annotations

import asyncio

from bench.catalogue_parts.cycles import BATCHED_CLIENTS, BOOK
from bench.catalogue_parts.driver import Drive, drive
from bench.catalogue_parts.ground import RUNS, Ground, ask
from bench.catalogue_parts.ours import OurSide
from evstream.adapters.catalogue.postgresql import PostgresDatabase

RANGES = 2_000_000_000
QUEUES = ("book", "chunk", "free", "lease")
LOOK_S = 10.0


def measure_soak(ground: Ground) -> None:
    """Drive our side by many clients, durable, and look at its tables all the while."""
    bench = ground.bench
    minutes = bench.choose("minutes of the soak", full=20, quick=1)
    url = ground.new_database()
    driven, sizes = asyncio.run(_soak(url, 60.0 * minutes))
    bench.measure("soak: cycles", driven.per_second, "1/s")
    first, last = driven.minutes[0], driven.minutes[-1]
    bench.measure("soak, first minute: cycles", first, "1/s")
    bench.measure("soak, last minute: cycles", last, "1/s")
    bench.ask("soak: the last minute's cycles over the first's", last / first, ">=", 0.8)
    third = len(sizes) // 3
    early, late = max(sizes[:third]), max(sizes[-third:])
    bench.measure("soak, tables that are queues: most in the first third", early / 1e6, "MB")
    bench.measure("soak, tables that are queues: most in the last third", late / 1e6, "MB")
    bench.ask("soak: size of queues in the last third over the first", late / early, "<=", 1.5)
    (done, rows) = ask(url, "SELECT pg_total_relation_size('done'), count(*) FROM done")
    bench.measure("soak: a finished lease in the log of what is done", done / rows, "B")


async def _soak(url: str, seconds: float) -> tuple[Drive, list[int]]:
    sizes: list[int] = []
    total = " + ".join(f"pg_total_relation_size('{table}')" for table in QUEUES)

    async def watch() -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            sizes.append((await asyncio.to_thread(ask, url, f"SELECT {total}"))[0])

    async with OurSide(PostgresDatabase(url), BOOK) as side:
        await side.open(RANGES)
        watching = asyncio.create_task(watch())
        driven = await drive(side, BATCHED_CLIENTS, seconds, next(RUNS))
        watching.cancel()
    return driven, sizes
