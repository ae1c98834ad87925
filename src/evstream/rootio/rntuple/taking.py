"""Take some entries of clusters apart, field by field.

One pass goes down the fields of a product's cluster, level by level: the elements that
are wanted of a collection's index say which are wanted of its items.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evstream.rootio.errors import CorruptFileError
from evstream.rootio.rntuple.column_taking import ColumnTaking, column_taking, open_pages
from evstream.rootio.rntuple.elements import Kind, kind_of
from evstream.rootio.rntuple.made_pages import MadePages
from evstream.rootio.rntuple.ntuple_index import NTupleIndex
from evstream.rootio.rntuple.runs import Runs
from evstream.rootio.rntuple.schema import Role
from evstream.rootio.source import Steps, fetch

Int64 = npt.NDArray[np.int64]
# Asked for: rows of the table of pages. Answered: those that are stored, by row.
Wanted = Generator[list[int], dict[int, memoryview], None]
BATCH_BYTES = 64 << 20
# Pages are opened so many bytes at a time; they are kept until their elements are taken.
OPENED_BYTES = 32 << 20


@dataclass(frozen=True, slots=True)
class Part:
    """Wanted entries of one cluster, counted from its first."""

    cluster: int
    entries: Runs


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
        self._clusters = np.array([part.cluster for part in parts], np.int64)
        self._entries = Runs.together([part.entries for part in parts])
        self._made = made
        self.rows: dict[int, Int64] = {}

    def steps(self) -> Wanted:
        """Go through the fields; ask for the pages that have to be opened."""
        schema = self._index.schema
        level: list[ColumnTaking] = []
        for number in range(len(schema.fields)):
            if schema.fields[number].parent == number and number in self._fields:
                self._enter(number, self._entries, level)
        while level:
            below: list[ColumnTaking] = []
            for batch in _batches(level, lambda column: column.nbytes, BATCH_BYTES):
                pages = yield [row for column in batch for row in column.wanted]
                for some in _batches(batch, lambda column: column.opened_nbytes, OPENED_BYTES):
                    opened = open_pages(some, pages)
                    for column in some:
                        column.take(opened)
                        self.rows[column.slot] = column.out.rows()
                        self._go_below(column, below)
            level = below

    def _enter(self, number: int, runs: Runs, level: list[ColumnTaking]) -> None:
        """Add a field's columns, and those of fields that are as many as it is."""
        schema = self._index.schema
        one = schema.fields[number]
        if one.projected:
            return
        runs = runs.times(one.repetitions)
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

    def _column(self, slot: int, runs: Runs) -> ColumnTaking:
        return column_taking(self._index, slot, self._clusters, runs, self._made)

    def _go_below(self, column: ColumnTaking, below: list[ColumnTaking]) -> None:
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


def _batches(
    columns: Sequence[ColumnTaking], nbytes: Callable[[ColumnTaking], int], most: int
) -> Iterator[list[ColumnTaking]]:
    """Group columns so that a group has not too many bytes, unless one alone has."""
    batch: list[ColumnTaking] = []
    held = 0
    for column in columns:
        if batch and held + nbytes(column) > most:
            yield batch
            batch, held = [], 0
        batch.append(column)
        held += nbytes(column)
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
