"""``evstream simulate``: what would happen, from rules and a trace, without a service."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from evstream.cli.printing import print_json, print_pairs, print_table, size_text
from evstream.domain.caching import POLICIES, Bound, Outcome, Request, bound, replay
from evstream.domain.caching.traces import KINDS, distinct_bytes
from evstream.domain.errors import NotFoundError, RequestError
from evstream.wire.access_log import requests_of


def cache(
    *,
    trace: Annotated[
        str, Parameter(help="Access log of an edge, or one of zipf, scan, campaign.")
    ] = "zipf",
    seed: Annotated[int, Parameter(help="What a trace that is made is drawn from.")] = 1,
    requests: Annotated[int, Parameter(help="How many requests are made.")] = 100_000,
    capacity_bytes: Annotated[int, Parameter(help="Size of the cache; 0: a fraction.")] = 0,
    capacity_fraction: Annotated[
        float, Parameter(help="Size of the cache, of the bytes of all products.")
    ] = 0.1,
    capacity_factor: Annotated[
        float, Parameter(help="Also a cache of so many times the size; 1: only the one.")
    ] = 1.0,
    policy: Annotated[
        tuple[str, ...], Parameter(help="Policies, by name; left out, all.", consume_multiple=True)
    ] = (),
    json: Annotated[bool, Parameter(help="Print JSON instead of a table.")] = False,
) -> None:
    """Tell what a cache would serve: hit rate, bytes from the origin, and the gap to the optimum.

    For example:

        evstream simulate cache --trace access.log --capacity-bytes 2000000000 --capacity-factor 2
    """
    policies = policy or tuple(POLICIES)
    unknown = [name for name in policies if name not in POLICIES]
    if unknown:
        raise RequestError(f"no policy {unknown[0]!r}", hint=f"one of {', '.join(POLICIES)}")
    if capacity_bytes < 0 or capacity_fraction <= 0 or capacity_factor <= 0 or requests < 1:
        raise RequestError(
            "sizes and counts are above 0", hint="see evstream simulate cache --help"
        )
    asked = _read(trace, seed, requests)
    distinct = distinct_bytes(asked)
    first = capacity_bytes or max(1, int(capacity_fraction * distinct))
    capacities = list(dict.fromkeys([first, max(1, int(first * capacity_factor))]))
    best = {capacity: bound(asked, capacity) for capacity in capacities}
    outcomes = {
        capacity: {name: replay(asked, POLICIES[name](capacity), capacity) for name in policies}
        for capacity in capacities
    }
    if json:
        print_json(_plain(asked, distinct, best, outcomes))
        return
    products = len({request.key for request in asked})
    print_pairs(
        [("trace", trace), ("requests", len(asked)), ("products", products),
         ("their bytes", size_text(distinct))]
    )  # fmt: skip
    for capacity in capacities:
        _print(capacity, distinct, best[capacity], outcomes[capacity])


def _read(trace: str, seed: int, requests: int) -> list[Request]:
    if trace in KINDS:
        return KINDS[trace](random.Random(seed), requests)  # noqa: S311 - a trace, no secret
    path = Path(trace)
    if not path.is_file():
        raise NotFoundError(
            f"there is no file {trace!r}", hint=f"give an access log, or one of {', '.join(KINDS)}"
        )
    with path.open("rb") as lines:
        found = list(requests_of(lines, trace))
    if not found:
        raise RequestError(f"{trace} holds no requests", hint="wait until some have come")
    return found


def _print(capacity: int, distinct: int, best: Bound, outcomes: dict[str, Outcome]) -> None:
    rows = []
    for name, outcome in outcomes.items():
        hits = best.hits / outcome.requests
        served = best.bytes_served / outcome.bytes_asked
        rows.append(
            (
                name,
                f"{outcome.hit_rate:.3f}",
                f"{outcome.byte_hit_rate:.3f}",
                size_text(outcome.origin_bytes),
                f"{hits - outcome.hit_rate:.3f}",
                f"{served - outcome.byte_hit_rate:.3f}",
            )
        )
    columns = ["policy", "hit rate", "of bytes", "from the origin", "below the optimum", "of bytes"]
    title = f"\n{size_text(capacity)}, {capacity / distinct:.1%} of all products' bytes"
    print_table(columns, rows, title)


def _plain(
    asked: list[Request],
    distinct: int,
    best: dict[int, Bound],
    outcomes: dict[int, dict[str, Outcome]],
) -> dict[str, object]:
    return {
        "requests": len(asked),
        "bytes_asked": sum(request.size for request in asked),
        "distinct_bytes": distinct,
        "caches": [
            {
                "capacity_bytes": capacity,
                "bound_hits": best[capacity].hits,
                "bound_bytes_served": best[capacity].bytes_served,
                "policies": {
                    name: {
                        "hits": outcome.hits,
                        "hit_rate": outcome.hit_rate,
                        "origin_bytes": outcome.origin_bytes,
                        "cost": outcome.cost,
                    }
                    for name, outcome in of_one.items()
                },
            }
            for capacity, of_one in outcomes.items()
        ],
    }
