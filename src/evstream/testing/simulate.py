"""Run seeds of the simulator from the command line and print what came of each."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from evstream.testing.simulated_edges import EdgeScenario
from evstream.testing.simulator import Scenario, sample_files, simulate


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    made = argparse.ArgumentParser(description=__doc__)

    def number(name: str, default: int | None, meaning: str) -> None:
        made.add_argument(f"--{name}", type=int, default=default, metavar="N", help=meaning)

    number("seed", 1, "first seed")
    number("count", 1, "how many seeds")
    number("crashes", Scenario().crashes, "how often the head or a pilot dies")
    number("chained", 0, "further tasks, each on the outputs of the one before")
    number("bundles", 0, "outputs of no more bytes are stored together")
    number("interventions", 0, "how often somebody pauses, cancels or retries")
    number("edges", 0, "edges beside the head")
    number("troubles", EdgeScenario().troubles, "how often something happens to an edge")
    number("requests", None, "requests to prepare; as many as edges, two at most")
    made.add_argument("--damaged", action="store_true", help="one edge damages what it keeps")
    made.add_argument("--wrong", action="store_true", help="one edge makes wrong bytes")
    made.add_argument("--silent", action="store_true", help="one edge sends others than it told of")
    return made


def scenario_of(chosen: argparse.Namespace) -> Scenario:
    """Return what the command line asks for."""
    requests = min(chosen.edges, 2) if chosen.requests is None else chosen.requests
    edges = EdgeScenario(
        chosen.edges,
        troubles=chosen.troubles,
        damaged=chosen.damaged,
        wrong=chosen.wrong,
        silent=chosen.silent,
        requests=requests,
    )
    return Scenario(
        chained=chosen.chained,
        crashes=chosen.crashes,
        interventions=chosen.interventions,
        bundle_bytes=chosen.bundles,
        edges=edges,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run seeds; the first that breaks a rule ends it, and says how it is run again."""
    chosen = parser().parse_args(arguments)
    files, scenario = sample_files(), scenario_of(chosen)
    for seed in range(chosen.seed, chosen.seed + chosen.count):
        try:
            print(simulate(seed, files, scenario), flush=True)
        except BaseException:
            print(f"seed {seed} failed; the same flags with SEED={seed} replay it", file=sys.stderr)
            raise


if __name__ == "__main__":
    main()
