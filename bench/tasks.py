"""What a task's parts cost: initialisation shared, units handed out, outputs merged."""

from __future__ import annotations

import sys

from bench.harness import Bench
from bench.tasks_parts import merging, payloads


def main() -> int:
    """Measure part after part; return the exit status."""
    bench = Bench.from_command_line("tasks", __doc__)
    bench.ready()
    payloads.measure_initialisation(bench)
    payloads.measure_hand_out(bench)
    merging.measure_merging(bench)
    return bench.finish()


if __name__ == "__main__":
    sys.exit(main())
