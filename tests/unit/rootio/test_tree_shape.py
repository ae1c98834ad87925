"""Trees like one inspected before: recognised, or walked, but never misread."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

from evstream import rootio
from evstream.domain.errors import DataError
from evstream.rootio.class_plan import Plans
from evstream.rootio.compression import decompress
from evstream.rootio.container import Window, read_container, read_record
from evstream.rootio.index import KnownShapes
from evstream.rootio.keys import Key
from evstream.rootio.source import drive
from evstream.rootio.streamer_info import StreamerInfos
from evstream.rootio.tree_reader import read_tree
from evstream.rootio.tree_shape import TreeShape

SEED = 11
FLIPS = 1500
# Positions in a skeleton, which may lie elsewhere, and what is made when asked for.
PRIVATE = {"walked", "overlay", "fields", "maxima", "arrays", "_templates", "_lock"}


def _write(path: Path, seed: int, clusters: list[int], *, other: str = "x") -> Path:
    rng = np.random.default_rng(seed)
    with uproot.recreate(path, compression=uproot.ZLIB(1)) as file:
        file.mktree("Events", {other: "f8", "i": "i4", "jet": "var * float32"})
        for count in clusters:
            sizes = rng.integers(0, 6, count)
            jets = ak.unflatten(rng.normal(size=int(sizes.sum())).astype(np.float32), sizes)
            file["Events"].extend(
                {
                    other: rng.normal(size=count),
                    "i": np.arange(count, dtype=np.int32),
                    "njet": sizes.astype(np.int32),
                    "jet": jets,
                }
            )
    return path


def _differences(one: Any, other: Any, where: str = "") -> list[str]:
    """Name all places where two indices say something else."""
    if isinstance(one, np.ndarray):
        return [] if np.array_equal(one, other) else [where]
    if is_dataclass(one):
        names = [f.name for f in fields(one) if f.name not in PRIVATE]
        return [d for n in names for d in _differences(getattr(one, n), getattr(other, n), n)]
    return [] if one == other else [where]


def _product(index: rootio.SourceIndex, source: rootio.ByteSource) -> bytes:
    stop = index.tree("Events").entries
    cut = rootio.plan_cut(
        index, tree="Events", entry_start=3, entry_stop=stop - 2, branches=["i", "jet"]
    )
    cut.prepare(source)
    return cut.read(0, cut.size, source)


def test_files_of_one_kind_are_read_alike(tmp_path: Path) -> None:
    known = KnownShapes()
    for number, clusters in enumerate([[50, 60], [70], [20, 30, 40, 50], [10, 200]]):
        source = rootio.FileSource(_write(tmp_path / f"{number}.root", number, clusters))
        walked, recognised = rootio.inspect(source), rootio.inspect(source, known)
        one, other = walked.tree("Events"), recognised.tree("Events")
        assert _differences(one, other) == []
        assert one.maxima.tolist() == other.maxima.tolist()
        assert one.branches == other.branches
        assert one.clusters.tolist() == other.clusters.tolist()
        kept = rootio.SourceIndex.from_bytes(recognised.to_bytes())
        assert _product(walked, source) == _product(recognised, source) == _product(kept, source)


def test_files_with_as_many_baskets_are_recognised_by_a_stencil(tmp_path: Path) -> None:
    known = KnownShapes()
    # The first and the third have lengths of their own; the stencil is made of the fourth.
    for number, clusters in enumerate([[50, 60], [50, 60], [70], [11, 9], [9, 70], [8, 3]]):
        source = rootio.FileSource(_write(tmp_path / f"{number}.root", number, clusters))
        walked, recognised = rootio.inspect(source), rootio.inspect(source, known)
        one, other = walked.tree("Events"), recognised.tree("Events")
        assert _differences(one, other) == []
        assert one.maxima.tolist() == other.maxima.tolist()
        assert one.branches == other.branches
        assert _product(walked, source) == _product(recognised, source)
    (shape,) = known._shapes.values()
    assert len([s for s in shape._stencils.values() if s is not None]) == 1


def test_files_of_another_kind_are_walked(tmp_path: Path) -> None:
    known = KnownShapes()
    rootio.inspect(rootio.FileSource(_write(tmp_path / "a.root", 1, [50])), known)
    index = rootio.inspect(
        rootio.FileSource(_write(tmp_path / "b.root", 1, [50], other="y")), known
    )
    assert "y" in {b.name for b in index.tree("Events").branches}


def _tree_record(path: Path) -> tuple[Key, bytes, Plans]:
    source = rootio.FileSource(path)
    window = Window(source.size)
    container = drive(read_container(window), source)
    (listed,) = [k for k in container.directories[0].keys if k.class_name == "TTree"]
    ((key, payload),) = drive(read_record(window, [listed]), source)
    streamers = rootio.inspect(source).streamers
    assert streamers is not None
    data = decompress(streamers.payload, streamers.key.object_bytes)
    infos = StreamerInfos(data, streamers.key.key_bytes)
    return key, bytes(decompress(payload, key.object_bytes)), Plans(infos)


@pytest.mark.parametrize("before", [0, 1], ids=["by its shape", "by a stencil"])
def test_a_changed_record_is_read_as_a_walk_reads_it_or_not_at_all(
    tmp_path: Path, before: int
) -> None:
    key, data, plans = _tree_record(_write(tmp_path / "a.root", 1, [50, 60]))
    index, graph = read_tree("Events", key, data, plans)
    shape = TreeShape(graph, index)
    assert shape.usable
    for _ in range(before):
        # A length that is met again has a stencil from then on.
        assert shape.read("Events", key, data) is not None
    assert bool([s for s in shape._stencils.values() if s is not None]) == bool(before)
    rng = np.random.default_rng(SEED)
    recognised = 0
    for at in rng.choice(len(data), min(FLIPS, len(data)), replace=False).tolist():
        changed = bytearray(data)
        changed[at] ^= int(rng.integers(1, 256))
        found = shape.read("Events", key, bytes(changed))
        if found is None:
            continue
        recognised += 1
        walked, _ = read_tree("Events", key, bytes(changed), plans)
        assert _differences(walked, found) == [], f"seed {SEED}, byte {at}"
        assert walked.maxima.tolist() == found.maxima.tolist()
    # Of the record's bytes, those of numbers may differ, and some were met.
    assert recognised > 20


@pytest.mark.parametrize("cut_at", [0, 10, 500, -1])
def test_cut_off_records_are_not_recognised(tmp_path: Path, cut_at: int) -> None:
    key, data, plans = _tree_record(_write(tmp_path / "a.root", 1, [50, 60]))
    shape = TreeShape(*reversed(read_tree("Events", key, data, plans)))
    assert shape.read("Events", key, data[:cut_at]) is None
    with pytest.raises(DataError):
        read_tree("Events", key, data[:cut_at], plans)
