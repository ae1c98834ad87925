"""Products of many short units: fetched once, and cut here for each of them.

A request costs more than a few events do. So what a worker says it can cut comes in
products that hold several units of work, one after another in the source.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from evstream import rootio
from evstream.domain.descriptor import Descriptor
from evstream.pilot.tools import Tools
from evstream.ports import FileIndex, Format
from evstream.wire.work_messages import RangePart

CUT_HERE = ("root",)
"""Formats that need no library which might be missing where a pilot runs."""

KEPT_MAX = 4
"""Units are computed in the order of the source, so few products are in use at once."""

SHARED_BYTES_MAX = 8 << 20
"""A product is meant to have one MiB, by the mean of its file; events may be uneven."""

PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class _Opened:
    source: rootio.BytesSource
    format: Format
    index: FileIndex
    tree: str
    entry_start: int
    """Where in the source file the product begins."""


@dataclass(slots=True)
class _Shared:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    opened: _Opened | None = None
    error: Exception | None = None


class SharedProducts:
    """Cuts units out of the products that hold them. What is kept is in memory."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._shared: OrderedDict[str, _Shared] = OrderedDict()

    async def cut(
        self, part: RangePart, path: Path, fetch: Callable[[], Awaitable[Counter[str]]]
    ) -> Counter[str]:
        """Leave a range's input at a path; return how many bytes were received for it.

        Parameters
        ----------
        fetch : callable
            Brings the whole product to the path.

        Raises
        ------
        EvstreamError
            It cannot be fetched, which all units that wait for it are told, or it
            cannot be cut.
        """
        shared = self._shared.setdefault(part.plan.key, _Shared())
        self._shared.move_to_end(part.plan.key)
        while len(self._shared) > KEPT_MAX:
            self._shared.popitem(last=False)
        # One after another, in the order they were claimed. Who is cancelled while it
        # fetches leaves the fetching to the next.
        async with shared.lock:
            received: Counter[str] = Counter()
            if shared.error is not None:
                raise shared.error
            if shared.opened is None:
                try:
                    received = await fetch()
                    shared.opened = await self._tools.offload(lambda: self._open(part, path))
                except Exception as error:
                    shared.error = error
                    if self._shared.get(part.plan.key) is shared:
                        del self._shared[part.plan.key]
                    raise
            opened = shared.opened
            await self._tools.offload(lambda: _cut(opened, part, path))
            return received

    def _open(self, part: RangePart, path: Path) -> _Opened:
        assert part.product_entries is not None
        descriptor = Descriptor.from_wire(part.plan.descriptor)
        file_format = self._tools.formats.named(descriptor.format)
        source = rootio.BytesSource(path.read_bytes())
        tree = str(descriptor.parameter("tree"))
        start, _ = part.product_entries
        return _Opened(source, file_format, file_format.inspect(source), tree, start)


def own_slice(part: RangePart) -> Descriptor:
    """Describe the product of a range's own entries, out of the one that it shares."""
    shared = Descriptor.from_wire(part.plan.descriptor)
    (source,) = shared.sources
    entries = ((part.entry_start, part.entry_stop),)
    return replace(shared, sources=(replace(source, entries=entries),))


def _cut(opened: _Opened, part: RangePart, path: Path) -> None:
    start, stop = part.entry_start, part.entry_stop
    cut = opened.format.plan_cut(
        opened.index,
        tree=opened.tree,
        entry_start=start - opened.entry_start,
        entry_stop=stop - opened.entry_start,
        identity=hashlib.sha256(f"{part.plan.key} {start} {stop}".encode()).digest(),
    )
    cut.prepare(opened.source)
    # The whole product may be a link to what other pilots use.
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        for offset in range(0, cut.size, PIECE_BYTES):
            file.write(cut.read(offset, PIECE_BYTES, opened.source))
