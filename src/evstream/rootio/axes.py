"""One axis for histograms that were filled with different limits or labels.

Source: TH1Merger, TH1::RecomputeAxisLimits, TH1::LabelsInflate of ROOT 6. Where labels
differ ROOT goes by bin numbers unless an axis may be extended, and so adds different
things up; here labels always decide.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

Bins = npt.NDArray[np.int64]
_TOLERANCE = 1e-8
_BINS_MAX = 1 << 24


class AxisMismatch(Exception):  # noqa: N818 - a reason, turned into an error that names the object
    """Two axes that no common one can be made for; the text goes on after its name."""


@dataclass(frozen=True, slots=True)
class Axis:
    """Limits and labels of one axis.

    Attributes
    ----------
    bins : int
        Without those for what lies below and above.
    low, high : float
    edges : bytes
        Where bins differ in width, as stored; else empty.
    labels : tuple of (label, bin)
        In the order of bins.
    movable : bool
        Whether ROOT lets its limits be computed anew.
    bits : int
        TAxis::fBits2, which says that labels name the bins and that it may be extended.
    """

    bins: int
    low: float
    high: float
    edges: bytes
    labels: tuple[tuple[str, int], ...] = ()
    movable: bool = True
    bits: int = 0

    @property
    def limits(self) -> tuple[int, float, float, bytes]:
        """What must agree for bins to be added by their numbers."""
        return self.bins, self.low, self.high, self.edges

    @property
    def width(self) -> float:
        """Width of a bin."""
        return (self.high - self.low) / self.bins if self.bins > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Merged:
    """A common axis, and where each one's bins are on it; both ends included."""

    axis: Axis
    mine: Bins
    other: Bins


def merge_axes(mine: Axis, other: Axis, my_filled: Bins, other_filled: Bins) -> Merged:
    """Find the axis of a sum.

    Parameters
    ----------
    my_filled, other_filled : int64
        Numbers of the bins along the axis that hold something; 0 is below, bins + 1 above.

    Raises
    ------
    AxisMismatch
    """
    if mine.limits == other.limits and _agree(mine.labels, other.labels):
        labels = dict(mine.labels) | dict(other.labels)
        ordered = tuple(sorted(labels.items(), key=lambda label: label[1]))
        same = np.arange(mine.bins + 2)
        bits = mine.bits if mine.labels else mine.bits | other.bits
        return Merged(replace(mine, labels=ordered, bits=bits), same, same)
    if mine.labels or other.labels:
        return _by_label(mine, other, my_filled, other_filled)
    try:
        return _by_position(mine, other, my_filled, other_filled)
    except AxisMismatch:
        # One that holds nothing has nothing to put anywhere; the other's limits count.
        if not len(other_filled):
            return Merged(mine, np.arange(mine.bins + 2), np.zeros(other.bins + 2, np.int64))
        if not len(my_filled):
            axis = replace(other, bits=mine.bits)
            return Merged(axis, np.zeros(mine.bins + 2, np.int64), np.arange(other.bins + 2))
        raise


def _agree(one: tuple[tuple[str, int], ...], other: tuple[tuple[str, int], ...]) -> bool:
    """Whether no label has two bins, and no bin two labels."""
    bins, names = dict(one), {bin_: name for name, bin_ in one}
    return all(
        bins.get(name, bin_) == bin_ and names.get(bin_, name) == name for name, bin_ in other
    )


def _by_label(mine: Axis, other: Axis, my_filled: Bins, other_filled: Bins) -> Merged:
    places = dict(mine.labels)
    for axis, filled in ((mine, my_filled), (other, other_filled)):
        bare = set(filled.tolist()) - {0, axis.bins + 1} - {bin_ for _, bin_ in axis.labels}
        if bare:
            raise AxisMismatch("has labels, but also filled bins without any")
    behind = max(places.values(), default=0) + 1
    for name, _ in other.labels:
        if name not in places:
            places[name] = behind
            behind += 1
    if behind - 1 > _BINS_MAX:
        raise AxisMismatch("has too many labels")
    grown = _with_bins(mine, behind - 1, other.width)
    bins = grown.bins
    my_map = np.append(np.arange(mine.bins + 1), bins + 1)
    other_map = np.zeros(other.bins + 2, np.int64)
    other_map[-1] = bins + 1
    for name, bin_ in other.labels:
        if 0 < bin_ <= other.bins:
            other_map[bin_] = places[name]
    labels = tuple(sorted(places.items(), key=lambda label: label[1]))
    return Merged(replace(grown, labels=labels), my_map, other_map)


def _with_bins(axis: Axis, bins: int, width: float) -> Axis:
    """Return a labelled axis with bins enough; one without any gets bins of a given width."""
    if bins <= axis.bins:
        return axis
    if axis.bins > 0 and not axis.edges:
        # As ROOT makes room.
        grown = axis
        while grown.bins < bins:
            grown = replace(grown, bins=2 * grown.bins, high=2 * grown.high - grown.low)
        return grown
    # Such as uproot writes of categories: readers take each of its bins for a label, so that
    # it gets no more of them than labels.
    edges = np.frombuffer(axis.edges, np.float64) if axis.edges else np.array([axis.low])
    if len(edges) != axis.bins + 1:
        raise AxisMismatch("has another number of edges than bins")
    if not np.allclose(np.diff(edges), axis.width, rtol=_TOLERANCE, atol=0):
        raise AxisMismatch("has more labels than bins, which differ in width")
    further = edges[-1] + (axis.width or width or 1.0) * np.arange(1, bins - axis.bins + 1)
    edges = np.append(edges, further)
    return replace(axis, bins=bins, high=float(edges[-1]), edges=edges.tobytes())


def _by_position(mine: Axis, other: Axis, my_filled: Bins, other_filled: Bins) -> Merged:
    if mine.edges or other.edges:
        raise AxisMismatch("has bins of different widths, and others elsewhere")
    if not (mine.movable and other.movable):
        raise AxisMismatch("has limits found automatically, and others elsewhere")
    width = max(mine.width, other.width)
    if min(mine.width, other.width) <= 0:
        raise AxisMismatch("has no limits yet in one of the files")
    low, high = min(mine.low, other.low), max(mine.high, other.high)
    steps = [width / mine.width, width / other.width, (high - low) / width]
    steps += [(mine.low - low) / width, (other.low - low) / width]
    if any(abs(step - round(step)) > _TOLERANCE * max(1.0, abs(step)) for step in steps):
        raise AxisMismatch("has limits that do not fit together")
    bins = round(steps[2])
    if bins > _BINS_MAX:
        raise AxisMismatch("would have too many bins")
    maps = []
    for axis, filled in ((mine, my_filled), (other, other_filled)):
        # What lies outside its own limits may lie within the common ones.
        if (0 in filled and axis.low > low) or (axis.bins + 1 in filled and axis.high < high):
            raise AxisMismatch("has other limits, and entries outside them")
        centres = axis.low + (np.arange(axis.bins) + 0.5) * axis.width
        inner = np.floor((centres - low) / width).astype(np.int64) + 1
        maps.append(np.concatenate([[0], inner, [bins + 1]]))
    return Merged(replace(mine, bins=bins, low=low, high=high), maps[0], maps[1])
