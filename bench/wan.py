"""Events far from the workers: evstream against reading directly, caches and copies.

Two network namespaces are the two ends of an emulated link (bench/wan_parts/link.c): an XRootD
origin, a head and an edge at the one, workers at the other.
"""

from __future__ import annotations

import os
import signal
import sys
from collections import defaultdict

from bench.harness import RESULTS, Bench
from bench.wan_parts import inputs
from bench.wan_parts.cuts import cutting
from bench.wan_parts.evictions import measure_evictions
from bench.wan_parts.ground import Ground, ground
from bench.wan_parts.link import CannotMeasureError, Condition
from bench.wan_parts.matrix import ALONE, COLD, LOCAL, WARM, Cell, Matrix, workload
from bench.wan_parts.open_loop import measure_open_loop
from bench.wan_parts.ours import Ours
from bench.wan_parts.plot import draw
from bench.wan_parts.rows import Workload

LOSS = 1e-4
GIGABIT, SLOWER = (
    [Condition(rate, 0), Condition(rate, 20), Condition(rate, 100), Condition(rate, 100, LOSS)]
    for rate in (1000, 200)
)
QUICK = [Condition(1000, 100)]
CPU_S = 0.2 / 1000
"""Of a computing payload, for each event."""


def measure_skim(bench: Bench, matrix: Matrix, work: Workload) -> None:
    """Read 20 of 50 branches and do nothing with them."""
    for condition in QUICK if bench.quick else GIGABIT + SLOWER:
        for workers in (2,) if bench.quick else (1, 2):
            cell = Cell(work, workers, condition)
            # One worker takes twice as long, and differs by that alone.
            matrix.measure(cell, matrix.rows, 3 if workers == 2 and not bench.quick else 1)
            matrix.ask_skim(cell)
            matrix.ask_bytes(cell)


def measure_whole(bench: Bench, matrix: Matrix, work: Workload) -> None:
    """Read all branches."""
    for condition in [] if bench.quick else [*GIGABIT, SLOWER[2]]:
        cell = Cell(work, 2, condition)
        matrix.measure(cell, matrix.rows, 1)
        matrix.ask_bytes(cell)


def measure_compute(bench: Bench, matrix: Matrix, work: Workload) -> None:
    """Read 20 of 50 branches and compute; few rows with one worker, which takes long."""
    some = [LOCAL, ALONE, COLD, WARM]
    most = [*some, "uproot, root://", "ROOT, asynchronous prefetching", "XCache, cold"]
    conditions = [*GIGABIT, SLOWER[2]]
    for condition in QUICK if bench.quick else conditions:
        cell = Cell(work, 2, condition)
        matrix.measure(cell, some if bench.quick else most, 1)
        matrix.ask_compute(cell)
        matrix.ask_bytes(cell)
        if not bench.quick and condition.mbit_per_s == 1000 and not condition.loss:
            cell = Cell(work, 1, condition)
            matrix.measure(cell, some, 1)
            matrix.ask_compute(cell)


def measure_cuts(bench: Bench, place: Ground, ours: Ours, work: Workload) -> None:
    """Cut the link again and again while a task runs that computes."""
    cut_s, every_s = bench.choose("seconds cut, of each so many", full=(5, 30), quick=(2, 6))
    place.link.set(Condition(200, 100))
    alike = ours.cold_edge(work, 2)
    with cutting(place.link, cut_s, every_s) as cuts:
        cut = ours.cold_edge(work, 2)
    bench.measure("with cuts: wall", cut.wall_s, "s")
    bench.measure("with cuts: wall without any", alike.wall_s, "s")
    bench.measure("with cuts: seconds cut", cuts.seconds, "s")
    bench.ask("with cuts: units that failed", cut.notes["failed"], "==", 0)
    if not bench.quick:
        bench.ask("with cuts: wall, s", cut.wall_s, ">=", 120)
        longer = (cut.wall_s - alike.wall_s) / cuts.seconds if cuts.seconds else 0.0
        bench.ask("with cuts: how much longer, over the seconds cut", longer, "<=", 1.1)


def plot(bench: Bench, matrix: Matrix, work: Workload) -> None:
    """Draw the skim at 1 Gbit/s with two workers."""
    rows: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for cell, found in matrix.found.items():
        plain = cell.condition in GIGABIT and not cell.condition.loss
        if cell.work is work and cell.workers == 2 and plain:
            local = found.wall_s(LOCAL)
            rows["floor"].append((cell.condition.round_trip_ms, found.floor_s / local))
            for row in found.outcomes:
                rows[row].append((cell.condition.round_trip_ms, found.wall_s(row) / local))
    path = RESULTS / f"wan{'.quick' if bench.quick else ''}.svg"
    title = "20 of 50 branches of all events, 1 Gbit/s, two workers"
    if not draw(path, title, rows):
        bench.report("plot", "none: matplotlib is not installed")


def main() -> int:
    """Run it."""
    bench = Bench.from_command_line("wan", __doc__)
    # Namespaces and servers go with whoever is told to end, too.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    count = bench.choose("files of 12 000 events in 50 branches", full=32, quick=6)
    computed = bench.choose("files of them that are computed on", full=32, quick=2)
    cut_off = bench.choose("files of them that are computed on with cuts", full=16, quick=2)
    whole = bench.choose("files of them that are read whole", full=8, quick=2)
    cut = bench.choose("CPU seconds an event with cuts", full=1.4 / 1000, quick=0.3 / 1000)
    bench.input("CPU seconds an event where something is computed", CPU_S)
    halves = "12 000, all of a file; 6 000 where something is computed"
    bench.input("events in a range", halves)
    bench.input("congestion control", "cubic")
    bench.input("load of the machine before", os.getloadavg()[0])
    try:
        files = inputs.files(count)
        inputs.reader()
        bench.input("bytes", sum(path.stat().st_size for path in files))
        skim = workload("skim", count, inputs.SKIM)
        with ground() as place:
            place.serve_files(files)
            ours = Ours(place)
            matrix = Matrix(bench, place, ours)
            bench.ready()
            measure_skim(bench, matrix, skim)
            plot(bench, matrix, skim)
            measure_compute(bench, matrix, workload("compute", computed, inputs.SKIM, CPU_S))
            measure_whole(bench, matrix, workload("all branches", whole, ()))
            measure_cuts(bench, place, ours, workload("cuts", cut_off, inputs.SKIM, cut))
            matrix.ask_outputs()
        measure_evictions(bench)
        measure_open_loop(bench)
    except CannotMeasureError as error:
        bench.console.print(str(error))
        return 2
    return bench.finish()


if __name__ == "__main__":
    sys.exit(main())
