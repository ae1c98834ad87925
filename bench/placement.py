"""What caches serve: our policy against five known ones and what cannot be beaten.

Traces come from seeds, which also draw how many products there are, how large, how popular: any
seeds do. Pure computation; nothing is fetched.
"""

from __future__ import annotations

import argparse
import random
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat

from bench.harness import Bench
from evstream.domain.caching import POLICIES, Outcome, bound, replay
from evstream.domain.caching.traces import KINDS, distinct_bytes

OURS = "reuse"
SHARES = (0.01, 0.05, 0.2)
"""Capacities, of the bytes of all products of a trace."""
SHORT = 0.05


@dataclass(frozen=True, slots=True)
class Compared:
    """Our policy on one trace and capacity, against the best of the others at each figure."""

    name: str
    figures: str
    hits: float
    origin: float
    hit_gap: float
    byte_gap: float


def main() -> int:
    """Replay all traces at all capacities with all policies; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.placement", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="shorter traces, for a look")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    words = parser.parse_args()
    bench = Bench("placement", quick=words.quick)
    bench.input("seeds", words.seeds)
    bench.input("capacities, of distinct bytes", SHARES)
    requests = bench.choose("requests of a trace", full=100_000, quick=10_000)
    bench.ready()
    # Traces know nothing of each other: each core takes its own.
    with ProcessPoolExecutor() as cores:
        found = {
            kind: cores.map(compare, repeat(kind), words.seeds, repeat(requests)) for kind in KINDS
        }
        for kind, traces in found.items():
            hold(bench, kind, [one for trace in traces for one in trace])
    return bench.finish()


def compare(kind: str, seed: int, requests: int) -> list[Compared]:
    """Replay one trace at all capacities with each policy."""
    trace = KINDS[kind](random.Random(seed), requests)
    found = []
    for share in SHARES:
        capacity = int(share * distinct_bytes(trace))
        outcomes = {
            name: replay(trace, make(capacity), capacity) for name, make in POLICIES.items()
        }
        ours = outcomes.pop(OURS)
        best_hits = max(outcome.hits for outcome in outcomes.values())
        best_origin = min(outcome.origin_bytes for outcome in outcomes.values())
        best = bound(trace, capacity)
        name = f"{kind}, seed {seed}, {share:.0%}"
        outcomes[OURS] = ours
        served = 1.0 - best.bytes_served / ours.bytes_asked
        found.append(
            Compared(
                name,
                f"{_figures(outcomes)}; bound {best.hits / requests:.3f}/{served:.3f}",
                ours.hits / max(1, best_hits),
                ours.origin_bytes / best_origin,
                (best.hits - ours.hits) / requests,
                (ours.origin_bytes - (ours.bytes_asked - best.bytes_served)) / ours.bytes_asked,
            )
        )
    return found


def _figures(outcomes: dict[str, Outcome]) -> str:
    """Write down hit rates and shares of bytes from the origin."""
    return ", ".join(
        f"{name} {outcome.hit_rate:.3f}/{1.0 - outcome.byte_hit_rate:.3f}"
        for name, outcome in outcomes.items()
    )


def hold(bench: Bench, kind: str, compared: list[Compared]) -> None:
    """Measure and hold the worst of a kind of traces; print the gaps to the optimum."""
    for one in compared:
        bench.report(one.name, one.figures)
    worst_hits = min(compared, key=lambda one: one.hits)
    worst_origin = max(compared, key=lambda one: one.origin)
    count = len(compared)
    short = sum(one.hits < 1 - SHORT or one.origin > 1 + SHORT for one in compared)
    bench.report(f"{kind}: short of it by more than 5 %", f"{short} of {count}")
    bench.measure(f"{kind}: hit rate over the best's, mean", _mean([o.hits for o in compared]), "1")
    bench.measure(
        f"{kind}: origin bytes over the best's, mean", _mean([o.origin for o in compared]), "1"
    )
    bench.measure(
        f"{kind}: hit rate below the optimum's bound, mean",
        _mean([one.hit_gap for one in compared]),
        "1",
    )
    bench.measure(
        f"{kind}: share of bytes from the origin above the optimum's bound, mean",
        _mean([one.byte_gap for one in compared]),
        "1",
    )
    bench.ask(
        f"{kind}: hit rate over the best online policy's, worst ({worst_hits.name})",
        worst_hits.hits,
        ">=",
        1 - SHORT,
    )
    bench.ask(
        f"{kind}: origin bytes over the best online policy's, worst ({worst_origin.name})",
        worst_origin.origin,
        "<=",
        1 + SHORT,
    )


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


if __name__ == "__main__":
    sys.exit(main())
