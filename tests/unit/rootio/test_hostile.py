"""Damaged files give our errors, in little time and memory, whatever is damaged."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import uproot

from evstream import rootio
from evstream.domain.errors import EvstreamError
from evstream.rootio.container import Window, read_container
from evstream.rootio.source import BytesSource, drive

SEED = 20_260_101
FLIPS = 1500
OBJECT_FLIPS = 300
VALUES = (b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\x40\0\0\0", b"\x80\0\0\1")


def _use(data: bytes) -> bool:
    """Inspect, cut and read; say whether all of it went well."""
    source = BytesSource(data)
    try:
        index = rootio.inspect(source)
        rootio.SourceIndex.from_bytes(index.to_bytes())
        for tree in index.trees.values():
            start = min(tree.entries, 37)
            stop = min(tree.entries, 237)
            cut = rootio.plan_cut(index, tree=tree.path, entry_start=start, entry_stop=stop)
            cut.prepare(source)
            for offset in range(0, cut.size, 1 << 20):
                cut.read(offset, 1 << 20, source)
    except EvstreamError:
        return False
    return True


def _structural_points(data: bytes) -> list[int]:
    source = BytesSource(data)
    container = drive(read_container(Window(len(data))), source)
    points = [0, 1, 4, 64, 100, container.header.seek_info, container.header.seek_free]
    for directory in container.directories:
        points += [directory.seek, directory.seek_keys]
        for key in directory.keys:
            points += [key.seek, key.seek + key.key_bytes, key.seek + key.nbytes]
    for tree in rootio.inspect(source).trees.values():
        points += tree.baskets.seek.tolist()
    return sorted(p + d for p in points for d in (-1, 0, 1, 9) if 0 <= p + d < len(data))


def test_a_sound_file_is_used(small_bytes: bytes) -> None:
    assert _use(small_bytes)


def test_truncation_anywhere_is_told(small_bytes: bytes) -> None:
    for point in _structural_points(small_bytes):
        assert not _use(small_bytes[:point]), point


@pytest.mark.slow
def test_changed_bytes_give_our_errors_only(small_bytes: bytes) -> None:
    print("seed", SEED)
    rng = random.Random(SEED)
    points = _structural_points(small_bytes)
    refused = 0
    for _ in range(FLIPS):
        damaged = bytearray(small_bytes)
        for _ in range(rng.choice((1, 1, 2, 8))):
            near = rng.choice(points) + rng.randrange(60)
            at = min(near if rng.random() < 0.8 else rng.randrange(len(damaged)), len(damaged) - 1)
            damaged[at] ^= 1 << rng.randrange(8)
        refused += not _use(bytes(damaged))
    assert refused > FLIPS // 10


@pytest.mark.parametrize("value", VALUES)
def test_wild_numbers_in_a_trees_record_give_our_errors_only(
    plain_bytes: bytes, value: bytes
) -> None:
    # Stored plainly, so that the record's own numbers can be changed.
    tree = rootio.inspect(BytesSource(plain_bytes)).trees["Events"]
    assert tree.key.nbytes == tree.key.key_bytes + tree.key.object_bytes
    for at in range(tree.key.seek, tree.key.seek + tree.key.nbytes - 4, 7):
        damaged = bytearray(plain_bytes)
        damaged[at : at + 4] = value
        _use(bytes(damaged))


@pytest.mark.parametrize("data", [b"", b"root", b"\x89PNG\r\n", bytes(500), b"root" * 100])
def test_other_things_are_no_root_files(data: bytes) -> None:
    with pytest.raises((rootio.NotARootFileError, rootio.CorruptFileError)):
        rootio.inspect(BytesSource(data))


@pytest.fixture(scope="session")
def objects_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return an uncompressed file with histograms, which a join has to take apart."""
    path = tmp_path_factory.mktemp("objects") / "objects.root"
    with uproot.recreate(path, compression=None) as file:
        file["plain"] = np.histogram(np.arange(30), bins=5)
        file["plane"] = np.histogram2d(np.arange(30), np.arange(30), bins=(4, 3))
        file["text"] = "some text"
    return path.read_bytes()


def test_damaged_objects_give_our_errors_only(objects_bytes: bytes, tmp_path: Path) -> None:
    print("seed", SEED)
    rng = random.Random(SEED)
    sound = BytesSource(objects_bytes)
    index = rootio.inspect(sound)
    spans = [(o.key.seek + o.key.key_bytes, o.key.seek + o.nbytes) for o in index.objects]
    assert len(spans) == 3
    told = 0
    for _ in range(OBJECT_FLIPS):
        data = bytearray(objects_bytes)
        begin, end = rng.choice(spans)
        at = rng.randrange(begin, end - 4)
        data[at : at + 4] = rng.choice([*VALUES, rng.randbytes(4)])
        inputs = [sound, BytesSource(bytes(data))]
        rng.shuffle(inputs)
        try:
            rootio.join(inputs, tmp_path / "joined.root")
        except EvstreamError:
            told += 1
    # Most of the bytes are numbers, which nothing contradicts.
    assert 0 < told < OBJECT_FLIPS
