"""Lines of a service's log."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from evstream.adapters.logs import write_logs
from evstream.domain.errors import ConfigError


@pytest.fixture(autouse=True)
def log_is_put_back() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("evstream")
    before = root.handlers[:], root.level, ours.level
    for handler in before[0]:
        root.removeHandler(handler)
    yield
    root.handlers[:], level, own_level = before
    root.setLevel(level)
    ours.setLevel(own_level)


def lines(form: str, level: str = "info") -> list[str]:
    stream = io.StringIO()
    write_logs(form, level, stream)
    log = logging.getLogger("evstream.head")
    log.debug("a trifle")
    log.info("task %d ended\nwell", 7, extra={"task": 7, "state": "done"})
    logging.getLogger("elsewhere").info("a library's trifle")
    try:
        raise RuntimeError("never to be")
    except RuntimeError:
        log.exception("failed")
    return stream.getvalue().splitlines()


def test_an_event_is_an_object_on_one_line() -> None:
    ended, failed = map(json.loads, lines("json"))
    assert ended.pop("time").endswith("Z")
    assert ended == {
        "level": "info",
        "logger": "evstream.head",
        "event": "task 7 ended\nwell",
        "task": 7,
        "state": "done",
    }
    assert failed["event"] == "failed"
    assert "RuntimeError: never to be" in failed["exception"]


def test_an_event_is_a_line_for_people() -> None:
    ended, failed, *trace = lines("text")
    assert ended.endswith(" info evstream.head: task 7 ended well task=7 state=done")
    assert failed.endswith(" error evstream.head: failed")
    assert trace[-1] == "RuntimeError: never to be"


def test_a_level_leaves_out_what_is_below() -> None:
    assert len(lines("json", "debug")) == 3
    assert len(lines("json", "error")) == 1


@pytest.mark.parametrize(("form", "level"), [("xml", "info"), ("json", "loud")])
def test_what_there_is_not_is_refused(form: str, level: str) -> None:
    with pytest.raises(ConfigError, match="choose one of"):
        write_logs(form, level)
