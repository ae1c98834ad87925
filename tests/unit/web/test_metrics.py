"""A service's metrics: who may see them, what they say, and that the page says the same."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import httpx2
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from evstream import daemons
from evstream.adapters.metrics import ServiceMetrics
from evstream.assembly import Application, open_embedded
from evstream.assembly.measures import cache_measures, lane_measures
from evstream.domain.lanes import LaneRules, Lanes
from evstream.edge.cache import CacheState
from evstream.ports import Measure
from evstream.settings import Settings
from tests.docs.pages import REFERENCE, section, table

PAGE = REFERENCE / "metrics.md"
DOOR = {"Authorization": "Bearer secret"}


def asked(tmp_path: Path) -> tuple[list[Metric], dict[str, Any]]:
    """Return what a service with a database shows, and the headers of its answer."""

    async def main() -> tuple[list[Metric], dict[str, Any]]:
        settings = Settings(data_dir=str(tmp_path))
        async with open_embedded(settings, token="secret") as application:
            await _work(application)
            transport = httpx2.ASGITransport(application.app)
            async with httpx2.AsyncClient(transport=transport, base_url="http://x") as client:
                refused = await client.get("/metrics")
                assert refused.status_code == 401
                answer = await client.get("/metrics", headers=DOOR)
                assert answer.status_code == 200
        return list(text_string_to_metric_families(answer.text)), dict(answer.headers)

    return asyncio.run(main())


async def _work(application: Application) -> None:
    """Look at the tasks once, by the service's client."""
    assert await application.client().tasks() == []


def samples(families: list[Metric]) -> dict[str, float]:
    """Return values of metrics without labels, by name."""
    return {s.name: s.value for family in families for s in family.samples if not s.labels}


def test_the_ledgers_figures_are_shown(tmp_path: Path) -> None:
    families, headers = asked(tmp_path)
    assert headers["content-type"].startswith("text/plain; version=")
    found = samples(families)
    assert found["evstream_ledger_operations_waiting"] == 0
    assert found["evstream_ledger_transactions_given_up_total"] == 0
    commits = found["evstream_ledger_commit_seconds_count"]
    assert 1 <= commits <= found["evstream_ledger_operations_total"]
    assert found["evstream_ledger_commit_seconds_sum"] > 0
    (histogram,) = [f for f in families if f.name == "evstream_ledger_commit_seconds"]
    buckets = [s.value for s in histogram.samples if s.name.endswith("_bucket")]
    assert buckets == sorted(buckets)
    assert buckets[-1] == commits


def test_the_page_shows_each_metric(tmp_path: Path) -> None:
    families, _ = asked(tmp_path)
    rows = table(PAGE.read_text(encoding="utf-8"), "metric")
    shown = {}
    for family in families:
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels}
        shown[name] = family.type, labels
    assert shown == {
        name: (row["type"], set(re.findall(r"\w+", row["labels"]))) for name, row in rows.items()
    }
    for name, row in rows.items():
        if "seconds" in name:
            assert row["unit"].startswith("seconds"), name


def test_the_page_shows_each_loop(tmp_path: Path) -> None:
    families, _ = asked(tmp_path)
    loops = {
        sample.labels["loop"] for f in families for sample in f.samples if "loop" in sample.labels
    }
    rows = table(section(PAGE, "Loops"), "loop")
    assert loops == set(rows) == set(daemons.NAMES)
    named = set()
    for row in rows.values():
        for setting in re.findall(r"\b(\w+_s)\b", f"{row['how often']} {row['item']}"):
            assert hasattr(Settings(), setting)
            named.add(setting)
    assert len(named) == 4


def test_parts_of_a_service_show_what_they_count() -> None:
    counted = {("hit",): 3.0, ("miss",): 1.0}

    def measured() -> list[Measure]:
        return [
            Measure("evstream_x_requests", "counter", "Requests.", counted, ("answer",)),
            Measure("evstream_x_bytes", "gauge", "Bytes.", {(): 7.0}),
        ]

    text = ServiceMetrics((), parts=[measured]).text().decode()
    counted["hit",] = 4.0
    assert 'evstream_x_requests_total{answer="hit"} 3.0' in text
    assert "evstream_x_bytes 7.0" in text


def test_a_lane_that_has_made_nothing_took_no_time() -> None:
    lanes = Lanes(LaneRules(2, 1, 3))
    text = ServiceMetrics((), parts=[lambda: lane_measures(lanes.states())]).text().decode()
    assert 'evstream_lane_make_seconds{lane="on-demand"} 0.0' in text


def test_the_page_shows_each_metric_of_an_edge() -> None:
    state = CacheState(1, 2, 3, 4, hits=5, misses=6, evicted=7)
    lanes = Lanes(LaneRules(2, 1, 3)).states()
    parts = [lambda: cache_measures(state), lambda: lane_measures(lanes)]
    metrics = ServiceMetrics((), parts=parts)
    families = [
        family
        for family in text_string_to_metric_families(metrics.text().decode())
        if family.name.startswith(("evstream_cache", "evstream_lane"))
    ]
    shown = {
        f"{family.name}_total" if family.type == "counter" else family.name: (
            family.type,
            {label for sample in family.samples for label in sample.labels},
        )
        for family in families
    }
    rows = table(PAGE.read_text(encoding="utf-8"), "of an edge")
    assert shown == {
        name: (row["type"], set(re.findall(r"\w+", row["labels"]))) for name, row in rows.items()
    }
