"""Pilots of one node share products: one fetches, the others link; killed ones hold up nobody."""

# ruff: noqa: ASYNC240 - small files on a local disk, and no other work waits

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from evstream.adapters.offload import InPlace
from evstream.domain.errors import ConfigError, TransientError
from evstream.pilot import NodeCache
from evstream.testing.virtual_time import VirtualClock, run_virtual
from tests.unit.pilot.fakes import FakeRunner, FakeService, make_pilot, range_units

KEY = "ab" + 62 * "0"


def cache_at(folder: Path, bytes_max: int = 1 << 20) -> NodeCache:
    return NodeCache(folder, bytes_max, VirtualClock(), InPlace())


class Fetches:
    """Brings a product to a path after a while, and counts."""

    def __init__(self, content: bytes = b"events", seconds: float = 1.0) -> None:
        self.content = content
        self.seconds = seconds
        self.count = 0

    def to(self, path: Path) -> Callable[[], Awaitable[Counter[str]]]:
        async def fetch() -> Counter[str]:
            self.count += 1
            await asyncio.sleep(self.seconds)
            path.write_bytes(self.content)
            return Counter(edge=len(self.content))

        return fetch


def through(cache: NodeCache, path: Path, fetches: Fetches, key: str = KEY) -> Counter[str]:
    return run_virtual(lambda: cache.through(key, path, None, fetches.to(path)))


def test_the_second_pilot_links_what_the_first_has_fetched(tmp_path: Path) -> None:
    fetches, one, two = Fetches(), tmp_path / "one", tmp_path / "two"
    assert through(cache_at(tmp_path / "cache"), one, fetches) == {"edge": 6}
    assert through(cache_at(tmp_path / "cache"), two, fetches) == {"node": 6}
    assert fetches.count == 1
    assert two.read_bytes() == b"events"
    assert one.stat().st_ino == two.stat().st_ino


def test_pilots_that_need_it_at_once_fetch_it_once(tmp_path: Path) -> None:
    fetches = Fetches()

    async def main() -> list[Counter[str]]:
        paths = [tmp_path / str(number) for number in range(5)]
        works = [
            cache_at(tmp_path / "cache").through(KEY, path, None, fetches.to(path))
            for path in paths
        ]
        return await asyncio.gather(*works)

    assert sum(run_virtual(main), Counter()) == {"edge": 6, "node": 24}
    assert fetches.count == 1


def test_a_fetch_that_fails_is_left_to_the_next(tmp_path: Path) -> None:
    cache = cache_at(tmp_path / "cache")

    async def fail() -> Counter[str]:
        raise TransientError("away")

    with pytest.raises(TransientError):
        run_virtual(lambda: cache.through(KEY, tmp_path / "x", None, fail))
    assert through(cache, tmp_path / "x", Fetches()) == {"edge": 6}


def test_a_killed_pilot_holds_up_nobody(tmp_path: Path) -> None:
    cache, fetches = cache_at(tmp_path / "cache"), Fetches()
    folder = tmp_path / "cache" / KEY[:2] / KEY
    folder.mkdir(parents=True)
    holds = (
        "import fcntl, sys; file = open(sys.argv[1], 'w'); fcntl.flock(file, fcntl.LOCK_EX);"
        "print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holds, str(folder / "lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        # One that lives and says nothing is waited for, and then done without.
        assert through(cache, tmp_path / "one", fetches) == {"edge": 6}
        assert not [file for file in folder.iterdir() if file.name != "lock"]
        other.kill()
    assert through(cache, tmp_path / "two", fetches) == {"edge": 6}
    assert through(cache, tmp_path / "three", fetches) == {"node": 6}


def test_what_was_changed_is_fetched_anew(tmp_path: Path) -> None:
    cache, fetches, one = cache_at(tmp_path / "cache"), Fetches(), tmp_path / "one"
    through(cache, one, fetches)
    one.chmod(0o600)
    one.write_bytes(b"evil!!")
    assert through(cache, tmp_path / "two", fetches) == {"edge": 6}
    assert (tmp_path / "two").read_bytes() == b"events"
    assert through(cache, tmp_path / "three", fetches) == {"node": 6}


def test_what_is_fetched_to_the_path_of_a_link_leaves_the_other_alone(tmp_path: Path) -> None:
    cache, path = cache_at(tmp_path / "cache"), tmp_path / "one"
    through(cache, path, Fetches())
    through(cache, path, Fetches(b"others"), key="cd" + KEY[2:])
    assert path.read_bytes() == b"others"
    assert through(cache, tmp_path / "two", Fetches()) == {"node": 6}


def test_what_was_not_used_for_longest_goes(tmp_path: Path) -> None:
    cache = cache_at(tmp_path / "cache", 1 << 20)
    fetches = Fetches(bytes(100_000))
    keys = [f"{number:064x}" for number in range(30)]
    for number, key in enumerate(keys):
        through(cache, tmp_path / "x", fetches, key)
        for kept in (tmp_path / "cache").glob(f"??/{key}/*"):
            os.utime(kept, (number, number))
        # The first is used again and again.
        through(cache, tmp_path / "y", fetches, keys[0])
    there = [key for key in keys if (tmp_path / "cache" / key[:2] / key).is_dir()]
    assert 5 <= len(there) <= 11
    assert there[0] == keys[0]
    assert there[-1] == keys[-1]


def test_large_products_are_not_kept(tmp_path: Path) -> None:
    cache, fetches = cache_at(tmp_path / "cache", 1 << 20), Fetches(bytes(300_000))
    for _ in range(2):
        assert through(cache, tmp_path / "x", fetches) == {"edge": 300_000}


def test_a_folder_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o777)
    with pytest.raises(ConfigError, match="others may write"):
        cache_at(tmp_path / "cache")


def test_two_pilots_share_what_they_both_need(tmp_path: Path) -> None:
    received = []
    for name in ("first", "second"):
        service = FakeService(range_units(20))

        async def work(service: FakeService = service, name: str = name) -> object:
            pilot = make_pilot(service, FakeRunner(wall_s=0.1), tmp_path / name)
            pilot._prefetcher._node_cache = cache_at(tmp_path / "cache")
            return await pilot.run()

        summary = run_virtual(work)
        assert summary.units_done == 20
        received.append(sum(1 for entry in service.log if entry[0] == "fetched"))
    assert received == [20, 0]
