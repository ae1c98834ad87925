"""Tables of an RNTuple's clusters and pages, one row a cluster and slot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from evstream.rootio.errors import CorruptFileError
from evstream.rootio.rntuple.page_list import PageList, Pages
from evstream.rootio.rntuple.schema import Role, Schema

Int64 = npt.NDArray[np.int64]

# Twenty million cells are two thousand clusters of ten thousand columns.
CELLS_MAX = 20_000_000
PAGES_MAX = 100_000_000
# Zeros of a deferred column come in pages of this many elements.
ZERO_PAGE_ELEMENTS = 1 << 16
ELEMENTS_MAX = 1 << 56


@dataclass(frozen=True)
class Tables:
    """All clusters and pages.

    Attributes
    ----------
    edges : int64, shape (n_clusters + 1,)
        First entry of each cluster, and the entry count.
    first : int64, shape (n_clusters * n_slots + 1,)
        Where the pages of each cluster and slot begin.
    representation : int64, shape (n_clusters, n_slots)
        Which representation of a slot's field holds the cluster.
    settings : int64, shape (n_clusters, n_slots)
        Compression, as ROOT's number.
    pages : Pages
        With the zeros that deferred columns begin with.
    """

    edges: Int64
    first: Int64
    representation: Int64
    settings: Int64
    pages: Pages

    @property
    def slots(self) -> int:
        """Number of slots."""
        return int(self.settings.shape[1])

    @cached_property
    def page_counts(self) -> Int64:
        """Number of pages, shape (n_clusters, n_slots)."""
        return np.diff(self.first).reshape(self.settings.shape)

    @cached_property
    def elements(self) -> Int64:
        """Number of elements, shape (n_clusters, n_slots)."""
        return sums(self.pages.elements, self.first).reshape(self.settings.shape)

    @cached_property
    def nbytes(self) -> Int64:
        """Bytes of pages, without their checksums, shape (n_clusters, n_slots)."""
        return sums(self.pages.size, self.first).reshape(self.settings.shape)

    def rows(self, cluster: int, slot: int) -> slice:
        """Where a slot's pages in a cluster are."""
        cell = cluster * self.slots + slot
        return slice(int(self.first[cell]), int(self.first[cell + 1]))


def sums(values: Int64, first: Int64) -> Int64:
    """Add up values in stretches that begin at ``first``."""
    running = np.concatenate([np.zeros(1, np.int64), np.cumsum(values)])
    total: Int64 = running[first[1:]] - running[first[:-1]]
    return total


def stretches(start: Int64, count: Int64) -> Int64:
    """List the numbers of all stretches, one after the other."""
    before = np.cumsum(count) - count
    numbers: Int64 = np.repeat(start - before, count)
    numbers += np.arange(len(numbers))
    return numbers


def build_tables(schema: Schema, lists: Sequence[PageList]) -> Tables:
    """Arrange page lists by slot, and check that they are what the schema needs.

    Raises
    ------
    CorruptFileError
        Clusters with holes, columns that a cluster lacks, or numbers that contradict
        each other.
    """
    listed = _Listed(schema, lists)
    edges = listed.edges
    clusters, slots = len(edges) - 1, len(schema.slots)
    representation = listed.representations()
    columns = _column_of(schema, representation)
    cells = np.arange(clusters)[:, None] * len(schema.columns) + columns
    counts = listed.counts.reshape(-1)[cells].reshape(-1)
    starts = listed.first[:-1][cells].reshape(-1)
    pages = listed.pages.take(stretches(starts, counts))
    first = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    settings = listed.settings.reshape(-1)[cells].reshape(clusters, slots)
    # A column that came later has no setting before; its neighbours' will do.
    usual = settings.max(axis=1, initial=0)
    settings = np.where(settings < 0, usual[:, None], settings)
    tables = Tables(edges, first, representation, settings, pages)
    offsets = listed.offsets.reshape(-1)[cells].reshape(clusters, slots)
    tables = _with_zeros(schema, tables, columns)
    _check(schema, tables, columns, offsets)
    return tables


def _column_of(schema: Schema, representation: Int64) -> Int64:
    """Look up the column of each cluster and slot."""
    width = max((len(slot.columns) for slot in schema.slots), default=1)
    table = np.full((len(schema.slots), width), -1, np.int64)
    for number, slot in enumerate(schema.slots):
        table[number, : len(slot.columns)] = slot.columns
    found: Int64 = table[np.arange(len(schema.slots))[None, :], representation]
    return found


class _Listed:
    """Page lists put together, by cluster and column, as they came."""

    def __init__(self, schema: Schema, lists: Sequence[PageList]) -> None:
        self._schema = schema
        columns = len(schema.columns)
        none = np.zeros(0, np.int64)
        first_entries = np.concatenate([none, *(one.first_entries for one in lists)])
        entries = np.concatenate([none, *(one.entries for one in lists)])
        width = np.concatenate([none, *(one.columns for one in lists)])
        clusters = len(entries)
        self.edges = np.concatenate([np.zeros(1, np.int64), np.cumsum(entries)])
        if (self.edges[:-1] != first_entries).any():
            raise CorruptFileError("clusters leave entries out, or hold some twice")
        if int(self.edges[-1]) > ELEMENTS_MAX or (np.diff(self.edges) < 0).any():
            raise CorruptFileError("clusters hold impossibly many entries")
        if (width > columns).any():
            raise CorruptFileError("a cluster has more columns than the schema")
        if clusters * columns > CELLS_MAX:
            raise CorruptFileError(f"{columns} columns in {clusters} clusters are beyond reason")
        self.pages = Pages.together([one.pages for one in lists])
        if len(self.pages) > PAGES_MAX or (self.pages.elements == 0).any():
            raise CorruptFileError("pages are empty, or beyond reason")
        counts = np.concatenate([none, *(one.counts for one in lists)])
        self.counts = np.zeros((clusters, columns), np.int64)
        self.offsets = np.full((clusters, columns), -1, np.int64)
        self.settings = np.full((clusters, columns), -1, np.int64)
        # Columns of a schema extension are the last ones, which older clusters lack.
        self.there = np.arange(columns)[None, :] < width[:, None]
        self.counts[self.there] = counts
        self.offsets[self.there] = np.concatenate([none, *(one.offsets for one in lists)])
        self.settings[self.there] = np.concatenate([none, *(one.settings for one in lists)])
        self.first = np.concatenate([np.zeros(1, np.int64), np.cumsum(self.counts)])

    def representations(self) -> Int64:
        """Find the one representation of each slot that is not suppressed."""
        clusters = len(self.edges) - 1
        slots = self._schema.slots
        active = self.there & (self.offsets >= 0)
        found = np.zeros((clusters, len(slots)), np.int64)
        wrong = np.zeros((clusters, len(slots)), np.bool_)
        widths = np.array([len(slot.columns) for slot in slots], np.int64)
        # Nearly all have one representation.
        simple = np.flatnonzero(widths == 1)
        only = np.array([slots[number].columns[0] for number in simple.tolist()], np.int64)
        wrong[:, simple] = self.there[:, only] & ~active[:, only]
        for number in np.flatnonzero(widths > 1).tolist():
            own = list(slots[number].columns)
            choice = active[:, own]
            found[:, number] = choice.argmax(axis=1)
            listed = self.there[:, own].any(axis=1)
            wrong[:, number] = (choice.sum(axis=1) > 1) | (listed & ~choice.any(axis=1))
        if wrong.any():
            name = self._schema.names[slots[int(wrong.any(axis=0).argmax())].field]
            raise CorruptFileError(f"field {name!r} has no representation in a cluster, or several")
        return found


def _with_zeros(schema: Schema, tables: Tables, columns: Int64) -> Tables:
    """Put in the zeros that deferred columns have before their first element."""
    deferred = np.array([c.first > 0 for c in schema.columns], np.bool_)
    if not deferred.any():
        return tables
    factors = repetitions(schema)
    entries = np.diff(tables.edges)
    at: list[int] = []
    sizes: list[int] = []
    for slot in np.flatnonzero(deferred[columns].any(axis=0)).tolist():
        factor = factors[schema.slots[slot].field]
        if factor is None:
            raise CorruptFileError("a deferred column lies within a collection")
        for cluster in np.flatnonzero(deferred[columns[:, slot]]).tolist():
            begin = int(tables.edges[cluster]) * factor
            wanted = int(entries[cluster]) * factor
            late = schema.columns[int(columns[cluster, slot])].first - begin
            missing = max(0, min(late, wanted))
            if missing > ZERO_PAGE_ELEMENTS * (CELLS_MAX >> 8):
                raise CorruptFileError("a deferred column begins impossibly late")
            full, rest = divmod(missing, ZERO_PAGE_ELEMENTS)
            sizes += [ZERO_PAGE_ELEMENTS] * full + [rest] * (rest > 0)
            at += [cluster * tables.slots + slot] * (len(sizes) - len(at))
            if len(sizes) > CELLS_MAX:
                raise CorruptFileError("deferred columns begin impossibly late")
    cells = np.array(at, np.int64)
    order = np.argsort(cells, kind="stable")
    cells, elements = cells[order], np.array(sizes, np.int64)[order]
    where = tables.first[cells]
    pages = tables.pages
    zeros = np.zeros(len(cells), np.int64)
    filled = Pages(
        np.insert(pages.elements, where, elements),
        np.insert(pages.seek, where, zeros - 1),
        np.insert(pages.size, where, zeros),
        np.insert(pages.checked, where, zeros.astype(np.bool_)),
    )
    counts = np.diff(tables.first) + np.bincount(cells, minlength=len(tables.first) - 1)
    first = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    return Tables(tables.edges, first, tables.representation, tables.settings, filled)


def repetitions(schema: Schema) -> list[int | None]:
    """Say how many elements an entry has of each field's columns; None where it varies."""
    factors: list[int | None] = []
    for number, one in enumerate(schema.fields):
        if one.parent == number:
            factor: int | None = 1
        else:
            factor = factors[one.parent]
            if schema.fields[one.parent].role in (Role.COLLECTION, Role.VARIANT):
                factor = None
        if factor is not None:
            factor *= one.repetitions
            if factor > ELEMENTS_MAX:
                raise CorruptFileError(f"field {schema.names[number]!r} repeats impossibly often")
        factors.append(factor)
    return factors


def _check(schema: Schema, tables: Tables, columns: Int64, offsets: Int64) -> None:
    """Compare elements with entries, and with what the page lists say precedes them."""
    elements = tables.elements
    factors = repetitions(schema)
    deferred = np.array([c.first != 0 for c in schema.columns], np.bool_)
    counted = (offsets >= 0) & ~deferred[columns] if len(schema.columns) else offsets >= 0
    before = np.cumsum(elements, axis=0) - elements
    if (before != offsets)[counted].any() or (elements < 0).any():
        raise CorruptFileError("a column's elements do not follow each other")
    entries = np.diff(tables.edges)
    # Slots of which every entry has as many elements.
    fixed = {
        number: factor
        for number, slot in enumerate(schema.slots)
        if not slot.position and (factor := factors[slot.field]) is not None
    }
    numbers = np.array(list(fixed), np.int64)
    expected = entries[:, None] * np.array(list(fixed.values()), np.int64)
    wrong = (elements[:, numbers] != expected).any(axis=0)
    if wrong.any():
        name = schema.names[schema.slots[int(numbers[wrong.argmax()])].field]
        raise CorruptFileError(f"field {name!r} has other elements than there are entries")
