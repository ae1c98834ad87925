"""Which files chained tasks take, and how far a book that grows is passed."""

from __future__ import annotations

import pytest

from evstream.domain import chains
from evstream.domain.chains import Passed, Taking, bound_of, merged_outputs
from evstream.domain.dataset import Dataset, Fingerprint, Origin, SourceFile
from evstream.domain.errors import LimitError
from evstream.domain.ledger import ClosedInterval, Commit, Success
from evstream.domain.merging import Frontier, Merged, MergeGroup
from evstream.domain.names import DatasetName, Guid, LeaseId, Lfn, TaskId, WorkerId
from evstream.domain.outputs import OutputRecord
from evstream.domain.splitting import Chunk
from evstream.domain.states import RangeState

SECOND = chains.FILES_PER_PARENT_MAX


def record(name: str, stream: str = "output") -> OutputRecord:
    return OutputRecord(stream, name, 9, "0" * 64, "0" * 8, {"Events": 10})


def file(name: str, number: int, entries: int = 10) -> SourceFile:
    origin = Origin(TaskId(1), name, "0" * 64, number)
    mark = Fingerprint(9, "", name)
    return SourceFile(Lfn(name), Guid(""), (), mark, {"Events": entries}, origin=origin)


def dataset(*files: SourceFile, retracted: tuple[SourceFile, ...] = ()) -> Dataset:
    return Dataset(DatasetName("task:2"), files, retracted)


def commit(chunk: int, start: int, stop: int, *outputs: OutputRecord) -> Commit:
    place = (2, chunk, start, stop, 1)
    return Commit(*place, LeaseId("l"), WorkerId("w"), Success(outputs))


def group(number: int, begin: int, *, level: int = 1, last: bool = True) -> MergeGroup:
    cover = ((0, begin, begin + 10),)
    return MergeGroup(number, "output", level, (0, begin), last, (record(f"{number}"),), cover)


def test_outputs_are_numbered_behind_each_other_by_parent() -> None:
    first, second = Taking(0, dataset()), Taking(1, dataset())
    assert [n for n, _ in first.take([record("a"), record("b")])] == [0, 1]
    assert [n for n, _ in second.take([record("c")])] == [SECOND]
    assert first.take([record("b"), record("d")]) == [(2, record("d"))]
    assert (first.bound, second.bound) == (3, SECOND + 1)


def test_a_number_is_never_given_again() -> None:
    held = dataset(file("a", 0), file("z", SECOND), retracted=(file("b", 1),))
    taking = Taking(0, held)
    assert taking.gone({"a", "z"}) == []
    assert taking.take([record("a"), record("c")]) == [(2, record("c"))]
    assert taking.gone({"c"}) == [0]
    taking.drop([0])
    assert taking.gone({"c"}) == []
    assert taking.take([record("c"), record("e")]) == [(3, record("e"))]


def test_a_parent_has_no_more_files_than_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chains, "FILES_PER_PARENT_MAX", 2)
    taking = Taking(0, dataset())
    taking.take([record("a"), record("b")])
    with pytest.raises(LimitError, match="2 outputs"):
        taking.take([record("c")])


def test_the_first_parent_that_goes_on_bounds_what_is_known() -> None:
    takings = [Taking(0, dataset(file("a", 0))), Taking(1, dataset())]
    assert bound_of(takings, [False, False]) == 1
    assert bound_of(takings, [True, False]) == SECOND
    assert bound_of(takings, [False, True]) == 1
    assert bound_of(takings, [True, True]) is None


def test_files_without_events_have_no_chunk() -> None:
    files = [file("a", 0), file("b", 1, entries=0), file("c", SECOND, entries=3)]
    assert chains.chunks_of(files, "Events") == [
        Chunk(0, Lfn("a"), 0, 10),
        Chunk(SECOND, Lfn("c"), 0, 3),
    ]


def test_a_frontier_stops_where_more_may_come() -> None:
    passed = Passed("output")
    frontier = Frontier([Chunk(0, Lfn("a"), 0, 20)], [passed], bound=1)
    row = commit(0, 10, 20, record("late"))
    assert not frontier.advance(row)
    assert frontier.advance(commit(0, 0, 10, record("early"), record("x", "other")))
    assert frontier.advance(row)
    assert [output.name for output in passed.outputs] == ["early", "late"]
    assert (frontier.place, frontier.ended) == (None, False)
    # A file of the second parent waits for the first one's next.
    frontier.grow([Chunk(SECOND, Lfn("z"), 0, 5)], bound=1)
    assert frontier.place is None
    frontier.grow([Chunk(1, Lfn("b"), 0, 5)], bound=SECOND + 1)
    assert frontier.place == (1, 0)
    assert frontier.advance(ClosedInterval(2, 1, 0, 5, RangeState.FATAL, "no"))
    assert frontier.advance(commit(SECOND, 0, 5))
    assert not frontier.ended
    frontier.grow([], bound=None)
    assert frontier.ended


def test_an_empty_book_ends_when_nothing_more_comes() -> None:
    frontier = Frontier([], [], bound=0)
    assert (frontier.place, frontier.ended) == (None, False)
    frontier.grow([], None)
    assert frontier.ended


def test_merged_files_are_taken_as_far_as_none_is_missing() -> None:
    first, level, second, third = (
        group(0, 0, last=False),
        group(3, 0, level=2),
        group(1, 10),
        group(2, 20),
    )
    groups = [third, second, first]

    def names(*made: MergeGroup, closed: tuple[int, ...] = ()) -> tuple[list[str], list[str]]:
        merges = [Merged(each, record(f"m{each.number}")) for each in made]
        found = merged_outputs(
            [*groups, *(each for each in made if each not in groups)], merges, closed, "output"
        )
        return [o.name for o in found.in_order], [o.name for o in found.every]

    assert names(first, third) == ([], ["m2"])
    assert names(first, second, third) == ([], ["m1", "m2"])
    assert names(first, level, third) == (["m3"], ["m3", "m2"])
    assert names(first, level, second, third) == (["m3", "m1", "m2"], ["m3", "m1", "m2"])
    assert names(first, level, third, closed=(1,)) == (["m3", "m2"], ["m3", "m2"])
