"""Products are made once, streamed along while they are made, and kept."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import shutil
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from evstream.domain.errors import EvstreamError, TransientError
from evstream.edge import making
from tests.unit.edge.edge_parts import ENTRIES, NAME, Edge, content, drained

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    edge = Edge(tmp_path / "cache")
    await edge.cache.open()
    yield edge
    await edge.close()


async def reference(edge: Edge, start: int = 0, stop: int = ENTRIES) -> bytes:
    product = await edge.products.product(edge.descriptor(start, stop))
    return b"".join([piece async for piece in edge.products.read(product, 0, product.size)])


async def test_many_who_ask_at_once_read_the_source_once(edge: Edge) -> None:
    found = await asyncio.gather(*(edge.get() for _ in range(100)))
    await edge.settle()
    once = edge.opener.bytes_read
    assert once < 1.5 * len(content())
    expected = await reference(edge)
    assert all(one == expected for one in found)
    # From now on the source is not needed.
    edge.opener.fails = True
    assert await edge.get() == expected
    assert edge.cache.state.hits == 1


async def test_what_is_kept_has_digests_a_file_and_the_same_etag(edge: Edge) -> None:
    cold = await edge.deliveries.open(edge.descriptor())
    expected = await drained(cold)
    await edge.settle()
    warm = await edge.deliveries.open(edge.descriptor())
    try:
        assert warm.etag == cold.etag
        assert warm.sha256 == hashlib.sha256(expected).hexdigest()
        assert warm.adler32 == f"{zlib.adler32(expected):08x}"
        assert warm.fd is not None
        assert os.pread(warm.fd, len(expected) + 1, 0) == expected
        assert warm.place is not None
        assert (edge.folder / warm.place).read_bytes() == expected
    finally:
        warm.close()


async def test_readers_follow_as_far_as_it_is_written(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "FIRST_BYTES", 100_000)
    delivery = await edge.deliveries.open(edge.descriptor())
    edge.opener.gate.clear()
    rest = delivery.read(0, delivery.size)
    beginning = asyncio.ensure_future(anext(rest))
    for _ in range(20):
        await asyncio.sleep(0)
    edge.opener.gate.set()
    got = await beginning
    got += b"".join([piece async for piece in rest])
    delivery.close()
    assert got == await reference(edge)


async def test_any_range_of_a_cold_product(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    # The end is read from the source at once, not waited for.
    monkeypatch.setattr(making, "AHEAD_BYTES_MAX", 100_000)
    expected = await reference(edge)
    delivery = await edge.deliveries.open(edge.descriptor())
    size = len(expected)
    for start, stop in [(size - 10, size), (0, 10), (1_000_000, 2_500_000), (5, 5)]:
        found = b"".join([piece async for piece in delivery.read(start, stop)])
        assert found == expected[start:stop]
    delivery.close()


async def test_a_making_that_fails_is_told_and_tried_again(edge: Edge) -> None:
    delivery = await edge.deliveries.open(edge.descriptor())
    edge.opener.fails = True
    with pytest.raises(TransientError, match="origin"):
        await drained(delivery)
    await edge.settle()
    with pytest.raises(EvstreamError):
        await edge.get()
    edge.opener.fails = False
    assert await edge.get() == await reference(edge)
    await edge.settle()
    assert list(edge.store.spool_dir.iterdir()) == []


@pytest.mark.parametrize("how", ["broken", "changed", "gone"])
async def test_a_product_half_made_goes_on_from_another_replica(edge: Edge, how: str) -> None:
    expected = await reference(edge, 1, ENTRIES - 1)
    delivery = await edge.deliveries.open(edge.descriptor(1, ENTRIES - 1))
    got: list[bytes] = []
    async for piece in delivery.read(0, delivery.size):
        got.append(piece)
        if how == "broken":
            edge.opener.broken.add(NAME)
        elif how == "gone":
            edge.opener.files.pop(NAME, None)
        else:
            edge.opener.files[NAME] = content()[:-1] + b"!"
    delivery.close()
    await edge.settle()
    assert edge.cache.state.products == 1
    assert [bad.pfn for bad in edge.sources.take_bad()] == ([NAME] if how == "changed" else [])
    assert b"".join(got) == expected


async def test_what_nobody_waits_for_is_stopped_unless_half_is_made(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "LINGER_S", -1.0)
    await reference(edge)
    edge.opener.gate.clear()
    delivery = await edge.deliveries.open(edge.descriptor())
    delivery.close()
    edge.opener.gate.set()
    await edge.settle()
    assert edge.cache.state.products == 0
    monkeypatch.setattr(making, "FIRST_BYTES", 2 << 20)
    delivery = await edge.deliveries.open(edge.descriptor())
    await anext(delivery.read(0, 10))
    delivery.close()
    await edge.settle()
    assert edge.cache.state.products == 1


async def test_a_wiped_folder_is_a_miss_and_whoever_reads_goes_on(edge: Edge) -> None:
    expected = await edge.get()
    await edge.settle()
    held = await edge.deliveries.open(edge.descriptor())
    shutil.rmtree(edge.folder)
    assert await drained(held) == expected
    assert await edge.get() == expected
    await edge.settle()
    assert edge.cache.state.misses == 2
    assert edge.cache.state.bytes_kept == len(expected)
    again = await edge.deliveries.open(edge.descriptor())
    assert again.fd is not None
    again.close()


async def test_a_folder_wiped_while_a_product_is_made(edge: Edge) -> None:
    edge.opener.gate.clear()
    opening = asyncio.ensure_future(edge.get())
    for _ in range(10):
        await asyncio.sleep(0)
    edge.opener.gate.set()
    shutil.rmtree(edge.folder)
    assert await opening == await reference(edge)
    await edge.settle()
    assert await edge.get() == await reference(edge)


async def test_a_full_disk_delivers_all_the_same(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = 0

    def full(fd: int, data: memoryview, offset: int) -> int:
        nonlocal written
        written += len(data)
        if written > 1_000_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return len(data) if os.write(fd, data) else 0

    monkeypatch.setattr(making.os, "pwrite", full)
    first, second = await asyncio.gather(edge.get(), edge.get())
    assert first == second == await reference(edge)
    await edge.settle()
    assert edge.cache.state.products == 0
    assert list(edge.store.spool_dir.iterdir()) == []


async def test_what_is_larger_than_the_quota_is_sent_and_not_kept(tmp_path: Path) -> None:
    edge = Edge(tmp_path / "cache", bytes_max=1_000_000)
    try:
        assert await edge.get() == await reference(edge)
        await edge.settle()
        assert edge.cache.state.products == 0
    finally:
        await edge.close()


async def test_the_quota_holds_and_what_is_read_stays(tmp_path: Path) -> None:
    edge = Edge(tmp_path / "cache", bytes_max=2_500_000)
    part = ENTRIES // 4  # Some 800 kB each.
    try:
        first = await edge.get(0, part)
        await edge.settle()
        held = await edge.deliveries.open(edge.descriptor(0, part))
        for start in range(part, ENTRIES, part):
            await edge.get(start, start + part)
            await edge.settle()
            assert edge.cache.state.bytes_kept <= 2_500_000
        assert edge.cache.state.evicted > 0
        names = {kept.name for kept in edge.cache.names()}
        assert {kept.name for kept in await edge.store.listing()} == names
        assert await drained(held) == first
        misses = edge.cache.state.misses
        await edge.get(0, part)
        assert edge.cache.state.misses == misses
    finally:
        await edge.close()


async def test_what_is_pinned_stays_until_its_time(tmp_path: Path) -> None:
    edge = Edge(tmp_path / "cache", bytes_max=2_000_000)
    part = ENTRIES // 4
    try:
        assert await edge.deliveries.prepare(edge.descriptor(0, part))
        (kept,) = edge.cache.names()
        now = edge.clock.now().timestamp()
        edge.cache.pin(kept.name, "request-1", now + 100)
        for start in (part, 2 * part):
            await edge.deliveries.prepare(edge.descriptor(start, start + part))
        assert edge.cache.holds(kept.name)
        assert not await edge.cache.drop(kept.name)
        edge.cache.unpin("request-1")
        assert await edge.cache.drop(kept.name)
    finally:
        await edge.close()


async def test_it_is_built_again_from_the_folder(edge: Edge, tmp_path: Path) -> None:
    expected = await edge.get()
    await edge.settle()
    (edge.store.spool_dir / ".dead.part").write_bytes(b"half")
    again = Edge(edge.folder)
    try:
        await again.cache.open()
        again.opener.fails = True
        assert await again.get() == expected
        assert list(edge.store.spool_dir.iterdir()) == []
        shutil.rmtree(edge.folder)
        assert await again.cache.look_again() == 1
        assert again.cache.state.bytes_kept == 0
    finally:
        await again.close()


async def test_small_products_are_kept_too(edge: Edge) -> None:
    expected = await edge.get(10, 20)
    await edge.settle()
    assert edge.cache.state.products == 1
    assert await edge.get(10, 20) == expected


async def test_the_head_of_a_product_makes_nothing(edge: Edge) -> None:
    delivery = await edge.deliveries.open(edge.descriptor(), begin=False)
    delivery.close()
    await edge.settle()
    assert edge.cache.state.products == 0
    assert delivery.size == len(await reference(edge))
