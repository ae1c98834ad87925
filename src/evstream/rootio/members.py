"""Numbers of many objects of a walk, found and read together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evstream.rootio.class_plan import Fields
from evstream.rootio.object_graph import NULL, ObjectGraph
from evstream.rootio.tree_index import FieldPlaces, Int64
from evstream.rootio.tree_template import Spots


class Members:
    """The numeric members of some nodes, one row each.

    Objects of one class share the plans of their runs: a member's position is a
    run's beginning and an offset that is looked up once for all of them.

    Parameters
    ----------
    graph : ObjectGraph
    nodes : sequence of int
    """

    def __init__(self, graph: ObjectGraph, nodes: Sequence[int]) -> None:
        self._data = np.frombuffer(graph.data, np.uint8)
        self._rows = len(nodes)
        groups: dict[int, tuple[Fields, list[int], list[int]]] = {}
        for row, number in enumerate(nodes):
            for fields, at in graph.nodes[number].runs_of_fields():
                group = groups.get(id(fields))
                if group is None:
                    group = groups[id(fields)] = fields, [], []
                group[1].append(row)
                group[2].append(at)
        self._groups = [
            (fields, np.array(rows, np.int64), np.array(begin, np.int64))
            for fields, rows, begin in groups.values()
        ]

    def places(self, name: str) -> FieldPlaces:
        """Find a member of all nodes."""
        at, types = np.full(self._rows, NULL, np.int64), np.zeros(self._rows, np.int64)
        for fields, rows, begin in self._groups:
            place = fields.get(name)
            if place is not None:
                at[rows] = begin + place[0]
                types[rows] = place[1]
        return FieldPlaces(at, types)

    def column(self, name: str, default: int = 0) -> Int64:
        """Read a member of all nodes as integers; old files keep counts as doubles."""
        places = self.places(name)
        column = np.full(self._rows, default, np.int64)
        for type_ in set(places.type[places.at != NULL].tolist()):
            rows = np.flatnonzero((places.at != NULL) & (places.type == type_))
            column[rows] = Spots(places.at[rows], type_).get(self._data)
        return column
