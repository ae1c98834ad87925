"""Scattered entries of public files and of all kinds of branches, to ROOT and to uproot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evstream import rootio
from tests.conformance.rootio.conftest import Compare, Pair
from tests.conformance.rootio.test_cuts import FILES, UPROOT_CANNOT_READ_MAX
from tests.conformance.rootio.test_zoo import TREES
from tests.conformance.rootio.uproot_compare import equal_by_uproot
from tests.conformance.rootio.zoo import ZOO, Zoo

SEED = 20_151_225


def _selections(entries: int, name: str) -> dict[str, Any]:
    """Return selections of every shape, those that are empty left out."""
    rng = np.random.default_rng([SEED, *name.encode()])
    every = np.arange(entries)
    stretches = np.repeat(rng.random(entries // 30 + 1) < 0.4, 30)[:entries]
    found = {
        "all": every,
        "one": every[entries // 2 : entries // 2 + 1],
        "alternate": every[::2],
        "percent": every[rng.random(entries) < 0.01],
        "fifth": every[rng.random(entries) < 0.2],
        "clustered": every[stretches],
        "most": every[rng.random(entries) < 0.97],
    }
    return {shape: chosen for shape, chosen in found.items() if len(chosen)}


def _select(
    source: Path, tree: str, shapes: dict[str, Any], folder: Path
) -> list[tuple[Pair, Any]]:
    pairs = []
    for shape, chosen in shapes.items():
        stem = f"{source.stem}_{tree.replace('/', '_')}_{shape}"
        product, listing = folder / f"{stem}.root", folder / f"{stem}.txt"
        count = rootio.cut(source, product, tree=tree, entries=chosen)
        assert count == len(chosen)
        listing.write_text("".join(f"{entry}\n" for entry in chosen))
        pairs.append((Pair(source, tree, f"@{listing}", product, 0, count), chosen))
    return pairs


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_selections_equal_their_source(
    name: str, shared_data: Path, equal_by_root: Compare, tmp_path: Path
) -> None:
    print("seed", SEED)
    source = shared_data / name
    with rootio.FileSource(source) as opened:
        trees = rootio.inspect(opened).trees
    pairs = []
    for tree in trees.values():
        pairs += _select(source, tree.path, _selections(tree.entries, name), tmp_path)
    verdicts = equal_by_root([pair for pair, _ in pairs])
    assert [v[-1] for v in verdicts] == [pair.entries for pair, _ in pairs]
    for pair, chosen in pairs:
        if pair.product.stem.endswith(("percent", "fifth", "clustered")):
            _, unreadable = equal_by_uproot(
                source, pair.tree, 0, pair.product, 0, pair.entries, chosen
            )
            assert len(unreadable) <= UPROOT_CANNOT_READ_MAX


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in ZOO if n != "mapped"])
def test_selections_of_all_kinds_of_branches(
    name: str, zoo: Zoo, equal_by_root: Compare, tmp_path: Path
) -> None:
    print("seed", SEED)
    source = zoo.files[name]
    with rootio.FileSource(source) as opened:
        index = rootio.inspect(opened)
    pairs = []
    for tree in TREES:
        shapes = _selections(index.trees[tree].entries, name)
        pairs += _select(source, tree, shapes, tmp_path)
    equal_by_root([pair for pair, _ in pairs], zoo.library)
    # What was put together is as good a source as any.
    again = []
    for pair, _ in pairs:
        if pair.product.stem.endswith("fifth") and pair.entries > 20:
            product = tmp_path / f"again_{pair.product.name}"
            rootio.cut(pair.product, product, tree=pair.tree, entry_start=3, entry_stop=15)
            again.append(Pair(pair.product, pair.tree, 3, product, 0, 12))
    equal_by_root(again, zoo.library)


@pytest.mark.slow
def test_offsets_left_to_counters_are_selected_as_plain_ones(
    zoo: Zoo, equal_by_root: Compare, tmp_path: Path
) -> None:
    source, truth = zoo.files["mapped"], zoo.files["unmapped"]
    pairs = [
        Pair(truth, pair.tree, pair.source_first, pair.product, 0, pair.entries)
        for pair, _ in _select(source, "flat", _selections(1000, "mapped"), tmp_path)
    ]
    equal_by_root(pairs, zoo.library)
