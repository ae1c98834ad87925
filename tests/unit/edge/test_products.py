"""Products are kept within bounds, whatever else is being made meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import pytest

from evstream.adapters.catalogue.memory import MemoryDatabase
from evstream.adapters.formats import KnownFormats
from evstream.adapters.source.memory import MemoryOpener, MemorySource
from evstream.domain.dataset import Dataset, Fingerprint, SourceFile
from evstream.domain.descriptor import Descriptor, slice_of
from evstream.domain.names import DatasetName, Guid, Lfn, Pfn
from evstream.edge import Products, products
from evstream.edge.sources import Sources
from evstream.testing.manual_clock import ManualClock
from evstream.testing.simulator import sample_files

T = TypeVar("T")
FILES = sample_files(files=1, entries=100)


class HeldUp:
    """An offload whose first work waits until it is let go."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self._works = 0

    async def __call__(self, work: Callable[[], T]) -> T:
        self._works += 1
        if self._works == 1:
            await self.gate.wait()
        return work()


def test_what_is_done_is_dropped_behind_what_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "PREPARED_MAX", 3)

    async def main() -> None:
        ((pfn, content),) = FILES.items()
        formats = KnownFormats()
        _, index = formats.inspect(MemorySource(pfn, content))
        fingerprint = Fingerprint(index.size, index.uuid, index.fingerprint)
        database = MemoryDatabase(ManualClock())
        file = SourceFile(Lfn("a"), Guid(index.uuid), (Pfn(pfn),), fingerprint, {"Events": 100})
        await database.catalogue.add_dataset(Dataset(DatasetName("user:x"), (file,)), {})
        offload = HeldUp()
        edge = Products(database.catalogue.file, Sources(MemoryOpener(FILES), formats), offload)

        def descriptor(start: int) -> Descriptor:
            return slice_of(fingerprint, "Events", (start, start + 1), None)

        slow = asyncio.create_task(edge.product(descriptor(0)))
        await asyncio.sleep(0)
        for start in range(1, 10):
            await edge.product(descriptor(start))
        assert len(edge._prepared) <= 3
        offload.gate.set()
        assert (await slow).size > 0
        await edge.close()

    asyncio.run(main())
