"""Every output store keeps the store's contract."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from evstream.adapters.offload import InPlace, Threads
from evstream.adapters.storage.local import LocalStore
from evstream.adapters.storage.memory import MemoryStore
from evstream.ports.offload import Offload
from evstream.ports.storage import OutputStore
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
