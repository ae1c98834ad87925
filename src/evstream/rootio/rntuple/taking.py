"""Take some entries of clusters apart: which pages are copied, what becomes of the others.

One pass goes down the fields of a product's cluster, level by level: the elements that
are wanted of a collection's index say which are wanted of its items. Pages whose
elements are all wanted are copied, unless they count items and some before are missing.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evstream.rootio.compression import Setting, compress
from evstream.rootio.errors import CorruptFileError, UnsupportedFeatureError
from evstream.rootio.rntuple.elements import (
    SWITCH_ITEM,
    Elements,
    Kind,
    empty,
    encode,
    kind_of,
    open_page,
)
from evstream.rootio.rntuple.envelope import checksum
from evstream.rootio.rntuple.ntuple_index import NTupleIndex
from evstream.rootio.rntuple.runs import Runs
from evstream.rootio.rntuple.schema import Column, Role
from evstream.rootio.source import Steps, fetch

Int64 = npt.NDArray[np.int64]
# Asked for: rows of the table of pages. Answered: those that are stored, by row.
Wanted = Generator[list[int], dict[int, memoryview], None]
BATCH_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Part:
    """Wanted entries of one cluster, counted from its first."""

    cluster: int
    entries: Runs


@dataclass(frozen=True, slots=True)
class MadePage:
    """A page made anew: its bytes with their checksum, and how many elements it has."""

    data: bytes
    elements: int


class MadePages:
    """All pages that were made for a product; equal zeros are made once."""

    def __init__(self) -> None:
        self.pages: list[MadePage] = []
        self._zeros: dict[tuple[int, tuple[int, int, bytes], int], int] = {}

    def add(self, elements: Elements, column: Column, setting: int) -> int:
        """Encode elements as a page; return its number."""
        stored = compress(encode(elements, column), Setting.from_root(setting))
        self.pages.append(MadePage(bytes(stored) + checksum(stored), len(elements)))
        return len(self.pages) - 1

    def zeros(self, count: int, column: Column, setting: int) -> int:
        """Make a page of zeros; return its number."""
        key = (count, column.kind, setting)
        if key not in self._zeros:
            self._zeros[key] = self.add(empty(column, count), column, setting)
        return self._zeros[key]


class Taking:
    """The pages of one cluster of a product, of parts of one or more source clusters.

    Parameters
    ----------
    index : NTupleIndex
    fields : set of int
        The fields to take.
    parts : sequence of Part
        Of clusters with the same representations and compression.
    made : MadePages
        Takes what is made.

    Attributes
    ----------
    rows : mapping of slot to int64
        Pages of each slot: rows of the index's table, or ``-1 - number`` of made ones.
    """

    def __init__(
        self, index: NTupleIndex, fields: frozenset[int], parts: Sequence[Part], made: MadePages
    ) -> None:
        self._index = index
        self._fields = fields
        self._parts = list(parts)
        self._made = made
        self.rows: dict[int, Int64] = {}

    def steps(self) -> Wanted:
        """Go through the fields; ask for the pages that have to be opened."""
        schema = self._index.schema
        level: list[_Column] = []
        entries = [part.entries for part in self._parts]
        for number in range(len(schema.fields)):
            if schema.fields[number].parent == number and number in self._fields:
                self._enter(number, entries, level)
        while level:
            below: list[_Column] = []
            for batch in _batches(level):
                rows = sorted({row for column in batch for row in column.wanted()})
                pages = yield rows
                for column in batch:
                    column.take(pages)
                    self.rows[column.slot] = column.out.rows()
                    self._go_below(column, below)
            level = below

    def _enter(self, number: int, runs: Sequence[Runs], level: list[_Column]) -> None:
        """Add a field's columns, and those of fields that are as many as it is."""
        schema = self._index.schema
        one = schema.fields[number]
        if one.projected:
            return
        runs = [r.times(one.repetitions) for r in runs]
        slots = schema.slots_of.get(number, [])
        if slots:
            level.append(self._column(slots[0], runs))
        if one.role in (Role.COLLECTION, Role.VARIANT, Role.STREAMER):
            kind = kind_of(schema.columns[schema.slots[slots[0]].columns[0]]) if slots else None
            if kind is not (Kind.SWITCH if one.role == Role.VARIANT else Kind.INDEX):
                raise CorruptFileError(f"field {schema.names[number]!r} has no column that counts")
        else:
            for child in schema.children[number]:
                if child in self._fields:
                    self._enter(child, runs, level)

    def _column(self, slot: int, runs: Sequence[Runs]) -> _Column:
        index = self._index
        held = index.schema.slots[slot]
        for part, wanted in zip(self._parts, runs, strict=True):
            wanted.check(
                int(index.tables.elements[part.cluster, slot]), index.schema.names[held.field]
            )
        return _COLUMNS[kind_of(index.schema.columns[held.columns[0]])](
            index, slot, self._parts, runs, self._made
        )

    def _go_below(self, column: _Column, below: list[_Column]) -> None:
        schema = self._index.schema
        number = schema.slots[column.slot].field
        slots = schema.slots_of[number]
        if column.slot != slots[0]:
            return
        for slot in slots[1:]:
            if kind_of(column.column) is not Kind.INDEX:
                raise CorruptFileError(f"field {schema.names[number]!r} counts nothing")
            below.append(self._column(slot, column.below[0]))
        if schema.fields[number].role in (Role.COLLECTION, Role.VARIANT):
            variant = schema.fields[number].role == Role.VARIANT
            for place, child in enumerate(schema.children[number]):
                if child in self._fields:
                    counted = column.below[place if variant else 0]
                    self._enter(child, counted, below)


class _Out:
    """Puts pages of one slot behind each other: copied ones, and elements that become pages."""

    def __init__(self, column: Column, setting: int, target: int, made: MadePages) -> None:
        self._column = column
        self._setting = setting
        self._target = max(1, target)
        self._made = made
        self._rows: list[Int64] = []
        self._held: list[Elements] = []
        self._count = 0

    def copy(self, row: int) -> None:
        self._flush(0)
        self._rows.append(np.array([row], np.int64))

    def add(self, elements: Elements) -> None:
        if len(elements):
            self._held.append(elements)
            self._count += len(elements)
            self._flush(self._target)

    def _flush(self, least: int) -> None:
        if not self._count or self._count < least:
            return
        elements = np.concatenate(self._held)
        whole = len(elements) - len(elements) % self._target if least else len(elements)
        for begin in range(0, whole, self._target):
            page = elements[begin : min(begin + self._target, whole)]
            number = self._made.add(page, self._column, self._setting)
            self._rows.append(np.array([-1 - number], np.int64))
        self._held = [elements[whole:].copy()] if whole < len(elements) else []
        self._count = len(elements) - whole

    def rows(self) -> Int64:
        self._flush(0)
        return np.concatenate([np.zeros(0, np.int64), *self._rows])


class _Column:
    """One slot's elements, in all parts."""

    def __init__(
        self,
        index: NTupleIndex,
        slot: int,
        parts: Sequence[Part],
        runs: Sequence[Runs],
        made: MadePages,
    ) -> None:
        tables = index.tables
        self.slot = slot
        self._schema = index.schema
        self._pages = tables.pages
        self._runs = list(runs)
        self.name = index.schema.names[index.schema.slots[slot].field]
        cluster = parts[0].cluster
        held = index.schema.slots[slot]
        self.column = index.schema.columns[held.columns[int(tables.representation[cluster, slot])]]
        self._rows = [tables.rows(part.cluster, slot) for part in parts]
        self._edges = [
            np.concatenate([np.zeros(1, np.int64), np.cumsum(tables.pages.elements[rows])])
            for rows in self._rows
        ]
        largest = max((int(tables.pages.elements[r].max(initial=0)) for r in self._rows), default=0)
        setting = int(tables.settings[cluster, slot])
        self.out = _Out(self.column, setting, largest, made)
        # Wanted elements in each page.
        self._counts = [
            np.diff(r.before(edges)) for r, edges in zip(self._runs, self._edges, strict=True)
        ]
        self.below: list[list[Runs]] = []

    def _full(self, part: int) -> npt.NDArray[np.bool_]:
        full: npt.NDArray[np.bool_] = self._counts[part] == np.diff(self._edges[part])
        return full

    def _opened(self, part: int) -> npt.NDArray[np.bool_]:
        """Tell which pages must be opened."""
        opened: npt.NDArray[np.bool_] = (self._counts[part] > 0) & ~self._full(part)
        return opened

    def wanted(self) -> list[int]:
        """List the rows of pages to be read."""
        rows: list[int] = []
        for part, held in enumerate(self._rows):
            opened = np.flatnonzero(self._opened(part)) + held.start
            rows += opened[self._pages.seek[opened] >= 0].tolist()
        return rows

    @property
    def nbytes(self) -> int:
        """How many bytes that will be."""
        return int(self._pages.size[self.wanted()].sum())

    def _open(self, row: int, pages: dict[int, memoryview]) -> Elements:
        count = int(self._pages.elements[row])
        if self._pages.seek[row] < 0:
            return empty(self.column, count)
        checked = bool(self._pages.checked[row])
        return open_page(pages[row], self.column, count, checked=checked)

    def take(self, pages: dict[int, memoryview]) -> None:
        """Put the wanted elements out."""
        for part, held in enumerate(self._rows):
            full, edges, runs = self._full(part), self._edges[part], self._runs[part]
            for page in np.flatnonzero(self._counts[part]).tolist():
                row = held.start + page
                if full[page]:
                    self.out.copy(row)
                    continue
                begin, end = int(edges[page]), int(edges[page + 1])
                places, _ = runs.within(begin, end)
                self.out.add(self._open(row, pages)[places - begin])


class _IndexColumn(_Column):
    """An index: each element is the number of items up to and with it."""

    def _prefix(self, part: int) -> int:
        """How many elements from the cluster's first on keep their values."""
        runs = self._runs[part]
        if part or not len(runs.start) or runs.start[0]:
            return 0
        return int(runs.stop[0])

    def _opened(self, part: int) -> npt.NDArray[np.bool_]:
        edges, runs = self._edges[part], self._runs[part]
        opened = (self._counts[part] > 0) & (edges[1:] > self._prefix(part))
        # What is just before a run's first element, and a run's last, bound its items.
        bounds = np.concatenate([runs.start[runs.start > 0], runs.stop]) - 1
        opened[np.searchsorted(edges, bounds, side="right") - 1] = True
        return opened

    def take(self, pages: dict[int, memoryview]) -> None:
        base = 0
        below = []
        for part, held in enumerate(self._rows):
            values = self._values(part, pages)
            runs, edges = self._runs[part], self._edges[part]
            first, last = values[runs.start], values[runs.stop]
            bounds = np.stack([first, last], axis=1).reshape(-1)
            if (np.diff(bounds) < 0).any() or (len(bounds) and bounds[0] < 0):
                raise CorruptFileError(f"field {self.name!r} counts backwards")
            sizes = last - first
            shift = base + np.cumsum(sizes) - sizes - first
            prefix = self._prefix(part)
            for page in np.flatnonzero(self._counts[part]).tolist():
                begin, end = int(edges[page]), int(edges[page + 1])
                if end <= prefix:
                    self.out.copy(held.start + page)
                    continue
                places, run = runs.within(begin, end)
                moved = values[places + 1] + shift[run]
                self._check(moved)
                self.out.add(moved.astype(f"<u{self.column.bits // 8}"))
            base += int(sizes.sum())
            below.append(Runs.between(first, last))
        self.below = [below]

    def _values(self, part: int, pages: dict[int, memoryview]) -> Int64:
        """Open pages; return how many items precede each element, with gaps elsewhere."""
        edges = self._edges[part]
        values = np.zeros(int(edges[-1]) + 1, np.int64)
        for page in np.flatnonzero(self._opened(part)).tolist():
            opened = self._open(self._rows[part].start + page, pages)
            values[int(edges[page]) + 1 : int(edges[page + 1]) + 1] = opened
        return values

    def _check(self, moved: Int64) -> None:
        if (np.diff(moved) < 0).any() or (len(moved) and moved[0] < 0):
            raise CorruptFileError(f"field {self.name!r} counts backwards")
        if len(moved) and int(moved[-1]) >> self.column.bits:
            raise UnsupportedFeatureError(
                f"field {self.name!r} counts more items than {self.column.bits} bits can say",
                hint="choose fewer entries",
            )


class _SwitchColumn(_Column):
    """A variant's switch: which alternative, and the how manieth of its items."""

    def _opened(self, part: int) -> npt.NDArray[np.bool_]:
        return self._counts[part] > 0

    def take(self, pages: dict[int, memoryview]) -> None:
        parts = []
        for part, held in enumerate(self._rows):
            edges, runs = self._edges[part], self._runs[part]
            items = [np.zeros(0, SWITCH_ITEM)]
            for page in np.flatnonzero(self._counts[part]).tolist():
                begin, end = int(edges[page]), int(edges[page + 1])
                places, _ = runs.within(begin, end)
                items.append(self._open(held.start + page, pages)[places - begin])
            parts.append(np.concatenate(items))
        alternatives = len(self._schema.children[self._schema.slots[self.slot].field])
        if max((int(p["tag"].max(initial=0)) for p in parts), default=0) > alternatives:
            raise CorruptFileError(f"variant {self.name!r} has an alternative too many")
        self.below = [[] for _ in range(alternatives)]
        base = [0] * (alternatives + 1)
        for number, own in enumerate(parts):
            moved = own.copy()
            for tag in range(1, alternatives + 1):
                chosen = np.flatnonzero(own["tag"] == tag)
                old = own["index"][chosen].astype(np.int64)
                if (np.diff(old) <= 0).any() or (len(old) and old[0] < 0):
                    raise CorruptFileError(f"variant {self.name!r} counts backwards")
                moved["index"][chosen] = base[tag] + np.arange(len(chosen))
                base[tag] += len(chosen)
                self.below[tag - 1].append(Runs.of(old))
            self._put(number, moved, own)

    def _put(self, part: int, moved: Elements, items: Elements) -> None:
        """Put pages out; those that did not change are copied."""
        full, at = self._full(part), 0
        for page in np.flatnonzero(self._counts[part]).tolist():
            behind = at + int(self._counts[part][page])
            if full[page] and (moved[at:behind] == items[at:behind]).all():
                self.out.copy(self._rows[part].start + page)
            else:
                self.out.add(moved[at:behind])
            at = behind


_COLUMNS = {Kind.DATA: _Column, Kind.INDEX: _IndexColumn, Kind.SWITCH: _SwitchColumn}


def _batches(level: Sequence[_Column]) -> Iterator[list[_Column]]:
    """Group columns so that not too much has to be read at a time."""
    batch: list[_Column] = []
    held = 0
    for column in level:
        if batch and held + column.nbytes > BATCH_BYTES:
            yield batch
            batch, held = [], 0
        batch.append(column)
        held += column.nbytes
    if batch:
        yield batch


def together(index: NTupleIndex, takings: Sequence[Taking], source_size: int) -> Steps[int]:
    """Run several takings side by side, so that they share requests; return bytes read."""
    pending: list[tuple[Wanted, list[int]]] = []
    nbytes = 0
    for taking in takings:
        steps = taking.steps()
        pending += [(steps, rows) for rows in _next(steps, None)]
    while pending:
        rows = [row for _, wanted in pending for row in wanted]
        found, read = yield from pages_of(index, rows, source_size)
        nbytes += read
        pending = [(steps, rows) for steps, _ in pending for rows in _next(steps, found)]
    return nbytes


def pages_of(
    index: NTupleIndex, rows: Sequence[int], source_size: int
) -> Steps[tuple[dict[int, memoryview], int]]:
    """Read pages, wherever their pieces lie; return them by row, and how many bytes."""
    pages = index.tables.pages.take(np.array(rows, np.int64))
    pieces = {
        row: index.pieces.get(seek) or [(seek, nbytes)]
        for row, seek, nbytes in zip(rows, pages.seek.tolist(), pages.nbytes.tolist(), strict=True)
    }
    views = yield from fetch([r for held in pieces.values() for r in held], source_size)
    answers = iter(views)
    found = {}
    for row, held in pieces.items():
        own = [next(answers) for _ in held]
        found[row] = own[0] if len(own) == 1 else memoryview(b"".join(own))
    return found, sum(len(data) for data in found.values())


def _next(steps: Wanted, answer: dict[int, memoryview] | None) -> list[list[int]]:
    try:
        return [next(steps) if answer is None else steps.send(answer)]
    except StopIteration:
        return []
