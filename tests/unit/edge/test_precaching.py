"""Source files copied whole: from several replicas, verified, kept like products."""

from __future__ import annotations

import asyncio
import hashlib
import os
import zlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from evstream.domain.errors import ConfigError, DataError, TransientError
from evstream.domain.names import Pfn
from evstream.edge import precaching
from evstream.edge.precaching import Precache, copy_name, policy_of, precached
from tests.unit.edge.edge_parts import ENTRIES, NAME, Edge, content

pytestmark = pytest.mark.anyio
WHOLE = len(content())
METADATA = 100_000


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    edge = Edge(tmp_path / "cache")
    await edge.cache.open()
    yield edge
    await edge.close()


def precache(edge: Edge, policy: str = "always") -> Precache:
    return precached(edge.products, edge.cache, edge.clock, policy)


def has_copy(edge: Edge) -> bool:
    return edge.cache.holds(copy_name(edge.file))


async def test_a_file_is_copied_once_and_products_are_cut_from_the_copy(edge: Edge) -> None:
    precache(edge)
    found = await asyncio.gather(edge.get(1, 1000), edge.get(2000, 3000), edge.get(5, 4000))
    # Beside its metadata, which are looked at first.
    assert edge.opener.bytes_read < WHOLE + METADATA
    assert has_copy(edge)
    # The origin may go.
    edge.opener.fails = True
    assert await edge.get(1, 1000) == found[0]
    assert len(await edge.get(7, ENTRIES - 7)) > 0


async def test_a_copy_goes_on_at_the_byte_from_another_replica(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precaching, "PIECE_BYTES", 100_000)
    precache(edge)
    edge.opener.breaks_after = 1_000_000
    await edge.get(1, 1000)
    assert has_copy(edge)
    assert edge.opener.bytes_read < WHOLE + 100_000 + 2 * METADATA


async def test_a_replica_that_brings_wrong_bytes_is_found_out_by_the_copy(edge: Edge) -> None:
    precache(edge)
    edge.opener.spoils = NAME
    await edge.get(1, 1000)
    assert has_copy(edge)
    assert [bad.pfn for bad in edge.sources.take_bad()] == [NAME]


def sums() -> dict[str, str]:
    whole = content()
    return {
        "adler32": f"{zlib.adler32(whole):08x}",
        "md5": hashlib.md5(whole, usedforsecurity=False).hexdigest(),
        "sha256": hashlib.sha256(whole).hexdigest(),
    }


@pytest.mark.parametrize("kind", ["adler32", "md5", "sha256"])
async def test_damage_that_only_a_checksum_covers_is_found_by_it(edge: Edge, kind: str) -> None:
    edge.file = replace(edge.file, checksums={kind: sums()[kind]})
    precache(edge)
    edge.opener.damaged = NAME
    await edge.get(1, 1000)
    await edge.settle()
    held = edge.cache.hold(copy_name(edge.file))
    assert held is not None
    assert held.fd is not None
    assert os.pread(held.fd, WHOLE, 0) == content()
    os.close(held.fd)
    held.close()
    (bad,) = edge.sources.take_bad()
    assert bad.pfn == NAME
    assert f"has {kind} " in bad.evidence
    assert edge.sources.replicas.is_passed_over(Pfn(NAME))


async def test_without_checksums_such_damage_is_not_seen(edge: Edge) -> None:
    """The check of the check: nothing else covers that byte."""
    precache(edge)
    edge.opener.damaged = NAME
    await edge.get(1, 1000)
    assert has_copy(edge)
    assert edge.sources.take_bad() == []


async def test_a_file_that_no_replica_holds_rightly_is_not_copied_over_and_over(
    edge: Edge,
) -> None:
    edge.file = replace(edge.file, checksums={"adler32": "00000001"})
    precache(edge)
    await edge.get(1, 1000)
    read = edge.opener.bytes_read
    await edge.get(1, 1001)
    assert not has_copy(edge)
    assert edge.sources.take_bad() == []
    assert edge.opener.bytes_read < read + WHOLE
    edge.clock.advance(precaching.AGAIN_S)
    await edge.get(1, 1002)
    assert edge.opener.bytes_read > read + WHOLE


async def test_what_cannot_be_copied_is_read_from_the_replicas(edge: Edge, tmp_path: Path) -> None:
    small = Edge(tmp_path / "small", bytes_max=WHOLE // 2)
    await small.cache.open()
    precache(small)
    assert await small.get(1, 1000) == await edge.get(1, 1000)
    assert not has_copy(small)
    await small.close()


async def test_much_that_is_asked_for_makes_a_copy(edge: Edge) -> None:
    made = precache(edge, "auto")
    await edge.get(0, ENTRIES // 10)
    await made.settled()
    assert not has_copy(edge)
    await edge.get(0, ENTRIES // 2)
    await made.settled()
    assert has_copy(edge)


async def test_a_damaged_copy_goes_and_the_replicas_are_read(edge: Edge, tmp_path: Path) -> None:
    other = Edge(tmp_path / "other")
    await other.cache.open()
    expected = await other.get(1, 1000)
    await other.close()
    precache(edge)
    await edge.get(5, 6)
    await edge.settle()
    held = edge.cache.hold(copy_name(edge.file))
    assert held is not None
    assert held.place is not None
    assert held.fd is not None
    # As if the process had begun anew, after the disk had lost a block.
    edge.sources._indices.clear()
    (edge.folder / held.place).write_bytes(bytes(WHOLE))
    os.close(held.fd)
    held.close()
    edge.opener.bytes_read = 0
    precache(edge, "never")
    assert await edge.get(1, 1000) == expected
    await edge.settle()
    assert edge.opener.bytes_read > 0
    assert not has_copy(edge)


async def test_local_files_are_not_copied(edge: Edge) -> None:
    precache(edge)
    edge.sources.origin = lambda _: ""  # type: ignore[method-assign]
    await edge.get(1, 1000)
    assert not has_copy(edge)


async def test_a_request_has_a_file_copied_whatever_the_policy_is(edge: Edge) -> None:
    made = precache(edge, "never")
    edge.sources.origin = lambda _: ""  # type: ignore[method-assign]
    copies = await asyncio.gather(*(made.fetch(edge.fingerprint, 60.0) for _ in range(3)))
    assert {(one.size, one.sha256, one.is_verified) for one in copies} == {
        (WHOLE, sums()["sha256"], False)
    }
    assert edge.opener.bytes_read < WHOLE + METADATA
    edge.opener.fails = True
    assert len(await edge.get(7, ENTRIES - 7)) > 0
    assert (await made.fetch(edge.fingerprint, 60.0)).size == WHOLE


async def test_the_copy_of_a_request_stays_for_its_time(tmp_path: Path) -> None:
    small = Edge(tmp_path / "small", bytes_max=WHOLE + WHOLE // 2)
    await small.cache.open()
    await precache(small, "never").fetch(small.fingerprint, 60.0)
    await small.get(0, ENTRIES - 1)
    await small.settle()
    assert has_copy(small)
    small.clock.advance(61.0)
    await small.get(0, ENTRIES - 2)
    await small.settle()
    assert not has_copy(small)
    await small.close()


async def test_what_a_request_cannot_have_copied_is_an_error(edge: Edge, tmp_path: Path) -> None:
    small = Edge(tmp_path / "small", bytes_max=WHOLE // 2)
    await small.cache.open()
    with pytest.raises(TransientError, match="no room for a copy of a"):
        await precache(small, "never").fetch(small.fingerprint, 60.0)
    await small.close()
    made = precache(edge, "never")
    edge.opener.fails = True
    with pytest.raises(TransientError, match="does not answer"):
        await made.fetch(edge.fingerprint, 60.0)
    edge.opener.fails = False
    edge.file = replace(edge.file, checksums={"adler32": "00000001"})
    edge.clock.advance(precaching.AGAIN_S)
    with pytest.raises(DataError, match="adler32"):
        await made.fetch(edge.fingerprint, 60.0)
    read = edge.opener.bytes_read
    with pytest.raises(DataError, match="adler32"):
        await made.fetch(edge.fingerprint, 60.0)
    assert edge.opener.bytes_read == read


async def test_a_copy_that_nobody_waits_for_any_more_stops(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precaching, "PIECE_BYTES", 10_000)
    made = precache(edge, "never")
    edge.opener.gate.clear()
    one, other = [asyncio.create_task(made.fetch(edge.fingerprint, 60.0)) for _ in range(2)]
    await asyncio.to_thread(edge.opener.waited.wait, 30)
    one.cancel()
    await asyncio.wait([one])
    assert not made._unwanted
    other.cancel()
    await asyncio.wait([other])
    edge.opener.gate.set()
    await made.settled()
    assert not has_copy(edge)
    assert edge.opener.bytes_read < WHOLE
    await made.fetch(edge.fingerprint, 60.0)
    assert has_copy(edge)


def test_a_policy_has_a_name() -> None:
    with pytest.raises(ConfigError, match="precache is 'sometimes'"):
        policy_of("sometimes")
