"""The summary of a job: numbers with units in their names, and a table."""

from __future__ import annotations

from typing import Any

from evstream.cli.summary import summarize

COUNTS: dict[str, Any] = {
    "events": 100,
    "committed": 90,
    "set_aside": 10,
    "ranges": 10,
    "ranges_committed": 9,
    "attempts": 12,
    "failed_attempts": 3,
    "cpu_s": 8.0,
    "lost_cpu_s": 1.0,
    "bytes_delivered": 1500,
    "bytes_of_source": 3000,
}


def test_a_resumed_job_counts_what_this_call_computed() -> None:
    report = summarize({"counts": COUNTS}, 2.0, 2, cpu_s_before=5.0)
    assert (report.wall_s, report.cpu_efficiency) == (2.0, 0.75)
    rows = dict(report.rows())
    assert rows["CPU efficiency"] == "75%"
    assert rows["delivered / source"] == "50%"
    assert rows["bytes delivered"] == "1.5 kB"


def test_a_job_that_was_done_before_took_nothing() -> None:
    report = summarize({"counts": COUNTS}, None, 2)
    assert (report.wall_s, report.cpu_efficiency) == (None, None)
    assert dict(report.rows())["wall seconds"] == "-"
