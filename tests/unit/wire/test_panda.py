"""PanDA's ranges: inclusive and from 1 there, half-open and from 0 here."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evstream.domain.errors import RequestError
from evstream.wire.delivery_messages import ForeignRange
from evstream.wire.panda import from_panda, to_panda

# As a server answers getEventRanges.
RANGE = {
    "eventRangeID": "8765-4321-11-1-10",
    "startEvent": 1,
    "lastEvent": 10,
    "LFN": "EVNT.0001.pool.root",
    "GUID": "BABABABA-0000-4000-8000-00000000BABA",
    "scope": "mc15_13TeV",
}


def test_ten_events_are_ten_entries() -> None:
    one = from_panda(RANGE)
    assert (one.entry_start, one.entry_stop) == (0, 10)
    assert (one.id, one.lfn) == (RANGE["eventRangeID"], RANGE["LFN"])
    assert to_panda(one) == RANGE


@given(st.integers(0, 1 << 50), st.integers(1, 1 << 30))
def test_there_and_back(start: int, entries: int) -> None:
    one = ForeignRange("a.root", start, start + entries, "id", "mc", "guid")
    assert from_panda(to_panda(one)) == one


def test_what_else_is_in_a_range_is_let_be() -> None:
    told = {**RANGE, "startEvent": "3", "lastEvent": "3", "PandaID": 7, "GUID": None}
    assert from_panda(told) == ForeignRange(
        "EVNT.0001.pool.root", 2, 3, "8765-4321-11-1-10", "mc15_13TeV"
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"startEvent": 0},
        {"startEvent": 11},
        {"LFN": ""},
        {"lastEvent": "many"},
        {"LFN": None},
        {"lastEvent": 1.5},
    ],
)
def test_what_is_no_range_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        from_panda({**RANGE, **wrong})


@pytest.mark.parametrize("wrong", [None, [], "x", {}])
def test_what_is_no_object_is_refused(wrong: object) -> None:
    with pytest.raises(RequestError, match="PanDA"):
        from_panda(wrong)
