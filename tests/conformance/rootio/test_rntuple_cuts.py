"""Cuts and selections of RNTuples equal their sources, to ROOT and to uproot."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from evstream import rootio
from tests.conformance.rootio.conftest import JUDGED, Compare, NTuplePair, compare_ntuples
from tests.conformance.rootio.uproot_ntuples import equal_by_uproot
from tests.conformance.rootio.zoo import NTUPLE_ZOO, Zoo

FILES = [
    "Run2012BC_DoubleMuParked_Muons_1000evts_rntuple_v1-0-0-0.root",
    "edm4hep_example_rntuple.root",
    "test_multiple_cluster_groups_rntuple_v1-0-0-0.root",
]
SEED = 20_120_704
# Readings of a product come in pieces that meet nowhere in particular.
CHUNK_BYTES = 70_001
# What uproot cannot read in the sources: it joins no split pages.
UPROOT_CANNOT_READ = {"split"}


def make(
    source: Path, index: rootio.SourceIndex, tree: str, to: Path, what: dict[str, Any]
) -> tuple[NTuplePair, Any]:
    """Make a product; return it with its source, and which entries it shall have."""
    with rootio.FileSource(source) as opened:
        if "entries" in what:
            planned = rootio.plan_select(index, tree=tree, **what)
            first: int | str = f"@{to}.txt"
            chosen: Any = np.array(what["entries"])
            Path(f"{to}.txt").write_text("\n".join(map(str, what["entries"])) + "\n")
        else:
            planned = rootio.plan_cut(index, tree=tree, **what)
            first = what["entry_start"]
            chosen = slice(what["entry_start"], what["entry_stop"])
        planned.prepare(opened)
        with to.open("wb") as out:
            for offset in range(0, planned.size, CHUNK_BYTES):
                out.write(planned.read(offset, CHUNK_BYTES, opened))
    ntuple = index.ntuples[tree]
    names = what.get("branches")
    fields = names and tuple(ntuple.schema.names[ntuple.field_of[name]] for name in names)
    return NTuplePair(source, tree, first, to, planned.entries, fields), chosen


def requests(ntuple: rootio.NTupleIndex, rng: random.Random) -> list[dict[str, Any]]:
    """Ask for all of it, for ranges, for scattered entries, and for some of its fields."""
    entries = ntuple.entries
    names = [branch.name for branch in ntuple.branches]
    asked: list[dict[str, Any]] = [
        {"entry_start": 0, "entry_stop": entries},
        {"entry_start": int(ntuple.clusters[-2]), "entry_stop": entries},
        {"entries": list(range(0, entries, 10))},
        {"entries": [entries - 1]},
    ]
    for count in (None, None, 1, 3, 12):
        start, stop = sorted(rng.choices(range(entries + 1), k=2))
        chosen = None if count is None else rng.sample(names, min(count, len(names)))
        asked.append({"entry_start": start, "entry_stop": stop, "branches": chosen})
        some = sorted(rng.sample(range(entries), rng.randint(1, entries)))
        asked.append({"entries": some, "branches": chosen})
    return asked


def products(source: Path, where: Path, rng: random.Random) -> tuple[list[NTuplePair], list[Any]]:
    """Make all products of a file's RNTuples."""
    with rootio.FileSource(source) as opened:
        index = rootio.inspect(opened)
    assert index.ntuples
    assert not index.unreadable
    made = [
        make(source, index, path, where / f"{path.replace('/', '_')}_{number}.root", what)
        for path, ntuple in index.ntuples.items()
        for number, what in enumerate(requests(ntuple, rng))
    ]
    return [pair for pair, _ in made], [chosen for _, chosen in made]


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_products_of_public_files(
    name: str, shared_data: Path, equal_ntuples_by_root: Compare, tmp_path: Path
) -> None:
    print("seed", SEED)
    pairs, chosen = products(shared_data / name, tmp_path, random.Random(f"{SEED}{name}"))
    equal_ntuples_by_root(pairs)
    for pair, entries in zip(pairs, chosen, strict=True):
        compared, unreadable = equal_by_uproot(pair.source, pair.ntuple, entries, pair.product)
        assert not unreadable
        JUDGED.add_by_uproot("fields", compared, [])


@pytest.mark.slow
@pytest.mark.parametrize("name", NTUPLE_ZOO)
def test_products_of_the_zoo(
    name: str, ntuple_zoo: Zoo, equal_ntuples_by_root: Compare, tmp_path: Path
) -> None:
    print("seed", SEED)
    pairs, chosen = products(ntuple_zoo.files[name], tmp_path, random.Random(f"{SEED}{name}"))
    counts = equal_ntuples_by_root(pairs, ntuple_zoo.library)
    assert sum(values for _, values, _ in counts) > 1000
    if name in UPROOT_CANNOT_READ:
        return
    for pair, entries in zip(pairs, chosen, strict=True):
        compared, unreadable = equal_by_uproot(pair.source, pair.ntuple, entries, pair.product)
        names = [f"{pair.source.name}: {name}" for name in unreadable]
        JUDGED.add_by_uproot("fields", compared, names)


@pytest.mark.slow
def test_the_zoo_holds_what_it_is_for(ntuple_zoo: Zoo) -> None:
    indices = {}
    for name, path in ntuple_zoo.files.items():
        with rootio.FileSource(path) as source:
            indices[name] = rootio.inspect(source).ntuples["zoo"]
    types = {column.type for index in indices.values() for column in index.schema.columns}
    # All that ROOT writes: it has no field that takes split half-precision numbers.
    assert types == set(range(0x1E)) - {0x17}
    assert (indices["late"].tables.pages.seek < 0).any()
    assert indices["turns"].tables.representation.max() == 2
    assert indices["split"].pieces
    assert not indices["lz4"].tables.pages.checked.any()
    assert len(indices["late"].groups) > 2


@pytest.mark.slow
def test_the_judge_sees_differences(ntuple_zoo: Zoo, root_bin: Path, tmp_path: Path) -> None:
    source = ntuple_zoo.files["zlib"]
    wrong = [
        NTuplePair(source, "zoo", 1, source, 100),
        NTuplePair(source, "zoo", 0, ntuple_zoo.files["zlib_b"], 100),
        NTuplePair(source, "zoo", 0, source, 601),
    ]
    verdicts = compare_ntuples(root_bin, tmp_path, wrong, ntuple_zoo.library)
    assert [verdict.split()[0] for verdict in verdicts] == ["DIFFERENT"] * 3


@pytest.mark.slow
def test_random_ranges_and_fields(
    ntuple_zoo: Zoo, equal_ntuples_by_root: Compare, tmp_path: Path
) -> None:
    indices = {}
    for name, path in ntuple_zoo.files.items():
        with rootio.FileSource(path) as source:
            indices[name] = rootio.inspect(source)

    @st.composite
    def cases(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
        name = draw(st.sampled_from([n for n in indices if n != "split"]))
        ntuple = indices[name].ntuples["zoo"]
        names = st.lists(
            st.sampled_from([b.name for b in ntuple.branches]), min_size=1, unique=True
        )
        what: dict[str, Any] = {"branches": draw(st.none() | names)}
        bounds = st.integers(0, ntuple.entries)
        if draw(st.booleans()):
            some = st.sets(st.integers(0, ntuple.entries - 1), min_size=1)
            return name, {**what, "entries": sorted(draw(some))}
        start, stop = sorted((draw(bounds), draw(bounds)))
        return name, {**what, "entry_start": start, "entry_stop": stop}

    # ROOT takes longer to start than to compare: it is given many at a time.
    @settings(
        max_examples=4, suppress_health_check=list(HealthCheck), deadline=None, print_blob=True
    )
    @given(st.lists(cases(), min_size=12, max_size=12))
    def check(asked: list[tuple[str, dict[str, Any]]]) -> None:
        pairs = []
        for number, (name, what) in enumerate(asked):
            to = tmp_path / f"{number}.root"
            pairs.append(make(ntuple_zoo.files[name], indices[name], "zoo", to, what)[0])
        equal_ntuples_by_root(pairs, ntuple_zoo.library)

    check()
