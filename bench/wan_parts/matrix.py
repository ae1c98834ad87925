"""Which rows do what, at which conditions, and what is asked of them."""

from __future__ import annotations

import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import uproot

from bench.harness import Bench, Samples
from bench.wan_parts import inputs
from bench.wan_parts.ground import FLOOR_PORT, Ground
from bench.wan_parts.link import FAR, CannotMeasureError, Condition
from bench.wan_parts.ours import Ours
from bench.wan_parts.rows import Outcome, Peers, Workload

LOCAL, LOCAL_ROOT = "local disk, uproot", "local disk, ROOT"
ALONE, COLD, WARM = "evstream, pilot alone", "evstream, cold edge", "evstream, warm edge"
OURS = (ALONE, COLD, WARM)
WARM_CACHE = "XCache, warm"
STREAMS = (8, 16, 32)


@dataclass(frozen=True, slots=True)
class Cell:
    """One workload at one condition with so many workers."""

    work: Workload
    workers: int
    condition: Condition

    def __str__(self) -> str:
        workers = f"{self.workers} worker{'s' if self.workers > 1 else ''}"
        return f"{self.work.name}, {workers}, {self.condition}"


@dataclass(slots=True)
class Found:
    """What the rows of a cell took."""

    floor_s: float = 0.0
    outcomes: dict[str, list[Outcome]] = field(default_factory=lambda: defaultdict(list))

    def wall_s(self, row: str) -> float:
        """Return a row's median, or infinity for one that did not run."""
        some = [one.wall_s for one in self.outcomes.get(row, ())]
        return statistics.median(some) if some else float("inf")

    @property
    def peers(self) -> dict[str, float]:
        """Wall times of those who read over the link, what a cache holds already left out."""
        return {
            row: self.wall_s(row)
            for row in self.outcomes
            if row not in (*OURS, LOCAL, LOCAL_ROOT, WARM_CACHE)
        }


class Matrix:
    """Has rows take their turns, cell by cell, and compares what comes out."""

    def __init__(self, bench: Bench, place: Ground, ours: Ours) -> None:
        self._bench, self._place, self._ours = bench, place, ours
        peers = Peers(place)
        self.rows: dict[str, Callable[[Workload, int], Outcome]] = {
            LOCAL: peers.local_uproot,
            LOCAL_ROOT: peers.local_root,
            "uproot, root://": peers.uproot_root,
            "uproot, HTTP": peers.uproot_http,
            "ROOT, TTreeCache": peers.root_cache,
            "ROOT, asynchronous prefetching": peers.root_ahead,
            "xrdcp, then uproot": peers.xrdcp,
            "XCache, cold": peers.cold_cache,
            WARM_CACHE: peers.warm_cache,
            ALONE: ours.alone,
            COLD: ours.cold_edge,
            WARM: ours.warm_edge,
        }
        self._digests: dict[str, object] = {}
        self.found: dict[Cell, Found] = {}
        self.wrong: list[str] = []
        self.failed: list[str] = []

    def measure(self, cell: Cell, rows: Iterable[str], rounds: int) -> Found:
        """Run rows in turn; ours and the local disk so often, peers once."""
        self._place.link.set(cell.condition)
        found = self.found.setdefault(cell, Found())
        floor = self._floor(cell)
        for number in range(rounds):
            for row in rows:
                if number and row not in (*OURS, LOCAL):
                    continue
                try:
                    outcome = self.rows[row](cell.work, cell.workers)
                except (RuntimeError, CannotMeasureError) as error:
                    # It is told of, and does not take the others' minutes along.
                    self.failed.append(f"{cell}: {row}: {error}")
                    print(self.failed[-1], file=sys.stderr, flush=True)
                    continue
                found.outcomes[row].append(outcome)
                self._compare(cell, row, outcome)
                print(f"{cell}: {row}: {outcome.wall_s:.2f} s", file=sys.stderr, flush=True)
        found.floor_s = max(floor, found.wall_s(LOCAL))
        self._note(cell, found, floor)
        return found

    def _floor(self, cell: Cell) -> float:
        """Return the best copy of bare bytes, and one round trip."""
        copy = [sys.executable, "-m", "bench.wan_parts.floor", "copy", FAR, FLOOR_PORT]
        taken = [
            float(self._place.link.run(self._place.link.near, [*copy, cell.work.needed, streams]))
            for streams in STREAMS
        ]
        return min(taken) + cell.condition.round_trip_ms / 1000

    def _compare(self, cell: Cell, row: str, outcome: Outcome) -> None:
        if self._digests.setdefault(cell.work.name, outcome.sums) != outcome.sums:
            self.wrong.append(f"{cell}: {row}")

    def _note(self, cell: Cell, found: Found, floor: float) -> None:
        measure = self._bench.measure
        measure(f"{cell}: raw copy and a round trip", floor, "s")
        for row, outcomes in found.outcomes.items():
            walls = Samples(tuple(one.wall_s for one in outcomes))
            measure(f"{cell}: {row}, wall", walls, "s")
            measure(f"{cell}: {row}, CPU", statistics.median(o.cpu_s for o in outcomes), "s")
            down = statistics.median(one.down for one in outcomes)
            measure(f"{cell}: {row}, bytes over the link", down / 1e6, "MB")
            if row in OURS:
                first = statistics.median(one.notes["first"] for one in outcomes)
                measure(f"{cell}: {row}, until the first report", first, "s")

    # --- what is asked ---------------------------------------------------------------

    def ask_outputs(self) -> None:
        """Ask for outputs of every row, and equal ones."""
        self._bench.report("rows that failed", self.failed)
        self._bench.ask("rows that failed", len(self.failed), "==", 0)
        self._bench.report("rows with other outputs", self.wrong)
        self._bench.ask("rows with other outputs than the local disk's", len(self.wrong), "==", 0)

    def ask_compute(self, cell: Cell) -> None:
        """Ask that the network disappears beside computing."""
        found = self.found[cell]
        for row in (COLD, WARM):
            ratio = found.wall_s(row) / found.wall_s(LOCAL)
            self._bench.ask(f"{cell}: {row}, wall over local", ratio, "<=", 1.05)

    def ask_skim(self, cell: Cell) -> None:
        """Ask for the floor, and to be before all peers where the data is far."""
        found = self.found[cell]
        for row in (COLD, WARM):
            ratio = found.wall_s(row) / found.floor_s
            self._bench.ask(f"{cell}: {row}, wall over the floor", ratio, "<=", 1.25)
        if cell.condition.round_trip_ms >= 20:
            best = min(found.peers, key=lambda row: found.peers[row])
            for row in (COLD, WARM):
                ratio = found.wall_s(row) / found.peers[best]
                self._bench.ask(f"{cell}: {row}, wall over the best peer's", ratio, "<", 1.0)
            self._bench.report(f"{cell}: the best peer", best)

    def ask_bytes(self, cell: Cell) -> None:
        """Ask that little more than what is needed comes over the link."""
        for row in OURS:
            if row in self.found[cell].outcomes:
                most = max(one.down for one in self.found[cell].outcomes[row]) / cell.work.needed
                text = f"{cell}: {row}, bytes over the link for each needed"
                self._bench.ask(text, most, "<=", 1.05)


def workload(name: str, count: int, branches: Sequence[str], burn_s: float = 0.0) -> Workload:
    """Return what is to be done with the first files; no branches are all."""
    files = tuple(inputs.files(count))
    needed = 0
    for path in files:
        with uproot.open(path) as file:
            tree = file["Events"]
            branches = branches or tree.keys()
            needed += sum(int(tree[name].compressed_bytes) for name in branches)
    return Workload(name, files, tuple(branches), burn_s, needed)
