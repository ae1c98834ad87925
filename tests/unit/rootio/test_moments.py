"""Statistics of histograms whose own sums say nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import uproot
from uproot.writing.identify import to_TAxis, to_TH1x

from evstream import rootio
from evstream.rootio.axes import Axis
from evstream.rootio.moments import moments_of_bins


def _written(path: Path, values: list[float], weights: list[float]) -> Path:
    """Write what filling two bins from 0 to 200 leaves, exact sums included."""
    x, w = np.array(values), np.array(weights)
    cells = np.bincount(np.searchsorted([0, 100, 200], x, "right"), w, 4)
    within = (x >= 0) & (x < 200)
    moments = [float((w[within] * f).sum()) for f in (1, w[within], x[within], x[within] ** 2)]
    squares = np.bincount(np.searchsorted([0, 100, 200], x, "right"), w * w, 4)
    axis = to_TAxis("xaxis", "", 2, 0.0, 200.0)
    with uproot.recreate(path) as file:
        file["h"] = to_TH1x("h", "", cells, float(len(x)), *moments, squares, axis)
    return path


def _moments(path: Path) -> list[float]:
    with uproot.open(path) as file:
        names = ("fEntries", "fTsumw", "fTsumw2", "fTsumwx", "fTsumwx2")
        return [float(file["h"].member(name)) for name in names]


@pytest.mark.parametrize("turn", [1, -1])
def test_a_file_with_all_outside_leaves_the_sums_of_others_exact(tmp_path: Path, turn: int) -> None:
    parts = [[12.0, 25, 33], [41.0, 18], [205.0], [9.0, 77]]
    files = [
        _written(tmp_path / f"{number}.root", part, [1.0] * len(part))
        for number, part in enumerate(parts)
    ]
    rootio.join(files[::turn], tmp_path / "joined.root")
    within = np.array([x for part in parts for x in part if x < 200])
    expected = [8.0, 7.0, 7.0, within.sum(), (within**2).sum()]
    assert _moments(tmp_path / "joined.root") == expected


def test_a_file_whose_weights_cancel_counts_by_its_bins(tmp_path: Path) -> None:
    one = _written(tmp_path / "one.root", [10, 20, 110], [1, 1, 1])
    other = _written(tmp_path / "other.root", [10, 150], [1, -1])
    rootio.join([one, other], tmp_path / "joined.root")
    expected = [5.0, 3.0, 5.0, 140 + 50 - 150, 12600 + 50**2 - 150**2]
    assert _moments(tmp_path / "joined.root") == expected


def test_moments_of_two_dimensions() -> None:
    axes = [Axis(2, 0, 2, b""), Axis(1, 0, 9, np.array([0, 9.0]).tobytes())]
    cells = np.zeros((3, 4))
    cells[1] = [9, 1, 2, 9]
    found = moments_of_bins(axes, cells.ravel(), 2 * cells.ravel())
    assert found == {
        "fTsumw": 3, "fTsumw2": 6, "fTsumwx": 3.5, "fTsumwx2": 4.75, "fTsumwy": 13.5,
        "fTsumwy2": 60.75, "fTsumwxy": 15.75,
    }  # fmt: skip
    assert moments_of_bins(axes, cells.ravel(), cells.ravel(), outside=True)["fTsumw"] == 21


def test_moments_of_a_profile_and_of_labels() -> None:
    cells = np.array([0, 1, 3, 0.0])
    axis = Axis(2, 0, 2, b"", (("a", 1), ("b", 2)), bits=2)
    found = moments_of_bins([axis], cells, cells, (5 * cells, 25 * cells))
    assert found == {
        "fTsumw": 4, "fTsumw2": 4, "fTsumwx": 0, "fTsumwx2": 0, "fTsumwy": 20, "fTsumwy2": 100,
    }  # fmt: skip
