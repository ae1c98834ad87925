"""What hangs on ranges that are taken back: merges, and what these have replaced."""

from __future__ import annotations

from evstream.domain.ledger import Commit, Place, Success
from evstream.domain.merging import MergeGroup
from evstream.domain.names import LeaseId, Lfn, WorkerId
from evstream.domain.taking_back import Hanging, Merges, hanging_on
from evstream.domain.task import TakeBack

FILES = {0: Lfn("a.root"), 1: Lfn("b.root")}


def group(number: int, *covers: Place, stream: str = "output") -> MergeGroup:
    """Return a group that is a segment of its own."""
    return MergeGroup(number, stream, 1, covers[0][:2], True, (), covers)


def commits(*places: Place) -> list[Commit]:
    """Return what is done at some places."""
    return [
        Commit(2, *place, 1, LeaseId("lease"), WorkerId("anne"), Success(())) for place in places
    ]


def hanging(
    change: TakeBack,
    groups: list[MergeGroup],
    done: list[Commit],
    by: str = "bytes",
    committed: frozenset[int] | None = None,
) -> Hanging:
    """Ask, all groups being committed unless said otherwise."""
    numbers = frozenset(g.number for g in groups) if committed is None else committed
    rules = {g.stream: by for g in groups}
    return hanging_on(change, Merges(groups, numbers, rules, FILES), done)


DONE = commits((0, 0, 10), (0, 10, 20), (0, 21, 30), (1, 0, 10))
TWO = [group(0, (0, 0, 10), (0, 10, 20)), group(1, (0, 21, 30), (1, 0, 10))]


def test_only_the_segment_of_a_range_is_made_anew() -> None:
    found = hanging(TakeBack("k", "r", redo=((0, 10, 20),)), TWO, DONE)
    assert found == Hanging(ranges=((0, 0, 10),), merges=(0,))


def test_a_merge_that_is_not_committed_has_its_inputs_still() -> None:
    found = hanging(TakeBack("k", "r", redo=((0, 10, 20),)), TWO, DONE, committed=frozenset({1}))
    assert found == Hanging(ranges=(), merges=(0,))


def test_an_event_that_was_set_aside_between_segments_opens_none() -> None:
    found = hanging(TakeBack("k", "r", redo=((0, 20, 21),)), TWO, DONE)
    assert found == Hanging(ranges=(), merges=())


def test_an_event_that_was_set_aside_within_a_segment_opens_it() -> None:
    groups = [group(0, (0, 0, 10), (0, 10, 20), (0, 21, 30))]
    found = hanging(TakeBack("k", "r", redo=((0, 20, 21),)), groups, DONE)
    assert found == Hanging(ranges=((0, 0, 10), (0, 10, 20), (0, 21, 30)), merges=(0,))


def test_where_all_is_one_file_an_event_anywhere_opens_it() -> None:
    groups = [group(0, (0, 0, 10), (0, 10, 20))]
    change = TakeBack("k", "r", redo=((1, 40, 41),))
    assert hanging(change, groups, DONE, "all") == Hanging(((0, 0, 10), (0, 10, 20)), (0,))
    assert hanging(change, groups, DONE, "bytes") == Hanging((), ())


def test_by_file_an_event_of_the_file_opens_its_merge() -> None:
    groups = [group(0, (0, 0, 20)), group(1, (1, 0, 10))]
    change = TakeBack("k", "r", redo=((1, 10, 11),))
    assert hanging(change, groups, DONE, "file") == Hanging(((1, 0, 10),), (1,))


def test_a_withdrawn_range_that_left_nothing_opens_nothing() -> None:
    groups = [group(0, (0, 0, 10), (0, 21, 30))]
    change = TakeBack("k", "r", discard=((0, 10, 21),))
    assert hanging(change, groups, DONE, "all") == Hanging((), ())
    change = TakeBack("k", "r", discard=((0, 0, 10),))
    assert hanging(change, groups, DONE, "all") == Hanging(((0, 21, 30),), (0,))


def test_other_streams_are_made_anew_where_they_hold_the_same_ranges() -> None:
    groups = [
        group(0, (0, 0, 10), (0, 10, 20)),
        group(1, (0, 0, 10), stream="hist"),
        group(2, (0, 10, 20), (0, 21, 30), stream="hist"),
        group(3, (1, 0, 10), stream="hist"),
    ]
    found = hanging(TakeBack("k", "r", redo=((0, 0, 10),)), groups, DONE)
    assert found == Hanging(ranges=((0, 10, 20), (0, 21, 30)), merges=(0, 1, 2))


def test_a_merge_that_failed_is_made_anew_with_its_segment() -> None:
    segment = (0, 0)
    groups = [
        MergeGroup(0, "output", 1, segment, False, (), ((0, 0, 10),)),
        MergeGroup(1, "output", 1, segment, True, (), ((0, 10, 20),)),
        group(2, (0, 21, 30)),
    ]
    found = hanging(TakeBack("k", "r", merges=(1,)), groups, DONE, committed=frozenset({0, 2}))
    assert found == Hanging(ranges=((0, 0, 10),), merges=(0, 1))
