"""Parents: what tasks have for those that take their outputs, read as they go on."""

from __future__ import annotations

from dataclasses import dataclass, field

from evstream.domain.chains import Passed, Taking, merged_outputs, stream_outputs
from evstream.domain.ledger import Progress
from evstream.domain.merging import Frontier
from evstream.domain.names import TaskId
from evstream.domain.outputs import OutputRecord
from evstream.domain.task import TakenOutputs, Task, merge_book, process_book
from evstream.head.books import merge_progress, merges_of
from evstream.head.merging import Merging
from evstream.head.passing import move
from evstream.ports import Catalogue, Ledger


@dataclass(slots=True)
class Link:
    """A task and one parent of it: what was taken, and how far the parent was read.

    Attributes
    ----------
    times : int
        How often work of the parent had been taken back when it was last looked at.
    complete : bool
        Whether the parent had ended, and all that it has was read.
    """

    taken: TakenOutputs
    taking: Taking
    times: int = -1
    complete: bool = False
    frontier: Frontier | None = None
    passed: Passed = field(default_factory=lambda: Passed(""))
    chunks: set[int] = field(default_factory=set)
    bound: int | None = None
    merged: Progress | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """What a parent has.

    Attributes
    ----------
    outputs : list of OutputRecord
        In their order, as far as none before them is still to come; those that have
        come since the last look, or all.
    final : frozenset of str, optional
        Names of all outputs that are part of its result; None where none can have gone.
    """

    parent: Task
    outputs: list[OutputRecord]
    final: frozenset[str] | None


class Parents:
    """Looks at parents: at all that they have where it may have changed, else at what came."""

    def __init__(self, catalogue: Catalogue, ledger: Ledger, merging: Merging) -> None:
        self._catalogue = catalogue
        self._ledger = ledger
        self._merging = merging
        # Where the input of chained tasks still grows; nothing is known of it at first.
        self._bounds: dict[TaskId, int | None] = {}

    def set_bound(self, task: TaskId, bound: int | None) -> None:
        """Note from which chunk on a chained task may get more to do."""
        self._bounds[task] = bound

    async def look(self, link: Link) -> Look:
        """Return what a parent has; the link remembers how far it was read."""
        parent = await self._catalogue.task(TaskId(link.taken.task))
        anew = parent.times_taken_back != link.times
        if link.complete and not anew:
            return Look(parent, [], None)
        if anew:
            link.times, link.frontier, link.merged = parent.times_taken_back, None, None
        # What has ended before it is read has all that it will have, unless it is opened again.
        link.complete = parent.state.final
        if any(s.merging for s in parent.spec.outputs if s.name == link.taken.stream):
            return await self._look_at_merged(parent, link)
        if not link.complete and not anew:
            return Look(parent, await self._passed(parent, link), None)
        commits = await self._ledger.commits(process_book(parent.id))
        every = [o for commit in commits for o in stream_outputs(commit, link.taken.stream)]
        outputs = every if link.complete else await self._passed(parent, link)
        return Look(parent, outputs, frozenset(output.name for output in every))

    async def _passed(self, parent: Task, link: Link) -> list[OutputRecord]:
        """Return the outputs of ranges that the frontier has passed since it was asked."""
        book = process_book(parent.id)
        bound = self._bounds.get(parent.id, 0) if parent.spec.takes else None
        if link.frontier is None:
            link.passed = Passed(link.taken.stream)
            chunks = await self._ledger.chunks(book)
            link.frontier = Frontier(chunks, [link.passed], bound)
            link.chunks = {chunk.number for chunk in chunks}
        elif bound != link.bound:
            chunks = [c for c in await self._ledger.chunks(book) if c.number not in link.chunks]
            link.chunks |= {chunk.number for chunk in chunks}
            link.frontier.grow(chunks, bound)
        link.bound = bound
        async for _ in move(self._ledger, book, link.frontier):
            pass  # It has told `link.passed`.
        outputs, link.passed.outputs = link.passed.outputs, []
        return outputs

    async def _look_at_merged(self, parent: Task, link: Link) -> Look:
        merged = await merge_progress(self._ledger, parent)
        if merged is None:
            return Look(parent, [], frozenset())
        if not link.complete and merged == link.merged:
            return Look(parent, [], None)
        link.merged = merged
        groups, _ = await self._merging.groups(parent)
        merges = await merges_of(self._catalogue, self._ledger, parent)
        closed = {row.chunk for row in await self._ledger.closed(merge_book(parent.id))}
        found = merged_outputs(groups, merges, closed, link.taken.stream)
        outputs = found.every if link.complete else found.in_order
        return Look(parent, list(outputs), frozenset(output.name for output in found.every))
