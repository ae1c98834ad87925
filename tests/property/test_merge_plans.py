"""Which outputs are merged into which files: the same ones, whatever the order of commits.

The planner runs as the head runs it, with stops and starts between: outputs are committed
in any order, some ranges are set aside, and merges end in any order.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evstream.domain.ledger import ClosedInterval, Commit, Success
from evstream.domain.merging import Frontier, MergeGroup, Span, StreamPlan, groups_around
from evstream.domain.names import LeaseId, Lfn, TaskId, WorkerId
from evstream.domain.outputs import OutputName, OutputRecord
from evstream.domain.splitting import Chunk
from evstream.domain.states import RangeState
from evstream.domain.streams import Merge, OutputStream
from evstream.domain.task import merge_book, process_book

TASK, STEP = TaskId(1), 10
RULES = st.one_of(
    st.just(Merge()),
    st.just(Merge("file")),
    st.builds(Merge, st.just("bytes"), st.integers(1, 60)),
    st.builds(Merge, st.just("events"), st.integers(1, 60)),
)
Finished = Commit | ClosedInterval


def record(book: int, chunk: int, start: int, size: int, number: int = 0) -> OutputRecord:
    name = OutputName(
        TASK, "output", book, chunk, start, start + STEP, 1, LeaseId("l"), ".root", number
    )
    return OutputRecord("output", str(name), size, "0" * 64, "0" * 8, {"Events": size})


@dataclass(frozen=True)
class Job:
    """What a task's ranges come to, and how its outputs are merged."""

    chunks: tuple[Chunk, ...]
    finished: tuple[Finished, ...]
    rule: Merge
    inputs_max: int

    @property
    def outputs(self) -> list[OutputRecord]:
        """All that is to be merged, in entry order."""
        commits = [row for row in self.finished if isinstance(row, Commit)]
        return [output for commit in commits for output in commit.success.outputs]


@st.composite
def jobs(draw: st.DrawFn) -> Job:
    chunks: list[Chunk] = []
    finished: list[Finished] = []
    for number in range(draw(st.integers(1, 4))):
        ranges = draw(st.integers(1, 12))
        # A long file has several chunks.
        lfn = Lfn(f"file{draw(st.integers(0, number))}.root") if number else Lfn("file0.root")
        if chunks and lfn < chunks[-1].lfn:
            lfn = chunks[-1].lfn
        chunks.append(Chunk(number, lfn, 0, ranges * STEP))
        for start in range(0, ranges * STEP, STEP):
            files = draw(st.sampled_from([0, 1, 1, 1, 2, 3, -1]))
            if files < 0:
                state = RangeState.FATAL
                row: Finished = ClosedInterval(2, number, start, start + STEP, state, "no")
            else:
                sizes = [draw(st.integers(1, 20)) for _ in range(files)]
                book = process_book(TASK)
                left = tuple(record(book, number, start, s, k) for k, s in enumerate(sizes))
                row = Commit(
                    2, number, start, start + STEP, 1, LeaseId("l"), WorkerId("w"), Success(left)
                )
            finished.append(row)
    return Job(tuple(chunks), tuple(finished), draw(RULES), draw(st.integers(2, 5)))


def planned(job: Job, rng: random.Random, restarts: float) -> list[MergeGroup]:
    """Plan as commits come in some order, and everything is lost from memory now and then."""
    stream = OutputStream(merge=job.rule)
    groups: list[MergeGroup] = []
    arrived: list[Finished] = []
    coming = list(job.finished)
    rng.shuffle(coming)
    merged: dict[int, OutputRecord] = {}
    plan, frontier = start(job, stream, groups)
    while coming or len(merged) < len(groups) or not plan.complete or not frontier.ended:
        if rng.random() < restarts:
            plan, frontier = start(job, stream, groups)
        undone = [group for group in groups if group.number not in merged]
        if coming and (not undone or rng.random() < 0.7):
            arrived.append(coming.pop())
        elif undone:
            group = rng.choice(undone)
            size = sum(output.size for output in group.inputs)
            merged[group.number] = record(merge_book(TASK), group.number, 0, size)
        rows = sorted(arrived, key=lambda row: (row.chunk, row.entry_start))
        for row in rows:
            place = frontier.place
            if place and (row.chunk, row.entry_start) >= place and not frontier.advance(row):
                break
        plan.pass_merged(merged)
        made = [replace(group, number=len(groups) + k) for k, group in enumerate(plan.new)]
        plan.numbered(made)
        groups += made
    return groups


def start(
    job: Job, stream: OutputStream, groups: Sequence[MergeGroup]
) -> tuple[StreamPlan, Frontier]:
    plan = StreamPlan(stream, "Events", job.inputs_max, groups)
    return plan, Frontier(job.chunks, [plan])


def shape(groups: Sequence[MergeGroup]) -> set[tuple[object, ...]]:
    """Return what is merged with what, whatever the numbers."""
    return {(g.level, g.segment, g.last, g.covers, len(g.inputs)) for g in groups}


@given(jobs(), st.integers(0, 2**32), st.integers(0, 2**32))
def test_groups_do_not_depend_on_the_order_of_commits(job: Job, one: int, other: int) -> None:
    first = planned(job, random.Random(one), restarts=0.0)
    again = planned(job, random.Random(other), restarts=0.3)
    assert shape(first) == shape(again)
    assert len(first) == len(again)


@given(jobs(), st.integers(0, 2**32))
def test_every_output_goes_into_one_file_in_entry_order(job: Job, seed: int) -> None:
    groups = planned(job, random.Random(seed), restarts=0.1)
    level_1 = sorted((g for g in groups if g.level == 1), key=lambda group: group.covers)
    assert [o for group in level_1 for o in group.inputs] == job.outputs
    by_number = {group.number: group for group in groups}
    used = Counter(OutputName.parse(o.name).chunk for g in groups if g.level > 1 for o in g.inputs)
    # What is not whole is used once, by one of the same segment; what is whole by none.
    assert used == Counter(group.number for group in groups if not group.final)
    for group in groups:
        if group.level == 1:
            continue
        parts = [by_number[OutputName.parse(output.name).chunk] for output in group.inputs]
        assert [part.covers for part in parts] == sorted(part.covers for part in parts)
        assert {part.segment for part in parts} == {group.segment}
        assert sum(o.size for p in parts for o in p.inputs) == sum(o.size for o in group.inputs)


@given(jobs(), st.integers(0, 2**32))
def test_groups_and_files_are_as_large_as_the_rule_says(job: Job, seed: int) -> None:
    groups = planned(job, random.Random(seed), restarts=0.1)
    for group in groups:
        # Files of one range stay together.
        assert len(group.inputs) <= max(job.inputs_max, 3)
    files = sorted((group for group in groups if group.final), key=lambda group: group.covers)
    sizes = [sum(output.size for output in group.inputs) for group in files]
    assert len({group.segment for group in files}) == len(files)
    if job.rule.by == "all":
        assert len(files) == bool(job.outputs)
    elif job.rule.by == "file":
        lfns = [job.chunks[group.covers[0][0]].lfn for group in files]
        assert len(set(lfns)) == len(lfns)
        assert all(len({job.chunks[c].lfn for c, _, _ in group.covers}) == 1 for group in files)
    else:
        assert all(size >= job.rule.target for size in sizes[:-1])
        # The last range of a file was needed to reach the target.
        assert all(size < job.rule.target + 3 * 20 for size in sizes)


@given(jobs(), st.integers(0, 2**32), st.data())
def test_what_was_merged_is_merged_again_without_touching_other_files(
    job: Job, seed: int, data: st.DataObject
) -> None:
    groups = planned(job, random.Random(seed), restarts=0.1)
    row = data.draw(st.sampled_from(job.finished))
    span = (row.chunk, row.entry_start, row.entry_stop)
    taken = groups_around(groups, [span])
    kept = [group for group in groups if group not in taken]
    segments = {group.segment for group in taken}
    assert segments.isdisjoint(group.segment for group in kept)
    assert all(group in taken for group in groups if holds(group, span))
    # What is left as it is, is passed over; the rest is grouped within the same bounds.
    plan, frontier = start(job, OutputStream(merge=job.rule), kept)
    for finished in job.finished:
        assert frontier.advance(finished)
    again = [group for group in plan.new if group.level == 1]
    held = sorted((g for g in [*kept, *again] if g.level == 1), key=lambda group: group.covers)
    assert [o for group in held for o in group.inputs] == job.outputs
    assert sum(group.last for group in again) >= len(segments)


def holds(group: MergeGroup, span: Span) -> bool:
    return any(chunk == span[0] and start <= span[1] < stop for chunk, start, stop in group.covers)


@pytest.mark.parametrize(
    ("stream", "sizes"),
    [
        (OutputStream(merge=Merge()), [1200]),
        (OutputStream(suffix=".parquet", merge=Merge()), [1200]),
        (OutputStream(suffix=".h5", merge=Merge()), [500, 500, 200]),
        (OutputStream(merge=Merge(command="hadd {output} {inputs}")), [500, 500, 200]),
    ],
)
def test_what_keeps_its_inputs_open_is_given_fewer(stream: OutputStream, sizes: list[int]) -> None:
    plan = StreamPlan(stream, "Events", 2000, [])
    for number in range(1200):
        output = record(process_book(TASK), 0, number * STEP, 1)
        success = Success((output,), 0.0, 0.0, 0)
        place = (process_book(TASK), 0, number * STEP, (number + 1) * STEP)
        plan.pass_range(Commit(*place, 1, LeaseId("l"), WorkerId("w"), success))
    plan.end()
    assert [len(group.inputs) for group in plan.new] == sizes
