"""Every store of products keeps the store's contract; folders may be wiped at any time."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from evstream.adapters.offload import InPlace, Threads
from evstream.adapters.product_store.disk import DiskProductStore
from evstream.adapters.product_store.memory import MemoryProductStore
from evstream.domain.errors import ConfigError, NotFoundError, TransientError
from evstream.ports.offload import Offload
from evstream.ports.product_store import KeptProduct, ProductStore
from evstream.testing.contracts import ProductStoreContract
from evstream.testing.contracts.product_store import described
from tests.s3_gateway import Gateway, gateway, skip_without_gateway

_PREFIXES = itertools.count()


class TestMemoryProductStore(ProductStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> ProductStore:
        return MemoryProductStore(tmp_path / "spool")


class TestDiskProductStore(ProductStoreContract):
    files = True

    @pytest.fixture
    def offload(self) -> Iterator[Offload]:
        threads = Threads(4)
        yield threads
        threads.close()

    @pytest.fixture
    def store(self, tmp_path: Path, offload: Offload) -> ProductStore:
        return DiskProductStore(tmp_path / "cache", offload)

    async def test_what_cannot_be_put_is_a_trouble_of_the_disk(
        self, store: ProductStore, tmp_path: Path
    ) -> None:
        """Not that the product is not there, which everybody knows."""
        kept = KeptProduct("ab" * 32, 1, "cd" * 32, "0" * 8, datetime.now(UTC))
        with pytest.raises(TransientError, match=r"does not answer .*: No such file"):
            await store.put(kept, tmp_path / "nothing")

    async def test_a_wiped_folder_is_empty_and_of_use(
        self, store: ProductStore, tmp_path: Path
    ) -> None:
        kept = await self._put(store, b"x" * 100)
        shutil.rmtree(tmp_path / "cache")
        assert await store.listing() == []
        with pytest.raises(NotFoundError):
            store.open(kept)
        await store.delete(kept)
        assert await store.sweep() == 0
        assert store.spool_free_bytes() > 0
        store.spool_dir.mkdir(parents=True)
        again = await self._put(store, b"y" * 100)
        assert [one.name for one in await store.listing()] == [again.name]

    async def test_what_was_cut_short_is_not_served(
        self, store: ProductStore, tmp_path: Path
    ) -> None:
        first, second = await self._put(store, b"x" * 100), await self._put(store, b"y" * 200)
        for kept in (first, second):
            place = store.path(kept)
            assert place is not None
            os.truncate(tmp_path / "cache" / place, 50)
        with pytest.raises(NotFoundError):
            store.open(first)
        assert await store.listing() == []
        with pytest.raises(NotFoundError):
            await self._read(store, second, 0, 200)

    async def test_a_spool_that_vanished_or_is_short_is_not_kept(self, store: ProductStore) -> None:
        with pytest.raises((NotFoundError, TransientError)):
            await store.put(described(b"abc"), store.spool_dir / ".gone.part")
        with pytest.raises(TransientError):
            await store.put(described(b"abc"), self._spooled(store, b"ab"))
        assert await store.listing() == []

    async def test_strange_files_are_left_alone(self, store: ProductStore, tmp_path: Path) -> None:
        kept = await self._put(store, b"x")
        strange = tmp_path / "cache" / kept.name[:2] / "README"
        strange.write_text("somebody's")
        (tmp_path / "cache" / "notes").write_text("somebody's")
        assert [one.name for one in await store.listing()] == [kept.name]
        assert strange.exists()

    @pytest.mark.parametrize("others_read", [False, True])
    async def test_products_are_as_readable_as_is_said_whatever_the_umask(
        self, tmp_path: Path, offload: Offload, others_read: bool
    ) -> None:
        """The unit has a umask of 0077, and nginx is another user; without it nobody else reads."""
        before = os.umask(0o077 if others_read else 0o022)
        store = DiskProductStore(tmp_path / "cache", offload, others_read=others_read)
        try:
            kept = await self._put(store, b"x")
        finally:
            os.umask(before)
        file = tmp_path / "cache" / store.path(kept)

        def modes() -> tuple[int, int]:
            return file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777

        closed, opened = (0o600, 0o700), (0o644, 0o755)
        assert modes() == (opened if others_read else closed)
        other = DiskProductStore(tmp_path / "cache", offload, others_read=not others_read)
        assert [one.name for one in await other.listing()] == [kept.name]
        assert modes() == (closed if others_read else opened)

    def test_a_folder_that_cannot_be_used_is_refused(
        self, tmp_path: Path, offload: Offload
    ) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(ConfigError):
            DiskProductStore(tmp_path / "file", offload)


class TestDiskProductStoreInPlace(TestDiskProductStore):
    @pytest.fixture
    def offload(self) -> Offload:
        return InPlace()


@pytest.fixture(scope="module")
def s3() -> Iterator[Gateway]:
    with gateway() as running:
        yield running


@pytest.mark.server
class TestS3ProductStore(ProductStoreContract):
    @pytest.fixture
    def store(self, s3: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ProductStore:
        from evstream.adapters.product_store.s3 import S3ProductStore

        for name, value in s3.environment.items():
            monkeypatch.setenv(name, value)
        url = f"{s3.url}/products-{next(_PREFIXES)}"
        return S3ProductStore(url, tmp_path / "spool", InPlace())

    async def test_a_bucket_that_does_not_answer_is_told(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from evstream.adapters.product_store import s3 as module

        monkeypatch.setattr(module, "RETRIES_MAX", 0)
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
        store = module.S3ProductStore("s3://none/x", tmp_path / "spool", InPlace())
        with pytest.raises(TransientError, match="s3://none/x"):
            await self._put(store, b"x")
        assert list(store.spool_dir.iterdir()) == []
        with pytest.raises(TransientError):
            await store.listing()


def test_what_is_no_bucket_is_refused(tmp_path: Path) -> None:
    skip_without_gateway()
    from evstream.adapters.product_store.s3 import S3ProductStore

    with pytest.raises(ConfigError, match="s3://BUCKET/PREFIX"):
        S3ProductStore("ftp://x/y", tmp_path / "spool", InPlace())


def test_names_of_others_are_no_products() -> None:
    kept = described(b"abc")
    assert KeptProduct.parse(kept.object_name, kept.created) == kept
    for name in (
        "README",
        kept.object_name + ".part",
        kept.object_name[1:],
        "." + kept.object_name,
    ):
        assert KeptProduct.parse(name, datetime.now(UTC)) is None
