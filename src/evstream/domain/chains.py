"""Chains: tasks that take the outputs of other tasks, their parents, as they are committed.

Each output that is taken becomes a file of the chained task's dataset, and one chunk of
its book. Files are numbered by parent and by their order there::

    first parent    0          1          2  …
    second parent   10000000   10000001      …

So a number says where a file stands in the input, whichever parent was faster. What is
taken back of a parent leaves the dataset, and what comes in its place is put behind.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from evstream.domain.dataset import Dataset, SourceFile
from evstream.domain.errors import LimitError
from evstream.domain.ledger import Commit
from evstream.domain.merging import Merged, MergeGroup, Span
from evstream.domain.outputs import OutputRecord
from evstream.domain.splitting import Chunk

FILES_PER_PARENT_MAX = 10_000_000


class Taking:
    """How far a task has taken the outputs of one parent.

    Parameters
    ----------
    place : int
        Of the parent among the parents.
    dataset : Dataset
        Of the chained task, as it is.
    """

    def __init__(self, place: int, dataset: Dataset) -> None:
        self._end = (place + 1) * FILES_PER_PARENT_MAX
        self._next = place * FILES_PER_PARENT_MAX
        self._numbers: dict[str, int] = {}
        for file in dataset.files:
            self._note(file, is_there=True)
        for file in dataset.retracted:
            self._note(file, is_there=False)

    def _note(self, file: SourceFile, *, is_there: bool) -> None:
        assert file.origin is not None
        number = file.origin.number
        if self._end - FILES_PER_PARENT_MAX <= number < self._end:
            self._next = max(self._next, number + 1)
            if is_there:
                self._numbers[file.origin.output] = number

    @property
    def bound(self) -> int:
        """The number that the next file gets: files below it are all there."""
        return self._next

    def gone(self, final: Collection[str]) -> list[int]:
        """Return the numbers of files whose outputs are no part of a result any more.

        Parameters
        ----------
        final : collection of str
            Names of all outputs that are.
        """
        return [number for name, number in self._numbers.items() if name not in final]

    def drop(self, numbers: Collection[int]) -> None:
        """Note that files have left the dataset."""
        held = self._numbers.items()
        self._numbers = {name: number for name, number in held if number not in numbers}

    def take(self, outputs: Iterable[OutputRecord]) -> list[tuple[int, OutputRecord]]:
        """Give numbers to the outputs that were not taken before, in their order.

        Raises
        ------
        LimitError
            There are more than a task can take.
        """
        taken: list[tuple[int, OutputRecord]] = []
        for output in outputs:
            if output.name in self._numbers:
                continue
            if self._next == self._end:
                raise LimitError(
                    f"a task can take {FILES_PER_PARENT_MAX} outputs of another one",
                    hint="merge them there, and take these",
                )
            self._numbers[output.name] = self._next
            taken.append((self._next, output))
            self._next += 1
        return taken


def chunks_of(files: Iterable[SourceFile], tree: str) -> list[Chunk]:
    """Return the chunks of what was taken: one for each file that has events."""
    return [
        Chunk(file.origin.number, file.lfn, 0, file.trees[tree])
        for file in files
        if file.origin is not None and file.trees[tree]
    ]


class Passed:
    """Collects the outputs of one stream as a `Frontier` passes them.

    Attributes
    ----------
    outputs : list of OutputRecord
        Those that were passed since they were last taken from it.
    """

    def __init__(self, stream: str) -> None:
        self._stream = stream
        self.outputs: list[OutputRecord] = []

    def pass_range(self, commit: Commit) -> None:
        """Take the next range that the frontier passes."""
        self.outputs += stream_outputs(commit, self._stream)

    def pass_end_of_file(self) -> None:
        """Do nothing: outputs are what they are."""

    def end(self) -> None:
        """Do nothing: outputs are what they are."""


def stream_outputs(commit: Commit, stream: str) -> Iterator[OutputRecord]:
    """Yield what a range left for a stream."""
    return (output for output in commit.success.outputs if output.stream == stream)


@dataclass(frozen=True, slots=True)
class MergedOutputs:
    """The merged files of a stream.

    Attributes
    ----------
    in_order : tuple of OutputRecord
        As far as none before them is still to come.
    every : tuple of OutputRecord
    """

    in_order: tuple[OutputRecord, ...]
    every: tuple[OutputRecord, ...]


def merged_outputs(
    groups: Iterable[MergeGroup], merges: Iterable[Merged], closed: Collection[int], stream: str
) -> MergedOutputs:
    """Return the merged files of a stream, in the order of what they cover.

    Parameters
    ----------
    groups : iterable of MergeGroup
        Those that count.
    merges : iterable of Merged
        Those that are committed.
    closed : collection of int
        Numbers of groups that will never be.
    """
    made = {merged.group.number: merged.output for merged in merges}
    segments: dict[tuple[int, int], list[MergeGroup]] = {}
    for group in sorted(groups, key=_place):
        if group.stream == stream:
            segments.setdefault(group.segment, []).append(group)
    every: list[OutputRecord] = []
    in_order, waiting = 0, False
    for members in segments.values():
        final = [group for group in members if group.final]
        every += [made[group.number] for group in final if group.number in made]
        failed = any(group.number in closed for group in members)
        waiting = waiting or not (failed or any(group.number in made for group in final))
        if not waiting:
            in_order = len(every)
    return MergedOutputs(tuple(every[:in_order]), tuple(every))


def _place(group: MergeGroup) -> Span:
    return group.covers[0]


def bound_of(takings: Sequence[Taking], ended: Sequence[bool]) -> int | None:
    """Return the number up to which all files are there; None if no more will come.

    Parameters
    ----------
    takings : sequence of Taking
        One for each parent.
    ended : sequence of bool
        Whether all that the parent will ever give is taken.
    """
    for taking, complete in zip(takings, ended, strict=True):
        if not complete:
            return taking.bound
    return None
