"""Stencils: records that are equal but for the bytes of numbers at known places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from evstream.rootio.clusters import Int64
from evstream.rootio.scattered import take
from evstream.rootio.source import Data
from evstream.rootio.tree_template import as_integers

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Found:
    """What a tree's record holds.

    Attributes
    ----------
    columns : int64 of shape (n_branches,), by name
    maxima, of_tree : values of leaves' maxima, and of the tree's own numbers
    nbytes, start, seek : int64, shape (slots.sum(),)
        The tables of all branches behind each other.
    slots : int64, shape (n_branches,)
        Length of each branch's tables.
    clusters : int64, by the array's name
    own : uint8
        All bytes of numbers, in the shape's order.
    """

    columns: dict[str, Int64]
    maxima: Int64
    of_tree: list[int]
    nbytes: Int64
    start: Int64
    seek: Int64
    slots: Int64
    clusters: dict[str, Int64]
    own: Bytes


class _Part(NamedTuple):
    """Numbers of one type, the group's; ``rows`` are their places in a column, None for all."""

    rows: Int64 | None
    group: int
    where: slice


class Column:
    """Numbers of several types, as one column; zero where there is none."""

    def __init__(self, size: int, parts: Sequence[_Part]) -> None:
        self._size = size
        self._parts = parts

    def get(self, taken: Sequence[Int64]) -> Int64:
        """Choose them from the numbers that were gathered."""
        if len(self._parts) == 1 and self._parts[0].rows is None:
            _, group, where = self._parts[0]
            return taken[group][where]
        column = np.zeros(self._size, np.int64)
        for rows, group, where in self._parts:
            column[slice(None) if rows is None else rows] = taken[group][where]
        return column


class Gathered:
    """Collects the positions of numbers, so that all of one type are taken at once."""

    def __init__(self) -> None:
        self._groups: dict[np.dtype[Any], list[Int64]] = {}

    def positions(self) -> list[tuple[Int64, np.dtype[Any]]]:
        """Return the positions of all numbers of each type, and the type."""
        return [(np.concatenate(at), dtype) for dtype, at in self._groups.items()]

    def numbers(self, size: int, groups: Sequence[tuple[Int64, Int64, np.dtype[Any]]]) -> Column:
        """Add a column.

        Parameters
        ----------
        groups : sequence of (rows, positions, type)
        """
        parts = []
        for rows, at, dtype in groups:
            known = self._groups.setdefault(dtype, [])
            begin = sum(map(len, known))
            known.append(at)
            whole = None if np.array_equal(rows, np.arange(size)) else rows
            number = list(self._groups).index(dtype)
            parts.append(_Part(whole, number, slice(begin, begin + len(at))))
        return Column(size, parts)

    def items(self, arrays: Sequence[tuple[Int64, np.dtype[Any]]]) -> Column:
        """Add the items of arrays, which follow each other in the column.

        Parameters
        ----------
        arrays : sequence of (positions, type)
        """
        sizes = [len(at) for at, _ in arrays]
        ends = np.cumsum(sizes)
        groups = []
        for dtype in dict.fromkeys(dtype for _, dtype in arrays):
            mine = [i for i, (_, other) in enumerate(arrays) if other == dtype]
            rows = [np.arange(ends[i] - sizes[i], ends[i]) for i in mine]
            at = [arrays[i][0] for i in mine]
            groups.append((np.concatenate(rows), np.concatenate(at), dtype))
        return self.numbers(sum(sizes), groups)


@dataclass(frozen=True, slots=True)
class Places:
    """Where a record's numbers are, as `Found` has them.

    Attributes
    ----------
    gathered : positions of all numbers of each type, and the type; columns choose from those
    own : positions of single bytes
    """

    gathered: Sequence[tuple[Int64, np.dtype[Any]]]
    columns: Mapping[str, Column]
    maxima: Column
    of_tree: Column
    tables: Sequence[Column]
    clusters: Mapping[str, Column]
    own: Int64


class Mask:
    """Compares records with one of the same length, but for some bytes.

    Parameters
    ----------
    data : bytes-like
    loose : bool, shape (len(data),)
        Which bytes may differ.
    """

    def __init__(self, data: Data, loose: npt.NDArray[np.bool_]) -> None:
        self._mask = np.where(loose, 0, 255).astype(np.uint8)
        self._fixed = (np.frombuffer(data, np.uint8) & self._mask).tobytes()

    def fits(self, raw: Bytes) -> bool:
        """Whether all other bytes of a record, and its length, are the same."""
        return len(raw) == len(self._mask) and (raw & self._mask).tobytes() == self._fixed


class Stencil:
    """Finds the numbers of records that are as long as one and have them at its places.

    Parameters
    ----------
    data : bytes-like
        That record.
    loose : bool, shape (len(data),)
        Which bytes may differ.
    places : Places
    slots : int64
        As `Found` has them.
    """

    def __init__(
        self, data: Data, loose: npt.NDArray[np.bool_], places: Places, slots: Int64
    ) -> None:
        self._mask = Mask(data, loose)
        self._places = places
        self._slots = slots

    def find(self, data: Data) -> Found | None:
        """Return what a record of the same length holds, None if it may be of another shape."""
        raw = np.frombuffer(data, np.uint8)
        if not self._mask.fits(raw):
            return None
        places = self._places
        taken = [as_integers(take(raw, at, dtype)) for at, dtype in places.gathered]
        nbytes, start, seek = (table.get(taken) for table in places.tables)
        return Found(
            {name: column.get(taken) for name, column in places.columns.items()},
            places.maxima.get(taken),
            places.of_tree.get(taken).tolist(),
            nbytes,
            start,
            seek,
            self._slots,
            {name: column.get(taken) for name, column in places.clusters.items()},
            raw[places.own],
        )
