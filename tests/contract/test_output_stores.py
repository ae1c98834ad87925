"""Every output store keeps the store's contract."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from evstream.adapters.offload import InPlace, Threads
from evstream.adapters.storage.fallback import FallbackStore
from evstream.adapters.storage.local import LocalStore
from evstream.adapters.storage.memory import MemoryStore
from evstream.domain.errors import NotFoundError, TransientError
from evstream.ports.offload import Offload
from evstream.ports.storage import OutputStore, Stored
from evstream.testing.contracts import OutputStoreContract


class TestMemoryStore(OutputStoreContract):
    durable = False

    @pytest.fixture
    def store(self) -> OutputStore:
        return MemoryStore()


class TestLocalStore(OutputStoreContract):
    @pytest.fixture
    def offload(self) -> Iterator[Offload]:
        threads = Threads(4)
        yield threads
        threads.close()

    @pytest.fixture
    def open_again(self, tmp_path: Path, offload: Offload) -> Callable[[], OutputStore]:
        return lambda: LocalStore(tmp_path / "outputs", offload)

    @pytest.fixture
    def store(self, open_again: Callable[[], OutputStore]) -> OutputStore:
        return open_again()


class TestLocalStoreInPlace(TestLocalStore):
    @pytest.fixture
    def offload(self) -> Offload:
        return InPlace()


class TestFallbackStore(OutputStoreContract):
    durable = False

    @pytest.fixture
    def store(self) -> OutputStore:
        return FallbackStore(MemoryStore(), MemoryStore())


class Away(MemoryStore):
    """A store that may not answer."""

    def __init__(self) -> None:
        super().__init__()
        self.is_away = False

    def _reach(self) -> None:
        if self.is_away:
            raise TransientError("the store does not answer")

    async def put(self, name: str, content: AsyncIterator[bytes]) -> Stored:
        self._reach()
        return await super().put(name, content)

    async def stat(self, name: str) -> Stored:
        self._reach()
        return await super().stat(name)

    async def names(self, prefix: str = "") -> list[str]:
        self._reach()
        return await super().names(prefix)

    async def delete(self, name: str) -> None:
        self._reach()
        await super().delete(name)


async def pieces(*content: bytes) -> AsyncIterator[bytes]:
    for piece in content:
        yield piece


async def read(store: OutputStore, name: str) -> bytes:
    return b"".join([piece async for piece in store.read(name)])


def test_what_the_first_store_could_not_take_is_in_the_second() -> None:
    async def main() -> None:
        first, second = Away(), Away()
        store = FallbackStore(first, second)
        await store.put("tasks/1", pieces(b"before"))
        first.is_away = True
        await store.put("tasks/2", pieces(b"mean", b"while"))
        assert await read(store, "tasks/2") == b"meanwhile"
        # It may be in the one that does not answer: that it is nowhere is not known.
        with pytest.raises(TransientError):
            await store.stat("tasks/1")
        first.is_away = False
        assert await read(store, "tasks/1") == b"before"
        with pytest.raises(NotFoundError):
            await store.stat("tasks/3")
        assert await store.names() == ["tasks/1", "tasks/2"]
        for name in await store.names():
            await store.delete(name)
        assert await store.names() == []

    asyncio.run(main())


def test_names_and_removals_need_one_store_that_answers() -> None:
    async def main() -> None:
        first, second = Away(), Away()
        store = FallbackStore(first, second)
        await second.put("tasks/1", pieces(b"x"))
        first.is_away = True
        assert await store.names() == ["tasks/1"]
        await store.delete("tasks/1")
        second.is_away = True
        for refused in (store.names(), store.delete("tasks/1")):
            with pytest.raises(TransientError):
                await refused

    asyncio.run(main())
