"""Receipts: what was asked for, what became of every entry, and which files prove it.

A receipt is plain JSON, so that it can be read in twenty years. Its first level of
verification needs nothing but the receipt (`check_ledger`); the second needs the
outputs, the third looks at run and event numbers (`evstream.client.verification`).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evstream.domain.dataset import Dataset, SourceFile
from evstream.domain.errors import LimitError, VerificationError
from evstream.domain.intervals import Interval, IntervalSet, overlaps
from evstream.domain.ledger import ClosedInterval, Commit, Progress
from evstream.domain.merging import Merged, MergeGroup, miscounted_tree
from evstream.domain.names import Lfn, without_secrets
from evstream.domain.outputs import OutputRecord
from evstream.domain.secondary import Secondary
from evstream.domain.splitting import Chunk, check_events_per_range, count_units
from evstream.domain.states import RangeState, TaskState
from evstream.domain.streams import OUTPUT_STREAM, OutputStream
from evstream.domain.task import TakenOutputs, Task

RECEIPT_VERSION = 1
MERGED_STEM = "merged"
LEVELS = ("ledger", "outputs", "events")
"""The three levels of verification, each resting on the one before."""


@dataclass(frozen=True, slots=True)
class BookOfTask:
    """All that the ledger says of a task's ranges or of its merges."""

    chunks: list[Chunk]
    commits: list[Commit]
    closed: list[ClosedInterval]
    progress: Progress


@dataclass(frozen=True, slots=True)
class Parent:
    """A task whose outputs another one took.

    Attributes
    ----------
    receipt : dict or None
        Its signed receipt; None if it had not ended.
    """

    taken: TakenOutputs
    name: str
    state: TaskState
    receipt: dict[str, Any] | None


def build_receipt(
    task: Task,
    dataset: Dataset,
    process: BookOfTask,
    merges: Sequence[Merged],
    issued: str,
    secondary: Sequence[Dataset] = (),
    parents: Sequence[Parent] = (),
) -> dict[str, Any]:
    """Return the unsigned receipt of a task.

    Parameters
    ----------
    merges : sequence of Merged
        Those that replaced outputs, any that was made of others before these.
    issued : str
        Time of day, ISO 8601, UTC.
    secondary : sequence of Dataset
        Of the task's secondary inputs, in their order.
    parents : sequence of Parent
        Of a chained task, in their order.
    """
    lfns = {chunk.number: chunk.lfn for chunk in process.chunks}
    asked: dict[Lfn, list[Interval]] = defaultdict(list)
    for chunk in process.chunks:
        asked[chunk.lfn].append((chunk.entry_start, chunk.entry_stop))
    commits, outputs = _commits_and_outputs(process, merges, lfns, ExportNames(task.spec.outputs))
    return {
        "evstream_receipt": RECEIPT_VERSION,
        "issued": issued,
        "task": {
            "id": task.id,
            "name": task.spec.name,
            "state": task.state.value,
            "dataset": dataset.name,
            "tree": task.spec.tree,
            "branches": list(task.spec.branches) if task.spec.branches is not None else None,
            "payload": task.spec.payload.command,
            "events_per_range": task.spec.events_per_range,
            "merge": task.spec.merges,
            "streams": [_stream(stream) for stream in task.spec.outputs],
            "set_aside_max": task.spec.limits.set_aside_max,
            "secondary": [
                _secondary(one, found)
                for one, found in zip(task.spec.secondary, secondary, strict=True)
            ],
        },
        "parents": [_parent(parent) for parent in parents],
        "files": _files(dataset, task.spec.tree, asked),
        "commits": commits,
        "set_aside": _closed(process.closed, lfns, RangeState.FATAL),
        "cancelled": _closed(process.closed, lfns, RangeState.CANCELLED),
        "withdrawn": _closed(process.closed, lfns, RangeState.DISCARDED),
        "outputs": outputs,
        "counts": _counts(process.progress, dataset),
    }


def _commits_and_outputs(
    process: BookOfTask, merges: Sequence[Merged], lfns: Mapping[int, str], names: ExportNames
) -> tuple[list[list[Any]], list[dict[str, Any]]]:
    outputs: list[dict[str, Any]] = []
    merged_at: dict[str, int] = {}
    for merged in merges:
        merged_at |= {record.name: len(outputs) for record in merged.group.inputs}
        into = merged_at.get(merged.output.name)
        outputs.append(_output(merged.output, names.of_merge(merged.group), into))
    commits: list[list[Any]] = []
    for commit in process.commits:
        indexes = []
        for number, output in names.numbered(commit.success.outputs):
            export = names.of_range(commit, lfns[commit.chunk], output, number)
            indexes.append(len(outputs))
            outputs.append(_output(output, export, merged_at.get(output.name)))
        interval = [commit.entry_start, commit.entry_stop]
        commits.append([lfns[commit.chunk], *interval, commit.attempt, indexes])
    return commits, outputs


def _secondary(asked: Secondary, dataset: Dataset) -> dict[str, Any]:
    """Return all that it takes to tell again which events an event of the task was given."""
    wanted = {file.lfn: file.wanted(asked.tree) for file in dataset.files}
    return {
        "name": asked.name,
        "dataset": dataset.name,
        "tree": asked.tree,
        "branches": list(asked.branches) or None,
        "per_event": asked.per_event,
        "offset": asked.offset,
        "files": _files(dataset, asked.tree, wanted),
    }


def _parent(parent: Parent) -> dict[str, Any]:
    receipt = parent.receipt
    return {
        "task": parent.taken.task,
        "stream": parent.taken.stream,
        "name": parent.name,
        "state": parent.state.value,
        "receipt": None if receipt is None else receipt_digest(receipt),
        "public_key": None if receipt is None else receipt["signature"]["public_key"],
    }


def _files(
    dataset: Dataset, tree: str, asked: Mapping[Lfn, Sequence[Interval]]
) -> list[dict[str, Any]]:
    return [
        {
            "lfn": file.lfn,
            "guid": file.guid,
            "pfns": [without_secrets(pfn) for pfn in file.pfns],
            "fingerprint": file.fingerprint.canonical(),
            "entries": file.trees[tree],
            "asked": [list(interval) for interval in IntervalSet.of(asked.get(file.lfn, ()))],
            **_origin(file),
        }
        for file in dataset.files
    ]


def _origin(file: SourceFile) -> dict[str, Any]:
    if file.origin is None:
        return {}
    made = file.origin
    return {"output": {"task": made.task, "name": made.output, "sha256": made.sha256}}


def _counts(progress: Progress, dataset: Dataset) -> dict[str, Any]:
    return {
        "events": progress.entries,
        "committed": progress.finished,
        "set_aside": progress.fatal,
        "cancelled": progress.cancelled,
        "withdrawn": progress.withdrawn,
        "ranges": progress.ranges,
        "ranges_committed": progress.ranges_finished,
        "attempts": progress.attempts,
        "failed_attempts": progress.failed_attempts,
        "cpu_s": round(progress.cpu_s, 3),
        "lost_cpu_s": round(progress.lost_cpu_s, 3),
        "bytes_delivered": progress.bytes_in,
        "bytes_of_source": sum(file.fingerprint.size for file in dataset.files),
    }


class ExportNames:
    """Names of outputs in a folder of results, all different.

    The only stream of a task does not show in them, nor does the number of the only file
    that a unit leaves for a stream.
    """

    def __init__(self, streams: Sequence[OutputStream]) -> None:
        self._streams = {stream.name: stream for stream in streams}
        self._merged = Counter[tuple[str, str]]()

    def merged(self, stream: str) -> str:
        """Return the name of a stream's one merged output."""
        return f"{MERGED_STEM}{self._end(stream)}"

    def of_merge(self, group: MergeGroup) -> str:
        """Return the name of what a merge leaves: the next number, or none if it is one."""
        rule = self._streams[group.stream].merging
        if group.final and rule is not None and rule.by == "all":
            return self.merged(group.stream)
        part = "" if group.final else f".part{group.level}"
        number = self._merged[group.stream, part]
        self._merged[group.stream, part] += 1
        return f"{MERGED_STEM}{self._end(group.stream, f'{part}.{number:05d}')}"

    def of_range(self, commit: Commit, lfn: str, output: OutputRecord, number: int) -> str:
        """Return the name of a range's output, of which it has several in one stream."""
        stem = lfn.rsplit("/", 1)[-1].rsplit(".", 1)[0]
        where = f"{commit.chunk:05d}-{commit.entry_start}-{commit.entry_stop}"
        several = self._streams[output.stream].pattern
        return f"{stem}.{where}{self._end(output.stream, f'.{number}' if several else '')}"

    @staticmethod
    def numbered(outputs: Iterable[OutputRecord]) -> Iterator[tuple[int, OutputRecord]]:
        """Count the outputs of one range within each stream."""
        counts = Counter[str]()
        for output in outputs:
            yield counts[output.stream], output
            counts[output.stream] += 1

    def _end(self, stream: str, number: str = "") -> str:
        name = f".{stream}" if len(self._streams) > 1 else ""
        return f"{name}{number}{self._streams[stream].suffix}"


def _stream(stream: OutputStream) -> dict[str, Any]:
    merging = stream.merging
    return {
        "name": stream.name,
        "optional": stream.optional,
        "merge": merging and merging.by,
        "merge_command": (merging and merging.command) or None,
    }


def _output(output: OutputRecord, export: str, merged_into: int | None) -> dict[str, Any]:
    return {
        "stream": output.stream,
        "file": export,
        "name": output.name,
        "size": output.size,
        "sha256": output.sha256,
        "adler32": output.adler32,
        "entries": output.entries,
        "merged_into": merged_into,
    }


def _closed(
    closed: Iterable[ClosedInterval], lfns: Mapping[int, str], state: RangeState
) -> list[list[Any]]:
    return [
        [lfns[item.chunk], item.entry_start, item.entry_stop, item.error]
        for item in closed
        if item.state is state
    ]


def canonical_receipt(receipt: dict[str, Any]) -> bytes:
    """Return the bytes that are signed: sorted keys, no spaces, no signature."""
    body = {name: value for name, value in receipt.items() if name != "signature"}
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


def receipt_digest(receipt: dict[str, Any]) -> str:
    """Return what names a receipt: the SHA-256, hex, of the bytes that are signed."""
    return hashlib.sha256(canonical_receipt(receipt)).hexdigest()


def check_ledger(receipt: dict[str, Any]) -> str:
    """Verify, from the receipt alone, that every entry asked for is accounted for once.

    Returns
    -------
    str
        One line that says what holds.

    Raises
    ------
    VerificationError
        An entry is missing, doubled or nobody's; or the outputs, the counts or the task's
        state do not fit that.
    """
    if receipt.get("evstream_receipt") != RECEIPT_VERSION:
        raise VerificationError(
            f"not a receipt of version {RECEIPT_VERSION}",
            hint="give a receipt.json of evstream",
        )
    try:
        rows = receipt["commits"] + receipt["set_aside"] + receipt["cancelled"]
        rows += receipt.get("withdrawn", [])  # The first receipts knew of none.
        pieces: dict[str, list[Interval]] = defaultdict(list)
        for row in rows:
            pieces[row[0]].append((row[1], row[2]))
        events = sum(_check_file(file, pieces.pop(file["lfn"], [])) for file in receipt["files"])
        if pieces:
            raise VerificationError("the receipt speaks of files that it does not list")
        _check_outputs(receipt)
        _check_counts(receipt, events)
        _check_state(receipt, _unmerged(receipt))
    except (KeyError, TypeError, IndexError, ValueError, AttributeError, LimitError) as error:
        raise VerificationError(f"the receipt is damaged: {error!r}") from error
    committed = receipt["counts"]["committed"]
    withdrawn = bool(receipt.get("withdrawn"))
    others = "set aside, cancelled or withdrawn" if withdrawn else "set aside or cancelled"
    return (
        f"{events} events asked for, {committed} committed once in {len(receipt['commits'])} "
        f"ranges, {events - committed} {others}, none missing, none doubled"
    )


def _check_file(file: dict[str, Any], pieces: list[Interval]) -> int:
    lfn = file["lfn"]
    asked = IntervalSet.of((start, stop) for start, stop in file["asked"])
    if outside := asked - IntervalSet(((0, file["entries"]),)):
        raise VerificationError(f"{lfn} has no entries {outside.intervals[0]}", lfn=lfn)
    if empty := [piece for piece in pieces if piece[0] >= piece[1]]:
        raise VerificationError(f"{lfn}: entries {empty[0]} are no interval", lfn=lfn)
    if doubled := overlaps(pieces):
        raise VerificationError(f"{lfn}: entries {doubled[0]} are accounted for twice", lfn=lfn)
    found = IntervalSet.of(pieces)
    if missing := asked - found:
        raise VerificationError(f"{lfn}: entries {missing.intervals[0]} are missing", lfn=lfn)
    if foreign := found - asked:
        raise VerificationError(f"{lfn}: entries {foreign.intervals[0]} were not asked", lfn=lfn)
    return len(asked)


def _check_counts(receipt: dict[str, Any], events: int) -> None:
    """Refuse sums that are not those of the rows."""
    counts, commits = receipt["counts"], receipt["commits"]
    sums = {"events": events, "committed": _entries(commits), "ranges_committed": len(commits)}
    sums |= {name: _entries(receipt[name]) for name in ("set_aside", "cancelled")}
    sums["withdrawn"] = _entries(receipt.get("withdrawn", []))
    sums["ranges"] = _ranges(receipt)
    sums["bytes_of_source"] = sum(file["fingerprint"]["size"] for file in receipt["files"])
    for name, held in sums.items():
        # The first receipts knew of none that were withdrawn.
        if counts.get(name, 0 if name == "withdrawn" else None) != held:
            raise VerificationError(
                f"the receipt counts {name} as {counts[name]}, its ledger as {held}"
            )
    if counts["attempts"] - counts["failed_attempts"] != len(commits):
        raise VerificationError(
            f"the receipt counts {counts['attempts']} attempts, {counts['failed_attempts']} of "
            f"them failed, but {len(commits)} committed ranges"
        )
    for name in ("failed_attempts", "cpu_s", "lost_cpu_s", "bytes_delivered"):
        if not 0 <= counts[name] < math.inf:
            raise VerificationError(f"the receipt counts {name} as {counts[name]}")


def _ranges(receipt: dict[str, Any]) -> int:
    """Return how many ranges the asked entries fall into."""
    step = check_events_per_range(receipt["task"]["events_per_range"])
    asked = [interval for file in receipt["files"] for interval in IntervalSet.of(file["asked"])]
    return sum(count_units((start, stop), start, step) for start, stop in asked)


def _check_state(receipt: dict[str, Any], unmerged: int) -> None:
    """Refuse a state that its counts contradict."""
    task, counts = receipt["task"], receipt["counts"]
    committed, set_aside, cancelled = (
        counts[name] for name in ("committed", "set_aside", "cancelled")
    )
    withdrawn = counts.get("withdrawn", 0)
    # A task may fail with a parent, and end before it is given all.
    parents = receipt.get("parents", [])
    fallen = any(parent["state"] in ("failed", "aborted") for parent in parents)
    early = any(parent["receipt"] is None for parent in parents)
    # What was merged by file or by events may have been cancelled between two levels of merges:
    # the receipt does not say which merges were to be merged once more.
    levels = any(s["merge"] not in (None, "all") for s in task.get("streams", []))
    stopped = set_aside > task.get("set_aside_max", 1.0) * counts["events"]
    fits = {
        TaskState.DONE: not (set_aside or cancelled or withdrawn or unmerged),
        TaskState.FINISHED: committed and (set_aside or withdrawn) and not (cancelled or unmerged),
        TaskState.FAILED: stopped
        or not committed
        or fallen
        or early
        or (unmerged and not cancelled),
        TaskState.ABORTED: early
        or cancelled
        or unmerged
        or levels
        or withdrawn == counts["events"],
    }
    if not fits.get(TaskState(task["state"])):
        raise VerificationError(
            f"the task is said to be {task['state']}, with {committed} events committed, "
            f"{set_aside} set aside, {cancelled} cancelled, {withdrawn} withdrawn, "
            f"{unmerged} outputs not merged"
        )


def _entries(rows: Iterable[Sequence[Any]]) -> int:
    return sum(row[2] - row[1] for row in rows)


def _check_streams(receipt: dict[str, Any]) -> None:
    """Every range has left something for each stream that asks for it, and for no other."""
    # The first receipts did not name the streams; there was one.
    streams = receipt["task"].get("streams", [{"name": OUTPUT_STREAM, "optional": False}])
    needed = {stream["name"] for stream in streams if not stream["optional"]}
    known = {stream["name"] for stream in streams}
    for lfn, start, stop, _, indexes in receipt["commits"]:
        left = {receipt["outputs"][index]["stream"] for index in indexes}
        if needed - left:
            raise VerificationError(
                f"{lfn}: entries {[start, stop]} left no output {min(needed - left)!r}"
            )
        if left - known:
            raise VerificationError(f"the task has no output stream {min(left - known)!r}")


def _check_outputs(receipt: dict[str, Any]) -> None:
    """Every range has outputs of its own, and a merge holds what its parts held."""
    outputs = receipt["outputs"]
    for field in ("name", "file"):
        if len({output[field] for output in outputs}) != len(outputs):
            raise VerificationError(f"two outputs have one {field}")
    claims = [index for row in receipt["commits"] for index in row[4]]
    named = set(claims)
    if len(claims) != len(named):
        raise VerificationError("two ranges claim one output")
    if any(not 0 <= index < len(outputs) for index in named):
        raise VerificationError("a range claims an output that is not listed")
    _check_streams(receipt)
    parts: dict[int, list[dict[str, Any]]] = {
        index: [] for index in range(len(outputs)) if index not in named
    }
    for index, output in enumerate(outputs):
        target = output["merged_into"]
        if target is None:
            continue
        # A merge stands before its parts, so none goes round in a circle.
        if target not in parts or target >= index:
            raise VerificationError(f"{output['file']} is merged into what is no merge")
        parts[target].append(output)
    for index, given in parts.items():
        _check_merge(outputs[index], given, receipt["task"])


def _check_merge(merged: dict[str, Any], parts: list[dict[str, Any]], task: dict[str, Any]) -> None:
    """Refuse a merge that has other entries than its parts."""
    if not parts:
        raise VerificationError(f"{merged['file']} is no range's output, and no merge")
    if others := {part["stream"] for part in parts} - {merged["stream"]}:
        raise VerificationError(f"{merged['file']} is merged from stream {min(others)!r}")
    given = Counter[str]()
    for part in parts:
        given.update(part["entries"])
    # Receipts did not always name the streams, nor the commands that merge them.
    commands = {s["name"] for s in task.get("streams", []) if s.get("merge_command")}
    by_command = merged["stream"] in commands
    tree = miscounted_tree(given, merged["entries"], task["tree"], by_command=by_command)
    if tree is not None:
        held = merged["entries"].get(tree, 0)
        raise VerificationError(
            f"{merged['file']} has {held} entries in {tree}, its parts have {given[tree]}"
        )


def _unmerged(receipt: dict[str, Any]) -> int:
    """Return how many outputs were to be merged and are not.

    Raises
    ------
    VerificationError
        There is a merge that was not asked for.
    """
    task, outputs = receipt["task"], receipt["outputs"]
    ranges = {index for row in receipt["commits"] for index in row[4]}
    merged = {o["stream"] for index, o in enumerate(outputs) if index not in ranges}
    # The first receipts did not say what was asked for, or not of which stream.
    rules = {o["stream"]: "all" for o in outputs} if task.get("merge", bool(merged)) else {}
    if "streams" in task:
        rules = {s["name"]: s["merge"] for s in task["streams"] if s["merge"] is not None}
    if merged - set(rules):
        raise VerificationError("the receipt lists a merge that the task did not ask for")
    left = Counter(
        o["stream"]
        for index, o in enumerate(outputs)
        if o["merged_into"] is None and (index in ranges or rules[o["stream"]] == "all")
    )
    return sum(
        left[stream] - (stream in merged and rule == "all" and left[stream] == 1)
        for stream, rule in rules.items()
    )
