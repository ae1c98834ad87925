"""Statistics of a histogram, as ROOT takes them from its bins.

ROOT keeps exact sums beside the bins, and falls back to the bins of a histogram whose sum
of weights is zero: its bins were set by hand, its weights cancel, or all of it lies outside
the limits.

Source: GetStats of TH1, TH2, TH3, TProfile, TProfile2D and TProfile3D of ROOT 6.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from evstream.rootio.axes import Axis

STATISTICS = (
    "fTsumw", "fTsumw2", "fTsumwx", "fTsumwx2", "fTsumwy", "fTsumwy2", "fTsumwxy", "fTsumwz",
    "fTsumwz2", "fTsumwxz", "fTsumwyz", "fTsumwt", "fTsumwt2",
)  # fmt: skip
_CAN_EXTEND = 1 << 1
Numbers = npt.NDArray[Any]


def moments_of_bins(
    axes: Sequence[Axis],
    weights: Numbers,
    squares: Numbers,
    values: tuple[Numbers, Numbers] | None = None,
    *,
    outside: bool = False,
) -> dict[str, float]:
    """Return the statistics that bins imply, by the names of ROOT's members.

    Parameters
    ----------
    axes : sequence of Axis
    weights, squares : shape (cells,)
        Sums of weights and of their squares, those below and above included, x fastest.
    values : pair of arrays, shape (cells,), optional
        Of a profile: sums of its values and of their squares, both weighted.
    outside : bool
        Whether what lies outside the limits counts (`TH1::SetStatOverflows`).
    """
    shape = tuple(axis.bins + 2 for axis in reversed(axes))
    inner = slice(None) if outside else slice(1, -1)

    def inside(cells: Numbers) -> Numbers:
        return cells.astype(np.float64).reshape(shape)[(inner,) * len(axes)]

    held = inside(weights)
    found = {"fTsumw": float(held.sum()), "fTsumw2": float(inside(squares).sum())}
    places = {}
    for k, axis in enumerate(axes):
        along = [1] * len(axes)
        along[len(axes) - 1 - k] = -1
        places["xyz"[k]] = _centres(axis)[inner].reshape(along)
    for name, place in places.items():
        found[f"fTsumw{name}"] = float((held * place).sum())
        found[f"fTsumw{name}2"] = float((held * place * place).sum())
    for one, other in combinations(places, 2):
        found[f"fTsumw{one}{other}"] = float((held * places[one] * places[other]).sum())
    if values is not None:
        name = "yzt"[len(axes) - 1]
        found[f"fTsumw{name}"], found[f"fTsumw{name}2"] = (float(inside(v).sum()) for v in values)
    return found


def _centres(axis: Axis) -> Numbers:
    """Return the centres of all bins, those below and above included."""
    if axis.labels and axis.bits & _CAN_EXTEND:
        return np.zeros(axis.bins + 2)  # labels come in any order: places mean nothing
    centres = axis.low + (np.arange(axis.bins + 2) - 0.5) * axis.width
    if axis.edges:
        edges = np.frombuffer(axis.edges, np.float64)
        centres[1:-1] = (edges[:-1] + edges[1:]) / 2
    return centres
