"""Add histograms bin by bin, keeping their class, functions and all else.

Only numbers and labels change: the record of the first histogram is written again with
the sums in place. Nothing is converted to another class on the way.

Source: TH1::Add, TH1::GetStats, TH1Merger and TProfileHelper::Add of ROOT 6.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import numpy.typing as npt

from evstream.rootio.axes import Axis, AxisMismatch, Bins, merge_axes
from evstream.rootio.errors import SchemaMismatchError, UnsupportedFeatureError
from evstream.rootio.moments import STATISTICS, moments_of_bins
from evstream.rootio.object_graph import NULL, ObjectGraph
from evstream.rootio.primitives import I4
from evstream.rootio.rewriting import Rewriting, array_of, number_of, object_bits

Numbers = npt.NDArray[Any]
_HISTOGRAM = re.compile(r"TH[123][CSIFDL]|TProfile([23]D)?")
_AXES = ("fXaxis", "fYaxis", "fZaxis")
_CONTENTS = ("TArrayC", "TArrayS", "TArrayI", "TArrayL64", "TArrayF", "TArrayD")
# TH1::kAutoBinPTwo: limits are powers of two, found from the first entries.
_AUTO_LIMITS = 1 << 20
# TH1::fStatOverflows, if what lies outside the limits counts in statistics.
_CONSIDER = 1
_CELLS_MAX = 1 << 26


def is_histogram(class_name: str) -> bool:
    """Whether objects of a class are added when files are joined."""
    return _HISTOGRAM.fullmatch(class_name) is not None


class _Histogram:
    """One histogram's numbers, where they are in a graph."""

    def __init__(self, path: str, graph: ObjectGraph, number: int):
        self.path = path
        self.graph = graph
        self.node = graph.nodes[number]
        self.class_name = self.node.class_name
        self.content_name = next(n for n in _CONTENTS if n in self.node.arrays)
        self._refuse_buffered()

    def _refuse_buffered(self) -> None:
        buffered = self.array("fBuffer")
        if len(buffered) and float(buffered[0]) != 0:
            raise UnsupportedFeatureError(
                f"histogram {self.path!r} still holds unbinned entries",
                hint=f"call BufferEmpty() before it is written, or keep one: {self.path}=first",
                path=self.path,
            )

    def array(self, name: str) -> Numbers:
        """Return an array in native byte order; empty where the class has none."""
        number = self.node.arrays.get(name)
        return np.zeros(0) if number is None else array_of(self.graph, number)

    def number(self, name: str) -> float:
        spot = self.node.field(name)
        return 0.0 if spot is None else number_of(self.graph, spot)

    @property
    def dimensions(self) -> int:
        return next((int(c) for c in self.class_name if c in "123"), 1)

    def axes(self) -> list[Axis]:
        movable = not self._bits & _AUTO_LIMITS
        return [
            Axis(
                int(self.number(f"{name}.fNbins")),
                self.number(f"{name}.fXmin"),
                self.number(f"{name}.fXmax"),
                self.array(f"{name}.fXbins").tobytes(),
                self._labels(name),
                movable,
                int(self.number(f"{name}.fBits2")),
            )
            for name in _AXES[: self.dimensions]
        ]

    @property
    def _bits(self) -> int:
        return object_bits(self.graph.data, self.graph.name_at(self.node))[1]

    def _labels(self, axis: str) -> tuple[tuple[str, int], ...]:
        """List an axis' labels with their bins, which ROOT keeps as unique ids."""
        target = self.node.pointers.get(f"{axis}.fLabels", NULL)
        if target == NULL:
            return ()
        graph = self.graph
        found = []
        for node in graph.lists[graph.nodes[target].items[""]].nodes:
            start = graph.nodes[node].tokens[1]
            # TObjString: header, then TObject's version, unique id and bits, then the text.
            (bin_number,) = I4.unpack_from(graph.data, start + 8)
            found.append((graph.label(start), bin_number))
        return tuple(sorted(found, key=lambda label: label[1]))

    def weights(self) -> Numbers:
        """Squared weights a bin; without them, what the contents imply."""
        own = self.array("fSumw2")
        return own if len(own) else np.abs(self.array(self.content_name).astype(np.float64))

    def profile_weights(self) -> Numbers:
        own = self.array("fBinSumw2")
        return own if len(own) else self.array("fBinEntries")

    def statistics(self) -> dict[str, float]:
        """Return the sums beside the bins; like ROOT take them from the bins without any."""
        stored = {name: self.number(name) for name in STATISTICS}
        if stored["fTsumw"] != 0:
            return stored
        content = self.array(self.content_name)
        entries = self.array("fBinEntries")
        profile = len(entries) > 0
        weights = entries if profile else content
        axes = self.axes()
        if math.prod(axis.bins + 2 for axis in axes) != len(weights) or not weights.any():
            return dict.fromkeys(STATISTICS, 0.0)
        found = moments_of_bins(
            axes, weights,
            self.profile_weights() if profile else self.weights(),
            (content, self.array("fSumw2")) if profile else None,
            outside=self.number("fStatOverflows") == _CONSIDER,
        )  # fmt: skip
        return dict.fromkeys(STATISTICS, 0.0) | found

    @property
    def is_empty(self) -> bool:
        return self.number("fEntries") == 0 and not self.array(self.content_name).any()


class HistogramSum:
    """The running sum of histograms of one name.

    Parameters
    ----------
    path : str
        Where in the files they are, for messages.
    graph, number : ObjectGraph, int
        The first one: a node of a walked record.
    """

    def __init__(self, path: str, graph: ObjectGraph, number: int) -> None:
        self._first = first = _Histogram(path, graph, number)
        self._content = first.array(first.content_name)
        self._sumw2 = first.array("fSumw2")
        self._bin_entries = first.array("fBinEntries")
        self._bin_sumw2 = first.array("fBinSumw2")
        self._numbers = first.statistics() | {"fEntries": first.number("fEntries")}
        self._axes = first.axes()

    def add(self, graph: ObjectGraph, number: int) -> None:
        """Add another file's histogram, of the same class.

        Raises
        ------
        SchemaMismatchError
            Limits or labels without a common axis.
        """
        other = _Histogram(self._first.path, graph, number)
        content = other.array(other.content_name)
        moved = self._common_axes(other, content)

        def there(values: Numbers) -> Numbers:
            return values if moved is None else self._moved(values, moved)

        if len(self._sumw2) or len(other.array("fSumw2")):
            mine = self._sumw2 if len(self._sumw2) else np.abs(self._content.astype(np.float64))
            self._sumw2 = mine + there(other.weights())
        if len(self._bin_sumw2) or len(other.array("fBinSumw2")):
            mine = self._bin_sumw2 if len(self._bin_sumw2) else self._bin_entries
            self._bin_sumw2 = mine + there(other.profile_weights())
        if len(self._bin_entries):
            self._bin_entries = self._bin_entries + there(other.array("fBinEntries"))
        self._content = _added(self._content, there(content))
        for name, value in (other.statistics() | {"fEntries": other.number("fEntries")}).items():
            self._numbers[name] += value

    def _common_axes(self, other: _Histogram, content: Numbers) -> list[Bins] | None:
        """Move what is held to axes that both have; return where the other's bins go."""
        theirs = other.axes()
        shapes = []
        for axes, values in ((self._axes, self._content), (theirs, content)):
            shape = tuple(axis.bins + 2 for axis in reversed(axes))
            if math.prod(shape) != len(values):
                raise self._mismatch("has another number of bins than its axes")
            shapes.append(shape)
        if [a.limits for a in self._axes] == [a.limits for a in theirs] and [
            a.labels for a in self._axes
        ] == [a.labels for a in theirs]:
            return None
        if other.is_empty and [a.limits for a in self._axes] == [a.limits for a in theirs]:
            return None  # its labels say nothing, as in ROOT
        mine = [_filled(self._weight, shapes[0], k) for k in range(len(theirs))]
        filled = [_filled(_weight_of(other), shapes[1], k) for k in range(len(theirs))]
        merged = []
        for k, (one, two) in enumerate(zip(self._axes, theirs, strict=True)):
            try:
                merged.append(merge_axes(one, two, mine[k], filled[k]))
            except AxisMismatch as reason:
                raise self._mismatch(f"{reason} ({'xyz'[k]} axis)") from reason
        cells = math.prod(m.axis.bins + 2 for m in merged)
        if cells > _CELLS_MAX:
            raise self._mismatch(f"would have {cells} bins")
        old = self._axes
        self._axes = [m.axis for m in merged]
        if [a.limits for a in old] != [a.limits for a in self._axes]:
            places = [m.mine for m in merged]
            self._content = self._moved(self._content, places)
            self._sumw2 = self._moved(self._sumw2, places)
            self._bin_entries = self._moved(self._bin_entries, places)
            self._bin_sumw2 = self._moved(self._bin_sumw2, places)
        return [m.other for m in merged]

    @property
    def _weight(self) -> Numbers:
        parts = (self._content, self._sumw2, self._bin_entries)
        return _any_of(parts, len(self._content))

    def _moved(self, values: Numbers, places: list[Bins]) -> Numbers:
        """Put values of bins at their places on the common axes."""
        if not len(values):
            return values
        strides = np.cumprod([1, *(axis.bins + 2 for axis in self._axes)])
        target = np.zeros((1,) * len(places), np.int64)
        for k, place in enumerate(places):
            shape = [1] * len(places)
            shape[len(places) - 1 - k] = len(place)
            target = target + (place * strides[k]).reshape(shape)
        out = np.zeros(int(strides[-1]), np.int64 if values.dtype.kind == "i" else np.float64)
        np.add.at(out, target.ravel(), values)
        return out if values.dtype.kind == "i" else out.astype(values.dtype)

    def _mismatch(self, why: str) -> SchemaMismatchError:
        return SchemaMismatchError(
            f"histogram {self._first.path!r} {why}; it cannot be added",
            hint=f"keep one with the rule {self._first.path}=first, or leave it out with =none",
            names=[self._first.path],
        )

    def put(self, writing: Rewriting) -> None:
        """Put the sums into a record that is being written."""
        node = self._first.node
        for name, value in self._numbers.items():
            writing.number(node, name, value)
        writing.number(node, "fNcells", len(self._content))
        for name, old, new in zip(_AXES, self._first.axes(), self._axes, strict=False):
            if old.limits != new.limits:
                writing.number(node, f"{name}.fNbins", new.bins)
                writing.number(node, f"{name}.fXmin", new.low)
                writing.number(node, f"{name}.fXmax", new.high)
                writing.array(node, f"{name}.fXbins", np.frombuffer(new.edges, np.float64))
                writing.number(node, f"{name}.fFirst", 0)
                writing.number(node, f"{name}.fLast", 0)
            known_labels = dict(old.labels)
            fresh = [label for label in new.labels if label[0] not in known_labels]
            if fresh:
                writing.add_labels(node, f"{name}.fLabels", fresh)
                writing.number(node, f"{name}.fBits2", new.bits)
        writing.array(node, self._first.content_name, self._content)
        writing.array(node, "fSumw2", self._sumw2)
        writing.array(node, "fBinEntries", self._bin_entries)
        writing.array(node, "fBinSumw2", self._bin_sumw2)


def _weight_of(histogram: _Histogram) -> Numbers:
    content = histogram.array(histogram.content_name)
    parts = (content, histogram.array("fSumw2"), histogram.array("fBinEntries"))
    return _any_of(parts, len(content))


def _any_of(parts: tuple[Numbers, ...], bins: int) -> Numbers:
    """Mark the bins that hold anything."""
    marked = np.zeros(bins, np.bool_)
    for part in parts:
        if len(part) == bins:
            marked |= part != 0
    return marked


def _filled(marked: Numbers, shape: tuple[int, ...], axis: int) -> Bins:
    """List the bins along an axis that hold anything."""
    along = len(shape) - 1 - axis
    others = tuple(k for k in range(len(shape)) if k != along)
    found: Bins = np.flatnonzero(marked.reshape(shape).any(axis=others))
    return found


def _added(one: Numbers, other: Numbers) -> Numbers:
    """Add contents in their own precision; integers stop at their limits, as in ROOT."""
    dtype = one.dtype
    if dtype.kind == "f":
        total: Numbers = (one + other).astype(dtype)
        return total
    limit = np.iinfo(dtype).max
    rough = one.astype(np.float64) + other.astype(np.float64)
    exact = one.astype(np.int64) + other.astype(np.int64)
    clipped: Numbers = np.where(rough > limit, limit, np.where(rough < -limit, -limit, exact))
    return clipped.astype(dtype)
