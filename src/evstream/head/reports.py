"""Reports: a unit's outputs become part of the result, or its failure is noted."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from msgspec import structs

from evstream.domain.accounts import SAID, UnitAccount, bin_of
from evstream.domain.errors import (
    ConflictError,
    EvstreamError,
    NotFoundError,
    RequestError,
    TransientError,
)
from evstream.domain.ledger import (
    ERROR_CHARS_MAX,
    FAILURE_KINDS,
    NODE,
    NUMBER_MAX,
    SOURCE,
    Failure,
    RangeReport,
    Success,
)
from evstream.domain.merging import miscounted_tree
from evstream.domain.names import LeaseId, TaskId, WorkerId
from evstream.domain.outputs import LOG_STREAM, OutputName, OutputRecord
from evstream.domain.sites import SITE_NAME
from evstream.domain.states import Answer
from evstream.domain.streams import FILES_PER_STREAM_MAX
from evstream.domain.task import Limits, TaskSpec, is_merge, process_book, task_of
from evstream.domain.words import counted
from evstream.head.bundling import Bundling
from evstream.head.kept import keep
from evstream.head.poisoned import Poisoned
from evstream.head.reopening import Reopening
from evstream.head.stored import is_as_recorded
from evstream.ports import Catalogue, Clock, Ledger, OutputStore
from evstream.wire.work_messages import INLINE_BYTES_MAX, UnitRef, UnitReport

TASKS_KEPT_MAX = 1000

_OF_INPUT = frozenset({"input", SOURCE, NODE})
"""Kinds of failure of which the cause may be that an input is gone, or damaged."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What of a task never changes."""

    spec: TaskSpec
    created: datetime


class Reports:
    """Takes pilots' reports.

    Parameters
    ----------
    on_change : callable
        Told of every task that a report may have been accepted for.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        ledger: Ledger,
        store: OutputStore,
        reopening: Reopening,
        poisoned: Poisoned,
        clock: Clock,
        on_change: Callable[[TaskId], None],
    ) -> None:
        self._poisoned = poisoned
        self._clock = clock
        self._known: OrderedDict[TaskId, _Known] = OrderedDict()
        self._catalogue = catalogue
        self._ledger = ledger
        self._store = store
        self._bundling = Bundling(store)
        self._reopening = reopening
        self._on_change = on_change

    async def report(self, reports: list[UnitReport]) -> list[Answer]:
        """Check outputs against the store and enter the reports into the ledger.

        What comes with a report is stored first: it is there for good before it counts. A
        success whose outputs are not in the store is entered as a failure, so that the
        range runs again: a hole can never be committed.
        """
        tasks = {task: await self._task(task) for task in {task_of(r.ref.book) for r in reports}}
        checks = [self._check(report, tasks[task_of(report.ref.book)]) for report in reports]
        # One alone needs no task of its own.
        checked = [await checks[0]] if len(checks) == 1 else await asyncio.gather(*checks)
        together = [
            report.contents if _bundles(report, tasks[task_of(report.ref.book)]) else {}
            for report in reports
        ]
        if any(together):
            checked = await self._bundling.keep(checked, together)
        try:
            answers = await self._ledger.report_ranges(checked)
            for report, answer in zip(checked, answers, strict=True):
                known = tasks[task_of(report.book)]
                if known is not None and answer is not Answer.SUPERSEDED:
                    await self._pause_if_hopeless(report, known.spec.limits)
            return answers
        finally:
            # Told even if the ledger's answer was lost: the reports may have counted.
            for task in {task_of(report.ref.book) for report in reports}:
                self._on_change(task)

    async def _pause_if_hopeless(self, report: RangeReport, limits: Limits) -> None:
        """Pause a task that no node can do, or one range of which none can: somebody has to look.

        One bad node among many stops no task.
        """
        outcome, task = report.outcome, task_of(report.book)
        if not isinstance(outcome, Failure) or outcome.kind != NODE:
            return
        place = (report.book, report.chunk, report.entry_start)
        failed = await self._ledger.failed_by_nodes(*place, report.attempt)
        hopeless = self._poisoned.without_hope(task)
        if len(failed) < limits.node_failures_max and not hopeless:
            return
        workers = {row.worker for row in await self._ledger.leases() if task_of(row.book) == task}
        reason = ""
        if limits.pauses(failed, others=bool(workers - {report.worker})):
            reason = await self._about_range(report, len(failed))
        elif hopeless and workers <= hopeless:
            done = (await self._ledger.progress(process_book(task))).finished
            where = counted(len(hopeless), "worker", "workers")
            reason = "" if done else f"on {where} each unit failed by its node"
        if reason:
            self._poisoned.forget(task)
            with contextlib.suppress(ConflictError):  # It has ended meanwhile.
                await self._catalogue.pause_task(task, f"{reason}: {outcome.error}")

    async def _about_range(self, report: RangeReport, times: int) -> str:
        """Say how often nodes failed a range; nothing of one that was taken back meanwhile."""
        lfns = {chunk.number: chunk.lfn for chunk in await self._ledger.chunks(report.book)}
        if (lfn := lfns.get(report.chunk)) is None:
            return ""
        entries = f"entries {report.entry_start}:{report.entry_stop} of {lfn}"
        what = f"a merge of {lfn}" if is_merge(report.book) else entries
        return f"{counted(times, 'attempt', 'attempts')} on {what} failed by their nodes"

    async def _task(self, task: TaskId) -> _Known | None:
        """Return what of a task never changes."""
        if (known := self._known.get(task)) is None:
            try:
                found = await self._catalogue.task(task)
            except NotFoundError:
                return None  # The ledger will not know it either.
            known = _Known(found.spec, found.created)
            keep(self._known, task, known, TASKS_KEPT_MAX)
        return known

    async def _check(self, report: UnitReport, known: _Known | None) -> RangeReport:
        spec = None if known is None else known.spec
        if (report.success is None) == (report.failure is None):
            raise RequestError("a report holds either a success or a failure", lease=report.lease)
        _check_numbers(report)
        _check_contents(report, 0 if spec is None else spec.bundle_bytes)
        outcome: Success | Failure | None = report.success
        if report.success is not None:
            try:
                if spec is not None:
                    _check_streams(report.ref, report.success.outputs, spec)
                for output in report.success.outputs:
                    await self._check_output(report, output, known)
            except TransientError:
                raise  # The store does not answer: that says nothing about the output.
            except EvstreamError as error:
                outcome = Failure("output", error.message, "", report.success.cpu_s)
        if report.failure is not None:
            outcome = _checked_failure(report, report.failure)
            if is_merge(report.ref.book) and report.failure.kind in _OF_INPUT:
                await self._redo_damaged(report)
            elif spec is not None and spec.takes and report.failure.kind in _OF_INPUT:
                await self._redo_taken(report)
        assert outcome is not None
        ref = report.ref
        if not is_merge(ref.book):
            outcome = self._blamed(report, outcome)
        return RangeReport(
            LeaseId(report.lease),
            WorkerId(report.worker),
            ref.book,
            ref.chunk,
            ref.entry_start,
            ref.entry_stop,
            ref.attempt,
            outcome,
            UnitAccount() if known is None else self._account(report, outcome, known.created),
        )

    def _account(
        self, report: UnitReport, outcome: Success | Failure, created: datetime
    ) -> UnitAccount:
        """Return what a worker says of a unit, with the bins of its beginning and its end."""
        ended = (self._clock.now() - created).total_seconds()
        begun = ended - outcome.wall_s - report.account.stage_s
        return structs.replace(report.account, begun=bin_of(begun), ended=bin_of(ended))

    def _blamed(self, report: UnitReport, outcome: Success | Failure) -> Success | Failure:
        """Return an outcome as it counts: not against a range where its worker is to blame."""
        worker = WorkerId(report.worker)
        ref = report.ref
        named = report.lease, ref.book, ref.chunk, ref.entry_start
        if not self._poisoned.note(named, worker, task_of(ref.book), outcome):
            return outcome
        assert isinstance(outcome, Failure)
        error = f"where others succeed, all fails on this worker: {outcome.error}"
        return replace(outcome, kind=NODE, error=error[:ERROR_CHARS_MAX])

    async def _redo_damaged(self, report: UnitReport) -> None:
        """Have ranges done again whose outputs a merge could not get as they were committed.

        The store itself is asked, whatever the worker says. The merge goes with them, so
        that the report finds its lease gone, and is made anew when they are done.
        """
        ref, task = report.ref, task_of(report.ref.book)
        if not await self._is_held(report):
            return
        group = await self._catalogue.merge(task, ref.chunk)
        damaged = [record.name for record in group.inputs if not await self._is_whole(record)]
        if damaged:
            key = f"damaged {ref.book}-{ref.chunk} {report.lease}"
            await self._reopening.redo_outputs(task, damaged, key)

    async def _redo_taken(self, report: UnitReport) -> None:
        """Have a parent make anew what a chained task took of it, and is not as it was left.

        It leaves the task then, and what comes in its place is taken.
        """
        if not await self._is_held(report):
            return
        task = await self._catalogue.task(task_of(report.ref.book))
        dataset = await self._catalogue.dataset(task.dataset)
        taken = (file.origin for file in dataset.files if file.origin)
        origin = next((one for one in taken if one.number == report.ref.chunk), None)
        if origin is None:
            return
        # Asked first: whoever has it made anew meanwhile makes another key of this.
        times = (await self._catalogue.task(origin.task)).times_taken_back
        commits = await self._ledger.commits(OutputName.parse(origin.output).book)
        records = (record for commit in commits for record in commit.success.outputs)
        record = next((one for one in records if one.name == origin.output), None)
        if record is not None and not await self._is_whole(record):
            key = f"damaged {origin.output} {times}"
            await self._reopening.redo_outputs(origin.task, [origin.output], key)

    async def _is_held(self, report: UnitReport) -> bool:
        """Whether a report's lease is one that still holds its unit."""
        held = {(row.lease, row.chunk) for row in await self._ledger.leases(report.ref.book)}
        return (report.lease, report.ref.chunk) in held

    async def _is_whole(self, record: OutputRecord) -> bool:
        try:
            return await is_as_recorded(self._store, record)
        except NotFoundError:
            return False

    async def _check_output(
        self, report: UnitReport, output: OutputRecord, known: _Known | None
    ) -> None:
        """Refuse an output that is another attempt's, or not what is in the store."""
        _check_made_by(report, output.name, output.stream)
        if is_merge(report.ref.book):
            await self._check_merged(report, output)
        if not await self._is_there(report, output, known):
            raise RequestError(f"{output.name} in the store has other content than was reported")

    async def _is_there(
        self, report: UnitReport, output: OutputRecord, known: _Known | None
    ) -> bool:
        content = report.contents.get(output.name)
        if content is None:
            return await is_as_recorded(self._store, output, report.md5.get(output.name, ""))
        if _bundles(report, known):
            # Stored with others, when all are looked at.
            told = len(content), hashlib.sha256(content).hexdigest()
            return told == (output.size, output.sha256)
        stored = await self._store.put(output.name, _in_one_piece(content))
        return (stored.size, stored.sha256) == (output.size, output.sha256)

    async def _check_merged(self, report: UnitReport, output: OutputRecord) -> None:
        """Refuse a merge that does not hold as many entries as its parts."""
        task = task_of(report.ref.book)
        group = await self._catalogue.merge(task, report.ref.chunk)
        if output.stream != group.stream:
            raise RequestError(f"the merge is one of {group.stream!r}, not of {output.stream!r}")
        given = Counter[str]()
        for part in group.inputs:
            given.update(part.entries)
        spec = (await self._catalogue.task(task)).spec
        merging = next((s.merging for s in spec.outputs if s.name == group.stream), None)
        by_command = merging is not None and bool(merging.command)
        tree = miscounted_tree(given, output.entries, spec.tree, by_command=by_command)
        if tree is not None:
            raise RequestError(
                f"the merge has {output.entries.get(tree, 0)} entries in {tree},"
                f" its parts have {given[tree]}"
            )


async def _in_one_piece(content: bytes) -> AsyncIterator[bytes]:
    yield content


def _bundles(report: UnitReport, known: _Known | None) -> bool:
    """Whether what came with a report is stored together with what came with others."""
    return known is not None and known.spec.bundle_bytes > 0 and not is_merge(report.ref.book)


def _check_contents(report: UnitReport, bundle_bytes: int) -> None:
    """Refuse what comes with a report and is none of its outputs, or not small."""
    named = {output.name for output in report.success.outputs} if report.success else set()
    if not report.contents.keys() <= named:
        raise RequestError("contents come with a success that names them", lease=report.lease)
    size = sum(map(len, report.contents.values()))
    bytes_max = max(INLINE_BYTES_MAX, bundle_bytes)
    if size > bytes_max:
        raise RequestError(
            f"the contents of a report have {size} bytes",
            hint=f"store what has more than {bytes_max} bytes before it is reported",
            lease=report.lease,
        )


def _check_streams(ref: UnitRef, outputs: Sequence[OutputRecord], spec: TaskSpec) -> None:
    """Refuse what is not, stream by stream, what the task's units must leave."""
    by_stream: dict[str, list[OutputRecord]] = {stream.name: [] for stream in spec.outputs}
    for output in outputs:
        if output.stream not in by_stream:
            raise RequestError(f"the task has no output stream {output.stream!r}")
        by_stream[output.stream].append(output)
    if len({output.name for output in outputs}) != len(outputs):
        raise RequestError("a unit's outputs have names of their own")
    if is_merge(ref.book):
        if len(outputs) != 1:
            raise RequestError(f"a merge leaves one output, not {len(outputs)}")
        return
    for stream in spec.outputs:
        left = by_stream[stream.name]
        files_max = FILES_PER_STREAM_MAX if stream.pattern else 1
        if not (0 if stream.optional else 1) <= len(left) <= files_max:
            raise RequestError(f"a unit leaves no {len(left)} files for stream {stream.name!r}")
        if any(not output.name.endswith(stream.suffix) for output in left):
            raise RequestError(f"outputs of stream {stream.name!r} end in {stream.suffix}")
        if left and stream.entries == "as input":
            _check_entries(stream.name, left, spec.tree, ref.entry_stop - ref.entry_start)


def _check_entries(stream: str, outputs: Sequence[OutputRecord], tree: str, events: int) -> None:
    """Refuse outputs that do not hold an entry for each event of their range."""
    held = Counter[str]()
    for output in outputs:
        held.update(output.entries)
    if tree not in held and len(held) != 1:
        raise RequestError(
            f"stream {stream!r} should hold {events} events, and holds no tree {tree!r}"
        )
    found = held[tree] if tree in held else next(iter(held.values()))
    if found != events:
        raise RequestError(f"stream {stream!r} holds {found} events, its range has {events}")


def _check_made_by(report: UnitReport, name: str, stream: str) -> None:
    """Refuse the name of a file that is not this attempt's own."""
    made, ref = OutputName.parse(name), report.ref
    own = OutputName(
        task=task_of(ref.book),
        stream=stream,
        book=ref.book,
        chunk=ref.chunk,
        entry_start=ref.entry_start,
        entry_stop=ref.entry_stop,
        attempt=ref.attempt,
        lease=LeaseId(report.lease),
        suffix=made.suffix,
        number=made.number,
    )
    if made != own:
        raise RequestError(f"{name} is not an output of this attempt")


def _checked_failure(report: UnitReport, failure: Failure) -> Failure:
    if failure.log:
        _check_made_by(report, failure.log, LOG_STREAM)
    return replace(failure, error=failure.error[:ERROR_CHARS_MAX])


def _check_numbers(report: UnitReport) -> None:
    """Refuse what would falsify the sums: negative or endless numbers, unknown kinds."""
    numbers: list[float] = []
    if report.success is not None:
        numbers += [report.success.cpu_s, report.success.wall_s, report.success.bytes_in]
    if report.failure is not None:
        numbers += [report.failure.cpu_s, report.failure.wall_s]
        if report.failure.kind not in FAILURE_KINDS:
            raise RequestError(
                f"{report.failure.kind!r} is no kind of failure",
                hint=f"give one of {', '.join(sorted(FAILURE_KINDS))}",
            )
    account = report.account
    numbers += [getattr(account, name) for name in SAID]
    if account.site and not re.fullmatch(SITE_NAME, account.site):
        raise RequestError(f"{account.site[:100]!r} names no site", hint="use letters and digits")
    if not all(0 <= number <= NUMBER_MAX for number in numbers):
        raise RequestError(
            f"a report's numbers lie outside 0 to {NUMBER_MAX}", hint="give seconds and bytes"
        )
