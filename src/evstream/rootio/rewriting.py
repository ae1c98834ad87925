"""Write an object's record again with other numbers, arrays or labels in place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from evstream.rootio.class_plan import BASIC_DTYPES
from evstream.rootio.errors import UnsupportedFeatureError
from evstream.rootio.object_graph import NULL, TOKEN_NUMBERS, Items, Node, ObjectGraph, Op
from evstream.rootio.primitives import I2, I4, U4, write_string
from evstream.rootio.source import Data
from evstream.rootio.streamer_info import BYTE_COUNT
from evstream.rootio.tree_template import Skeleton, Template

Numbers = npt.NDArray[Any]
# TObject's version, unique id and bits: on the heap and not deleted.
_OBJECT_BITS = 0x03000000
_LIST_VERSION = 5


def array_of(graph: ObjectGraph, number: int) -> Numbers:
    """Return an array of a graph in native byte order."""
    array = graph.arrays[number]
    dtype = np.dtype(BASIC_DTYPES[array.type])
    values = np.frombuffer(graph.data, dtype, array.count, array.start)
    return values.astype(dtype.newbyteorder("="))


def number_of(graph: ObjectGraph, spot: tuple[int, int]) -> float | int:
    """Return a number at a position and of a basic type, in full precision."""
    at, type_ = spot
    value: float | int = np.frombuffer(graph.data, BASIC_DTYPES[type_], 1, at)[0].item()
    return value


def object_header(unique_id: int = 0) -> bytes:
    """Encode a TObject."""
    return I2.pack(1) + U4.pack(unique_id) + U4.pack(_OBJECT_BITS)


def object_bits(data: Data, behind: int) -> tuple[int, int]:
    """Return where the bits are of a TObject that ends at a position, and the bits."""
    # One that is referenced has the number of its process id behind the bits.
    (version,) = I2.unpack_from(data, behind - 10)
    at = behind - 4 if version == 1 else behind - 6
    (bits,) = U4.unpack_from(data, at)
    return at, int(bits)


class Rewriting:
    """Collects changes to one object's graph, then writes its record.

    A graph that was given labels is used up: it cannot be rewritten twice.
    """

    def __init__(self, graph: ObjectGraph) -> None:
        self._graph = graph
        self._numbers: list[tuple[tuple[int, int], float]] = []
        self._arrays: dict[int, Numbers] = {}

    def number(self, node: Node, name: str, value: float) -> None:
        """Change a number, where the class has it."""
        spot = node.field(name)
        if spot is not None:
            self.spot(spot, value)

    def spot(self, spot: tuple[int, int], value: float) -> None:
        """Change the number at a position and of a basic type."""
        self._numbers.append((spot, value))

    def array(self, node: Node, name: str, values: Numbers) -> None:
        """Change an array, where the class has it; its length may differ."""
        number = node.arrays.get(name)
        if number is not None:
            self._arrays[number] = values

    def add_labels(self, node: Node, member: str, labels: Sequence[tuple[str, int]]) -> None:
        """Add labels with their bins to a THashList, which is made where there is none."""
        graph = self._graph
        if node.pointers.get(member, NULL) == NULL:
            self._add_list(node, member)
        items = graph.lists[graph.nodes[node.pointers[member]].items[""]]
        for text, bin_number in labels:
            body = I2.pack(1) + object_header(bin_number) + write_string(text)
            start = self._append(U4.pack(BYTE_COUNT | len(body)) + body)
            label = Node("TObjString", [Op.RAW, start, len(graph.data)])
            items.nodes.append(len(graph.nodes))
            graph.nodes.append(label)
            option = self._append(b"\0")
            if items.options is not None:
                items.options.append((option, option + 1))

    def _append(self, data: bytes) -> int:
        start = len(self._graph.data)
        self._graph.data += data
        return start

    def _add_list(self, node: Node, member: str) -> None:
        graph = self._graph
        pointers = [
            i for i in range(0, len(node.tokens), TOKEN_NUMBERS) if node.tokens[i] == Op.POINTER
        ]
        if len(pointers) != len(node.pointers):
            raise UnsupportedFeatureError(f"{node.class_name} has no room for labels")
        number, place = len(graph.nodes), len(graph.lists)
        start = self._append(I2.pack(_LIST_VERSION) + object_header() + b"\0")
        tokens: list[int] = [Op.OPEN, 0, 0, Op.RAW, start, len(graph.data)]
        tokens += [Op.ITEMS, place, 0, Op.CLOSE, 0, 0]
        made = Node("THashList", tokens)
        made.items = {"": place}
        graph.nodes.append(made)
        graph.lists.append(Items(number, "", [], []))
        node.tokens[pointers[list(node.pointers).index(member)] + 1] = number
        node.pointers = {**node.pointers, member: number}

    def record(self, key_bytes: int) -> bytes:
        """Return the record.

        Parameters
        ----------
        key_bytes : int
            Length of the key before it.
        """
        graph = self._graph
        template = Template(Skeleton.of(graph), lambda _items, _node, _written: True)
        base = template.blank()
        for (at, type_), value in self._numbers:
            template.spots([at], type_).put(base, [value])
        arrays = []
        for number in template.arrays:
            array = graph.arrays[number]
            values = self._arrays.get(number)
            if values is None:
                data = graph.data[array.start : array.start + array.count * array.item_bytes]
                flag, count = array.flag, array.count
            else:
                data = values.astype(BASIC_DTYPES[array.type]).tobytes()
                flag, count = int(len(values) > 0), len(values)
            arrays.append((bytes([flag]) if array.counted else I4.pack(count)) + data)
        return template.fill(base, arrays, key_bytes)
