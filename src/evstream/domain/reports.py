"""Figures that tell how well work went, from its accounts. Rules only: no I/O."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from evstream.domain.accounts import Account, begin_of, total

SOURCES = ("edge", "replica", "head", "node", "store")
STEPS = (
    "plan_s",
    "queue_s",
    "fetch_s",
    "ready_s",
    "starved_s",
    "idle_s",
    "wall_s",
    "stage_s",
    "commit_s",
)


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of a report.

    Attributes
    ----------
    value : float
        NaN where there is nothing to divide by.
    unit : str
        ``"1"`` of counts, ``"%"``, ``"s"`` or ``"B"``.
    """

    name: str
    value: float
    unit: str


def figures(accounts: Iterable[Account]) -> list[Figure]:
    """Return the figures of some accounts together."""
    one = total(accounts)
    ended = one.done + one.failed
    cores_s = one.wall_s + one.starved_s + one.idle_s
    received = sum(getattr(one, name) for name in SOURCES)
    return [
        Figure("units started", one.started, "1"),
        Figure("units done", one.done, "1"),
        Figure("units failed", one.failed, "1"),
        Figure("success rate", _share(one.done, ended), "%"),
        Figure("events", one.entries, "1"),
        Figure("CPU of payloads", one.cpu_s, "s"),
        Figure("CPU of attempts that failed", one.lost_cpu_s, "s"),
        Figure("CPU over the time of payloads", _share(one.cpu_s, one.wall_s), "%"),
        Figure("CPU over the time of cores", _share(one.cpu_s, cores_s), "%"),
        Figure("time of cores that waited for input", _share(one.starved_s, cores_s), "%"),
        *(
            Figure(f"{_STEPS[name]}, a unit", _over(getattr(one, name), ended), "s")
            for name in STEPS
        ),
        Figure("bytes in", received, "B"),
        *(Figure(f"bytes from {_SOURCES[name]}", getattr(one, name), "B") for name in SOURCES),
        Figure("bytes in, an event", _over(received, one.entries), "B"),
        Figure("bytes out", one.bytes_out, "B"),
    ]


_STEPS = {
    "plan_s": "claimed and planned",
    "queue_s": "waiting for its turn",
    "fetch_s": "fetched",
    "ready_s": "waiting for a core",
    "starved_s": "a core waiting for it",
    "idle_s": "a core without work before it",
    "wall_s": "computed",
    "stage_s": "stored",
    "commit_s": "reported",
}
_SOURCES = {
    "edge": "edges",
    "replica": "sources, cut by pilots",
    "head": "the service",
    "node": "caches of nodes",
    "store": "the output store",
}


def curve(accounts: Iterable[Account]) -> list[tuple[float, int, int]]:
    """Return how many units had begun and were done at the ends of bins, from the task's beginning.

    Returns
    -------
    list of tuple
        Seconds, units begun, units done; ascending.
    """
    bins: dict[int, tuple[int, int]] = {}
    for account in accounts:
        started, done = bins.get(account.bin, (0, 0))
        bins[account.bin] = started + account.started, done + account.done
    found: list[tuple[float, int, int]] = []
    started = done = 0
    for number, (more_started, more_done) in sorted(bins.items()):
        started, done = started + more_started, done + more_done
        found.append((begin_of(number + 1), started, done))
    return found


def _over(value: float, by: float) -> float:
    return value / by if by else math.nan


def _share(part: float, whole: float) -> float:
    return 100 * _over(part, whole)
