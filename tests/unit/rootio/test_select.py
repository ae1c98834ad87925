"""Scattered entries of small files: what was chosen is there, nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evstream import rootio
from evstream.domain.errors import RequestError
from evstream.rootio.baskets import Basket, read_basket_key
from evstream.rootio.keys import make_key, write_key
from evstream.rootio.take import take_entries, together

ENTRIES = 500
BRANCHES = ["x", "i", "fixed", "njet", "jet"]
RELAXED = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
# Stretches of kept and dropped entries: scattered, clustered, nearly all, nearly none.
masks = (
    st.lists(st.tuples(st.booleans(), st.integers(1, 200)), min_size=1, max_size=40)
    .map(lambda runs: np.repeat([r[0] for r in runs], [r[1] for r in runs]))
    .map(lambda m: np.resize(m, ENTRIES))
    .filter(np.any)
) | st.sets(st.integers(0, ENTRIES - 1), min_size=1).map(
    lambda chosen: np.isin(np.arange(ENTRIES), sorted(chosen))
)


def _product(source: rootio.ByteSource, cut: rootio.Cut) -> bytes:
    cut.prepare(source)
    data = cut.read(0, cut.size, source)
    assert len(data) == cut.size
    return data


def _arrays(path: Path, tree: str) -> dict[str, Any]:
    with uproot.open(path) as file:
        return {name: file[tree][name].array() for name in file[tree].keys()}  # noqa: SIM118


@given(
    mask=masks,
    branches=st.none() | st.sets(st.sampled_from(BRANCHES), min_size=1).map(sorted),
    tree=st.sampled_from(["Events", "deep/er/other"]),
)
@RELAXED
def test_a_selection_holds_what_was_chosen(
    small_file: Path, tmp_path: Path, mask: Any, branches: list[str] | None, tree: str
) -> None:
    with rootio.FileSource(small_file) as source:
        index = rootio.inspect(source)
        planned = rootio.plan_select(index, tree=tree, entries=mask, branches=branches)
        path = tmp_path / "product.root"
        path.write_bytes(_product(source, planned))
    expected, found = _arrays(small_file, tree), _arrays(path, tree)
    assert planned.entries == int(mask.sum())
    assert set(branches or BRANCHES) <= set(found)
    for name, values in found.items():
        assert values.tolist() == expected[name][mask].tolist()
    with rootio.FileSource(path) as again:
        clusters = rootio.inspect(again).trees[tree].clusters
    assert clusters[-1] == planned.entries


@given(edges=st.tuples(st.integers(0, ENTRIES - 1), st.integers(1, ENTRIES)).map(sorted))
@RELAXED
def test_a_selected_range_reads_as_its_cut(
    small_bytes: bytes, tmp_path: Path, edges: list[int]
) -> None:
    start, stop = edges[0], max(edges[1], edges[0] + 1)
    source = rootio.BytesSource(small_bytes)
    index = rootio.inspect(source)
    one, other = tmp_path / "cut.root", tmp_path / "select.root"
    one.write_bytes(
        _product(source, rootio.plan_cut(index, tree="Events", entry_start=start, entry_stop=stop))
    )
    chosen = np.arange(start, stop)
    other.write_bytes(_product(source, rootio.plan_select(index, tree="Events", entries=chosen)))
    mine, made = _arrays(one, "Events"), _arrays(other, "Events")
    assert {k: v.tolist() for k, v in mine.items()} == {k: v.tolist() for k, v in made.items()}


def test_masks_and_lists_make_the_same_bytes(small_bytes: bytes) -> None:
    source = rootio.BytesSource(small_bytes)
    index = rootio.inspect(source)
    mask = np.arange(ENTRIES) % 7 == 3
    one = _product(source, rootio.plan_select(index, tree="Events", entries=mask))
    other = rootio.plan_select(index, tree="Events", entries=np.flatnonzero(mask).tolist())
    other.prepare(source)
    parts = [other.read(at, 777, source) for at in range(0, other.size, 777)]
    assert b"".join(parts) == one


def test_whole_baskets_are_copied_and_others_not_read(small_bytes: bytes) -> None:
    source = rootio.BytesSource(small_bytes)
    index = rootio.inspect(source)
    tree = index.trees["Events"]
    whole = np.arange(tree.clusters[1], tree.clusters[2])
    planned = rootio.plan_select(index, tree="Events", entries=whole, leads=False)
    assert planned.boundary_bytes == 0
    data = _product(source, planned)
    one = int(np.flatnonzero(tree.baskets.start == tree.clusters[1])[0])
    seek, nbytes = int(tree.baskets.seek[one]), int(tree.baskets.nbytes[one])
    # The payload behind the key, which is patched.
    assert small_bytes[seek + 100 : seek + nbytes] in data


def test_small_baskets_are_put_together(small_bytes: bytes) -> None:
    source = rootio.BytesSource(small_bytes)
    index = rootio.inspect(source)
    chosen = np.arange(0, ENTRIES, 50)
    data = _product(source, rootio.plan_select(index, tree="Events", entries=chosen))
    tree = rootio.inspect(rootio.BytesSource(data)).trees["Events"]
    assert len(index.trees["Events"].clusters) == 6
    assert {b.baskets for b in tree.branches} == {1}


@pytest.mark.parametrize(
    "entries",
    [
        [],
        np.zeros(ENTRIES, bool),
        np.ones(ENTRIES - 1, bool),
        [3, 2],
        [2, 2],
        [-1],
        [ENTRIES],
        [0.5],
        [[1, 2]],
        np.array([2**63], np.uint64),
    ],
)
def test_impossible_selections_are_refused(small_bytes: bytes, entries: Any) -> None:
    index = rootio.inspect(rootio.BytesSource(small_bytes))
    with pytest.raises(RequestError) as caught:
        rootio.plan_select(index, tree="Events", entries=entries)
    assert isinstance(caught.value, rootio.EntryRangeError)
    assert caught.value.hint


def test_files_are_selected_too(small_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "some.root"
    assert rootio.cut(small_file, path, tree="Events", entries=[1, 10, 499], branches=["i"]) == 3
    assert _arrays(path, "Events")["i"].tolist() == [1, 10, 499]


def _basket(parts: list[bytes]) -> Basket:
    key = make_key(
        "TBasket", "b", "t", payload_bytes=0, object_bytes=0, seek=0, seek_directory=0, date=0
    )
    offsets = np.cumsum([0, *map(len, parts)])
    own, _ = read_basket_key(write_key(key))
    return Basket(
        own,
        100,
        1,
        len(parts),
        b"".join(parts),
        offsets,
        offsets[:-1].copy(),
    )


@given(
    st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=60),
    st.sampled_from([1, 2, 4, 8, 12]),
)
@RELAXED
def test_stretches_are_taken_whatever_their_width(
    entries: list[tuple[int, bool]], width: int
) -> None:
    rng = np.random.default_rng(len(entries))
    parts = [rng.bytes(size * width) for size, _ in entries]
    chosen = np.flatnonzero([kept for _, kept in entries])
    if not len(chosen):
        return
    taken, movable = take_entries(_basket(parts), chosen, pinned=True)
    assert movable
    assert taken.offsets is not None
    assert bytes(taken.data) == b"".join(parts[i] for i in chosen)
    assert taken.displacements is not None
    assert taken.displacements.tolist() == taken.offsets[:-1].tolist()
    both = together([taken, taken])
    assert both.entries == 2 * len(chosen)
    assert both.offsets is not None
    assert both.offsets.tolist() == [
        *taken.offsets.tolist(),
        *(taken.offsets[1:] + taken.offsets[-1]).tolist(),
    ]


def test_entries_that_name_classes_stay_where_they_are() -> None:
    named = b"\xff\xff\xff\xffTThing\0content"
    parts = [b"abc", named, b"", named, b"de", named]
    basket = _basket(parts)
    taken, movable = take_entries(basket, np.array([1, 2, 5]), pinned=True)
    assert not movable
    assert taken.offsets is not None
    assert basket.offsets is not None
    assert taken.offsets.tolist() == [*basket.offsets[[1, 2, 5]].tolist(), len(basket.data)]
    gap = bytes(len(named) + 2)
    assert bytes(taken.data) == bytes(3) + named + gap + named
    assert taken.displacements is not None
    assert taken.displacements.tolist() == taken.offsets[:-1].tolist()
