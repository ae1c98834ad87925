"""Receipts of chained tasks against those of their parents."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from evstream.domain.dataset import Dataset, Fingerprint, Origin, SourceFile
from evstream.domain.errors import VerificationError
from evstream.domain.ledger import Commit, Progress, Success
from evstream.domain.lineage import check_lineage
from evstream.domain.names import DatasetName, Guid, LeaseId, Lfn, TaskId, WorkerId
from evstream.domain.outputs import OutputName, OutputRecord
from evstream.domain.payload import Payload
from evstream.domain.receipt import (
    BookOfTask,
    Parent,
    build_receipt,
    check_ledger,
    receipt_digest,
)
from evstream.domain.splitting import Chunk
from evstream.domain.states import TaskState
from evstream.domain.task import TakenOutputs, Task, TaskSpec, process_book

NOW = datetime(2030, 1, 1, tzinfo=UTC)
Receipt = dict[str, Any]


def signed(receipt: Receipt) -> Receipt:
    return {**receipt, "signature": {"public_key": "anne"}}


def make(number: int, files: list[SourceFile], parents: tuple[Receipt, ...] = ()) -> Receipt:
    """Return the receipt of a task that is done with files of ten events, one range each."""
    takes = tuple(TakenOutputs(parent["task"]["id"], "output") for parent in parents)
    spec = TaskSpec(
        "copy",
        DatasetName("" if takes else "user:x"),
        "Events",
        Payload("cp {input} {output}"),
        events_per_range=10,
        takes=takes,
    )
    task = Task(TaskId(number), spec, TaskState.DONE, "request", NOW)
    commits = []
    for place, _ in enumerate(files):
        named = OutputName(task.id, "output", 2 * number, place, 0, 10, 1, LeaseId("l"), ".root")
        left = OutputRecord("output", str(named), 9, f"{place}" * 64, "0" * 8, {"Events": 10})
        where = (process_book(task.id), place, 0, 10, 1, LeaseId("l"), WorkerId("w"))
        commits.append(Commit(*where, Success((left,))))
    chunks = [Chunk(place, file.lfn, 0, 10) for place, file in enumerate(files)]
    count, events = len(files), 10 * len(files)
    progress = Progress(
        events, finished=events, ranges=count, ranges_finished=count, attempts=count
    )
    above = [
        Parent(taken, parent["task"]["name"], TaskState(parent["task"]["state"]), parent)
        for taken, parent in zip(takes, parents, strict=True)
    ]
    book = BookOfTask(chunks, commits, [], progress)
    dataset = Dataset(task.dataset, tuple(files))
    receipt = build_receipt(task, dataset, book, [], NOW.isoformat(), (), above)
    check_ledger(receipt)
    return signed(receipt)


def source(number: int) -> SourceFile:
    mark = Fingerprint(9, "", f"{number}")
    return SourceFile(Lfn(f"{number}.root"), Guid(""), (), mark, {"Events": 10})


def taken(parent: Receipt) -> list[SourceFile]:
    """Return files made of all outputs of a task."""
    return [
        SourceFile(
            Lfn(output["name"]),
            Guid(""),
            (),
            Fingerprint(9, "", output["name"]),
            {"Events": 10},
            origin=Origin(TaskId(parent["task"]["id"]), output["name"], output["sha256"], place),
        )
        for place, output in enumerate(parent["outputs"])
    ]


def family() -> tuple[Receipt, Receipt, Receipt]:
    first = make(1, [source(0), source(1)])
    second = make(2, taken(first), (first,))
    return first, second, make(3, taken(second), (second,))


def given(*receipts: Receipt) -> dict[str, Receipt]:
    return {receipt_digest(receipt): receipt for receipt in receipts}


def test_a_family_holds_together() -> None:
    first, second, third = family()
    found = check_lineage(third, given(first, second))
    assert (found.outputs, found.tasks, found.unproved, found.lacking) == (4, [2, 1], [], [])


def test_what_a_grandparent_did_not_do_is_lacking() -> None:
    first = make(1, [source(0), source(1)])
    row = first["commits"].pop()
    del first["outputs"][1]
    first["set_aside"] = [[*row[:3], "exit 1"]]
    counts = {"committed": 10, "set_aside": 10, "ranges_committed": 1, "failed_attempts": 1}
    first["counts"] |= counts
    first["task"]["state"] = "finished"
    second = make(2, taken(first), (first,))
    third = make(3, taken(second), (second,))
    assert check_lineage(second, {}).lacking == ["task 1 is finished"]
    assert check_lineage(third, given(second)).lacking == ["task 1 is finished"]
    told = "task 1 is finished: 10 of 20 events asked for were committed"
    assert check_lineage(third, given(first, second)).lacking == [told]


def test_what_is_not_given_is_said() -> None:
    first, second, third = family()
    assert check_lineage(third, given(first)).unproved == ["the receipt of task 2 is not given"]
    found = check_lineage(third, given(second))
    assert (found.tasks, found.unproved) == ([2], ["the receipt of task 1 is not given"])
    third["parents"][0]["receipt"] = None
    assert check_lineage(third, {}).unproved == ["task 2 had not ended"]


def lose_a_file(receipt: Receipt) -> None:
    del receipt["files"][0]


def take_twice(receipt: Receipt) -> None:
    receipt["files"].append(receipt["files"][0])


def change(field: str, to: object) -> Callable[[Receipt], None]:
    def changed(receipt: Receipt) -> None:
        receipt["files"][0]["output"][field] = to

    return changed


def forget_origin(receipt: Receipt) -> None:
    del receipt["files"][0]["output"]


def ask_for_less(receipt: Receipt) -> None:
    receipt["files"][0]["asked"] = [[0, 9]]


def count_more(receipt: Receipt) -> None:
    receipt["files"][0]["entries"] = 11


def other_key(receipt: Receipt) -> None:
    receipt["parents"][0]["public_key"] = "bob"


def other_task(receipt: Receipt) -> None:
    receipt["parents"][0]["state"] = "finished"


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lose_a_file, "was not taken"),
        (take_twice, "was taken twice"),
        (change("sha256", "f" * 64), "other content"),
        (change("name", "tasks/1/output/x.root"), "no part of the result of task 1"),
        (change("task", 9), "task 9, which is no parent"),
        (forget_origin, "nobody's output"),
        (ask_for_less, "not all events"),
        (count_more, "taken with 11 events"),
        (other_key, "another key"),
        (other_task, "another one"),
    ],
)
def test_what_does_not_fit_is_refused(harm: Callable[[Receipt], None], message: str) -> None:
    first, second, _ = family()
    harmed = copy.deepcopy(second)
    harm(harmed)
    with pytest.raises(VerificationError, match=message):
        check_lineage(harmed, given(first))


def test_a_parent_whose_own_ledger_does_not_hold_is_refused() -> None:
    first, *_ = family()
    first["counts"]["committed"] = 19
    second = make(2, taken(first), (first,))
    with pytest.raises(VerificationError, match="counts committed as 19"):
        check_lineage(second, given(first))
