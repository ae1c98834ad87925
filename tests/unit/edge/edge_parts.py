"""An edge's parts on files in memory, and sources that count and can be held up."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import uproot

from evstream.adapters.formats import KnownFormats
from evstream.adapters.offload import Threads
from evstream.adapters.product_store.disk import DiskProductStore
from evstream.adapters.source.memory import MemoryOpener, MemorySource
from evstream.domain.caching import ByReuse
from evstream.domain.dataset import Fingerprint, SourceFile
from evstream.domain.descriptor import Descriptor, slice_of
from evstream.domain.errors import TransientError
from evstream.domain.names import Guid, Lfn, Pfn
from evstream.edge import Deliveries, Delivery, ProductCache, Products
from evstream.edge.sources import Sources
from evstream.ports import ByteSource
from evstream.testing.manual_clock import ManualClock

NAME = "http://one/a.root"
OTHER = "http://two/a.root"
ENTRIES = 400_000


@cache
def content() -> bytes:
    """Return a file of 3 MB that does not compress, of eight baskets."""
    noise = np.random.default_rng(1).random(ENTRIES)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.root"
        with uproot.recreate(path, compression=None) as file:
            tree = file.mktree("Events", {"x": "float64"})
            for part in np.array_split(noise, 8):
                tree.extend({"x": part})
        return path.read_bytes()


class Watched:
    """A source that counts what is read of it, waits where it is told to, and may fail."""

    def __init__(self, opener: WatchedOpener, inner: ByteSource, pfn: str) -> None:
        self._opener = opener
        self._pfn = pfn
        self._inner = inner

    @property
    def size(self) -> int:
        return self._inner.size

    def read_ranges(self, ranges: Sequence[tuple[int, int]]) -> Sequence[bytes | memoryview]:
        opener = self._opener
        opener.waited.set()
        opener.gate.wait(30)
        if opener.fails or self._pfn in opener.broken:
            raise TransientError("the origin does not answer")
        if self._pfn == NAME and opener.bytes_read >= opener.breaks_after:
            raise TransientError("the connection broke")
        opener.bytes_read += sum(size for _, size in ranges)
        if self._pfn == opener.damaged:
            # One byte, which lies in no basket's header and in none that products are cut at.
            at = len(content()) // 2
            return [
                _flipped(data, at - offset)
                for (offset, _), data in zip(ranges, self._inner.read_ranges(ranges), strict=True)
            ]
        if self._pfn == opener.spoils and ranges[0][1] > 1_000_000:
            return [bytes(size) for _, size in ranges]
        return self._inner.read_ranges(ranges)


def _flipped(data: bytes | memoryview, at: int) -> bytes:
    return (
        bytes(data[:at]) + bytes([data[at] ^ 1]) + bytes(data[at + 1 :])
        if 0 <= at < len(data)
        else bytes(data)
    )


class WatchedOpener(MemoryOpener):
    """Opens watched sources."""

    def __init__(self) -> None:
        self.files = {NAME: content(), OTHER: content()}
        super().__init__(self.files)
        self.bytes_read = 0
        self.fails = False
        self.breaks_after = 1 << 60
        self.spoils = ""
        self.damaged = ""
        self.broken: set[str] = set()
        self.waited = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    @contextmanager
    def open(self, pfn: str) -> Iterator[ByteSource]:
        with super().open(pfn) as inner:
            yield Watched(self, inner, pfn)


class Edge:
    """An edge on a folder."""

    def __init__(self, folder: Path, bytes_max: int = 1 << 30) -> None:
        formats = KnownFormats()
        _, index = formats.inspect(MemorySource(NAME, content()))
        self.fingerprint = Fingerprint(index.size, index.uuid, index.fingerprint)
        pfns = (Pfn(NAME), Pfn(OTHER))
        trees = {"Events": ENTRIES}
        self.file = SourceFile(Lfn("a"), Guid(index.uuid), pfns, self.fingerprint, trees)

        async def find_file(_: Fingerprint) -> SourceFile:
            return self.file

        self.opener = WatchedOpener()
        self.offload = Threads(8)
        self.clock = ManualClock()
        self.folder = folder
        self.store = DiskProductStore(folder, self.offload)
        self.cache = ProductCache(self.store, ByReuse(bytes_max), self.clock, bytes_max)
        self.sources = Sources(self.opener, formats, now=self.clock.monotonic)
        self.products = Products(find_file, self.sources, self.offload)
        self.deliveries = Deliveries(self.products, self.offload, self.clock, self.cache)

    def descriptor(self, start: int = 0, stop: int = ENTRIES) -> Descriptor:
        return slice_of(self.fingerprint, "Events", (start, stop), None)

    async def get(self, start: int = 0, stop: int = ENTRIES) -> bytes:
        delivery = await self.deliveries.open(self.descriptor(start, stop))
        return await drained(delivery)

    async def settle(self) -> None:
        """Wait until nothing is being made."""
        await self.deliveries.settled()

    async def close(self) -> None:
        self.opener.gate.set()
        await self.deliveries.close()
        await self.products.close()
        self.offload.close()


async def drained(delivery: Delivery) -> bytes:
    """Read all of a product and close it."""
    try:
        return b"".join([piece async for piece in delivery.read(0, delivery.size)])
    finally:
        delivery.close()
