"""The contract of an output store."""

from __future__ import annotations

import asyncio
import hashlib
import zlib
from collections.abc import AsyncIterator, Callable
from typing import ClassVar

import pytest

from evstream.domain.errors import ConflictError, NotFoundError, RequestError
from evstream.ports.storage import OutputStore, Stored
from evstream.testing.contracts.suite import Suite

PIECE_BYTES_MAX = 1 << 20
NAME = "tasks/1/output/2-0-0-10.a1.lease-1.root"
BAD_NAMES = (
    "",
    "/absolute",
    "..",
    "../escape",
    "a/../b",
    "a/./b",
    "a//b",
    "a/",
    ".hidden",
    "a/.hidden/b",
    "a\\b",
    "a\x00b",
    "a\nb",
    "a" * 300,
    "/".join("a" * 600),
)


async def pieces_of(*pieces: bytes) -> AsyncIterator[bytes]:
    """Yield pieces one by one."""
    for piece in pieces:
        yield piece


class BrokenError(Exception):
    """What a broken upload raises in these tests."""


async def broken_after(*pieces: bytes) -> AsyncIterator[bytes]:
    """Yield pieces, then fail as a lost connection does."""
    for piece in pieces:
        yield piece
    raise BrokenError


class OutputStoreContract(Suite):
    """Override `store`; for a durable one also `open_again`."""

    durable: ClassVar[bool] = True
    tells_digests: ClassVar[bool] = True
    """Whether `stat` has a digest to tell without reading the object."""

    @pytest.fixture
    def store(self) -> OutputStore:
        """Return an empty store."""
        raise NotImplementedError("override store")

    @pytest.fixture
    def open_again(self) -> Callable[[], OutputStore]:
        """Return what opens the same store as another process would."""
        raise NotImplementedError("override open_again, or set durable = False")

    knows_folders: ClassVar[bool] = True
    """Whether it can tell that folders above objects, and what would be below them, are none."""

    def same(self, found: Stored, stored: Stored) -> bool:
        """Whether a store describes what was put, as far as it can tell."""
        return found.name == stored.name and found.agrees(stored) is (
            True if self.tells_digests else None
        )

    @staticmethod
    async def content(
        store: OutputStore, name: str = NAME, offset: int = 0, size: int | None = None
    ) -> bytes:
        """Return the bytes of an object."""
        return b"".join([piece async for piece in store.read(name, offset, size)])

    async def test_an_object_comes_back_as_it_was(self, store: OutputStore) -> None:
        data = b"ROOT" + bytes(1000)
        expected = Stored(
            NAME, len(data), hashlib.sha256(data).hexdigest(), f"{zlib.adler32(data):08x}"
        )
        stored = await store.put(NAME, pieces_of(b"ROOT", b"", bytes(1000)))
        assert stored == expected
        assert self.same(await store.stat(NAME), stored)
        assert await self.content(store) == data

    async def test_an_empty_object_is_one(self, store: OutputStore) -> None:
        stored = await store.put(NAME, pieces_of())
        assert (stored.size, stored.adler32) == (0, "00000001")
        assert self.same(await store.stat(NAME), stored)
        assert await self.content(store) == b""

    async def test_a_large_object_is_read_in_pieces(self, store: OutputStore) -> None:
        data = hashlib.sha256(b"seed").digest() * (5 * PIECE_BYTES_MAX // 32) + b"tail"
        third = len(data) // 3
        stored = await store.put(NAME, pieces_of(data[:third], data[third:]))
        assert stored.sha256 == hashlib.sha256(data).hexdigest()
        pieces = [piece async for piece in store.read(NAME)]
        assert b"".join(pieces) == data
        assert max(map(len, pieces)) <= PIECE_BYTES_MAX
        assert await self.content(store, offset=len(data) - 4) == b"tail"
        start = PIECE_BYTES_MAX - 1
        wanted = data[start : start + PIECE_BYTES_MAX + 2]
        assert await self.content(store, offset=start, size=len(wanted)) == wanted

    async def test_a_range_is_clipped_to_the_object(self, store: OutputStore) -> None:
        await store.put(NAME, pieces_of(b"0123456789"))
        assert await self.content(store, offset=3, size=4) == b"3456"
        assert await self.content(store, offset=8, size=100) == b"89"
        assert await self.content(store, offset=10) == b""
        assert await self.content(store, offset=99) == b""
        assert await self.content(store, size=0) == b""

    @pytest.mark.parametrize(("offset", "size"), [(-1, None), (0, -1)])
    async def test_a_range_before_the_object_is_refused(
        self, store: OutputStore, offset: int, size: int | None
    ) -> None:
        await store.put(NAME, pieces_of(b"0123456789"))
        with pytest.raises(RequestError):
            await self.content(store, offset=offset, size=size)

    async def test_the_same_content_again_is_no_error(self, store: OutputStore) -> None:
        first = await store.put(NAME, pieces_of(b"content"))
        assert await store.put(NAME, pieces_of(b"con", b"tent")) == first

    async def test_a_name_is_never_overwritten(self, store: OutputStore) -> None:
        stored = await store.put(NAME, pieces_of(b"content"))
        with pytest.raises(ConflictError):
            await store.put(NAME, pieces_of(b"CONTENT"))
        assert self.same(await store.stat(NAME), stored)
        assert await self.content(store) == b"content"

    async def test_of_two_writers_at_once_one_wins(self, store: OutputStore) -> None:
        contents = [bytes([number]) * 1000 for number in range(8)]
        answers = await asyncio.gather(
            *(store.put(NAME, pieces_of(content)) for content in contents),
            return_exceptions=True,
        )
        winners = [answer for answer in answers if isinstance(answer, Stored)]
        assert len(winners) == 1
        assert sum(isinstance(answer, ConflictError) for answer in answers) == 7
        assert self.same(await store.stat(NAME), winners[0])
        assert hashlib.sha256(await self.content(store)).hexdigest() == winners[0].sha256

    async def test_a_broken_upload_leaves_nothing(self, store: OutputStore) -> None:
        for sent in (b"half", bytes(6 * PIECE_BYTES_MAX)):
            with pytest.raises(BrokenError):
                await store.put(NAME, broken_after(sent))
        assert await store.names() == []
        with pytest.raises(NotFoundError):
            await store.stat(NAME)
        await store.put(NAME, pieces_of(b"whole"))
        assert await self.content(store) == b"whole"

    async def test_an_upload_that_is_cancelled_leaves_nothing(self, store: OutputStore) -> None:
        waits = asyncio.Event()

        async def endless() -> AsyncIterator[bytes]:
            yield bytes(6 * PIECE_BYTES_MAX)
            waits.set()
            await asyncio.Event().wait()

        upload = asyncio.ensure_future(store.put(NAME, endless()))
        await waits.wait()
        upload.cancel()
        with pytest.raises(asyncio.CancelledError):
            await upload
        assert await store.names() == []

    async def test_names_are_listed_by_prefix(self, store: OutputStore) -> None:
        names = ["tasks/1/a/x", "tasks/1/b/y", "tasks/10/a/z", "tasks/2/a/x", "top"]
        for name in reversed(names):
            await store.put(name, pieces_of(b""))
        assert await store.names() == names
        assert await store.names("tasks/1/") == names[:2]
        assert await store.names("tasks/1") == names[:3]
        assert await store.names("tasks/1/b/y") == names[1:2]
        assert await store.names("nothing/here") == []

    async def test_deleting_is_idempotent(self, store: OutputStore) -> None:
        await store.put(NAME, pieces_of(b"content"))
        await store.delete(NAME)
        await store.delete(NAME)
        await store.delete("tasks/1")
        assert await store.names() == []
        await store.put(NAME, pieces_of(b"other"))
        assert await self.content(store) == b"other"

    async def test_what_is_not_there_is_not_found(self, store: OutputStore) -> None:
        await store.put("tasks/1/object", pieces_of(b""))
        others = ["tasks/1", "tasks/1/object/below"] if self.knows_folders else []
        for name in ("none", *others):
            with pytest.raises(NotFoundError):
                await store.stat(name)
            with pytest.raises(NotFoundError):
                await self.content(store, name)

    @pytest.mark.parametrize("name", BAD_NAMES)
    async def test_bad_names_are_refused(self, store: OutputStore, name: str) -> None:
        with pytest.raises(RequestError):
            await store.put(name, pieces_of(b""))
        with pytest.raises(RequestError):
            await store.stat(name)
        with pytest.raises(RequestError):
            await self.content(store, name)
        with pytest.raises(RequestError):
            await store.delete(name)
        assert await store.names() == []

    async def test_objects_outlive_the_process(
        self, store: OutputStore, request: pytest.FixtureRequest
    ) -> None:
        if not self.durable:
            pytest.skip("this store does not outlive its process")
        stored = await store.put(NAME, pieces_of(b"content"))
        again: OutputStore = request.getfixturevalue("open_again")()
        assert await again.names() == [NAME]
        assert self.same(await again.stat(NAME), stored)
        assert await self.content(again) == b"content"
