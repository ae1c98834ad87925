"""Fetching ahead: inputs of the next units arrive while payloads compute."""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from evstream.client import Service
from evstream.domain.errors import AccessError, ConfigError, DataError, NotFoundError
from evstream.domain.payload import Payload
from evstream.pilot.concurrency import DEFINITE, for_each, patiently
from evstream.pilot.depth import Depth
from evstream.pilot.in_hand import Work
from evstream.pilot.providers import Providers
from evstream.pilot.settings import PilotSettings
from evstream.pilot.shared_products import SHARED_BYTES_MAX, SharedProducts, own_slice
from evstream.pilot.staging import Staging
from evstream.pilot.tools import Tools
from evstream.pilot.unit_files import files_of
from evstream.ports import Clock, Ids
from evstream.wire.messages import DeliveryPlan
from evstream.wire.work_messages import MergeInput, MergeUnit, RangePart, RangeUnit

T = TypeVar("T")

FIRST_GUESS_BYTES = 64 << 20


class DiskBudget:
    """Bytes on disk, given out in the order they are asked for.

    Who asks first goes first, even if a later, smaller one would fit: units are
    computed in claim order, so the first is the one that will be missed. When nothing
    is given out, whoever is next may have what it needs, however much.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._waiting: deque[tuple[Callable[[], int], asyncio.Future[Space]]] = deque()
        self._spaces = 0
        self.used = 0

    async def reserve(self, expected: Callable[[], int]) -> Space:
        """Wait for room.

        Parameters
        ----------
        expected : callable
            Bytes that it will probably be; asked again each time room is looked for,
            since what arrives meanwhile teaches.
        """
        room: asyncio.Future[Space] = asyncio.get_running_loop().create_future()
        self._waiting.append((expected, room))
        self._admit()
        try:
            return await room
        except asyncio.CancelledError:
            if room.done() and not room.cancelled():
                room.result().free()
            self._admit()
            raise

    def _admit(self) -> None:
        while self._waiting:
            expected, room = self._waiting[0]
            if room.cancelled():
                self._waiting.popleft()
                continue
            size = expected()
            if self._spaces and self.used + size > self._bytes_max:
                return
            self._waiting.popleft()
            room.set_result(Space(self, size))

    def _change(self, spaces: int, size: int) -> None:
        self._spaces += spaces
        self.used += size
        if spaces < 0 or size < 0:
            self._admit()


class Space:
    """A part of the budget, held from before a fetch until its files are gone."""

    def __init__(self, budget: DiskBudget, size: int) -> None:
        self._budget = budget
        self._size = size
        self._held = True
        budget._change(+1, size)

    def settle(self, size: int) -> None:
        """Replace the guess by what it turned out to be."""
        change, self._size = size - self._size, size
        self._budget._change(0, change)

    def free(self) -> None:
        """Give it back; again is no error."""
        if self._held:
            self._held = False
            self._budget._change(-1, -self._size)


class Inputs:
    """A unit's input files, on disk until `remove`.

    Attributes
    ----------
    begun : float
        When the first of them was fetched; when they were asked for, where nothing had to be.
    received : Counter
        Bytes that came, repeats included, by where they came from: ``edge``, ``replica``,
        ``head``, ``node`` or ``store``.
    staged : dict of str to str
        Folders that the payload needs beside them, by placeholder. Others use them as
        well: they stay.
    """

    def __init__(self, space: Space, now: float) -> None:
        self._space = space
        self.begun = now
        self._has_begun = False
        self.paths: list[Path] = []
        self.received: Counter[str] = Counter()
        self.staged: dict[str, str] = {}

    def begin(self, now: float) -> None:
        """Note that something is fetched from now on."""
        if not self._has_begun:
            self._has_begun, self.begun = True, now

    def make_directory(self, directory: Path) -> None:
        """Make the unit's directory. One of the name is a crashed pilot's: it goes."""
        try:
            directory.mkdir()
        except FileExistsError:
            shutil.rmtree(directory)
            directory.mkdir()

    def measure(self) -> int:
        """Note what the files really take, and return it."""
        size = sum(path.stat().st_size for path in self.paths)
        self._space.settle(size)
        return size

    def remove(self) -> None:
        """Delete the files and give their room to the next units.

        A payload may have done anything to them: what cannot be deleted goes with the
        unit's directory.
        """
        for path in self.paths:
            with suppress(OSError):
                path.unlink()
        self._space.free()


class Prefetcher:
    """Fetches several units' inputs at once, in the order they are asked for.

    The size of a product is not known before it is there: the largest of the recent
    ones stands for it, and before there is any, a guess.
    """

    def __init__(
        self,
        service: Service,
        clock: Clock,
        ids: Ids,
        tools: Tools,
        settings: PilotSettings,
        depth: Depth,
    ) -> None:
        self._service = service
        self._runner = tools.runner
        self._depth = depth
        self._providers = Providers(service, clock, tools.offload, tools.cutter)
        self._node_cache = tools.node_cache
        self._shared = SharedProducts(tools)
        self._staging = Staging(service, tools)
        self._clock = clock
        self._ids = ids
        self._settings = settings
        self._transfers = asyncio.Semaphore(settings.fetches_max)
        share = settings.prefetch_bytes_max // settings.fetches_max
        self._expected = min(share, FIRST_GUESS_BYTES)
        self.budget = DiskBudget(settings.prefetch_bytes_max)

    async def fetch(self, work: Work, directory: Path) -> Inputs:
        """Bring a unit's inputs into its directory, which must not exist yet.

        Raises
        ------
        DataError
            An input of a merge is not what was committed.
        ConfigError
            Something that the payload needs beside it cannot be had here.
        EvstreamError
            It cannot be fetched, or not as long as patience lasted.
        OSError
            The local disk is full or broken.
        """
        space = await self.budget.reserve(lambda: self._expect(work))
        inputs = Inputs(space, self._clock.monotonic())
        try:
            inputs.make_directory(directory)
            if work.payload is not None:
                inputs.staged = await self._stage(work, work.payload, directory.parent)
                # What takes long to initialise does so while the first input comes.
                self._runner.prepare(work.payload, inputs.staged, directory.parent)
            if isinstance(work, MergeUnit):
                await self._fetch_outputs(work, directory, inputs)
                inputs.measure()
            else:
                await self._fetch_ranges(work, directory, inputs)
        except BaseException:
            inputs.remove()
            raise
        return inputs

    async def _stage(self, work: Work, payload: Payload, directory: Path) -> dict[str, str]:
        """Have there what a payload needs beside its input, which no range is to blame for.

        Raises
        ------
        ConfigError
            It cannot be had here.
        """
        try:
            return await self._patiently(
                lambda: self._staging.stage(payload, work.sandbox_url, directory)
            )
        except DEFINITE as error:
            what = f"what the payload needs cannot be had on this node: {error.message}"
            raise ConfigError(what, hint=error.hint, **error.fields) from error

    def _expect(self, work: Work) -> int:
        if isinstance(work, MergeUnit):
            return sum(piece.size for piece in work.inputs)
        return self._expected

    async def _fetch_ranges(self, work: RangeUnit, directory: Path, inputs: Inputs) -> None:
        pieces: list[Callable[[], Awaitable[Counter[str]]]] = []
        for part, files in zip(work.parts, files_of(work), strict=True):
            inputs.paths += [directory / name for name in files.names]
            pieces.append(partial(self._fetch_range, inputs, part, directory / files.input))
            for wanted in part.secondary:
                for plan, name in zip(wanted.plans, files.secondary[wanted.name], strict=True):
                    pieces.append(partial(self._fetch_product, inputs, plan, directory / name))

        async def fetch(piece: Callable[[], Awaitable[Counter[str]]]) -> None:
            received = await piece()
            inputs.received += received

        await for_each(pieces, self._settings.fetches_max, fetch)
        # Falls slowly and rises at once: a guess too low is what fills a disk.
        size = inputs.measure()
        self._expected = max(size, int(0.9 * self._expected))
        self._depth.arrived(size)

    async def _fetch_range(self, inputs: Inputs, part: RangePart, path: Path) -> Counter[str]:
        if part.product_entries is None:
            return await self._fetch_product(inputs, part.plan, path)
        try:
            return await self._shared.cut(
                part, path, lambda: self._fetch_product(inputs, part.plan, path, SHARED_BYTES_MAX)
            )
        except DEFINITE:
            # What is wrong may be wrong with others of the product, and must not
            # count against this one.
            own = own_slice(part).to_wire()
            plan = await self._patiently(lambda: self._service.register_product(own))
            return await self._fetch_product(inputs, plan, path)

    async def _fetch_product(
        self, inputs: Inputs, plan: DeliveryPlan, path: Path, bytes_max: int | None = None
    ) -> Counter[str]:
        async def fetch() -> Counter[str]:
            inputs.begin(self._clock.monotonic())
            with self._depth.fetching(self._clock.monotonic):
                give = partial(self._providers.give, plan, path, bytes_max)
                if self._node_cache is None:
                    return await give()
                return await self._node_cache.through(plan.key, path, bytes_max, give)

        return await self._patiently(fetch)

    async def _fetch_outputs(self, work: MergeUnit, directory: Path, inputs: Inputs) -> None:
        inputs.paths = [
            directory / f"input-{number}{work.output.suffix}" for number in range(len(work.inputs))
        ]

        async def fetch(piece: tuple[MergeInput, Path]) -> None:
            wanted, path = piece

            async def bring() -> str:
                inputs.begin(self._clock.monotonic())
                return await self._service.fetch_output(wanted.url, path)

            sha256 = await self._patiently(bring)
            if sha256 != wanted.sha256:
                raise DataError(
                    f"{wanted.name} is not what was committed: sha256 {sha256}",
                    hint="check the output store",
                    name=wanted.name,
                    expected=wanted.sha256,
                )
            inputs.received["store"] += wanted.size

        pieces = zip(work.inputs, inputs.paths, strict=True)
        await for_each(pieces, self._settings.fetches_max, fetch)

    async def _patiently(self, transfer: Callable[[], Awaitable[T]]) -> T:
        async def attempt() -> T:
            # Whoever waits to try again lets others try meanwhile.
            async with self._transfers:
                return await transfer()

        # Credentials run out and are renewed, disks are mounted again: a file that was
        # there when it was registered is given time, and nobody spins meanwhile.
        return await patiently(
            self._clock,
            self._ids,
            self._settings.lease_s,
            attempt,
            passing=(AccessError, NotFoundError),
        )
