"""Objects that hadd adds up: histograms, parameters, graphs, efficiencies, lists of them.

A sum begins with the first file's object, whose record it writes again with other
numbers.

Source: TParameter::Merge, TGraph::Merge, TEfficiency::operator+=, TList::Merge of ROOT 6.
"""

from __future__ import annotations

import re
from typing import Protocol

import numpy as np

from evstream.rootio.alike import Alike
from evstream.rootio.class_plan import BASIC_DTYPES, LIST_CLASSES, Plans
from evstream.rootio.errors import (
    SchemaMismatchError,
    UnsupportedFeatureError,
    corrupt_if_broken,
)
from evstream.rootio.histograms import HistogramSum, is_histogram
from evstream.rootio.object_graph import NULL, Node, ObjectGraph
from evstream.rootio.rewriting import Rewriting, array_of, number_of, object_bits
from evstream.rootio.source import Data

_GRAPH = re.compile(r"TGraph|TGraphErrors|TGraphAsymmErrors|TGraphBentErrors")
_POINT_ARRAYS = (
    "fX", "fY", "fEX", "fEY", "fEXlow", "fEXhigh", "fEYlow", "fEYhigh", "fEXlowd", "fEXhighd",
    "fEYlowd", "fEYhighd",
)  # fmt: skip
# TParameter's bits.
_MULTIPLY, _MAX, _MIN, _FIRST, _LAST, _CONSTANT = (1 << bit for bit in range(16, 22))
_BOOL = 18
_UNSIGNED = 15
# Kept as they are where they are in a list whose other items are added.
_TEXTS = frozenset({"TNamed", "TObjString"})


class Part(Protocol):
    """The running sum of objects that are nodes of walked records."""

    def add(self, graph: ObjectGraph, number: int) -> None:
        """Add another file's object, of the same class."""
        ...

    def put(self, writing: Rewriting) -> None:
        """Put the sum in the first object's place."""
        ...


class ObjectSum:
    """The running sum of objects of one name.

    Parameters
    ----------
    path : str
        Where in the files they are, for messages.
    class_name : str
    data, key_bytes : bytes-like, int
        The first one's record, decompressed, and the length of its key.

    Raises
    ------
    UnsupportedFeatureError
        A class whose objects are not added here.
    """

    @corrupt_if_broken
    def __init__(self, path: str, class_name: str, data: Data, key_bytes: int, plans: Plans):
        self._path = path
        self._class_name = class_name
        self._graph = ObjectGraph(data, key_bytes, plans)
        self._graph.walk(class_name)
        self._alike = Alike(self._graph)
        self._part = _begin(path, self._graph, 0)

    @corrupt_if_broken
    def add(self, class_name: str, data: Data, key_bytes: int, plans: Plans) -> None:
        """Add another file's object.

        Raises
        ------
        SchemaMismatchError
            Another class, or another shape.
        """
        if class_name != self._class_name:
            raise SchemaMismatchError(
                f"{self._path!r} is a {self._class_name} here, a {class_name} there",
                hint=f"keep one with the rule {self._path}=first",
                names=[self._path],
            )
        graph = self._alike.graph(data, key_bytes, plans)
        if graph is None:
            graph = ObjectGraph(data, key_bytes, plans)
            graph.walk(class_name)
        self._part.add(graph, 0)

    @corrupt_if_broken
    def record(self, key_bytes: int) -> bytes:
        """Write the sum in the first object's layout."""
        writing = Rewriting(self._graph)
        self._part.put(writing)
        return writing.record(key_bytes)


def can_be_added(class_name: str) -> bool:
    """Whether `ObjectSum` takes objects of a class."""
    return is_histogram(class_name) or _kind(class_name) is not None


def _begin(path: str, graph: ObjectGraph, number: int) -> Part:
    class_name = graph.nodes[number].class_name
    if is_histogram(class_name):
        return HistogramSum(path, graph, number)
    kind = _kind(class_name)
    if kind is None:
        raise cannot_be_added(path, class_name)
    return kind(path, graph, number)


def cannot_be_added(path: str, class_name: str) -> UnsupportedFeatureError:
    """Say that an object of a class that hadd adds is not added here."""
    return UnsupportedFeatureError(
        f"{path!r} is a {class_name}, which is not added up here",
        hint=f"keep one with the rule {path}=first, all of them with =all, or join with hadd",
        path=path,
    )


class _Parameter:
    """A TParameter, whose bits say what merging means."""

    def __init__(self, path: str, graph: ObjectGraph, number: int) -> None:
        self._node = graph.nodes[number]
        self._value = number_of(graph, self._node.fields["fVal"])
        # Its name is its own, not a TNamed's.
        name_at = self._node.strings["fName"][0]
        self._bits_at, self._bits = object_bits(graph.data, name_at)

    def add(self, graph: ObjectGraph, number: int) -> None:
        mine, bits = self._value, self._bits
        other = number_of(graph, graph.nodes[number].fields["fVal"])
        if mine != other:
            self._bits &= ~_CONSTANT
        if bits & _MULTIPLY:
            self._value = mine * other
        elif bits & _MAX:
            self._value = max(mine, other)
        elif bits & _MIN:
            self._value = min(mine, other)
        elif bits & _LAST:
            self._value = other
        elif not bits & _FIRST:
            self._value = mine + other
        self._value = self._wrapped()

    def _wrapped(self) -> float:
        """Fit the sum into its type: a truth value, or an integer that turns over as in C++."""
        type_ = self._node.fields["fVal"][1]
        dtype = np.dtype(BASIC_DTYPES[type_])
        if type_ == _BOOL:
            return int(self._value != 0)
        if dtype.kind in "iu":
            width = 1 << (8 * dtype.itemsize)
            value = int(self._value) % width
            return value - width if dtype.kind == "i" and value >= width // 2 else value
        return float(np.asarray(self._value, dtype))

    def put(self, writing: Rewriting) -> None:
        writing.number(self._node, "fVal", self._value)
        writing.spot((self._bits_at, _UNSIGNED), self._bits)


class _Graph:
    """A TGraph with or without errors: points are put behind each other."""

    def __init__(self, path: str, graph: ObjectGraph, number: int) -> None:
        self._node = node = graph.nodes[number]
        self._arrays = {
            name: [array_of(graph, node.arrays[name])]
            for name in _POINT_ARRAYS
            if name in node.arrays
        }

    def add(self, graph: ObjectGraph, number: int) -> None:
        for name, parts in self._arrays.items():
            parts.append(array_of(graph, graph.nodes[number].arrays[name]))

    def put(self, writing: Rewriting) -> None:
        for name, parts in self._arrays.items():
            writing.array(self._node, name, np.concatenate(parts))
        writing.number(self._node, "fNpoints", sum(map(len, self._arrays["fX"])))


class _Efficiency:
    """A TEfficiency: the histograms of what was tried and of what passed are added."""

    def __init__(self, path: str, graph: ObjectGraph, number: int) -> None:
        self._path = path
        self._node = graph.nodes[number]
        self._weight = number_of(graph, self._node.fields["fWeight"])
        self._parts = {
            member: HistogramSum(f"{path} ({member})", graph, _target(path, self._node, member))
            for member in ("fTotalHistogram", "fPassedHistogram")
        }

    def add(self, graph: ObjectGraph, number: int) -> None:
        node = graph.nodes[number]
        for member, part in self._parts.items():
            part.add(graph, _target(self._path, node, member))
        weight = number_of(graph, node.fields["fWeight"])
        self._weight = self._weight * weight / (self._weight + weight)

    def put(self, writing: Rewriting) -> None:
        for part in self._parts.values():
            part.put(writing)
        writing.number(self._node, "fWeight", self._weight)


def _target(path: str, node: Node, member: str) -> int:
    target = node.pointers[member]
    if target == NULL:
        raise UnsupportedFeatureError(f"{path!r} has no {member} in one of the files", path=path)
    return target


class _List:
    """A TList or TObjArray: items of one class and name are added, texts must be equal."""

    def __init__(self, path: str, graph: ObjectGraph, number: int) -> None:
        self._path = path
        self._parts: dict[tuple[str, str], Part | None] = {}
        for item in _items(graph, number):
            key = _identity(graph, item)
            if key in self._parts:
                raise UnsupportedFeatureError(
                    f"list {path!r} has two items {key[1]!r}, so nothing says which to add",
                    hint=f"keep one list with the rule {path}=first",
                    path=path,
                )
            inner = f"{path}/{key[1]}"
            self._parts[key] = None if key[0] in _TEXTS else _begin(inner, graph, item)

    def add(self, graph: ObjectGraph, number: int) -> None:
        found = {_identity(graph, item): item for item in _items(graph, number)}
        different = sorted({name for _, name in found.keys() ^ self._parts.keys()})
        if different:
            raise SchemaMismatchError(
                f"list {self._path!r} has other items: {', '.join(different[:10])}",
                hint=f"keep one list with the rule {self._path}=first",
                names=different,
            )
        for key, part in self._parts.items():
            if part is not None:
                part.add(graph, found[key])

    def put(self, writing: Rewriting) -> None:
        for part in self._parts.values():
            if part is not None:
                part.put(writing)


def _items(graph: ObjectGraph, number: int) -> list[int]:
    place = graph.nodes[number].items.get("")
    return [] if place is None else [node for node in graph.lists[place].nodes if node != NULL]


def _identity(graph: ObjectGraph, number: int) -> tuple[str, str]:
    node = graph.nodes[number]
    if node.class_name == "TObjString":
        return node.class_name, graph.label(node.tokens[1])
    name = graph.text(number, "fName")
    # Texts are not added up: one that says something else is another item.
    return node.class_name, f"{name}: {graph.text(number, 'fTitle')}" if (
        node.class_name in _TEXTS
    ) else name


def _kind(class_name: str) -> type[_Parameter | _Graph | _Efficiency | _List] | None:
    if class_name.startswith("TParameter<"):
        return _Parameter
    if _GRAPH.fullmatch(class_name):
        return _Graph
    if class_name == "TEfficiency":
        return _Efficiency
    if class_name in LIST_CLASSES or class_name == "TObjArray":
        return _List
    return None
