"""``evstream simulate cache``: made traces, access logs, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evstream.cli.simulate import cache
from evstream.domain.errors import NotFoundError, RequestError
from evstream.wire.access_log import Access, line_of, requests_of


def answer(capsys: pytest.CaptureFixture[str], **flags: Any) -> Any:
    cache(json=True, **flags)
    return json.loads(capsys.readouterr().out)


def test_a_log_is_replayed_at_both_sizes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "access.log"
    lines = [line_of(Access(turn, "ab"[turn % 2], 10, 2.0)) for turn in range(20)]
    log.write_bytes(b"".join(lines) + b'{"time": 3')
    found = answer(capsys, trace=str(log), capacity_bytes=10, capacity_factor=2.0, policy=("lru",))
    assert (found["requests"], found["distinct_bytes"]) == (20, 20)
    small, large = found["caches"]
    assert (small["policies"]["lru"]["hits"], large["policies"]["lru"]["hits"]) == (0, 18)
    assert large["policies"]["lru"]["origin_bytes"] == 20
    assert large["policies"]["lru"]["cost"] == 4.0
    assert large["bound_hits"] == 18
    assert 0 < small["bound_hits"] <= 10


def test_a_seed_is_a_trace(capsys: pytest.CaptureFixture[str]) -> None:
    flags: dict[str, Any] = {"trace": "campaign", "requests": 500, "policy": ("reuse", "lru")}
    first = answer(capsys, seed=5, **flags)
    assert answer(capsys, seed=5, **flags) == first
    assert answer(capsys, seed=6, **flags) != first


def test_tables_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    cache(trace="scan", requests=300, policy=("sieve",))
    printed = capsys.readouterr().out
    assert "hit rate" in printed
    assert "sieve" in printed


def test_what_is_no_trace_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        cache(trace=str(tmp_path / "none"))
    with pytest.raises(RequestError, match="no policy"):
        cache(policy=("magic",))
    with pytest.raises(RequestError):
        cache(capacity_fraction=0.0)
    empty = tmp_path / "empty"
    empty.write_bytes(b"")
    with pytest.raises(RequestError, match="no requests"):
        cache(trace=str(empty))


def test_a_line_that_is_something_else_is_named() -> None:
    lines = [line_of(Access(1.0, "a", 10, 1.0)), b'{"time": 2, "key": "a", "size": 0, "cost": 1}\n']
    with pytest.raises(RequestError, match=r"access.log:2"):
        list(requests_of(lines, "access.log"))
