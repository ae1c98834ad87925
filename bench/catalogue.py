"""What the catalogue does on PostgreSQL, against PanDA's row per event range in the same run."""

from __future__ import annotations

import sys

import pytest

from bench.catalogue_parts import cycles, events, live, products, soak
from bench.catalogue_parts.ground import SETTINGS, Ground
from bench.harness import Bench
from tests.postgresql import server, skip_without_server

NO_SERVER = 2


def main() -> int:
    """Measure part after part; return the exit status."""
    bench = Bench.from_command_line("catalogue", __doc__)
    try:
        skip_without_server()
    except pytest.skip.Exception as missing:
        print(missing, file=sys.stderr)
        return NO_SERVER
    bench.input("server settings", SETTINGS)
    with server(SETTINGS) as running:
        ground = Ground(bench, running)
        cycles.prepare(ground)
        bench.ready()
        cycles.measure_cycles(ground)
        cycles.measure_batches(ground)
        if not bench.quick:
            live.measure_live(ground)
            soak.measure_soak(ground)
            measure_searches(ground)
    events.measure_events(bench)
    return bench.finish()


def measure_searches(ground: Ground) -> None:
    """Search for the smallest product that covers a range, among many."""
    bench = ground.bench
    count = bench.choose("prepared products", full=10_000_000, quick=100_000)
    found = products.measure_best_match(ground.new_database(), count)
    bench.input("searches among products, compared with looking at all", found.checked)
    bench.measure("best match: median", found.p50_ms, "ms")
    bench.measure("best match: a product with its indices", found.bytes_per_product, "B")
    bench.ask("best match: 99 of 100 searches within, ms", found.p99_ms, "<=", 3.0)


if __name__ == "__main__":
    sys.exit(main())
