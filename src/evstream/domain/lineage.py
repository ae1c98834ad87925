"""Lineage: what a chained task's receipt says of its parents, held against their receipts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from evstream.domain.errors import VerificationError
from evstream.domain.receipt import check_ledger
from evstream.domain.states import TaskState

_WHOLE = (TaskState.DONE.value, TaskState.FINISHED.value)


@dataclass(slots=True)
class Lineage:
    """What was found.

    Attributes
    ----------
    outputs : int
        Outputs of tasks that were taken, each proved to be one of its task's result.
    tasks : list of int
        Parents, and parents of these, whose receipts were looked at.
    unproved : list of str
        Why a parent could not be looked at, or not to its end.
    lacking : list of str
        Which of them are not done: of what they were asked for, something was not taken.
    """

    outputs: int = 0
    tasks: list[int] = field(default_factory=list)
    unproved: list[str] = field(default_factory=list)
    lacking: list[str] = field(default_factory=list)


def check_lineage(receipt: dict[str, Any], given: Mapping[str, dict[str, Any]]) -> Lineage:
    """Verify that what a task took is what its parents, and their parents, have left.

    Parameters
    ----------
    given : mapping of str to dict
        Receipts, whose signatures hold, by digest.

    Raises
    ------
    VerificationError
        A file is no output of its parent, or is not what that left; or an output of a
        parent's result is missing or taken twice.
    """
    found = Lineage()
    try:
        _check(receipt, given, found, set())
    except (KeyError, TypeError, IndexError, ValueError, AttributeError) as error:
        raise VerificationError(f"a receipt is damaged: {error!r}") from error
    return found


def _check(
    receipt: dict[str, Any], given: Mapping[str, dict[str, Any]], found: Lineage, seen: set[str]
) -> None:
    files = [file for file in receipt["files"] if "output" in file]
    if len(files) < len(receipt["files"]):
        raise VerificationError("a file of a chained task is said to be nobody's output")
    known = {parent["task"] for parent in receipt["parents"]}
    if foreign := {file["output"]["task"] for file in files} - known:
        raise VerificationError(f"files come from task {min(foreign)}, which is no parent")
    by_task: dict[int, dict[str, dict[str, Any]]] = {task: {} for task in known}
    for file in files:
        taken = by_task[file["output"]["task"]]
        if file["output"]["name"] in taken:
            raise VerificationError(f"{file['output']['name']} was taken twice")
        taken[file["output"]["name"]] = file
    for parent in _one_by_one(receipt["parents"]):
        task, digest = parent["task"], parent["receipt"]
        if digest is None:
            found.unproved.append(f"task {task} had not ended")
        elif digest not in given:
            found.unproved.append(f"the receipt of task {task} is not given")
            if parent["state"] != TaskState.DONE.value:
                found.lacking.append(f"task {task} is {parent['state']}")
        else:
            streams = {p["stream"] for p in receipt["parents"] if p["task"] == task}
            held = given[digest]
            if parent["public_key"] != held["signature"]["public_key"]:
                raise VerificationError(f"the receipt of task {task} is signed by another key")
            _check_parent(receipt["task"]["tree"], held, parent, streams, by_task[task])
            found.outputs += len(by_task[task])
            if digest not in seen:
                seen.add(digest)
                found.tasks.append(task)
                if parent["state"] != TaskState.DONE.value:
                    count, asked = held["counts"]["committed"], held["counts"]["events"]
                    said = f"{count} of {asked} events asked for were committed"
                    found.lacking.append(f"task {task} is {parent['state']}: {said}")
                if held.get("parents"):
                    _check(held, given, found, seen)


def _one_by_one(parents: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield each parent once, whatever streams of it were taken."""
    seen: set[int] = set()
    for parent in parents:
        if parent["task"] not in seen:
            seen.add(parent["task"])
            yield parent


def _check_parent(
    tree: str,
    held: dict[str, Any],
    named: dict[str, Any],
    streams: set[str],
    taken: dict[str, dict[str, Any]],
) -> None:
    task = named["task"]
    if (held["task"]["id"], held["task"]["state"]) != (task, named["state"]):
        raise VerificationError(f"the receipt that is named for task {task} is another one")
    check_ledger(held)
    final = {
        output["name"]: output
        for output in held["outputs"]
        if output["stream"] in streams and output["merged_into"] is None
    }
    for name, file in taken.items():
        if name not in final:
            raise VerificationError(f"{name} is no part of the result of task {task}")
        _check_file(tree, file, final[name])
    # What a task that failed had left to merge, nobody takes.
    if named["state"] in _WHOLE and (missing := set(final) - set(taken)):
        raise VerificationError(f"{min(missing)}, of the result of task {task}, was not taken")


def _check_file(tree: str, file: dict[str, Any], output: dict[str, Any]) -> None:
    name = output["name"]
    if file["output"]["sha256"] != output["sha256"]:
        raise VerificationError(f"{name} was taken with other content than it was committed with")
    held = output["entries"].get(tree, 0) if output["entries"] else file["entries"]
    if file["entries"] != held:
        raise VerificationError(f"{name} was taken with {file['entries']} events, and has {held}")
    if file["asked"] != ([[0, held]] if held else []):
        raise VerificationError(f"not all events of {name} were asked for")
