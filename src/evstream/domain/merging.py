"""Merging while a task runs: which outputs are joined into which files.

Outputs are grouped as the *frontier* passes them: the place in the dataset's order of
entries up to which every entry is finished. So the same outputs give the same groups,
whatever the order in which they were committed. A merged file ends where its rule says
(`Merge`); what goes into it, from one such end to the next, is a *segment*.

A group has no more inputs than so many, unless they are of one range. A longer segment
is merged in levels: groups of outputs, groups of what these leave, and so on up to one::

    outputs   ▪▪▪▪▪▪▪▪▪▪▪▪▪▪▪ ▪▪▪▪
    level 1   └───┘└───┘└───┘ └──┘   the second segment needs one group only
    level 2   └─────────────┘
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from evstream.domain.ledger import ClosedInterval, Commit
from evstream.domain.names import Lfn
from evstream.domain.outputs import OutputName, OutputRecord
from evstream.domain.splitting import Chunk
from evstream.domain.streams import Merge, OutputStream

KEPT_OPEN_MAX = 500
"""Inputs of what keeps them all open: systems allow a process a thousand."""

Place = tuple[int, int]
"""Chunk of the task's ranges, and entry."""
Span = tuple[int, int, int]
"""Chunk of the task's ranges, first entry, entry after the last."""


@dataclass(frozen=True, slots=True)
class MergeGroup:
    """Outputs that are joined into one: a unit of work, one chunk of the merge book.

    Attributes
    ----------
    number : int
        Of the chunk.
    level : int
        1 where the inputs are outputs of ranges, above that where they are of groups.
    segment : (chunk, entry)
        Where the segment begins that it belongs to.
    last : bool
        Whether the segment ends with it.
    inputs : tuple of OutputRecord
        In entry order.
    covers : tuple of (chunk, entry_start, entry_stop)
        The ranges that they were made from, adjoining ones as one.
    """

    number: int
    stream: str
    level: int
    segment: Place
    last: bool
    inputs: tuple[OutputRecord, ...]
    covers: tuple[Span, ...]

    @property
    def final(self) -> bool:
        """Whether it holds its whole segment: nothing more is made of what it leaves."""
        return self.last and self.covers[0][:2] == self.segment


@dataclass(frozen=True, slots=True)
class Merged:
    """A group that was joined, and what came of it."""

    group: MergeGroup
    output: OutputRecord


@dataclass(frozen=True, slots=True)
class _Part:
    outputs: tuple[OutputRecord, ...]
    covers: tuple[Span, ...]


class _Segment:
    """Puts the parts of one segment, on one level, into groups.

    A group is made when its successor is there, or its segment has ended: so it is known
    whether it is the last one.

    Parameters
    ----------
    inputs_max : int
        Of a group.
    make : callable
        Given parts, and whether they are the segment's last.
    """

    def __init__(self, inputs_max: int, make: Callable[[list[_Part], bool], None]) -> None:
        self._inputs_max = inputs_max
        self._make = make
        self._parts: list[_Part] = []

    def add(self, part: _Part) -> None:
        """Take the next part."""
        size = sum(len(one.outputs) for one in self._parts) + len(part.outputs)
        if self._parts and size > self._inputs_max:
            self._take(last=False)
        self._parts.append(part)

    def end(self) -> None:
        """Make what is left the last group."""
        self._take(last=True)

    def _take(self, *, last: bool) -> None:
        parts, self._parts = self._parts, []
        if parts:
            self._make(parts, last)


class StreamPlan:
    """Groups one stream of a task.

    Parameters
    ----------
    tree : str
        The task's.
    inputs_max : int
        Of a group, at most `KEPT_OPEN_MAX` where whatever joins keeps its inputs open.
    known : iterable of MergeGroup
        Groups of the stream that were made before; what they cover is passed over.

    Attributes
    ----------
    new : list of MergeGroup
        Groups that were made since, without numbers: see `numbered`.
    """

    def __init__(
        self, stream: OutputStream, tree: str, inputs_max: int, known: Iterable[MergeGroup]
    ) -> None:
        assert stream.merging is not None
        # Of commands nobody knows better; of HDF5 the library keeps them open.
        keeps_open = stream.merging.command or stream.suffix in (".h5", ".hdf5")
        self._inputs_max = min(inputs_max, KEPT_OPEN_MAX) if keeps_open else inputs_max
        self._name = stream.name
        self._rule: Merge = stream.merging
        self._tree = tree
        self._begin: Place | None = None
        self._sum = 0
        self._segment: _Segment | None = None
        self._above: dict[tuple[int, Place], _Segment] = {}
        self._waiting: dict[tuple[int, Place], deque[MergeGroup]] = defaultdict(deque)
        self._of_output: dict[str, MergeGroup] = {}
        self.new: list[MergeGroup] = []
        groups = sorted(known, key=lambda group: (group.level, group.covers))
        consumed = {
            OutputName.parse(record.name).chunk
            for group in groups
            if group.level > 1
            for record in group.inputs
        }
        for group in groups:
            if group.level == 1:
                self._of_output |= {record.name: group for record in group.inputs}
            if not group.final and group.number not in consumed:
                self._waiting[group.level, group.segment].append(group)

    @property
    def complete(self) -> bool:
        """Whether no group waits for others of its segment."""
        return not any(self._waiting.values())

    def pass_range(self, commit: Commit) -> None:
        """Take the next range that the frontier passes."""
        outputs = tuple(o for o in commit.success.outputs if o.stream == self._name)
        if not outputs:
            return
        known = self._of_output.get(outputs[0].name)
        if known is not None and self._segment is not None and self._begin != known.segment:
            self._end_segment()  # What goes on behind it is a segment of its own already.
        self._sum += self._weight(outputs, commit.entry_stop - commit.entry_start)
        if self._begin is None:
            self._begin = known.segment if known else (commit.chunk, commit.entry_start)
            self._segment = self._open(1, self._begin)
        assert self._segment is not None
        if known is not None:
            if known.last and known.inputs[-1] == outputs[-1]:
                self._end_segment()
            return
        span = (commit.chunk, commit.entry_start, commit.entry_stop)
        self._segment.add(_Part(outputs, (span,)))
        if self._rule.by in ("bytes", "events") and self._sum >= self._rule.target:
            self._end_segment()

    def pass_end_of_file(self) -> None:
        """Note that the frontier has passed the last entry of a file."""
        if self._rule.by == "file":
            self._end_segment()

    def end(self) -> None:
        """Note that the frontier has passed everything."""
        self._end_segment()

    def _end_segment(self) -> None:
        if self._segment is not None:
            self._segment.end()
        self._segment, self._begin, self._sum = None, None, 0

    def _open(self, level: int, begin: Place) -> _Segment:
        def make(parts: list[_Part], last: bool) -> None:
            inputs = tuple(output for part in parts for output in part.outputs)
            covers = joined_spans(span for part in parts for span in part.covers)
            self.new.append(MergeGroup(-1, self._name, level, begin, last, inputs, covers))

        return _Segment(self._inputs_max, make)

    def _weight(self, outputs: Sequence[OutputRecord], events: int) -> int:
        if self._rule.by == "bytes":
            return sum(output.size for output in outputs)
        return sum(_entries(output, self._tree, events) for output in outputs)

    def numbered(self, groups: Iterable[MergeGroup]) -> None:
        """Take back the new groups with their numbers."""
        self.new = []
        for group in groups:
            if not group.final:
                self._waiting[group.level, group.segment].append(group)

    def pass_merged(self, merged: Mapping[int, OutputRecord]) -> None:
        """Put together what groups have left, by their numbers, where their turn has come."""
        for (level, begin), waiting in list(self._waiting.items()):
            above = self._above.setdefault((level + 1, begin), self._open(level + 1, begin))
            while waiting and waiting[0].number in merged:
                group = waiting.popleft()
                above.add(_Part((merged[group.number],), group.covers))
                if group.last:
                    above.end()
            if not waiting:
                del self._waiting[level, begin]


def groups_around(groups: Iterable[MergeGroup], spans: Iterable[Span]) -> list[MergeGroup]:
    """Return the groups of every segment that holds some entries, or lies around them."""
    segments: dict[tuple[str, Place], list[MergeGroup]] = defaultdict(list)
    for group in groups:
        segments[group.stream, group.segment].append(group)
    wanted = list(spans)
    found: list[MergeGroup] = []
    for (_, begin), members in segments.items():
        last_chunk, _, stop = max(group.covers[-1] for group in members)
        end = (last_chunk, stop)
        if any((chunk, start) < end and begin < (chunk, end_) for chunk, start, end_ in wanted):
            found += members
    return sorted(found, key=lambda group: group.number)


def merge_chunks(groups: Iterable[MergeGroup]) -> list[Chunk]:
    """Return the chunks of a merge book: one with one entry for each group."""
    return [Chunk(group.number, Lfn(group.stream), 0, 1) for group in groups]


class Passing(Protocol):
    """What is told of all that a frontier passes, in order."""

    def pass_range(self, commit: Commit) -> None:
        """Take the next range."""

    def pass_end_of_file(self) -> None:
        """Note that the last entry of a file has been passed."""

    def end(self) -> None:
        """Note that everything has been passed, and nothing more will come."""


class Frontier:
    """The place up to which every entry of a book is finished.

    Parameters
    ----------
    chunks : iterable of Chunk
        By number.
    bound : int or None
        Where a book still grows: chunks from this number on may be given later. So far
        and no further does it go. None: all chunks are given.

    Attributes
    ----------
    ended : bool
        Whether everything has been passed, and nothing more will come.
    """

    def __init__(
        self, chunks: Iterable[Chunk], plans: Sequence[Passing], bound: int | None = None
    ) -> None:
        self._left = deque(chunks)
        self._plans = plans
        self._entry: int | None = None
        self._bound = bound
        self.ended = False
        self._look_for_end()

    @property
    def place(self) -> tuple[int, int] | None:
        """Chunk and entry that come next; None where that is not known yet."""
        if not self._left or (self._bound is not None and self._left[0].number >= self._bound):
            return None
        entry = self._left[0].entry_start if self._entry is None else self._entry
        return self._left[0].number, entry

    def grow(self, chunks: Iterable[Chunk], bound: int | None) -> None:
        """Go on with a book that has grown, by chunks at or above the bound that it had."""
        new = list(chunks)
        if new:
            self._left = deque(sorted((*self._left, *new), key=lambda chunk: chunk.number))
        self._bound = bound
        self._look_for_end()

    def advance(self, row: Commit | ClosedInterval) -> bool:
        """Pass a finished interval; False if it does not begin at the frontier."""
        if (row.chunk, row.entry_start) != self.place:
            return False
        if isinstance(row, Commit):
            for plan in self._plans:
                plan.pass_range(row)
        self._entry = row.entry_stop
        if self._entry == self._left[0].entry_stop:
            passed = self._left.popleft()
            self._entry = None
            # All chunks of a file are given together.
            if not self._left or self._left[0].lfn != passed.lfn:
                for plan in self._plans:
                    plan.pass_end_of_file()
            self._look_for_end()
        return True

    def _look_for_end(self) -> None:
        if not self._left and self._bound is None and not self.ended:
            self.ended = True
            for plan in self._plans:
                plan.end()


def miscounted_tree(
    parts: Mapping[str, int], merged: Mapping[str, int], tree: str, *, by_command: bool
) -> str | None:
    """Return a tree of which a merge has other entries than its parts, if there is one.

    Parameters
    ----------
    parts : mapping of str to int
        Entries of each tree in all parts together.
    tree : str
        Of the task, or of its first input.
    by_command : bool
        A command of the user's own merges, which may put its other trees together as they
        must be, such as one entry of sums: only the events are counted, in the task's tree
        or else in the only one.
    """
    counted = sorted({*parts, *merged})
    if by_command:
        counted = [one for one in parts if one == tree or len(parts) == 1]
    return next((one for one in counted if parts.get(one, 0) != merged.get(one, 0)), None)


def joined_spans(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Return spans in their order, those that adjoin as one."""
    joined: list[Span] = []
    for chunk, start, stop in spans:
        if joined and joined[-1][0] == chunk and joined[-1][2] == start:
            joined[-1] = (chunk, joined[-1][1], stop)
        else:
            joined.append((chunk, start, stop))
    return tuple(joined)


def _entries(output: OutputRecord, tree: str, events: int) -> int:
    """Return the events of an output: of the task's tree, or else of its largest one.

    Where nobody can count them, those of its range stand for them.
    """
    if not output.entries:
        return events
    return output.entries.get(tree, max(output.entries.values()))
