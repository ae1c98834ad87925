"""Whether tasks of a simulation fell short for a cause that its scenario gave."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

GIVEN = "simulated", "lost while they ran it", "given up: "
"""What errors say that the scenario has caused."""
FALLEN = "failed", "aborted"


def check_ends(receipts: Sequence[Mapping[str, Any]], done: Collection[str]) -> None:
    """Refuse ends of a task, or of a chain, that nothing has caused.

    Parameters
    ----------
    receipts : sequence of dict
        Of the tasks, each after the one whose outputs it takes.
    done : collection of str
        What people did meanwhile, or tried to do.

    Raises
    ------
    AssertionError
        Events were set aside, cancelled or withdrawn, or a task failed, without a cause.
    """
    fallen = False
    for receipt in receipts:
        state, counts = receipt["task"]["state"], receipt["counts"]
        for row in receipt["set_aside"]:
            assert any(words in row[3] for words in GIVEN), f"set aside without a cause: {row}"
        # A task of which too much was set aside, or too many attempts failed, stops.
        spoilt = counts["set_aside"] or (counts["failed_attempts"] and not counts["committed"])
        stops = fallen or spoilt or "cancel" in done
        assert not counts["cancelled"] or stops, "cancelled by nobody"
        taken_back = {"withdraw", "reprocess", "retry", "cancel"} & set(done)
        assert not counts["withdrawn"] or taken_back, "withdrawn by nobody"
        cause = fallen or spoilt or taken_back
        assert state not in FALLEN or cause, f"{state} without a cause: {receipt['task']}"
        nothing_left = counts["withdrawn"] == counts["events"]
        stopped = fallen or "cancel" in done or nothing_left
        assert state != "aborted" or stopped, "aborted by nobody"
        fallen = fallen or state in FALLEN
