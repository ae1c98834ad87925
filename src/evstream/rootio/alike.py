"""Recognise objects that differ from one in floating numbers and arrays' items alone."""

from __future__ import annotations

from copy import copy

import numpy as np

from evstream.rootio.class_plan import BASIC_DTYPES, Plans
from evstream.rootio.object_graph import ObjectGraph
from evstream.rootio.source import Data
from evstream.rootio.stencil import Mask


class Alike:
    """Finds the graphs of records that are like one that was walked, without walking.

    Neither a floating number nor the items of an array say how a record goes on. Where all
    else is equal, byte for byte, a walk would find the same members at the same places.

    Parameters
    ----------
    graph : ObjectGraph
        The walk.
    """

    def __init__(self, graph: ObjectGraph) -> None:
        loose = np.zeros(len(graph.data), np.bool_)
        for node in graph.nodes:
            for at, type_ in node.fields.values():
                dtype = np.dtype(BASIC_DTYPES[type_])
                if dtype.kind == "f":
                    loose[at : at + dtype.itemsize] = True
        for array in graph.arrays:
            loose[array.start : array.start + array.count * array.item_bytes] = True
        self._graph = graph
        self._mask = Mask(graph.data, loose)

    def graph(self, data: Data, key_bytes: int, plans: Plans) -> ObjectGraph | None:
        """Return the graph of a record, None if somebody has to walk over it.

        Parameters
        ----------
        data, key_bytes, plans
            As for `ObjectGraph`.
        """
        first = self._graph
        same = plans is first.plans and key_bytes == first.key_bytes
        if not same or not self._mask.fits(np.frombuffer(data, np.uint8)):
            return None
        found = copy(first)
        found.data = bytes(data)
        return found
