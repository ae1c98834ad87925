"""Source files copied whole to the edge's own disk, so that products are cut from there."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
from collections import Counter, OrderedDict
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, get_args

from evstream.domain.checksums import Summing
from evstream.domain.dataset import Fingerprint, SourceFile
from evstream.domain.descriptor import COPY_ENCODER, copy_of
from evstream.domain.errors import ConfigError, DataError, EvstreamError, TransientError
from evstream.domain.names import Pfn
from evstream.edge.cache import ProductCache
from evstream.edge.delivery import Heard, unheard
from evstream.edge.products import Identity, Products
from evstream.edge.sources import FileCopy, OpenSource, SourceUse
from evstream.edge.spool import discard, open_spool, write_at
from evstream.ports import Clock, KeptProduct

_LOG = logging.getLogger(__name__)

Policy = Literal["never", "auto", "always"]
POLICIES: tuple[Policy, ...] = get_args(Policy)

SHARE = 0.5
"""A file of which so much has been asked for is copied whole, by the policy ``auto``."""
PIECE_BYTES = 4 << 20
COPIES_MAX = 2
"""Files that are copied at once; the next ones wait."""
AGAIN_S = 300.0
"""So long after a failure the replicas are read, and no copy of the file is begun."""
COUNTED_MAX = 10_000
_REQUEST = "precached"


@dataclass(frozen=True, slots=True)
class FetchedCopy:
    """A copy that is kept.

    Attributes
    ----------
    is_verified : bool
        Whether checksums of the whole file were known: others may have it.
    """

    size: int
    sha256: str
    is_verified: bool


class _UnwantedError(Exception):
    """Nobody waits for a copy any more."""


def policy_of(word: str) -> Policy:
    """Return the policy that a setting names.

    Raises
    ------
    ConfigError
    """
    for policy in POLICIES:
        if policy == word:
            return policy
    raise ConfigError(f"precache is {word!r}", hint=f"give one of {', '.join(POLICIES)}")


def copy_name(file: SourceFile) -> str:
    """Return what the cache calls the copy of a file: it is a product like others."""
    return Identity.of(copy_of(file.fingerprint, file.format).key, COPY_ENCODER).name


class Precache:
    """Copies files whole into the cache of products, where they are kept by content like those.

    A copy goes on at the byte where a replica failed, from the next one, and counts when its
    fingerprint and its checksums are the registered ones. Whoever cuts a product while it is
    copied reads the replicas. Files of this machine's disks are copied for requests alone. One
    event loop's.

    Parameters
    ----------
    heard : callable, optional
        Is told of copies that others may have.
    """

    def __init__(
        self,
        products: Products,
        cache: ProductCache,
        clock: Clock,
        policy: Policy,
        heard: Heard = unheard,
    ) -> None:
        self._heard = heard
        self._sources = products.sources
        self._cache = cache
        self._clock = clock
        self._policy = policy
        self._reading = products.reading
        self._products = products
        self._asked: OrderedDict[Fingerprint, int] = OrderedDict()
        self._copying: dict[Fingerprint, asyncio.Task[None]] = {}
        self._failed: OrderedDict[Fingerprint, tuple[float, EvstreamError]] = OrderedDict()
        self._waiting: Counter[Fingerprint] = Counter()
        self._unwanted: set[Fingerprint] = set()
        self._dropping: set[asyncio.Task[bool]] = set()
        self._turns = asyncio.Semaphore(COPIES_MAX)

    def use(self, file: SourceFile) -> SourceUse:
        """Return what reads a file: its copy, if there is one. Close it in the event loop."""
        name = copy_name(file)
        held = self._cache.hold(name) if self._cache.holds(name) else None
        if held is None:
            return self._sources.use(file)
        if held.fd is None:
            # Buckets are no nearer than origins.
            held.close()
            return self._sources.use(file)
        fd = held.fd

        def close(is_bad: bool) -> None:
            held.close()
            os.close(fd)
            if is_bad:
                self._drop_soon(name)

        return self._sources.use(file, FileCopy(fd, file.fingerprint.size, close))

    def _drop_soon(self, name: str) -> None:
        _LOG.warning("evstream: the copy %s of a source is damaged and goes", name)
        task = asyncio.ensure_future(self._cache.drop(name))
        self._dropping.add(task)
        task.add_done_callback(self._dropping.discard)

    async def before(self, file: SourceFile) -> None:
        """Copy a file first, by the policy ``always``; what fails is read from the replicas."""
        if self._policy == "always" and self._is_wanted(file):
            await self._wait_for_copy(file)

    async def fetch(self, fingerprint: Fingerprint, keep_s: float) -> FetchedCopy:
        """Copy a file unless that is done, whatever the policy; keep the copy for some seconds.

        A copy that nobody waits for any more stops.

        Raises
        ------
        TransientError
            There is no room, or no replica can be read now.
        DataError
            No replica is what was registered; also if that was found a short while ago.
        """
        file = await self._products.file(fingerprint)
        name = copy_name(file)
        self._cache.pin(name, _REQUEST, self._clock.now().timestamp() + keep_s)
        if not self._cache.holds(name):
            known = self._failure(fingerprint)
            if isinstance(known, DataError):
                raise known
            try:
                await self._wait_for_copy(file)
            except asyncio.CancelledError:
                if fingerprint in self._copying and not self._waiting[fingerprint]:
                    self._unwanted.add(fingerprint)
                raise
        kept = self._cache.kept(name)
        if kept is None:
            # It may be registered with other replicas by then.
            self._products.forget_file(fingerprint)
            raise self._failure(fingerprint) or TransientError(
                f"there is no room for a copy of {file.lfn}", hint="give the cache more"
            )
        return FetchedCopy(kept.size, kept.sha256, bool(file.checksums))

    async def _wait_for_copy(self, file: SourceFile) -> None:
        """Begin a copy, or join it; whoever goes away must not end it for the others."""
        copying = self._begin(file)
        self._waiting[file.fingerprint] += 1
        try:
            await asyncio.shield(copying)
        finally:
            self._waiting[file.fingerprint] -= 1
            if not self._waiting[file.fingerprint]:
                del self._waiting[file.fingerprint]

    def asked(self, file: SourceFile, size: int) -> None:
        """Count what is asked for of a file, and begin to copy it when that is much."""
        if self._policy != "auto" or not self._is_wanted(file):
            return
        asked = self._asked.pop(file.fingerprint, 0) + size
        if asked >= SHARE * file.fingerprint.size:
            self._begin(file)
            return
        self._asked[file.fingerprint] = asked
        if len(self._asked) > COUNTED_MAX:
            self._asked.popitem(last=False)

    def _is_wanted(self, file: SourceFile) -> bool:
        if self._failure(file.fingerprint) is not None:
            return False
        is_far = bool(self._sources.origin(file))
        return is_far and not self._cache.holds(copy_name(file))

    def _failure(self, fingerprint: Fingerprint) -> EvstreamError | None:
        """Return why a file could not be copied a short while ago, if it could not."""
        at, error = self._failed.get(fingerprint, (-math.inf, None))
        return error if self._clock.monotonic() < at + AGAIN_S else None

    def _begin(self, file: SourceFile) -> asyncio.Task[None]:
        self._unwanted.discard(file.fingerprint)
        copying = self._copying.get(file.fingerprint)
        if copying is None:
            copying = asyncio.ensure_future(self._copy(file))
            self._copying[file.fingerprint] = copying
        return copying

    async def _copy(self, file: SourceFile) -> None:
        size = file.fingerprint.size
        self._failed.pop(file.fingerprint, None)
        try:
            async with self._turns, self._cache.room(size) as has_room:
                if has_room:
                    await self._copy_in_room(file)
        except _UnwantedError:
            _LOG.info("evstream: %s is copied no further: nobody waits for it", file.lfn)
        except (EvstreamError, OSError) as error:
            told = error if isinstance(error, EvstreamError) else TransientError(str(error))
            self._failed[file.fingerprint] = self._clock.monotonic(), told
            if len(self._failed) > COUNTED_MAX:
                self._failed.popitem(last=False)
            _LOG.warning("evstream: %s was not copied whole: %s", file.lfn, error)
        finally:
            self._unwanted.discard(file.fingerprint)
            self._copying.pop(file.fingerprint, None)

    async def _copy_in_room(self, file: SourceFile) -> None:
        name = copy_name(file)
        fd, spool = await self._reading("", partial(open_spool, self._cache.store.spool_dir, name))
        try:
            copied = await self._verified(file, fd)
            sums = copied.sums
            kept = KeptProduct(
                name, file.fingerprint.size, sums["sha256"], sums["adler32"], self._clock.now()
            )
            if file.checksums:
                # What no checksum covers is not passed on: damage would spread.
                descriptor = copy_of(file.fingerprint, file.format)
                self._heard(descriptor, Identity.of(descriptor.key, COPY_ENCODER), 0)
            await self._cache.add(kept, spool, float(kept.size))
        finally:
            os.close(fd)
            discard(spool)

    async def _verified(self, file: SourceFile, fd: int) -> Summing:
        """Copy a file until a copy is what was registered: of all replicas, then of each alone."""
        bad: list[tuple[Pfn, EvstreamError]] = []
        alone = [replace(file, pfns=(pfn,)) for pfn in file.pfns] if len(file.pfns) > 1 else []
        problem: EvstreamError | None = None
        for one in [file, *alone]:
            try:
                copied = await self._fetched(one, fd)
                copied.check(f"a copy of {file.lfn}")
                await self._reading("", partial(self._sources.check_copy, one, fd))
            except DataError as error:
                problem = error
                bad += [(pfn, error) for pfn in one.pfns if len(one.pfns) == 1]
                continue
            except EvstreamError as error:
                problem = problem or error
                continue
            for pfn, shown in bad:
                self._sources.replicas.failed(pfn, shown)
                self._sources.report_bad(file, pfn, shown)
            return copied
        assert problem is not None
        raise problem

    async def _fetched(self, file: SourceFile, fd: int) -> Summing:
        use = self._sources.use(file)
        summing, at = Summing(file.checksums), 0

        def piece() -> int:
            size = min(PIECE_BYTES, file.fingerprint.size - at)

            def read(opened: OpenSource) -> bytes | memoryview:
                return opened.source.read_ranges([(at, size)])[0]

            data = use.run(read)
            write_at(fd, data, at)
            summing.add(data)
            return len(data)

        try:
            while at < file.fingerprint.size:
                if file.fingerprint in self._unwanted:
                    raise _UnwantedError
                at += await self._reading(self._sources.origin(file), piece)
        finally:
            use.close()
        return summing

    async def settled(self) -> None:
        """Wait until nothing is being copied."""
        while self._copying:
            await asyncio.wait(list(self._copying.values()))

    async def close(self) -> None:
        """Stop what is being copied."""
        tasks = list(self._copying.values())
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)


def precached(
    products: Products, cache: ProductCache, clock: Clock, policy: str, heard: Heard = unheard
) -> Precache:
    """Have products cut from copies in a cache, by the policy of a setting; return what copies.

    Raises
    ------
    ConfigError
        There is no such policy.
    """
    products.precache = made = Precache(products, cache, clock, policy_of(policy), heard)
    return made
