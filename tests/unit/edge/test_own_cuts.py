"""Cuts made where they are used: the same bytes as an edge's, for few bytes of the source."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evstream.adapters.formats import KnownFormats
from evstream.adapters.offload import Threads
from evstream.adapters.source.memory import MemorySource
from evstream.domain.dataset import Fingerprint, SourceFile
from evstream.domain.errors import (
    EvstreamError,
    NotFoundError,
    SourceChangedError,
    TooLargeError,
    TransientError,
)
from evstream.edge import OwnCuts
from tests.unit.edge.edge_parts import ENTRIES, NAME, OTHER, Edge, content


class Service:
    """Tells of the one file, as the head does."""

    def __init__(self, edge: Edge) -> None:
        self._file = edge.file
        _, index = KnownFormats().inspect(MemorySource(NAME, content()))
        self.index_bytes: bytes | EvstreamError = index.to_bytes()
        self.asked = 0

    async def source(self, fingerprint: Fingerprint) -> SourceFile:
        self.asked += 1
        await asyncio.sleep(0)
        if fingerprint != self._file.fingerprint:
            raise NotFoundError("no such file")
        return self._file

    async def index(self, fingerprint: Fingerprint) -> bytes:
        if isinstance(self.index_bytes, EvstreamError):
            raise self.index_bytes
        return self.index_bytes


class Ground:
    """An edge, and cuts of one's own out of the same sources."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.edge = Edge(folder / "edge")
        self.service = Service(self.edge)
        self.offload = Threads(4)
        self.cuts = OwnCuts(
            self.service, self.edge.opener, KnownFormats(), self.offload, self.edge.clock, 4
        )

    async def cut(self, start: int, stop: int, bytes_max: int | None = None) -> tuple[bytes, int]:
        path = self.folder / f"{start}-{stop}"
        made = await self.cuts.cut(self.edge.descriptor(start, stop), path, bytes_max)
        return path.read_bytes(), made.read

    async def close(self) -> None:
        self.edge.opener.gate.set()
        await self.cuts.close()
        await self.edge.close()
        self.offload.close()


@contextmanager
def counted(ground: Ground) -> Iterator[list[int]]:
    """Yield a list that has, in the end, how many bytes were read meanwhile."""
    before, found = ground.edge.opener.bytes_read, list[int]()
    yield found
    found.append(ground.edge.opener.bytes_read - before)


def on_ground(folder: Path, work: Callable[[Ground], Awaitable[Any]]) -> None:
    async def main() -> None:
        (folder / "edge").mkdir()
        ground = Ground(folder)
        try:
            await work(ground)
        finally:
            await ground.close()

    asyncio.run(main())


@pytest.mark.parametrize("entries", [(0, ENTRIES), (0, 100), (49_000, 151_000), (7, 7)])
def test_a_cut_has_the_bytes_of_an_edges(tmp_path: Path, entries: tuple[int, int]) -> None:
    async def work(ground: Ground) -> None:
        mine, _ = await ground.cut(*entries)
        assert mine == await ground.edge.get(*entries)

    on_ground(tmp_path, work)


def test_what_is_known_of_a_file_is_not_read_from_it(tmp_path: Path) -> None:
    async def work(ground: Ground) -> None:
        with counted(ground) as found:
            product, read = await ground.cut(50_000, 100_000)
        # A whole basket and the file's head, and nothing of its metadata.
        assert read == found[0] < len(product) + 1_000
        await ground.cut(100_000, 150_000)
        assert ground.service.asked == 1

    on_ground(tmp_path, work)


@pytest.mark.parametrize("index", [TransientError("away"), b"of another version", b""])
def test_without_an_index_the_file_is_inspected(
    tmp_path: Path, index: bytes | EvstreamError
) -> None:
    async def work(ground: Ground) -> None:
        ground.service.index_bytes = index
        mine, _ = await ground.cut(0, 1000)
        assert mine == await ground.edge.get(0, 1000)

    on_ground(tmp_path, work)


def test_ranges_that_begin_together_ask_once_for_their_file(tmp_path: Path) -> None:
    async def work(ground: Ground) -> None:
        await asyncio.gather(*(ground.cut(start, start + 10) for start in range(0, 100, 10)))
        assert ground.service.asked == 1

    on_ground(tmp_path, work)


def test_baskets_that_neighbours_share_are_read_once(tmp_path: Path) -> None:
    async def work(ground: Ground) -> None:
        await ground.cut(0, 100)
        with counted(ground) as found:
            _, read = await ground.cut(100, 200)
        assert read == found[0] == 0

    # Baskets of this file are larger than what is remembered.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("evstream.edge.remembering.PART_BYTES_MAX", 1 << 20)
        on_ground(tmp_path, work)


def test_a_file_that_was_exchanged_is_refused(tmp_path: Path) -> None:
    async def work(ground: Ground) -> None:
        other = content()[:50_000] + b"!" + content()[50_001:]
        assert (await ground.cut(0, 100))[0]
        ground.edge.opener.files[NAME] = ground.edge.opener.files[OTHER] = other[:-1]
        # It is believed to be the same for a while: what comes then is read of what is open.
        ground.edge.clock.advance(60.0)
        with pytest.raises(SourceChangedError):
            await ground.cut(100_000, 200_000)

    on_ground(tmp_path, work)


def test_another_file_of_the_same_size_is_refused_at_once(tmp_path: Path) -> None:
    async def work(ground: Ground) -> None:
        wrong = content()[:20] + bytes(100) + content()[120:]
        ground.edge.opener.files[NAME] = ground.edge.opener.files[OTHER] = wrong
        with pytest.raises(SourceChangedError):
            await ground.cut(0, 100)

    on_ground(tmp_path, work)


def test_a_replica_that_is_away_is_passed_over(tmp_path: Path) -> None:
    async def work(ground: Ground) -> None:
        del ground.edge.opener.files[NAME]
        mine, _ = await ground.cut(0, 1000)
        assert mine == await ground.edge.get(0, 1000)

    on_ground(tmp_path, work)


def test_what_is_too_large_is_not_read(tmp_path: Path) -> None:
    async def work(ground: Ground) -> None:
        await ground.cut(0, 100)
        with counted(ground) as found, pytest.raises(TooLargeError):
            await ground.cut(0, ENTRIES, bytes_max=1_000_000)
        assert found[0] < 10_000

    on_ground(tmp_path, work)


def test_only_plain_slices_of_root_files_are_cut(tmp_path: Path) -> None:
    async def work(ground: Ground) -> None:
        plain = ground.edge.descriptor()
        assert ground.cuts.can(plain)
        assert not ground.cuts.can(replace(plain, recipe="skim/1"))
        assert not ground.cuts.can(replace(plain, format="parquet"))

    on_ground(tmp_path, work)


def test_nobody_waits_for_a_source_that_says_nothing(tmp_path: Path) -> None:
    async def work(ground: Ground) -> None:
        await ground.cut(0, 100)
        opener = ground.edge.opener
        opener.gate.clear()
        opener.waited.clear()
        cutting = asyncio.ensure_future(ground.cut(100_000, 200_000))
        await asyncio.to_thread(opener.waited.wait)
        cutting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cutting
        assert not opener.gate.is_set()
        # The thread is still there, and said to be.
        assert not await ground.cuts.close()
        opener.gate.set()
        assert await ground.cuts.close()

    on_ground(tmp_path, work)
