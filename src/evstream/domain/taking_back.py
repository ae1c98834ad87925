"""What hangs on ranges that are taken back: merges that hold them, and what these hold."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from evstream.domain.ledger import Commit, Place
from evstream.domain.merging import MergeGroup, groups_around
from evstream.domain.names import Lfn
from evstream.domain.task import TakeBack

Segment = tuple[str, tuple[int, int]]
"""Stream, and the place where the segment begins."""


@dataclass(frozen=True, slots=True)
class Hanging:
    """What is taken back with ranges.

    Attributes
    ----------
    ranges : tuple of Place
        Ranges that go out again, since what they had left is gone with a merge.
    merges : tuple of int
        Numbers of the groups that are no more.
    """

    ranges: tuple[Place, ...]
    merges: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Merges:
    """All that is known of a task's merges.

    Attributes
    ----------
    groups : sequence of MergeGroup
    committed : collection of int
        Numbers of the groups whose merges are committed.
    rules : mapping of str to str
        By stream: where a merged file ends, as `Merge.by` says.
    files : mapping of int to Lfn
        Of the ranges' chunks.
    """

    groups: Sequence[MergeGroup]
    committed: Collection[int]
    rules: Mapping[str, str]
    files: Mapping[int, Lfn]


def hanging_on(change: TakeBack, merges: Merges, commits: Iterable[Commit]) -> Hanging:
    """Find what has to go with ranges that are taken back.

    A merged file that holds such a range is made anew, as is one that would hold what the
    range may leave this time. Inputs of a merge that is committed are gone, or go with the
    next sweep, so their ranges go out again; and what other streams have merged of these
    is made anew as well. A merge that failed is made anew with all of its segment.
    """
    segments: dict[Segment, list[MergeGroup]] = {}
    for group in merges.groups:
        segments.setdefault((group.stream, group.segment), []).append(group)
    wanted = set(change.merges)
    hit = [
        key
        for key, members in segments.items()
        if any(group.number in wanted for group in members)
        or any(_holds(members, place) for place in change.discard)
        or any(_would_hold(members, place, merges) for place in change.redo)
    ]
    taken = (*change.redo, *change.discard)
    rows = [(c.chunk, c.entry_start, c.entry_stop) for c in commits]
    rest = [row for row in rows if not any(_within(row, place) for place in taken)]
    ranges: list[Place] = []
    numbers: list[int] = []
    while hit:
        members = [group for key in hit for group in segments.pop(key)]
        numbers += [group.number for group in members]
        gone = [
            span for group in members if group.number in merges.committed for span in group.covers
        ]
        again = [row for row in rest if any(_within(row, span) for span in gone)]
        rest = [row for row in rest if not any(_within(row, span) for span in gone)]
        ranges += again
        hit = [
            key
            for key, members in segments.items()
            if any(_would_hold(members, place, merges) for place in again)
        ]
    return Hanging(tuple(sorted(ranges)), tuple(sorted(numbers)))


def _within(row: Place, place: Place) -> bool:
    return row[0] == place[0] and place[1] <= row[1] and row[2] <= place[2]


def _holds(groups: Sequence[MergeGroup], place: Place) -> bool:
    """Whether a segment has anything of an interval in it."""
    chunk, start, stop = place
    spans = (span for group in groups for span in group.covers)
    return any(span[0] == chunk and span[1] < stop and start < span[2] for span in spans)


def _would_hold(groups: Sequence[MergeGroup], place: Place, merges: Merges) -> bool:
    """Whether what an interval leaves belongs into a segment."""
    rule = merges.rules[groups[0].stream]
    if rule == "all":
        return True
    if rule == "file":
        return merges.files[groups[0].segment[0]] == merges.files.get(place[0])
    return bool(groups_around(groups, [place]))
