"""The wanted elements of one column: which pages are copied, what becomes of the others.

Pages whose elements are all wanted are copied, unless they count items and some before
are missing. All clusters that a product's cluster is made of are gone through at once,
their elements counted from the first cluster's first, so that thousands of small ones
cost what a large one does.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from evstream.rootio.errors import CorruptFileError, UnsupportedFeatureError
from evstream.rootio.rntuple.elements import Elements, Kind, empty, kind_of, open_page, opened_bytes
from evstream.rootio.rntuple.made_pages import MadePages
from evstream.rootio.rntuple.ntuple_index import NTupleIndex
from evstream.rootio.rntuple.runs import Runs
from evstream.rootio.rntuple.schema import Column
from evstream.rootio.rntuple.tables import stretches
from evstream.rootio.threads import map_in_threads

Int64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
# Pages that are made have as many elements as the source's largest, or so many bytes.
PAGE_BYTES_MIN = 4096


class Output:
    """Puts pages of one slot behind each other: copied ones, and elements that become pages."""

    def __init__(self, column: Column, setting: int, target: int, made: MadePages) -> None:
        self._column = column
        self._setting = setting
        self._target = max(1, target)
        self._made = made
        self._rows: list[Int64] = []
        self._held: list[Elements] = []
        self._count = 0

    def copy(self, rows: Int64) -> None:
        """Append pages as they are."""
        self._flush(0)
        self._rows.append(rows)

    def add(self, elements: Elements) -> None:
        """Append elements."""
        if len(elements):
            self._held.append(elements)
            self._count += len(elements)
            self._flush(self._target)

    def _flush(self, least: int) -> None:
        if not self._count or self._count < least:
            return
        elements = np.concatenate(self._held) if len(self._held) > 1 else self._held[0]
        whole = len(elements) - len(elements) % self._target if least else len(elements)
        made = [
            self._made.add(
                elements[begin : min(begin + self._target, whole)], self._column, self._setting
            )
            for begin in range(0, whole, self._target)
        ]
        self._rows.append(-1 - np.array(made, np.int64))
        self._held = [elements[whole:].copy()] if whole < len(elements) else []
        self._count = len(elements) - whole

    def rows(self) -> Int64:
        """Return all pages: rows of the source's table, or ``-1 - number`` of made ones."""
        self._flush(0)
        return np.concatenate([np.zeros(0, np.int64), *self._rows])


class ColumnTaking:
    """One slot's elements, in all clusters that a product's cluster is made of.

    Attributes
    ----------
    below : list of Runs
        Once taken: what is wanted of the items that are counted, of each alternative.
    """

    def __init__(
        self, index: NTupleIndex, slot: int, clusters: Int64, runs: Runs, made: MadePages
    ) -> None:
        tables = index.tables
        self.slot = slot
        held = index.schema.slots[slot]
        self.name = index.schema.names[held.field]
        self._alternatives = len(index.schema.children[held.field])
        # Clusters that are taken together have the same representations and compression.
        model = int(clusters[0])
        self.column = index.schema.columns[held.columns[int(tables.representation[model, slot])]]
        cells = clusters * tables.slots + slot
        first = tables.first[cells]
        self._rows = stretches(first, tables.first[cells + 1] - first)
        self._pages = tables.pages
        sizes = tables.pages.elements[self._rows]
        self._edges = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
        # Counted from each cluster's first element, and from the first cluster's.
        self._own = runs
        self._runs = runs.placed(tables.elements[clusters, slot], self.name)
        # Wanted elements in each page.
        self._counts = np.diff(self._runs.before(self._edges))
        self._full = self._counts == sizes
        setting = int(tables.settings[model, slot])
        target = max(int(sizes.max(initial=0)), 8 * PAGE_BYTES_MIN // self.column.bits)
        self.out = Output(self.column, setting, target, made)
        self.below: list[Runs] = []

    @cached_property
    def _opened(self) -> Bools:
        """Which pages must be opened."""
        opened: Bools = (self._counts > 0) & ~self._full
        return opened

    @cached_property
    def wanted(self) -> list[int]:
        """Rows of the pages to be read."""
        rows = self._rows[self._opened]
        found: list[int] = rows[self._pages.seek[rows] >= 0].tolist()
        return found

    @cached_property
    def nbytes(self) -> int:
        """How many bytes that will be."""
        return int(self._pages.size[self.wanted].sum())

    @cached_property
    def opened_nbytes(self) -> int:
        """How many bytes the elements of these pages will take."""
        return opened_bytes(self.column, int(self._pages.elements[self.wanted].sum()))

    def open(self, row: int, stored: memoryview) -> Elements:
        """Decode a page that was read."""
        checked = bool(self._pages.checked[row])
        return open_page(stored, self.column, int(self._pages.elements[row]), checked=checked)

    def take(self, opened: dict[int, Elements]) -> None:
        """Put the wanted elements out."""
        touched = np.flatnonzero(self._counts)
        full = self._full[touched]
        begins = [0, *(np.flatnonzero(full[1:] != full[:-1]) + 1).tolist()]
        for begin, end in zip(begins, [*begins[1:], len(touched)], strict=True):
            if begin == end:
                continue
            if full[begin]:
                self.out.copy(self._rows[touched[begin:end]])
            else:
                self.out.add(self._wanted_of(touched[begin:end], opened))

    def _elements(self, numbers: Int64, opened: dict[int, Elements]) -> Elements:
        """Return all elements of some pages, one page behind the other."""
        parts = [
            opened[row] if row in opened else empty(self.column, int(self._pages.elements[row]))
            for row in self._rows[numbers].tolist()
        ]
        return np.concatenate(parts) if len(parts) > 1 else parts[0]

    def _wanted_of(self, numbers: Int64, opened: dict[int, Elements]) -> Elements:
        """Return the wanted elements of some pages, each of which has some."""
        elements = self._elements(numbers, opened)
        begin, end = self._edges[numbers], self._edges[numbers + 1]
        # Where a page's elements are among those of these pages.
        shift = np.cumsum(end - begin) - end
        first = np.searchsorted(self._runs.stop, begin, side="right")
        count = np.searchsorted(self._runs.start, end, side="left") - first
        run, page = stretches(first, count), np.repeat(np.arange(len(numbers)), count)
        start = np.maximum(self._runs.start[run], begin[page]) + shift[page]
        stop = np.minimum(self._runs.stop[run], end[page]) + shift[page]
        if (start[1:] == stop[:-1]).all():
            return elements[int(start[0]) : int(stop[-1])]
        chosen: Elements = elements[stretches(start, stop - start)]
        return chosen


class _Index(ColumnTaking):
    """An index: each element is the number of items up to and with it."""

    @property
    def _prefix(self) -> int:
        """How many elements from the first cluster's first on keep their values."""
        own = self._own
        return int(own.stop[0]) if len(own.start) and own.part[0] == own.start[0] == 0 else 0

    @cached_property
    def _opened(self) -> Bools:
        edges, runs = self._edges, self._runs
        opened: Bools = (self._counts > 0) & (edges[1:] > self._prefix)
        # What is just before a run's first element, and a run's last, bound its items.
        bounds = np.concatenate([runs.start[self._own.start > 0], runs.stop]) - 1
        opened[np.searchsorted(edges, bounds, side="right") - 1] = True
        return opened

    def take(self, opened: dict[int, Elements]) -> None:
        runs, edges = self._runs, self._edges
        values = self._values(opened)
        first = np.where(self._own.start > 0, values[runs.start], 0)
        last = values[runs.stop]
        backwards = (first[1:] < last[:-1]) & (runs.part[1:] == runs.part[:-1])
        if (first < 0).any() or (last < first).any() or backwards.any():
            raise CorruptFileError(f"field {self.name!r} counts backwards")
        sizes = last - first
        shift = np.cumsum(sizes) - sizes - first
        touched = np.flatnonzero(self._counts)
        copied = touched[edges[touched + 1] <= self._prefix]
        self.out.copy(self._rows[copied])
        # All others are made anew.
        start = np.maximum(runs.start, edges[copied[-1] + 1] if len(copied) else 0)
        count = np.maximum(runs.stop - start, 0)
        moved = values[stretches(start, count) + 1] + np.repeat(shift, count)
        self._check(moved)
        self.out.add(moved.astype(f"<u{self.column.bits // 8}"))
        self.below = [Runs.between(first, last, runs.part)]

    def _values(self, opened: dict[int, Elements]) -> Int64:
        """Return how many items precede each element of its cluster, with gaps elsewhere."""
        values = np.zeros(int(self._edges[-1]) + 1, np.int64)
        numbers = np.flatnonzero(self._opened)
        if len(numbers):
            begin = self._edges[numbers]
            places = stretches(begin + 1, self._edges[numbers + 1] - begin)
            values[places] = self._elements(numbers, opened)
        return values

    def _check(self, moved: Int64) -> None:
        if (np.diff(moved) < 0).any() or (len(moved) and moved[0] < 0):
            raise CorruptFileError(f"field {self.name!r} counts backwards")
        if len(moved) and int(moved[-1]) >> self.column.bits:
            raise UnsupportedFeatureError(
                f"field {self.name!r} counts more items than {self.column.bits} bits can say",
                hint="choose fewer entries",
            )


class _Switch(ColumnTaking):
    """A variant's switch: which alternative, and the how manieth of its items."""

    @cached_property
    def _opened(self) -> Bools:
        opened: Bools = self._counts > 0
        return opened

    def take(self, opened: dict[int, Elements]) -> None:
        touched = np.flatnonzero(self._counts)
        if not len(touched):
            nothing = np.zeros(0, np.int64)
            self.below = [Runs.of(nothing)] * self._alternatives
            return
        items = self._wanted_of(touched, opened)
        if int(items["tag"].max()) > self._alternatives:
            raise CorruptFileError(f"variant {self.name!r} has an alternative too many")
        part = np.repeat(self._runs.part, self._runs.sizes)
        moved = items.copy()
        for tag in range(1, self._alternatives + 1):
            chosen = np.flatnonzero(items["tag"] == tag)
            old, own = items["index"][chosen].astype(np.int64), part[chosen]
            if ((np.diff(old) <= 0) & (np.diff(own) == 0)).any() or (old < 0).any():
                raise CorruptFileError(f"variant {self.name!r} counts backwards")
            moved["index"][chosen] = np.arange(len(chosen))
            self.below.append(Runs.of(old, own))
        self._put(touched, moved, items)

    def _put(self, touched: Int64, moved: Elements, items: Elements) -> None:
        """Put pages out; those that did not change are copied."""
        at = 0
        for page in touched.tolist():
            behind = at + int(self._counts[page])
            if self._full[page] and (moved[at:behind] == items[at:behind]).all():
                self.out.copy(self._rows[page : page + 1])
            else:
                self.out.add(moved[at:behind])
            at = behind


_TAKINGS = {Kind.DATA: ColumnTaking, Kind.INDEX: _Index, Kind.SWITCH: _Switch}


def column_taking(
    index: NTupleIndex, slot: int, clusters: Int64, runs: Runs, made: MadePages
) -> ColumnTaking:
    """Begin to take wanted elements of a slot.

    Parameters
    ----------
    clusters : int64
        At least one, with the same representations and compression.
    runs : Runs
        What is wanted of each.

    Raises
    ------
    CorruptFileError
        More is wanted than there is: what counts the elements is wrong.
    """
    column = index.schema.columns[index.schema.slots[slot].columns[0]]
    return _TAKINGS[kind_of(column)](index, slot, clusters, runs, made)


def open_pages(
    columns: Sequence[ColumnTaking], stored: dict[int, memoryview]
) -> dict[int, Elements]:
    """Decode all pages that some columns want, by row."""
    wanted = [(column, row) for column in columns for row in column.wanted]
    nbytes = sum(column.opened_nbytes for column in columns)
    opened = map_in_threads(lambda one: one[0].open(one[1], stored[one[1]]), wanted, nbytes)
    return {row: elements for (_, row), elements in zip(wanted, opened, strict=True)}
