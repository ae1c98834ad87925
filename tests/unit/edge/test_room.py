"""The room that an edge speaks of: what it may keep, and what its disk takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from evstream.adapters.offload import InPlace
from evstream.adapters.product_store.disk import DiskProductStore
from evstream.adapters.product_store.memory import MemoryProductStore
from evstream.domain.caching import ByReuse
from evstream.edge.cache import ProductCache
from evstream.ports.product_store import ProductStore
from evstream.testing.manual_clock import ManualClock

GIB = 1 << 30


def cache_on(store: ProductStore, bytes_max: int = 10 * GIB) -> ProductCache:
    return ProductCache(store, ByReuse(bytes_max), ManualClock(), bytes_max)


@pytest.mark.parametrize(("disk", "room"), [(100 * GIB, 10 * GIB), (3 * GIB, 2816 << 20), (1, 0)])
def test_room_is_no_more_than_the_disk_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, disk: int, room: int
) -> None:
    store = DiskProductStore(tmp_path, InPlace())
    monkeypatch.setattr(store, "free_bytes", lambda: disk)
    assert cache_on(store).free_bytes == room


def test_where_there_is_no_telling_room_is_what_may_be_kept(tmp_path: Path) -> None:
    assert cache_on(MemoryProductStore(tmp_path)).free_bytes == 10 * GIB
