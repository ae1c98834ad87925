"""Reports: a unit's outputs become part of the result, or its failure is noted."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from evstream.domain.errors import EvstreamError, RequestError, TransientError
from evstream.domain.ledger import (
    ERROR_CHARS_MAX,
    FAILURE_KINDS,
    NUMBER_MAX,
    Failure,
    RangeReport,
    Success,
)
from evstream.domain.names import LeaseId, TaskId, WorkerId
from evstream.domain.outputs import LOG_STREAM, OutputName, OutputRecord
from evstream.domain.states import Answer
from evstream.domain.streams import OUTPUT_STREAM
from evstream.domain.task import is_merge, process_book, task_of
from evstream.head.claims import merge_inputs
from evstream.ports import Ledger, OutputStore
from evstream.wire.messages import UnitReport


class Reports:
    """Takes pilots' reports.

    Parameters
    ----------
    on_change : callable
        Told of every task that a report may have been accepted for.
    """

    def __init__(
        self, ledger: Ledger, store: OutputStore, on_change: Callable[[TaskId], None]
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._on_change = on_change

    async def report(self, reports: list[UnitReport]) -> list[Answer]:
        """Check outputs against the store and enter the reports into the ledger.

        A success whose outputs are not in the store is entered as a failure, so that
        the range runs again: a hole can never be committed.
        """
        checked = await asyncio.gather(*(self._check(report) for report in reports))
        try:
            return await self._ledger.report_ranges(checked)
        finally:
            # Told even if the ledger's answer was lost: the reports may have counted.
            for task in {task_of(report.ref.book) for report in reports}:
                self._on_change(task)

    async def _check(self, report: UnitReport) -> RangeReport:
        if (report.success is None) == (report.failure is None):
            raise RequestError("a report holds either a success or a failure", lease=report.lease)
        _check_numbers(report)
        outcome: Success | Failure | None = report.success
        if report.success is not None:
            try:
                streams = [output.stream for output in report.success.outputs]
                if streams != [OUTPUT_STREAM]:
                    raise RequestError(f"a unit leaves one '{OUTPUT_STREAM}', not {streams}")
                for output in report.success.outputs:
                    await self._check_output(report, output)
            except TransientError:
                raise  # The store does not answer: that says nothing about the output.
            except EvstreamError as error:
                outcome = Failure("output", error.message, "", report.success.cpu_s)
        if report.failure is not None:
            outcome = _checked_failure(report, report.failure)
        assert outcome is not None
        ref = report.ref
        return RangeReport(
            LeaseId(report.lease),
            WorkerId(report.worker),
            ref.book,
            ref.chunk,
            ref.entry_start,
            ref.entry_stop,
            ref.attempt,
            outcome,
        )

    async def _check_output(self, report: UnitReport, output: OutputRecord) -> None:
        """Refuse an output that is another attempt's, or not what is in the store."""
        _check_made_by(report, output.name, output.stream)
        if is_merge(report.ref.book):
            await self._check_merged(report, output)
        stored = await self._store.stat(output.name)
        if (stored.size, stored.sha256) != (output.size, output.sha256):
            raise RequestError(f"{output.name} in the store has other content than was reported")

    async def _check_merged(self, report: UnitReport, output: OutputRecord) -> None:
        """Refuse a merge that does not hold as many entries as its parts."""
        commits = await self._ledger.commits(process_book(task_of(report.ref.book)))
        given = Counter[str]()
        for part in merge_inputs(commits, output.stream):
            given.update(part.entries)
        for tree in {*given, *output.entries}:
            if given[tree] != output.entries.get(tree, 0):
                raise RequestError(
                    f"the merge has {output.entries.get(tree, 0)} entries in {tree},"
                    f" its parts have {given[tree]}"
                )


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
    if not all(0 <= number <= NUMBER_MAX for number in numbers):
        raise RequestError(
            f"a report's numbers lie outside 0 to {NUMBER_MAX}", hint="give seconds and bytes"
        )
