"""Rounds of a loop are counted, and its errors do not end it."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client.parser import text_string_to_metric_families

from evstream.adapters.metrics import ServiceMetrics
from evstream.daemons.loop import RETRY_S, repeat, run_once
from evstream.domain.errors import TransientError
from evstream.testing.manual_clock import ManualClock

NAMES = ("busy", "idle")


def values(metrics: ServiceMetrics, loop: str) -> dict[str, float]:
    """Return a loop's figures by the name of the metric."""
    return {
        sample.name.removeprefix("evstream_loop_"): sample.value
        for family in text_string_to_metric_families(metrics.text().decode())
        for sample in family.samples
        if sample.labels.get("loop") == loop
    }


def test_rounds_are_counted_with_what_they_did() -> None:
    clock, metrics = ManualClock(), ServiceMetrics(NAMES)
    begun = clock.now().timestamp()

    async def work() -> int:
        clock.advance(2.5)
        return 7

    async def failing() -> int:
        clock.advance(1)
        raise TransientError("the database is away")

    async def main() -> None:
        assert await run_once("busy", work, clock, metrics)
        assert await run_once("busy", work, clock, metrics)
        assert not await run_once("busy", failing, clock, metrics)

    asyncio.run(main())
    assert values(metrics, "busy") == {
        "runs_total": 3,
        "failures_total": 1,
        "items_total": 14,
        "seconds_total": 6,
        "last_seconds": 1,
        "last_success_timestamp_seconds": begun + 5,
    }
    assert set(values(metrics, "idle").values()) == {0}
    assert clock.monotonic() == 6 + RETRY_S


@pytest.mark.parametrize("error", [TransientError("away"), ValueError("ours")])
def test_an_error_does_not_end_a_loop(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    metrics = ServiceMetrics(NAMES)
    rounds = 0

    async def work() -> int:
        nonlocal rounds
        rounds += 1
        if rounds == 4:
            raise asyncio.CancelledError
        raise error

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(repeat("busy", work, ManualClock(), metrics, every_s=1.0))
    assert values(metrics, "busy")["failures_total"] == 3
    assert len(caplog.records) == 3
    assert all("busy" in record.message for record in caplog.records)


def test_two_services_in_a_process_count_apart() -> None:
    clock = ManualClock()
    first, second = ServiceMetrics(NAMES), ServiceMetrics(NAMES)
    first.ran("busy", 1.0, 3, clock.now())
    assert values(first, "busy")["items_total"] == 3
    assert values(second, "busy")["items_total"] == 0
