"""The first level of a receipt: every entry asked for is accounted for, once."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from evstream.domain.dataset import Dataset, Fingerprint, SourceFile
from evstream.domain.errors import VerificationError
from evstream.domain.ledger import ClosedInterval, Commit, Progress, Success
from evstream.domain.names import DatasetName, Guid, LeaseId, Lfn, TaskId, WorkerId
from evstream.domain.outputs import OutputName, OutputRecord
from evstream.domain.payload import Payload
from evstream.domain.receipt import BookOfTask, build_receipt, canonical_receipt, check_ledger
from evstream.domain.splitting import Chunk
from evstream.domain.states import RangeState, TaskState
from evstream.domain.streams import OUTPUT_STREAM
from evstream.domain.task import Task, TaskSpec

WORKER, LEASE = WorkerId("anne"), LeaseId("lease-1")


def commit(chunk: int, start: int, stop: int) -> Commit:
    name = OutputName(TaskId(1), OUTPUT_STREAM, 2, chunk, start, stop, 1, LEASE, ".root")
    output = OutputRecord(
        OUTPUT_STREAM, str(name), 100, "ab" * 32, "0" * 8, {"Events": stop - start}
    )
    return Commit(2, chunk, start, stop, 1, LEASE, WORKER, Success((output,), 1.0, 2.0, 10))


def make_receipt() -> dict[str, Any]:
    """Return the receipt of 30 events in two files, four of them not committed."""
    spec = TaskSpec(
        "copy", DatasetName("user:x"), "Events", Payload("cp {input} {output}"), events_per_range=10
    )
    now = datetime(2030, 1, 1, tzinfo=UTC)
    task = Task(TaskId(1), spec, TaskState.ABORTED, "request", now)
    files = tuple(
        SourceFile(
            Lfn(name),
            Guid(""),
            (),
            Fingerprint(1000, "", "ab" * 32),
            {"Events": 50},
        )
        for name in ("a.root", "b.root")
    )
    process = BookOfTask(
        chunks=[Chunk(0, Lfn("a.root"), 0, 20), Chunk(1, Lfn("b.root"), 40, 50)],
        commits=[commit(0, 0, 10), commit(0, 10, 18), commit(1, 40, 48)],
        closed=[
            ClosedInterval(2, 0, 18, 20, RangeState.FATAL, "exit 1"),
            ClosedInterval(2, 1, 48, 50, RangeState.CANCELLED, "cancelled"),
        ],
        progress=Progress(
            30, 0, 0, 26, 2, 2, ranges=3, ranges_finished=3, attempts=5, failed_attempts=2
        ),
    )
    return build_receipt(task, Dataset(spec.dataset, files), process, [], now.isoformat())


def test_a_true_receipt_holds() -> None:
    told = check_ledger(json.loads(json.dumps(make_receipt())))
    assert "30 events asked for, 26 committed once in 3 ranges, 4 set aside or cancelled" in told


def test_a_receipt_of_many_ranges_is_checked_in_no_time() -> None:
    """It was a matter of the square of their number: a quarter of an hour for 180 000."""
    ranges = 100_000
    receipt = whole_receipt(merge=False, merged=False)
    (output,) = receipt["outputs"]
    receipt["outputs"] = [
        {**output, "name": f"{n}.root", "file": f"{n}.root", "entries": {"Events": 1}}
        for n in range(ranges)
    ]
    lfn, _, _, *rest = receipt["commits"][0]
    receipt["commits"] = [[lfn, n, n + 1, *rest[:-1], [n]] for n in range(ranges)]
    receipt["files"][0] |= {"entries": ranges, "asked": [[0, ranges]]}
    receipt["task"]["events_per_range"] = 1
    receipt["counts"] |= {"events": ranges, "committed": ranges}
    receipt["counts"] |= dict.fromkeys(("ranges", "ranges_committed", "attempts"), ranges)
    assert f"{ranges} events asked for" in check_ledger(receipt)


def set_at(*path: str | int, to: Any) -> Callable[[dict[str, Any]], None]:
    """Return what changes one value of a receipt."""

    def change(receipt: dict[str, Any]) -> None:
        inner: Any = receipt
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = to

    return change


def repeat_a_name(receipt: dict[str, Any]) -> None:
    """List one file of the store as the output of two ranges."""
    receipt["outputs"][1]["name"] = receipt["outputs"][0]["name"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_at("evstream_receipt", to=99), "version"),
        (set_at("commits", 0, 2, to=9), "missing"),
        (set_at("commits", 0, 2, to=11), "twice"),
        (set_at("commits", 1, 1, to=0), "twice"),
        (set_at("commits", 2, 1, to=39), "not asked"),
        (set_at("commits", 2, 0, to="c.root"), "missing"),
        (set_at("set_aside", to=[]), "missing"),
        (set_at("cancelled", to=[]), "missing"),
        (set_at("files", 0, "asked", to=[[0, 21]]), "missing"),
        (set_at("files", 0, "asked", to=[[0, 19]]), "not asked"),
        (set_at("files", to=[]), "does not list"),
        (set_at("commits", 0, 4, to=[1]), "two ranges claim one output"),
        (repeat_a_name, "two outputs have one name"),
        (set_at("commits", 0, 4, to=[99]), "not listed"),
        (set_at("commits", 0, 4, to=[-1]), "not listed"),
        (set_at("commits", 0, to=None), "damaged"),
        (set_at("commits", 0, 1, to="zero"), "damaged"),
        (set_at("outputs", 1, "merged_into", to=0), "merged into what is no merge"),
        (set_at("files", 0, "entries", to=19), "has no entries"),
        (set_at("counts", "committed", to=27), "counts committed as 27, its ledger as 26"),
        (set_at("counts", "set_aside", to=7), "counts set_aside as 7"),
        (set_at("counts", "cancelled", to=0), "counts cancelled as 0"),
        (set_at("counts", "ranges_committed", to=4), "counts ranges_committed as 4"),
        (set_at("counts", "attempts", to=1), "counts 1 attempts"),
        (set_at("counts", "ranges", to=4), "counts ranges as 4, its ledger as 3"),
        (set_at("counts", "bytes_of_source", to=1), "counts bytes_of_source as 1"),
        (set_at("counts", "cpu_s", to=-5), "counts cpu_s as -5"),
        (set_at("counts", "cpu_s", to="x"), "damaged"),
        (set_at("counts", "cpu_s", to=float("nan")), "counts cpu_s as nan"),
        (set_at("counts", "lost_cpu_s", to=float("inf")), "counts lost_cpu_s as inf"),
        (set_at("counts", "bytes_delivered", to=-1), "counts bytes_delivered as -1"),
        (lambda r: r["counts"].update(attempts=2, failed_attempts=-1), "counts failed_attempts"),
        (set_at("outputs", 1, "file", to="a.00000-0-10.root"), "two outputs have one file"),
        (set_at("task", "events_per_range", to=0), "damaged"),
        (set_at("task", "state", to="done"), "said to be done, with 26 events committed"),
        (set_at("task", "state", to="finished"), "said to be finished"),
        (set_at("task", "state", to="failed"), "said to be failed"),
        (set_at("task", "state", to="running"), "said to be running"),
        (set_at("task", "state", to="splendid"), "damaged"),
    ],
)
def test_a_receipt_that_lies_is_found_out(
    change: Callable[[dict[str, Any]], None], message: str
) -> None:
    receipt = copy.deepcopy(make_receipt())
    change(receipt)
    with pytest.raises(VerificationError, match=message):
        check_ledger(receipt)


def whole_receipt(*, merge: bool, merged: bool) -> dict[str, Any]:
    """Return the receipt of 20 events that are all committed."""
    receipt = make_receipt()
    del receipt["files"][1], receipt["commits"][1:]
    receipt["commits"][0][2] = 20
    receipt["outputs"] = [{**receipt["outputs"][0], "entries": {"Events": 20}}]
    if merged:
        whole = {"file": "merged.root", "name": "merged", "merged_into": None}
        part = {**receipt["outputs"][0], "merged_into": 0}
        receipt["outputs"] = [{**part, **whole}, part]
        receipt["commits"][0][4] = [1]
    receipt["set_aside"] = receipt["cancelled"] = []
    receipt["task"] |= {"state": "done", "merge": merge}
    receipt["task"]["streams"][0]["merge"] = "all" if merge else None
    receipt["counts"] |= {"events": 20, "committed": 20, "set_aside": 0, "cancelled": 0}
    receipt["counts"] |= {"ranges": 2, "ranges_committed": 1, "attempts": 1, "failed_attempts": 0}
    receipt["counts"]["bytes_of_source"] = 1000
    return receipt


@pytest.mark.parametrize(
    ("state", "merge", "merged", "fits"),
    [
        ("done", False, False, True),
        ("done", True, True, True),
        ("done", True, False, False),
        ("done", False, True, False),
        ("finished", False, False, False),
        ("failed", False, False, False),
        ("failed", True, True, False),
        # Every range is committed, and what comes after was not to be.
        ("failed", True, False, True),
        ("aborted", True, False, True),
        ("aborted", True, True, False),
        ("aborted", False, False, False),
    ],
)
def test_a_state_fits_its_counts(state: str, merge: bool, merged: bool, fits: bool) -> None:
    receipt = whole_receipt(merge=merge, merged=merged)
    receipt["task"]["state"] = state
    if fits:
        check_ledger(receipt)
        return
    with pytest.raises(VerificationError, match=f"said to be {state}|did not ask for"):
        check_ledger(receipt)


def test_a_receipt_that_does_not_say_whether_a_merge_was_asked_for_holds() -> None:
    for merged in (False, True):
        receipt = whole_receipt(merge=merged, merged=merged)
        del receipt["task"]["merge"], receipt["task"]["streams"]
        check_ledger(receipt)


@pytest.mark.parametrize(
    ("parts", "merged", "command", "message"),
    [
        ({"Events": 20, "Book": 2}, {"Events": 20, "Book": 1}, "join", None),
        ({"Events": 20, "Book": 2}, {"Events": 20}, "join", None),
        ({"Events": 20}, {"Events": 20, "Sums": 1}, "join", None),
        ({"Events": 20, "Book": 2}, {"Events": 20, "Book": 1}, None, "1 entries in Book"),
        ({"Events": 20}, {"Events": 20, "Sums": 1}, None, "1 entries in Sums"),
        ({"Events": 20, "Book": 2}, {"Events": 19, "Book": 2}, "join", "19 entries in Events"),
        ({"Selected": 7}, {"Selected": 7}, "join", None),
        ({"Selected": 7}, {"Selected": 6}, "join", "6 entries in Selected"),
        ({"Selected": 7}, {}, "join", "0 entries in Selected"),
        ({}, {"Selected": 6}, "join", None),
    ],
)
def test_of_merges_by_a_command_the_events_are_counted(
    parts: dict[str, int], merged: dict[str, int], command: str | None, message: str | None
) -> None:
    receipt = whole_receipt(merge=True, merged=True)
    receipt["task"]["streams"][0]["merge_command"] = command
    receipt["outputs"][0]["entries"], receipt["outputs"][1]["entries"] = merged, parts
    if message is None:
        check_ledger(receipt)
        return
    with pytest.raises(VerificationError, match=message):
        check_ledger(receipt)


def test_what_is_signed_does_not_depend_on_order_or_signature() -> None:
    receipt = make_receipt()
    signed = {"signature": "x", **dict(reversed(receipt.items()))}
    assert canonical_receipt(signed) == canonical_receipt(receipt)
    assert b" " not in canonical_receipt({"a": [1, 2], "b": None})
