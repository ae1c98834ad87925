"""Products cut where they are used: an edge of a pilot's own, that keeps and serves nothing.

What the service knows of a file comes from there: where it is, and its index, so that none of
its metadata is read from afar. Cuts are made by the same code as at edges, and are the same.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from evstream.domain.dataset import Fingerprint, SourceFile
from evstream.domain.descriptor import SLICE, Descriptor
from evstream.domain.errors import EvstreamError, TooLargeError
from evstream.edge.products import Products
from evstream.edge.remembering import Remembering
from evstream.edge.sources import Sources
from evstream.ports import ByteSource, Clock, Formats, Made, Offload, SourceOpener

if TYPE_CHECKING:
    from collections.abc import Iterator

FORMATS = frozenset({"root"})
"""Formats that need no library which might be missing where a pilot runs."""
WINDOW_BYTES = 8 << 20
"""Read by one request: far away, each costs a round trip."""
LOOK_S = 10.0
"""A file that was looked at is taken to be the same for so long."""
THREADS = 16
CLOSE_S = 1.0
"""So long a close waits for reads that are under way."""
OPEN_FILES_MAX = 16
"""Each may have `Remembering` keep a little of it."""

_READ: ContextVar[_Meter | None] = ContextVar("_READ", default=None)


class Informed(Protocol):
    """Knows files by their content; a service's client does."""

    async def source(self, fingerprint: Fingerprint) -> SourceFile:
        """Return a file and where it is."""
        ...

    async def index(self, fingerprint: Fingerprint) -> bytes:
        """Return its index, as its format encodes it."""
        ...


class _Meter:
    """Bytes that one product took."""

    def __init__(self) -> None:
        self.bytes = 0


class _Metered:
    """A `SourceOpener` that tells whoever asked for bytes how many were read for that."""

    def __init__(self, opener: SourceOpener) -> None:
        self._opener = opener
        self.signature = opener.signature

    def open(self, pfn: str) -> AbstractContextManager[ByteSource]:
        return self._open(pfn)

    @contextmanager
    def _open(self, pfn: str) -> Iterator[ByteSource]:
        with self._opener.open(pfn) as source:
            yield Remembering(_MeteredSource(source))


class _MeteredSource:
    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self.size = source.size

    def read_ranges(self, ranges: Sequence[tuple[int, int]]) -> Sequence[bytes | memoryview]:
        found = self._source.read_ranges(ranges)
        meter = _READ.get()
        if meter is not None:
            meter.bytes += sum(map(len, found))
        return found


class OwnCuts:
    """The `Cutter` port.

    Parameters
    ----------
    informed : Informed
        Where what is known of files comes from, once for each.
    offload : Offload
        Threads of its own: they wait for sources.
    """

    def __init__(
        self,
        informed: Informed,
        opener: SourceOpener,
        formats: Formats,
        offload: Offload,
        clock: Clock,
        threads: int = THREADS,
    ) -> None:
        self._informed = informed
        self._sources = Sources(_Metered(opener), formats, OPEN_FILES_MAX, clock.monotonic, LOOK_S)
        self._products = Products(self._file, self._sources, offload, threads)
        self._asking: dict[Fingerprint, asyncio.Task[SourceFile]] = {}
        self._cutting: set[asyncio.Task[Made]] = set()

    def can(self, descriptor: Descriptor) -> bool:
        """Say whether a product is a slice, of a format that is cut anywhere."""
        return descriptor.recipe == SLICE and descriptor.format in FORMATS

    async def _file(self, fingerprint: Fingerprint) -> SourceFile:
        asking = self._asking.get(fingerprint)
        if asking is None:
            # Ranges of a file begin together.
            asking = self._asking[fingerprint] = asyncio.ensure_future(self._ask(fingerprint))
            asking.add_done_callback(partial(self._answered, fingerprint))
        return await asyncio.shield(asking)

    def _answered(self, fingerprint: Fingerprint, asking: asyncio.Task[SourceFile]) -> None:
        del self._asking[fingerprint]
        _read_error(asking)

    async def _ask(self, fingerprint: Fingerprint) -> SourceFile:
        file, index = await asyncio.gather(
            self._informed.source(fingerprint),
            self._informed.index(fingerprint),
            return_exceptions=True,
        )
        if isinstance(file, BaseException):
            raise file
        if isinstance(index, bytes):
            # Of another version, or without any, the file is inspected where it is.
            with contextlib.suppress(EvstreamError):
                self._sources.take_index(file, index)
        elif not isinstance(index, EvstreamError):
            raise index
        return file

    async def cut(self, descriptor: Descriptor, path: Path, bytes_max: int | None = None) -> Made:
        """Leave a product at a path.

        Raises
        ------
        EvstreamError
            Its source is not known, cannot be read from here, or is not what it was.
        TooLargeError
            The product has more bytes than may be.
        """
        cutting = asyncio.ensure_future(self._cut(descriptor, path, bytes_max))
        self._cutting.add(cutting)
        cutting.add_done_callback(self._forget)
        try:
            # Whoever is cancelled leaves at once: a thread that waits for a source cannot.
            return await asyncio.shield(cutting)
        except asyncio.CancelledError:
            cutting.cancel()
            raise

    def _forget(self, cutting: asyncio.Task[Made]) -> None:
        self._cutting.discard(cutting)
        _read_error(cutting)

    async def _cut(self, descriptor: Descriptor, path: Path, bytes_max: int | None) -> Made:
        meter = _Meter()
        token = _READ.set(meter)
        try:
            product = await self._products.product(descriptor)
            if bytes_max is not None and product.size > bytes_max:
                raise TooLargeError(f"the product has {product.size} bytes", bytes_max=bytes_max)
            reader = self._products.reader(product)
            try:
                with path.open("wb") as file:
                    for offset in range(0, product.size, WINDOW_BYTES):
                        read = partial(reader.read, offset, WINDOW_BYTES)
                        file.write(await self._products.reading(reader.origin, read))
            finally:
                reader.close()
        finally:
            _READ.reset(token)
        return Made(meter.bytes, product.identity.etag)

    async def close(self) -> bool:
        """Close the sources; say whether all are: one may not answer, and hold a thread."""
        closing = asyncio.ensure_future(self._close())
        done, _ = await asyncio.wait({closing}, timeout=CLOSE_S)
        return closing in done

    async def _close(self) -> None:
        under_way = [*self._cutting, *self._asking.values()]
        for one in under_way:
            one.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        await self._products.close()


def _read_error(task: asyncio.Task[Any]) -> None:
    """See the error of what nobody waits for any more: it has nobody to go to."""
    if not task.cancelled():
        task.exception()
