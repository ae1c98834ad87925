"""The access log: lines that the simulator reads, a new file in time, and a disk that fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from evstream.edge.access_log import FLUSH_S, RETRY_S, AccessLog
from evstream.testing.manual_clock import ManualClock
from evstream.wire.access_log import requests_of


def keys(path: Path) -> list[object]:
    with path.open("rb") as lines:
        return [request.key for request in requests_of(lines, path.name)]


def test_what_is_noted_can_be_read(tmp_path: Path) -> None:
    clock = ManualClock()
    log = AccessLog(tmp_path / "logs" / "access.log", 1 << 20, clock)
    log.note("a", 10, 0.5, "", hit=False)
    clock.advance(FLUSH_S)
    log.note("b", 20, 0.5, "", hit=True)
    assert keys(tmp_path / "logs" / "access.log") == ["a", "b"]


def test_a_full_file_is_kept_once(tmp_path: Path) -> None:
    clock = ManualClock()
    path = tmp_path / "access.log"
    log = AccessLog(path, 100, clock)
    for key in "abc":
        log.note(key, 10, 0.5, "", hit=False)
        log.flush()
    assert keys(path) == ["c"]
    assert keys(tmp_path / "access.log.1") == ["b"]


def test_it_goes_on_where_the_last_one_ended(tmp_path: Path) -> None:
    for key in "ab":
        log = AccessLog(tmp_path / "access.log", 1 << 20, ManualClock())
        log.note(key, 10, 0.5, "", hit=False)
        log.flush()
    assert keys(tmp_path / "access.log") == ["a", "b"]


def test_a_file_that_cannot_be_written_is_said_once_a_minute(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = ManualClock()
    path = tmp_path / "access.log"
    path.mkdir()
    log = AccessLog(path, 1 << 20, clock)
    for _ in range(3):
        log.note("a", 10, 0.5, "", hit=False)
        log.flush()
    assert len(caplog.records) == 1
    path.rmdir()
    clock.advance(RETRY_S)
    log.note("b", 10, 0.5, "", hit=False)
    log.flush()
    assert keys(path) == ["b"]
