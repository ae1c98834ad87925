"""Products: made from a descriptor on first use, served from any offset."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

from evstream.domain.dataset import Fingerprint, SourceFile
from evstream.domain.descriptor import COPY, COPY_ENCODER, SLICE, Descriptor
from evstream.domain.errors import (
    DescriptorUnknownError,
    EvstreamError,
    NotFoundError,
    RequestError,
)
from evstream.domain.intervals import Interval, IntervalSet
from evstream.domain.names import ProductKey
from evstream.edge.replicas import OriginTurns
from evstream.edge.sources import OpenSource, Sources, SourceUse
from evstream.ports import Cut, Offload

PIECE_BYTES = 1 << 20
WHOLE_BYTES_MAX = 256 << 10
PREPARED_MAX = 256
PREPARED_BYTES_MAX = 512 << 20
DESCRIPTORS_MAX = 100_000
DESCRIPTORS_BYTES_MAX = 256 << 20
FILES_MAX = 10_000
THREADS = 16

T = TypeVar("T")

FindFile = Callable[[Fingerprint], Awaitable[SourceFile]]
"""Finds a registered file by its content: in the catalogue, or at the head."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a product's bytes are called, before any of them is made.

    Attributes
    ----------
    name : str
        Key and 16 hexadecimal digits for the encoder: what a store calls it.
    etag : str
        Strong: key and encoder, so that two makers with different codecs differ.
    """

    name: str
    etag: str

    @property
    def encoder_id(self) -> str:
        """Engine, codecs and writer."""
        return self.etag[1:-1].partition("-")[2]

    @classmethod
    def of(cls, key: ProductKey, encoder_id: str) -> Identity:
        """Return the identity of what an encoder makes of a descriptor."""
        encoder = hashlib.sha256(encoder_id.encode()).hexdigest()[:16]
        return cls(f"{key}-{encoder}", f'"{key}-{encoder_id}"')


@dataclass(frozen=True, slots=True)
class Product:
    """A product that is ready to be read.

    Attributes
    ----------
    whole : bytes or None
        All of it, where that is little: another hop between threads would cost more.
    """

    identity: Identity
    size: int
    file: SourceFile
    cut: Cut
    whole: bytes | None

    @property
    def weight(self) -> int:
        """Bytes of memory that keeping it takes, about."""
        return self.cut.boundary_bytes + len(self.whole or b"")


class Copies(Protocol):
    """Has whole files on this machine's disk, or fetches them; see `Precache`."""

    def use(self, file: SourceFile) -> SourceUse:
        """Return what reads a file. Close it in the event loop."""
        ...

    async def before(self, file: SourceFile) -> None:
        """Fetch a file before a product is cut, if that is wanted."""
        ...

    def asked(self, file: SourceFile, size: int) -> None:
        """Note that a product of a file was asked for."""
        ...


class Reader:
    """Reads a product's bytes from its source. Blocking; one thread at a time."""

    def __init__(self, product: Product, use: SourceUse) -> None:
        self._product = product
        self._use = use

    @property
    def origin(self) -> str:
        """Where it reads from now; empty for this machine's disks."""
        return self._use.origin

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes ``[offset, offset + size)``.

        Raises
        ------
        SourceChangedError
            A file that changes under us is refused, never mixed in.
        """
        if self._product.whole is not None:
            return self._product.whole[offset : offset + size]
        cut = self._product.cut
        return self._use.run(lambda opened: cut.read(offset, size, opened.source))

    def close(self) -> None:
        """Give the source back."""
        self._use.close()


class Products:
    """Makes cuts, once however many ask, and keeps what is costly about them.

    What is kept is small: the re-encoded boundaries of a cut, and all of a cut that is
    small itself. Other inner bytes are read from the source as they are sent.

    Parameters
    ----------
    threads : int
        That ``offload`` has; no origin blocks more than half of them.
    """

    def __init__(
        self, find_file: FindFile, sources: Sources, offload: Offload, threads: int = THREADS
    ) -> None:
        self._turns = OriginTurns(threads)
        self.precache: Copies | None = None
        self._find_file = find_file
        self.sources = sources
        self._offload = offload
        self._descriptors: OrderedDict[ProductKey, Descriptor] = OrderedDict()
        self._descriptors_bytes = 0
        self._files: OrderedDict[Fingerprint, SourceFile] = OrderedDict()
        self._weights: dict[ProductKey, int] = {}
        self._weight = 0
        self._prepared: OrderedDict[ProductKey, asyncio.Task[Product]] = OrderedDict()
        self._encoder_ids: dict[str, str] = {}

    def register(self, descriptor: Descriptor) -> ProductKey:
        """Remember a descriptor for a while; return its key.

        Raises
        ------
        RequestError
            It describes nothing that is made here.
        """
        _parameters(descriptor)
        key = descriptor.key
        if key not in self._descriptors:
            self._descriptors[key] = descriptor
            self._descriptors_bytes += len(descriptor.canonical_bytes)
        self._descriptors.move_to_end(key)
        while (
            len(self._descriptors) > DESCRIPTORS_MAX
            or self._descriptors_bytes > DESCRIPTORS_BYTES_MAX
        ):
            _, forgotten = self._descriptors.popitem(last=False)
            self._descriptors_bytes -= len(forgotten.canonical_bytes)
        return key

    def descriptor(self, key: ProductKey) -> Descriptor:
        """Return a descriptor that was registered.

        Raises
        ------
        DescriptorUnknownError
            It never was, or is forgotten: register it and ask again.
        """
        if key not in self._descriptors:
            raise DescriptorUnknownError(
                f"no descriptor is known for product {key}",
                hint="POST it to /v1/products and ask again",
                key=key,
            )
        return self._descriptors[key]

    async def described(self, key: ProductKey) -> Descriptor:
        """Return a descriptor that was registered, as `descriptor`."""
        return self.descriptor(key)

    async def identity(self, descriptor: Descriptor) -> Identity:
        """Return what a product's bytes are called; its source is not looked at.

        Raises
        ------
        RequestError
            The recipe or the format is unknown.
        """
        return Identity.of(descriptor.key, await self.encoder_id(descriptor))

    async def encoder_id(self, descriptor: Descriptor) -> str:
        """Return by which encoder a product is made here.

        Raises
        ------
        RequestError
            The recipe or the format is unknown.
        """
        if _is_copy(descriptor):
            return COPY_ENCODER
        _parameters(descriptor)
        name = descriptor.format
        if name not in self._encoder_ids:
            # Some formats ask their library, in a process of its own.
            encoder_id = await self._offload(partial(self.sources.encoder_id, name))
            self._encoder_ids[name] = encoder_id
        return self._encoder_ids[name]

    def has(self, key: ProductKey) -> bool:
        """Say whether a product is at hand, or being made ready."""
        return key in self._prepared

    async def product(self, descriptor: Descriptor) -> Product:
        """Return a product, making it if it is not at hand.

        Raises
        ------
        RequestError
            The recipe is unknown, or a source file is not registered here.
        SourceChangedError
            The source is not the file that the descriptor means.
        """
        key = descriptor.key
        making = self._prepared.get(key)
        if making is None:
            making = asyncio.get_running_loop().create_task(self._make(key, descriptor))
            self._prepared[key] = making
            making.add_done_callback(lambda task: self._count_or_drop(key, task))
            self._evict()
        else:
            self._prepared.move_to_end(key)
        # Whoever goes away must not cancel it for the others.
        return await asyncio.shield(making)

    def _count_or_drop(self, key: ProductKey, task: asyncio.Task[Product]) -> None:
        failed = task.cancelled() or task.exception() is not None
        if self._prepared.get(key) is not task:
            return
        if failed:
            del self._prepared[key]
        else:
            self._weights[key] = task.result().weight
            self._weight += self._weights[key]
            self._evict()

    def _evict(self) -> None:
        while len(self._prepared) > PREPARED_MAX or self._weight > PREPARED_BYTES_MAX:
            oldest = next((key for key, task in self._prepared.items() if task.done()), None)
            if oldest is None:
                return  # All are being made.
            del self._prepared[oldest]
            self._weight -= self._weights.pop(oldest, 0)

    async def _make(self, key: ProductKey, descriptor: Descriptor) -> Product:
        if _is_copy(descriptor):
            raise NotFoundError("this edge has no copy of the file", hint="read it where it is")
        tree, branches = _parameters(descriptor)
        piece = descriptor.sources[0]
        file = await self.file(piece.fingerprint)
        if descriptor.format != file.format:
            raise RequestError(
                f"{file.lfn} is in format {file.format}, and slices of it are too",
                hint=f"ask for format {file.format}",
            )

        identity = await self.identity(descriptor)

        def prepared(opened: OpenSource) -> tuple[Cut, bytes | None]:
            cut = _planned(opened, tree, piece.entries, branches, bytes.fromhex(key))
            cut.prepare(opened.source)
            small = cut.size <= WHOLE_BYTES_MAX
            return cut, cut.read(0, cut.size, opened.source) if small else None

        try:
            cut, whole = await self._with_source(file, prepared)
        except EvstreamError:
            # It may have been registered again since, with other replicas.
            self.forget_file(piece.fingerprint)
            raise
        if self.precache is not None:
            self.precache.asked(file, cut.size)
        return Product(identity, cut.size, file, cut, whole)

    async def _with_source(self, file: SourceFile, work: Callable[[OpenSource], T]) -> T:
        if self.precache is not None:
            await self.precache.before(file)
        use = self._use(file)
        try:
            return await self.reading(use.origin, partial(use.run, work))
        finally:
            use.close()

    def _use(self, file: SourceFile) -> SourceUse:
        return self.sources.use(file) if self.precache is None else self.precache.use(file)

    async def file(self, fingerprint: Fingerprint) -> SourceFile:
        """Return a registered file; looked up once in a while."""
        file = self._files.get(fingerprint)
        if file is None:
            file = await self._find_file(fingerprint)
            self._files[fingerprint] = file
            if len(self._files) > FILES_MAX:
                self._files.popitem(last=False)
        return file

    async def index(self, fingerprint: Fingerprint) -> bytes:
        """Return a registered file's index, as its format encodes it.

        Raises
        ------
        EvstreamError
            No such file is registered, or none of its replicas can be read.
        """
        file = await self.file(fingerprint)
        return await self._with_source(file, lambda opened: opened.index.to_bytes())

    def forget_file(self, fingerprint: Fingerprint) -> None:
        """Look a file up anew when it is wanted again."""
        self._files.pop(fingerprint, None)

    def reader(self, product: Product) -> Reader:
        """Return what reads a product from its source."""
        return Reader(product, self._use(product.file))

    async def reading(self, origin: str, work: Callable[[], T]) -> T:
        """Run what reads of an origin in a thread, when it is its turn."""
        async with self._turns.turn(origin):
            return await self._offload(work)

    async def read(self, product: Product, start: int, stop: int) -> AsyncIterator[bytes]:
        """Yield bytes ``[start, stop)`` of a product, in pieces of at most 1 MiB."""
        if product.whole is not None:
            yield product.whole[start:stop]
            return
        reader = self.reader(product)
        try:
            for offset in range(start, stop, PIECE_BYTES):
                yield await self.reading(
                    reader.origin, partial(reader.read, offset, min(PIECE_BYTES, stop - offset))
                )
        finally:
            reader.close()

    async def close(self) -> None:
        """Stop making products and close the sources."""
        for making in list(self._prepared.values()):
            making.cancel()
        await asyncio.gather(*self._prepared.values(), return_exceptions=True)
        self.sources.close()


def _planned(
    opened: OpenSource,
    tree: str,
    entries: tuple[Interval, ...],
    branches: list[str] | None,
    identity: bytes,
) -> Cut:
    """Plan the cut of one interval, or of entries that do not follow each other."""
    if len(entries) == 1:
        start, stop = entries[0]
        return opened.format.plan_cut(
            opened.index,
            tree=tree,
            entry_start=start,
            entry_stop=stop,
            branches=branches,
            identity=identity,
        )
    known = opened.index.trees.get(tree)
    if known is not None and not 0 <= entries[0][0] < entries[-1][1] <= known.entries:
        raise RequestError(
            f"entries to {entries[-1][1]} are asked for, and {tree} has {known.entries}",
            hint="ask for entries that it has",
        )
    import numpy as np

    # A tree that is not there is refused by the format.
    ranges = [np.arange(start, stop) for start, stop in entries if known is not None]
    return opened.format.plan_select(
        opened.index,
        tree=tree,
        entries=np.concatenate([np.arange(0), *ranges]),
        branches=branches,
        identity=identity,
    )


def _is_copy(descriptor: Descriptor) -> bool:
    return (descriptor.recipe, descriptor.recipe_version) == (COPY, 1)


def _parameters(descriptor: Descriptor) -> tuple[str, list[str] | None]:
    """Return tree and branches of a slice; refuse what is none."""
    if (descriptor.recipe, descriptor.recipe_version) != (SLICE, 1):
        raise RequestError(
            f"recipe {descriptor.recipe} version {descriptor.recipe_version} is not known",
            hint="this service makes 'slice' version 1",
        )
    entries = descriptor.sources[0].entries if len(descriptor.sources) == 1 else ()
    # One interval that holds none is refused by the format, which knows how many there are.
    if len(entries) != 1 and (not entries or IntervalSet.of(entries).intervals != entries):
        raise RequestError(
            "a slice has one source, and intervals of entries that ascend and do not touch"
        )
    tree, branches = descriptor.parameter("tree"), descriptor.parameter("branches")
    listed = branches is None or isinstance(branches, list)
    if not listed or not all(isinstance(name, str) for name in (tree, *(branches or ()))):
        raise RequestError("a slice has the name of a tree and a list of names of branches")
    return tree, branches
