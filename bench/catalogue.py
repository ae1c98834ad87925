"""What the catalogue does on PostgreSQL, against PanDA's row per event range in the same run."""

from __future__ import annotations

import sys

import pytest

from bench.catalogue_parts import cycles, events, live, soak
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
    events.measure_events(bench)
    return bench.finish()


if __name__ == "__main__":
    sys.exit(main())
