"""What waits to be read is the same bytes, in memory or in a file."""

from __future__ import annotations

import errno
import os
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from evstream import rootio
from evstream.rootio import spool
from evstream.rootio.spool import Spool, spooled


@pytest.mark.parametrize("memory_bytes", [1, 1 << 20])
def test_bytes_come_back(memory_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "MEMORY_BYTES_MAX", memory_bytes)
    held = Spool()
    assert [held.append(b"abcd"), held.append(b"efg"), held.size] == [0, 4, 7]
    held.overwrite(2, b"XY")
    assert held.append(b"h") == 7
    assert held.read(1, 5) == b"bXYef"
    out = bytearray(8)
    held.read_into(0, memoryview(out))
    assert out == b"abXYefgh"


def test_a_file_that_is_cut_off_is_told() -> None:
    held = Spool()
    held.append(b"abc")
    with pytest.raises(OSError, match="shorter"):
        held.read_into(1, memoryview(bytearray(3)))


def test_a_product_does_not_depend_on_where_its_baskets_wait(
    small_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def product() -> bytes:
        with rootio.FileSource(small_file) as source:
            index = rootio.inspect(source)
            cut = rootio.plan_select(index, tree="Events", entries=np.arange(0, 500, 3))
            cut.prepare(source)
            parts = [cut.read(at, 1000, source) for at in range(0, cut.size, 1000)]
        return b"".join(parts)

    in_memory = product()
    monkeypatch.setattr(spool, "MEMORY_BYTES_MAX", 1)
    assert product() == in_memory


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system reserves no room")
@pytest.mark.parametrize(
    ("problem", "written"), [(errno.ENOSPC, False), (errno.EOPNOTSUPP, True), (errno.EINVAL, True)]
)
def test_a_file_for_which_there_is_no_room_is_not_begun(
    problem: int, written: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def refuse(_fd: int, _offset: int, size: int) -> None:
        asked.append(size)
        raise OSError(problem, os.strerror(problem))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    refused = nullcontext() if written else pytest.raises(OSError, match=os.strerror(problem))
    with refused, spooled(tmp_path / "out", 5) as out:
        out.write(b"bytes")
    assert asked == [5]
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"bytes"] * written


@pytest.mark.parametrize("name", ["n" * 255, "\u00fc" * 127, "\udcff" * 250, "n"])
def test_a_name_may_be_as_long_as_the_disk_allows(name: str, tmp_path: Path) -> None:
    with spooled(tmp_path / name) as out:
        out.write(b"bytes")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_room_that_was_taken_is_filled(tmp_path: Path) -> None:
    with spooled(tmp_path / "out", 1 << 20) as out:
        out.write(b"x" * (1 << 20))
    assert (tmp_path / "out").read_bytes() == b"x" * (1 << 20)
