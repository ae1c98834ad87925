"""Add histograms bin by bin, keeping their class, labels, functions and all else.

Only numbers change: the record of the first histogram is written again with the
sums in place. Nothing is converted to another class on the way.

Source: TH1::Add, TH1::GetStats and TProfileHelper::Add of ROOT 6.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from evstream.rootio.class_plan import BASIC_DTYPES, Plans
from evstream.rootio.errors import (
    SchemaMismatchError,
    UnsupportedFeatureError,
    corrupt_if_broken,
)
from evstream.rootio.object_graph import NULL, ObjectGraph
from evstream.rootio.primitives import I4
from evstream.rootio.source import Data
from evstream.rootio.tree_template import Skeleton, Template

Numbers = npt.NDArray[Any]
_HISTOGRAM = re.compile(r"TH[123][CSIFDL]|TProfile([23]D)?")
_STATISTICS = (
    "fTsumw", "fTsumw2", "fTsumwx", "fTsumwx2", "fTsumwy", "fTsumwy2", "fTsumwxy", "fTsumwz",
    "fTsumwz2", "fTsumwxz", "fTsumwyz", "fTsumwt", "fTsumwt2",
)  # fmt: skip
_CONTENTS = ("TArrayC", "TArrayS", "TArrayI", "TArrayL64", "TArrayF", "TArrayD")


def is_histogram(class_name: str) -> bool:
    """Whether objects of a class are added when files are joined."""
    return _HISTOGRAM.fullmatch(class_name) is not None


@dataclass(slots=True)
class _Axis:
    name: str
    edges: tuple[int, float, float, bytes]
    labels: tuple[tuple[str, int], ...]


class _Histogram:
    """One histogram's numbers, and the shape of its record."""

    def __init__(self, path: str, class_name: str, data: Data, key_bytes: int, plans: Plans):
        self.path = path
        self.class_name = class_name
        self.graph = ObjectGraph(data, key_bytes, plans)
        self.graph.walk(class_name)
        self.node = self.graph.nodes[0]
        self.content_name = next(n for n in _CONTENTS if n in self.node.arrays)
        self._refuse_buffered()

    def _refuse_buffered(self) -> None:
        buffered = self.array("fBuffer")
        if len(buffered) and float(buffered[0]) != 0:
            raise UnsupportedFeatureError(
                f"histogram {self.path!r} still holds unbinned entries",
                hint="call BufferEmpty() before it is written",
                path=self.path,
            )

    def array(self, name: str) -> Numbers:
        """Return an array in native byte order; empty where the class has none."""
        number = self.node.arrays.get(name)
        if number is None:
            return np.zeros(0)
        array = self.graph.arrays[number]
        dtype = np.dtype(BASIC_DTYPES[array.type])
        values = np.frombuffer(self.graph.data, dtype, array.count, array.start)
        return values.astype(dtype.newbyteorder("="))

    def number(self, name: str) -> float:
        spot = self.node.fields.get(name)
        if spot is None:
            return 0.0
        at, type_ = spot
        return float(np.frombuffer(self.graph.data, BASIC_DTYPES[type_], 1, at)[0])

    def axes(self) -> list[_Axis]:
        out = []
        for name in ("fXaxis", "fYaxis", "fZaxis"):
            bins = int(self.number(f"{name}.fNbins"))
            edges = (
                bins,
                self.number(f"{name}.fXmin"),
                self.number(f"{name}.fXmax"),
                self.array(f"{name}.fXbins").tobytes(),
            )
            out.append(_Axis(name, edges, self._labels(name)))
        return out

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

    @property
    def has_statistics(self) -> bool:
        return self.number("fTsumw") != 0 or not self.array(self.content_name).any()


class HistogramSum:
    """The running sum of histograms of one name.

    Parameters
    ----------
    path : str
        Where in the files they are, for messages.
    class_name : str
    data, key_bytes : bytes-like, int
        The first one's record, decompressed, and the length of its key.
    """

    @corrupt_if_broken
    def __init__(self, path: str, class_name: str, data: Data, key_bytes: int, plans: Plans):
        self._first = first = _Histogram(path, class_name, data, key_bytes, plans)
        self._content = first.array(first.content_name)
        self._sumw2 = first.array("fSumw2")
        self._bin_entries = first.array("fBinEntries")
        self._bin_sumw2 = first.array("fBinSumw2")
        self._numbers = {n: first.number(n) for n in (*_STATISTICS, "fEntries")}
        self._statistics = first.has_statistics
        self._axes = first.axes()

    @corrupt_if_broken
    def add(self, class_name: str, data: Data, key_bytes: int, plans: Plans) -> None:
        """Add another file's histogram.

        Raises
        ------
        SchemaMismatchError
            Another class, other bins or other labels.
        """
        first = self._first
        if class_name != first.class_name:
            raise self._mismatch(f"is a {first.class_name} here, a {class_name} there")
        other = _Histogram(first.path, class_name, data, key_bytes, plans)
        self._compare_axes(other.axes())
        content = other.array(other.content_name)
        if len(content) != len(self._content):
            raise self._mismatch("has other bins")
        if len(self._sumw2) or len(other.array("fSumw2")):
            mine = self._sumw2 if len(self._sumw2) else np.abs(self._content.astype(np.float64))
            self._sumw2 = mine + other.weights()
        if len(self._bin_sumw2) or len(other.array("fBinSumw2")):
            mine = self._bin_sumw2 if len(self._bin_sumw2) else self._bin_entries
            self._bin_sumw2 = mine + other.profile_weights()
        if len(self._bin_entries):
            self._bin_entries = self._bin_entries + other.array("fBinEntries")
        self._content = _added(self._content, content)
        self._statistics = self._statistics and other.has_statistics
        for name in self._numbers:
            self._numbers[name] += other.number(name)

    def _compare_axes(self, others: Sequence[_Axis]) -> None:
        for mine, other in zip(self._axes, others, strict=True):
            if mine.edges != other.edges:
                raise self._mismatch(f"has another {mine.name[1]} axis")
            if mine.labels != other.labels:
                raise self._mismatch(f"has other labels on its {mine.name[1]} axis")

    def _mismatch(self, why: str) -> SchemaMismatchError:
        return SchemaMismatchError(
            f"histogram {self._first.path!r} {why}; it cannot be added",
            hint="join these files with hadd, or leave the histogram out",
            names=[self._first.path],
        )

    def record(self, key_bytes: int) -> bytes:
        """Write the sum in the first histogram's layout."""
        first = self._first
        template = Template(Skeleton.of(first.graph), lambda _items, _node, _written: True)
        base = template.blank()
        for name, value in self._numbers.items():
            spot = first.node.fields.get(name)
            if spot is not None:
                # Without statistics in every file ROOT must take them from the bins.
                known = self._statistics or name == "fEntries"
                template.spots([spot[0]], spot[1]).put(base, [value if known else 0.0])
        changed = {
            first.content_name: self._content,
            "fSumw2": self._sumw2,
            "fBinEntries": self._bin_entries,
            "fBinSumw2": self._bin_sumw2,
        }
        by_number = {
            first.node.arrays[name]: values
            for name, values in changed.items()
            if name in first.node.arrays
        }
        arrays = []
        for number in template.arrays:
            array = first.graph.arrays[number]
            if number in by_number:
                dtype = BASIC_DTYPES[array.type]
                values = by_number[number]
                arrays.append(I4.pack(len(values)) + values.astype(dtype).tobytes())
            else:
                head = bytes([array.flag]) if array.counted else I4.pack(array.count)
                stop = array.start + array.count * array.item_bytes
                arrays.append(head + first.graph.data[array.start : stop])
        return template.fill(base, arrays, key_bytes)


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
