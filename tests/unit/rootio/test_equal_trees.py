"""Metadata trees under the rule `all` are equal by what they hold, not by how it is packed."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

from evstream import rootio
from evstream.rootio.rntuple.elements import open_page, unsplit
from evstream.rootio.rntuple.schema import Column

ROWS = 12
TREE = "ParameterSets"
TYPES = {"n": "i8", "flag": "?", "jagged": "var * float64", "text": "string"}


def rows(start: int, stop: int, shift: int = 0) -> dict[str, Any]:
    """Make some rows: what a row holds depends on its number alone."""
    numbers = np.arange(start, stop)
    counts = (numbers * 5 + 2) % 4
    values = np.concatenate(
        [np.arange(c) + n + shift for n, c in zip(numbers, counts, strict=True)]
    )
    return {
        "n": numbers,
        "flag": numbers % 3 == 0,
        "jagged": ak.unflatten(values.astype(np.float64), counts),
        "text": ak.Array(["x" * (n % 4) + str(n) for n in numbers]),
    }


def written(path: Path, edges: list[int], shift: int = 0, *, ntuple: bool = False) -> Path:
    """Write rows in parts: each becomes a basket, or a cluster."""
    with uproot.recreate(path) as file:
        made = None
        for start, stop in pairwise(edges):
            part = rows(start, stop, shift)
            if made is not None:
                made.extend(part)
            elif ntuple:
                made = file.mkrntuple(TREE, part)
            else:
                made = file.mktree(TREE, TYPES)
                made.extend(part)
    return path


@pytest.mark.parametrize("ntuple", [False, True], ids=["tree", "rntuple"])
def test_trees_are_equal_however_they_are_packed(tmp_path: Path, ntuple: bool) -> None:
    packed = [[0, ROWS], [0, 5, ROWS], list(range(ROWS + 1))]
    paths = [
        written(tmp_path / f"{n}.root", edges, ntuple=ntuple) for n, edges in enumerate(packed)
    ]
    for path, edges in zip(paths, packed, strict=True):
        with rootio.FileSource(path) as source:
            assert rootio.inspect(source).trees[TREE].clusters.tolist() == edges
    joined = tmp_path / "joined.root"
    result = rootio.join(paths, joined)
    assert (result.entries, result.objects) == ({TREE: ROWS}, {"once": (TREE,)})
    other = [
        written(tmp_path / "values.root", packed[1], 1, ntuple=ntuple),
        written(tmp_path / "fewer.root", [0, 5, ROWS - 1], ntuple=ntuple),
        written(tmp_path / "later.root", [1, ROWS], ntuple=ntuple),
    ]
    result = rootio.join([*paths, *other, *other], joined)
    assert result.objects == {"all": (TREE,)}
    assert result.entries == {TREE: 2 * ROWS + 2 * (ROWS - 1)}
    with uproot.open(joined) as file:
        numbers = file[TREE]["n"].array().tolist()
    assert numbers == [*range(ROWS), *range(ROWS), *range(ROWS - 1), *range(1, ROWS)]


def test_rows_that_share_their_values_otherwise_differ(tmp_path: Path) -> None:
    paths = []
    for number, counts in enumerate(([1, 2], [2, 1])):
        paths.append(tmp_path / f"{number}.root")
        with uproot.recreate(paths[-1]) as file:
            jagged = ak.unflatten(np.arange(3.0), counts)
            file.mkrntuple(TREE, {"jagged": jagged})
    assert rootio.join(paths, tmp_path / "joined.root").entries == {TREE: 4}


def test_split_elements_are_compared_as_those_that_are_not() -> None:
    values = np.array([1, 2, 70000], "<u4")
    planes = memoryview(values.view(np.uint8).reshape(3, 4).T.tobytes())
    for split, plain in ((0x13, 0x07), (0x14, 0x08), (0x18, 0x0C)):
        assert (unsplit(split), unsplit(plain)) == (plain, plain)
        read = open_page(planes, Column(split, 32, 0, 0, 0, 0, b""), 3, checked=False)
        same = open_page(
            memoryview(values.tobytes()), Column(plain, 32, 0, 0, 0, 0, b""), 3, checked=False
        )
        assert read.tolist() == same.tolist() == values.tolist()
