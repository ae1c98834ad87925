"""A service's metrics in Prometheus' text form."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

import evstream
from evstream.ports.metrics import Load, Loaded, Measure, Measured

_LABELS = ("loop",)


@dataclass(slots=True)
class _Loop:
    """What a loop has done since the service began."""

    runs: int = 0
    failures: int = 0
    items: int = 0
    seconds: float = 0.0
    last_s: float = 0.0
    last_success: float = 0.0


class ServiceMetrics(Collector):
    """The `Meter` that loops tell, and the `Metrics` that the API shows; one for each service.

    Parameters
    ----------
    loops : iterable of str
        Names of the loops: they are shown before their first round, too.
    load : callable, optional
        Returns the load of the ledger's writer.
    parts : iterable of callable
        Each returns what a part of the service has counted.
    """

    media_type = CONTENT_TYPE_LATEST

    def __init__(
        self, loops: Iterable[str], load: Loaded | None = None, parts: Iterable[Measured] = ()
    ) -> None:
        self._loops = {name: _Loop() for name in loops}
        self._load = load
        self._parts = list(parts)
        # Its own: several services may live in one process.
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def ran(self, loop: str, seconds: float, items: int, at: datetime) -> None:
        """Count a round that has done its work."""
        known = self._round(loop, seconds)
        known.items += items
        known.last_success = at.timestamp()

    def failed(self, loop: str, seconds: float) -> None:
        """Count a round that ended by an error."""
        self._round(loop, seconds).failures += 1

    def _round(self, loop: str, seconds: float) -> _Loop:
        known = self._loops[loop]
        known.runs += 1
        known.seconds += seconds
        known.last_s = seconds
        return known

    def text(self) -> bytes:
        """Return all metrics as they are now."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics as they are now."""
        about = GaugeMetricFamily("evstream_info", "1, with the version.", labels=("version",))
        about.add_metric((evstream.__version__,), 1)
        yield about
        yield from self._of_loops()
        if self._load is not None:
            yield from _of_ledger(self._load())
        for part in self._parts:
            yield from map(_family, part())

    def _of_loops(self) -> Iterator[Metric]:
        runs = CounterMetricFamily("evstream_loop_runs", "Rounds that ended.", labels=_LABELS)
        failures = CounterMetricFamily(
            "evstream_loop_failures", "Rounds that ended by an error.", labels=_LABELS
        )
        items = CounterMetricFamily(
            "evstream_loop_items", "What was removed, taken back or looked at.", labels=_LABELS
        )
        seconds = CounterMetricFamily(
            "evstream_loop_seconds", "Duration of all rounds together.", labels=_LABELS
        )
        last = GaugeMetricFamily(
            "evstream_loop_last_seconds", "Duration of the last round.", labels=_LABELS
        )
        success = GaugeMetricFamily(
            "evstream_loop_last_success_timestamp_seconds",
            "When the last round without an error ended; 0 before the first.",
            labels=_LABELS,
        )
        for name, loop in self._loops.items():
            runs.add_metric((name,), loop.runs)
            failures.add_metric((name,), loop.failures)
            items.add_metric((name,), loop.items)
            seconds.add_metric((name,), loop.seconds)
            last.add_metric((name,), loop.last_s)
            success.add_metric((name,), loop.last_success)
        yield from (runs, failures, items, seconds, last, success)


def _family(measure: Measure) -> Metric:
    kind = CounterMetricFamily if measure.kind == "counter" else GaugeMetricFamily
    family = kind(measure.name, measure.meaning, labels=measure.labels)
    for labels, value in measure.values.items():
        family.add_metric(labels, value)
    return family


def _of_ledger(load: Load) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "evstream_ledger_operations_waiting", "Operations that wait.", load.waiting
    )
    yield CounterMetricFamily(
        "evstream_ledger_operations", "Operations that were answered.", load.operations
    )
    yield CounterMetricFamily(
        "evstream_ledger_transactions_given_up",
        "Transactions that came to nothing, and were tried again or failed.",
        load.given_up,
    )
    yield HistogramMetricFamily(
        "evstream_ledger_commit_seconds",
        "Time of a group's transaction until it is durable.",
        buckets=[
            ("+Inf" if math.isinf(bound) else str(bound), count) for bound, count in load.commit_s
        ],
        sum_value=load.commit_s_sum,
    )
