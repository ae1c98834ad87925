"""Every output store keeps the store's contract."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from evstream.adapters.offload import InPlace, Threads
from evstream.adapters.storage.fallback import AWAY_S, FallbackStore
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


class Counted(Away):
    """Counts how often it is asked."""

    asked = 0

    def _reach(self) -> None:
        self.asked += 1
        super()._reach()


def test_a_store_that_is_away_is_not_asked_for_what_the_second_has(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        first, second, now = Counted(), Away(), [0.0]
        store = FallbackStore(first, second, "root://first", lambda: now[0])
        await store.put("tasks/1", pieces(b"before"))
        first.is_away = True
        await store.put("tasks/2", pieces(b"x"))
        asked = first.asked
        for number in range(3, 9):
            await store.put(f"tasks/{number}", pieces(b"x"))
            assert (await store.stat(f"tasks/{number}")).size == 1
        assert first.asked == asked
        # What only the first may have is asked for there: it is found as soon as it is back.
        with pytest.raises(TransientError):
            await store.stat("tasks/1")
        assert caplog.text.count("root://first is away") == 1
        now[0] = AWAY_S - 1.0
        asked = first.asked
        await store.put("tasks/9", pieces(b"x"))
        assert first.asked == asked
        # One tries, the others need not wait for what it sees.
        now[0] = 2 * AWAY_S
        await store.put("tasks/10", pieces(b"x"))
        assert first.asked > asked
        asked = first.asked
        await store.put("tasks/11", pieces(b"x"))
        assert first.asked == asked
        first.is_away = False
        assert "is back" not in caplog.text
        assert await read(store, "tasks/1") == b"before"
        assert caplog.text.count("root://first is back") == 1
        await store.put("tasks/12", pieces(b"x"))
        assert await first.names("tasks/12") == ["tasks/12"]

    asyncio.run(main())


def test_pilots_are_sent_past_a_store_that_is_away() -> None:
    class Placed(Away):
        def places(self, name: str, life: timedelta) -> tuple[str, ...]:
            return (f"root://first/{name}",)

    async def main() -> None:
        first, now = Placed(), [0.0]
        store = FallbackStore(first, MemoryStore(), monotonic=lambda: now[0])
        assert store.places("tasks/1", timedelta(1)) == ("root://first/tasks/1",)
        first.is_away = True
        await store.put("tasks/1", pieces(b"x"))
        assert store.places("tasks/2", timedelta(1)) == ()
        now[0] = AWAY_S
        assert store.places("tasks/2", timedelta(1)) == ("root://first/tasks/2",)

    asyncio.run(main())


def test_content_that_breaks_off_is_in_neither_store(caplog: pytest.LogCaptureFixture) -> None:
    async def breaking() -> AsyncIterator[bytes]:
        yield b"a part"
        raise TransientError("the client went away")

    async def main() -> None:
        store = FallbackStore(MemoryStore(), MemoryStore())
        with pytest.raises(TransientError, match="went away"):
            await store.put("tasks/1", breaking())
        assert await store.names() == []
        assert "is away" not in caplog.text

    asyncio.run(main())


def test_where_the_second_is_away_as_well_the_first_is_tried_before_its_time() -> None:
    async def main() -> None:
        first, second = Away(), Away()
        store = FallbackStore(first, second)
        await store.put("tasks/1", pieces(b"before"))
        first.is_away = True
        await store.put("tasks/2", pieces(b"x"))
        first.is_away, second.is_away = False, True
        with pytest.raises(TransientError):
            await store.put("tasks/3", pieces(b"x"))
        await store.put("tasks/3", pieces(b"x"))
        assert await first.names() == ["tasks/1", "tasks/3"]
        assert await read(store, "tasks/1") == b"before"

    asyncio.run(main())
