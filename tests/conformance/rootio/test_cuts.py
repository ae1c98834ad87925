"""Cuts of public files equal their sources, to ROOT and to uproot."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from evstream import rootio
from tests.conformance.rootio.conftest import Compare, Pair
from tests.conformance.rootio.uproot_compare import equal_by_uproot

# What uproot cannot read in the sources themselves: counted here, so that a change shows.
UPROOT_CANNOT_READ_MAX = 500
FILES = [
    "PHYSLITE_example.root", "Run2012B_SingleMu_1000.root", "data_A.4lep.root",
    "data_B.4lep.root", "edm4hep_example.root", "exot_15.root",
    "gev91ee_zboson_100events.root", "inputIO4.root",
    "nanoAOD_2015_CMS_Open_Data_ttbar.root", "nano_dy.root", "test_FCC_Spring2021.root",
    "tree_with_clusters.root", "uproot-HZZ-lz4.root", "uproot-HZZ-lzma.root",
    "uproot-HZZ-uncompressed.root", "uproot-HZZ-zlib.root", "uproot-HZZ-zstd.root",
    "uproot-Zmumu.root", "uproot-demo-double32.root", "uproot-from-geant4.root",
    "uproot-hepdata-example.root", "uproot-issue232.root", "uproot-issue64.root",
]  # fmt: skip
SEED = 20_120_704


def _ranges(entries: int, rng: random.Random) -> list[tuple[int, int]]:
    some = {(0, entries), (0, min(entries, 100)), (entries // 3, 2 * entries // 3)}
    for _ in range(2):
        start, stop = sorted(rng.choices(range(entries + 1), k=2))
        some.add((start, stop))
    return sorted(some)


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_cuts_equal_their_source(
    name: str, shared_data: Path, equal_by_root: Compare, tmp_path: Path
) -> None:
    rng = random.Random(f"{SEED}{name}")
    print("seed", SEED)
    source = shared_data / name
    with rootio.FileSource(source) as opened:
        index = rootio.inspect(opened)
    assert index.trees
    assert not index.unreadable
    pairs = []
    for tree in index.trees.values():
        for number, (start, stop) in enumerate(_ranges(tree.entries, rng)):
            product = tmp_path / f"{tree.path.replace('/', '_')}_{number}.root"
            rootio.cut(source, product, tree=tree.path, entry_start=start, entry_stop=stop)
            pairs.append(Pair(source, tree.path, start, product, 0, stop - start))
    verdicts = equal_by_root(pairs)
    assert [v[-1] for v in verdicts] == [p.entries for p in pairs]
    for pair in pairs:
        _, unreadable = equal_by_uproot(
            source, pair.tree, pair.source_first, pair.product, 0, pair.entries
        )
        assert len(unreadable) <= UPROOT_CANNOT_READ_MAX


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "tree"),
    [
        ("nanoAOD_2015_CMS_Open_Data_ttbar.root", "Events"),
        ("PHYSLITE_example.root", "CollectionTree"),
        ("test_FCC_Spring2021.root", "events"),
        ("uproot-HZZ-zlib.root", "events"),
        ("uproot-hepdata-example.root", "ntuple"),
        ("uproot-issue232.root", "fTreeV0"),
    ],
)
def test_branch_subsets_equal_their_source(
    name: str, tree: str, shared_data: Path, equal_by_root: Compare, tmp_path: Path
) -> None:
    rng = random.Random(f"{SEED}{name}")
    print("seed", SEED)
    source = shared_data / name
    with rootio.FileSource(source) as opened:
        index = rootio.inspect(opened)
        found = index.trees[tree]
        pairs = []
        for number, count in enumerate((1, 3, 20)):
            names = [b.name for b in found.branches]
            asked = rng.sample(names, min(count, len(names)))
            start, stop = sorted(rng.choices(range(found.entries + 1), k=2))
            cut = rootio.plan_cut(
                index, tree=tree, entry_start=start, entry_stop=stop, branches=asked
            )
            assert set(asked) <= set(cut.branches)
            cut.prepare(opened)
            product = tmp_path / f"{number}.root"
            product.write_bytes(cut.read(0, cut.size, opened))
            pairs.append(Pair(source, tree, start, product, 0, stop - start))
    equal_by_root(pairs)
    for pair in pairs:
        equal_by_uproot(source, tree, pair.source_first, pair.product, 0, pair.entries)
