"""The simulator's judgement of how tasks end."""

from __future__ import annotations

from typing import Any

import pytest

from evstream.testing.causes import check_ends

POISON = ["a", 0, 1, "simulated: exit 1"]


def receipt(state: str, aside: list[Any] | None = None, **counts: int) -> dict[str, Any]:
    """Return as much of a receipt as is looked at."""
    none = {"events": 9, "committed": 1, "cancelled": 0, "withdrawn": 0, "failed_attempts": 0}
    none["set_aside"] = len(aside or [])
    return {"task": {"state": state}, "set_aside": aside or [], "counts": none | counts}


@pytest.mark.parametrize(
    ("receipts", "done"),
    [
        ([receipt("done"), receipt("done")], []),
        ([receipt("finished", [POISON]), receipt("done")], []),
        ([receipt("failed", [POISON], committed=0), receipt("failed")], []),
        ([receipt("aborted", cancelled=1), receipt("aborted")], ["cancel"]),
        ([receipt("finished", withdrawn=1)], ["withdraw"]),
        ([receipt("aborted", committed=0, withdrawn=9)], ["withdraw"]),
        ([receipt("failed", committed=0, cancelled=9, failed_attempts=40)], []),
    ],
)
def test_what_has_a_cause_may_be(receipts: list[dict[str, Any]], done: list[str]) -> None:
    check_ends(receipts, done)


@pytest.mark.parametrize(
    ("receipts", "done"),
    [
        ([receipt("done"), receipt("failed")], []),
        ([receipt("finished", [["a", 0, 1, "no such file"]])], []),
        ([receipt("aborted", cancelled=1)], ["pause"]),
        ([receipt("finished", withdrawn=1)], ["pause"]),
        ([receipt("done"), receipt("aborted")], ["retry"]),
    ],
)
def test_what_has_none_may_not(receipts: list[dict[str, Any]], done: list[str]) -> None:
    with pytest.raises(AssertionError):
        check_ends(receipts, done)
