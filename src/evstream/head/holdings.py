"""Which of the work that waits an edge holds the input of."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from evstream.domain.dataset import Fingerprint
from evstream.domain.descriptor import slice_of
from evstream.domain.errors import NotFoundError
from evstream.domain.intervals import IntervalSet
from evstream.domain.names import TaskId
from evstream.domain.products import Recipe
from evstream.domain.splitting import Chunk
from evstream.domain.task import Task, process_book
from evstream.head.task_files import TaskFiles
from evstream.ports import Ledger, ProductCatalogue

LOOK_EVERY_S = 1.0
"""What an edge holds of a task is looked at so often at most."""
LOOKING_PART = 0.05
"""It is looked at less often where that takes long: for this part of the time at most."""
CHUNKS_AT_ONCE = 200
CHUNKS_KEPT_MAX = 400
"""Chunks of an edge's that claims choose from; when these are used up, the next look finds more."""


@dataclass(slots=True)
class _Look:
    chunks: list[int] = field(default_factory=list)
    due: float = float("-inf")
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Holdings:
    """Finds chunks with ready work whose input is at an edge.

    An edge holds a chunk if an available replica of its file is at the site of the edge's
    name, or if products that serve the task are ready at the edge for all of its entries.
    """

    def __init__(self, ledger: Ledger, products: ProductCatalogue, files: TaskFiles) -> None:
        self._ledger = ledger
        self._products = products
        self._files = files
        self._edges: frozenset[str] = frozenset()
        self._edges_due = float("-inf")
        self._looks: dict[tuple[str, TaskId], _Look] = {}

    async def chunks_at(self, edge: str, tasks: Sequence[Task]) -> dict[int, list[int]]:
        """Return which chunks of tasks an edge holds, by book; books without any are left out.

        Tasks are looked at in the order given, until there are enough chunks for any claim.

        Raises
        ------
        NotFoundError
            No edge or store of this name is registered.
        """
        await self._check(edge)
        found: dict[int, list[int]] = {}
        for task in tasks:
            if sum(map(len, found.values())) >= CHUNKS_KEPT_MAX:
                break
            if chunks := await self._chunks(edge, task):
                found[process_book(task.id)] = chunks
        return found

    def forget_ended(self, active: Collection[TaskId]) -> None:
        """Forget all tasks but some."""
        for place in [place for place in self._looks if place[1] not in active]:
            del self._looks[place]

    async def _check(self, edge: str) -> None:
        now = asyncio.get_running_loop().time()
        if edge not in self._edges or now >= self._edges_due:
            self._edges = frozenset(one.name for one in await self._products.edges())
            self._edges_due = now + LOOK_EVERY_S
        if edge not in self._edges:
            raise NotFoundError(
                f"there is no edge {edge}", hint="see 'evstream edge list'", edge=edge
            )

    async def _chunks(self, edge: str, task: Task) -> list[int]:
        look = self._looks.setdefault((edge, task.id), _Look())
        loop = asyncio.get_running_loop()
        # Of those who ask meanwhile, nobody looks a second time.
        async with look.lock:
            if (begun := loop.time()) >= look.due:
                look.chunks = await self._look(edge, task)
                now = loop.time()
                look.due = now + max(LOOK_EVERY_S, (now - begun) / LOOKING_PART)
            return look.chunks

    async def _look(self, edge: str, task: Task) -> list[int]:
        """Walk over the chunks that have ready work, until there are enough or no more."""
        first, held = 0, list[int]()
        while len(held) < CHUNKS_KEPT_MAX:
            numbers = await self._ledger.ready_chunks(process_book(task.id), first, CHUNKS_AT_ONCE)
            held += await self._held(edge, task, numbers)
            if len(numbers) < CHUNKS_AT_ONCE:
                break
            first = numbers[-1] + 1
        return held

    async def _held(self, edge: str, task: Task, numbers: Sequence[int]) -> list[int]:
        chunks: list[tuple[Chunk, Fingerprint]] = []
        # Products are in their file's format.
        by_format: dict[str, dict[Fingerprint, None]] = defaultdict(dict)
        for number in numbers:
            chunk = await self._files.chunk(process_book(task.id), number)
            file = None if chunk is None else await self._files.file(task, chunk.lfn)
            if chunk is not None and file is not None:
                chunks.append((chunk, file.fingerprint))
                by_format[file.format][file.fingerprint] = None
        held: dict[Fingerprint, IntervalSet] = {}
        for file_format, files in by_format.items():
            wanted = list(files)
            some = slice_of(wanted[0], task.spec.tree, (0, 1), task.spec.branches, file_format)
            ready = await self._products.ready(wanted, Recipe.of(some))
            for fingerprint, at in zip(wanted, ready, strict=True):
                held[fingerprint] = at.get(edge, IntervalSet())
        copies = {
            replica.fingerprint
            for replica in await self._products.replicas(list(held))
            if replica.site == edge and replica.state == "available"
        }
        return [
            chunk.number
            for chunk, fingerprint in chunks
            if fingerprint in copies or not _entries(chunk) - held[fingerprint]
        ]


def _entries(chunk: Chunk) -> IntervalSet:
    return IntervalSet.of([(chunk.entry_start, chunk.entry_stop)])
