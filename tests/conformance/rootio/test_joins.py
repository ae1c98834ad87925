"""Slices joined again equal the file they were cut from; histograms as hadd adds them."""

from __future__ import annotations

import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from evstream import rootio
from tests.conformance.rootio.conftest import Compare, Pair
from tests.conformance.rootio.test_cuts import FILES
from tests.conformance.rootio.uproot_compare import equal_by_uproot
from tests.conformance.rootio.zoo import HERE, TIMEOUT_S, Zoo


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_slices_join_to_the_whole(
    name: str, shared_data: Path, equal_by_root: Compare, tmp_path: Path
) -> None:
    source = shared_data / name
    with rootio.FileSource(source) as opened:
        trees = rootio.inspect(opened).trees
    pairs = []
    for number, tree in enumerate(trees.values()):
        entries = tree.entries
        edges = sorted({0, entries // 4, entries // 3, min(entries, entries // 3 + 1), entries})
        # An empty slice among them adds nothing.
        ranges = [(0, 0), *pairwise(edges)]
        parts = []
        for start, stop in ranges:
            part = tmp_path / f"{number}_{start}_{stop}.root"
            rootio.cut(source, part, tree=tree.path, entry_start=start, entry_stop=stop)
            parts.append(part)
        joined = tmp_path / f"{number}.root"
        result = rootio.join(parts, joined)
        assert result.entries[tree.path] == entries
        pairs.append(Pair(source, tree.path, 0, joined, 0, entries))
    equal_by_root(pairs)
    for pair in pairs:
        equal_by_uproot(source, pair.tree, 0, pair.product, 0, pair.entries)


@pytest.mark.slow
def test_files_with_all_kinds_of_branches_join(
    zoo: Zoo, equal_by_root: Compare, tmp_path: Path
) -> None:
    # Different compressions, process ids and leaf maxima; the second file is shorter.
    names = ["zlib_b", "zlib", "zstd", "lz4", "lzma"]
    inputs = [zoo.files[name] for name in names]
    joined = tmp_path / "joined.root"
    result = rootio.join(inputs, joined, identity=b"a product")
    assert len(result.objects["united"]) == len(names)
    pairs = []
    for tree in ("objects", "flat", "deep/er/ntuple"):
        first = 0
        for path in inputs:
            with rootio.FileSource(path) as opened:
                entries = rootio.inspect(opened).trees[tree].entries
            pairs.append(Pair(path, tree, 0, joined, first, entries))
            first += entries
        assert result.entries[tree] == first
        cut = tmp_path / f"{tree.replace('/', '_')}.root"
        rootio.cut(joined, cut, tree=tree, entry_start=250, entry_stop=1400)
        pairs.append(Pair(joined, tree, 250, cut, 0, 1150))
    equal_by_root(pairs, zoo.library)


@pytest.mark.slow
def test_histograms_add_as_hadd_adds_them(zoo: Zoo, root_bin: Path, tmp_path: Path) -> None:
    inputs = [zoo.files[name] for name in ("zlib", "zlib_b", "zstd", "lz4")]
    joined, expected = tmp_path / "joined.root", tmp_path / "hadd.root"
    result = rootio.join(inputs, joined)
    assert len(result.objects["added"]) == 30
    assert result.objects["once"] == ("remark", "deep/er/remark")
    subprocess.run(
        [root_bin / "hadd", "-T", "-f", expected, *inputs],
        check=True, capture_output=True, timeout=TIMEOUT_S,
    )  # fmt: skip
    macro = f'{HERE / "compare_objects.C"}("{expected}", "{joined}")'
    run = subprocess.run(
        [root_bin / "root.exe", "-b", "-q", "-l", macro],
        check=False, capture_output=True, text=True, timeout=TIMEOUT_S,
    )  # fmt: skip
    assert "EQUAL 38" in run.stdout, run.stdout + run.stderr
