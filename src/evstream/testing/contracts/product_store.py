"""What a store of products must do."""

from __future__ import annotations

import asyncio
import hashlib
import os
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest

from evstream.domain.errors import NotFoundError
from evstream.ports.product_store import KeptProduct, ProductStore
from evstream.testing.contracts.suite import Suite


def described(content: bytes, name: str = "") -> KeptProduct:
    """Return what a product of some content is called; its key is the content's hash."""
    sha256 = hashlib.sha256(content).hexdigest()
    named = name or f"{sha256}-{'0' * 16}"
    return KeptProduct(
        named, len(content), sha256, f"{zlib.adler32(content):08x}", datetime.now(UTC)
    )


class ProductStoreContract(Suite):
    """The contract of `ProductStore`. Override ``store``: an empty one.

    Attributes
    ----------
    files : bool
        Whether its products are files of this machine.
    """

    files = False

    @pytest.fixture
    def store(self) -> ProductStore:
        """Return an empty store."""
        raise NotImplementedError

    def _spooled(self, store: ProductStore, content: bytes) -> Path:
        path = store.spool_dir / f".{hashlib.sha256(content).hexdigest()[:8]}.part"
        path.write_bytes(content)
        return path

    async def _put(self, store: ProductStore, content: bytes) -> KeptProduct:
        kept = described(content)
        await store.put(kept, self._spooled(store, content))
        return kept

    async def _read(
        self, store: ProductStore, kept: KeptProduct, offset: int, size: int
    ) -> list[bytes]:
        return [piece async for piece in store.read(kept, offset, size)]

    async def test_what_is_put_is_read_and_the_spool_is_gone(self, store: ProductStore) -> None:
        content = Random(1).randbytes((5 << 20) + 17)
        kept = described(content)
        spool = self._spooled(store, content)
        await store.put(kept, spool)
        assert not spool.exists()
        pieces = await self._read(store, kept, 0, len(content))
        assert b"".join(pieces) == content
        assert max(map(len, pieces)) <= 1 << 20

    @pytest.mark.parametrize(("offset", "size"), [(0, 1), (999, 1), (10, 500), (0, 1000), (5, 0)])
    async def test_any_part_is_read(self, store: ProductStore, offset: int, size: int) -> None:
        content = Random(2).randbytes(1000)
        kept = await self._put(store, content)
        found = b"".join(await self._read(store, kept, offset, size))
        assert found == content[offset : offset + size]

    async def test_what_is_there_is_listed_with_all_that_is_known(
        self, store: ProductStore
    ) -> None:
        put = {await self._put(store, Random(seed).randbytes(seed)) for seed in (10, 20, 30)}
        listed = await store.listing()
        assert {kept.object_name for kept in listed} == {kept.object_name for kept in put}
        for kept in listed:
            assert abs(kept.created - datetime.now(UTC)) < timedelta(hours=1)
            assert len(b"".join(await self._read(store, kept, 0, kept.size))) == kept.size

    async def test_the_same_again_is_no_error(self, store: ProductStore) -> None:
        content = b"the same" * 100
        kept = await self._put(store, content)
        await self._put(store, content)
        assert b"".join(await self._read(store, kept, 0, kept.size)) == content
        assert len(await store.listing()) == 1

    async def test_what_is_deleted_is_not_there(self, store: ProductStore) -> None:
        kept = await self._put(store, b"gone soon")
        await store.delete(kept)
        await store.delete(kept)
        with pytest.raises(NotFoundError):
            await self._read(store, kept, 0, 4)
        assert await store.listing() == []

    async def test_files_are_opened_and_outlive_their_names(self, store: ProductStore) -> None:
        content = Random(3).randbytes(5000)
        kept = await self._put(store, content)
        fd = store.open(kept)
        place = store.path(kept)
        if not self.files:
            assert fd is None
            assert place is None
            return
        assert fd is not None
        assert place is not None
        assert not Path(place).is_absolute()
        try:
            await store.delete(kept)
            assert os.pread(fd, 10_000, 0) == content
        finally:
            os.close(fd)
        with pytest.raises(NotFoundError):
            store.open(kept)

    async def test_many_at_once(self, store: ProductStore) -> None:
        contents = [Random(seed).randbytes(50_000) for seed in range(8)]
        kept = await asyncio.gather(*(self._put(store, content) for content in contents))
        found = await asyncio.gather(*(self._read(store, one, 0, one.size) for one in kept))
        assert [b"".join(pieces) for pieces in found] == contents

    async def test_the_spools_of_the_dead_are_swept(self, store: ProductStore) -> None:
        kept = await self._put(store, b"stays")
        self._spooled(store, b"of a process that was killed")
        assert await store.sweep() == 1
        assert list(store.spool_dir.glob(".*.part")) == []
        assert [one.name for one in await store.listing()] == [kept.name]

    async def test_room_is_told(self, store: ProductStore) -> None:
        assert store.spool_free_bytes() > 0
        free = store.free_bytes()
        assert free is None or free > 0
