"""The pages of a product's RNTuple: which are copied, which made, and where they go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evstream.rootio.errors import CorruptFileError, corrupt_steps_if_broken
from evstream.rootio.rntuple.envelope import CHECKSUM_BYTES
from evstream.rootio.rntuple.made_pages import MadePage, MadePages
from evstream.rootio.rntuple.ntuple_index import NTupleIndex
from evstream.rootio.rntuple.page_list import Pages
from evstream.rootio.rntuple.schema import Schema
from evstream.rootio.rntuple.tables import stretches
from evstream.rootio.rntuple.taking import BATCH_BYTES, Part, Taking, together
from evstream.rootio.source import Range, Steps

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Origin:
    """One source's RNTuple within a product.

    Attributes
    ----------
    source : int
    index : NTupleIndex
    fields : set of int
        Those to take.
    slots : int64
        For each slot of the product, the source's.
    representations : int64, shape (n_slots, most representations of the source)
        For each of them, the product's.
    """

    source: int
    index: NTupleIndex
    fields: frozenset[int]
    slots: Int64
    representations: Int64


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster of the product: one of a source's as it is, or parts of some."""

    origin: int
    whole: int
    parts: tuple[Part, ...] = ()

    @property
    def entries_of_parts(self) -> int:
        """Entries of a cluster that is made of parts."""
        return sum(part.entries.count for part in self.parts)


class NTuplePages:
    """All pages of a product's RNTuple.

    Parameters
    ----------
    schema : Schema
        The product's.
    origins : sequence of Origin
        The first one's name, description and version are the product's.
    clusters : sequence of Cluster
        In the order of the product's entries.
    """

    def __init__(
        self, schema: Schema, origins: Sequence[Origin], clusters: Sequence[Cluster]
    ) -> None:
        self.schema = schema
        self._origins = list(origins)
        self._clusters = list(clusters)
        self._made = MadePages()
        self._taken: dict[int, Taking] = {}
        self._nbytes: int | None = None

    @property
    def index(self) -> NTupleIndex:
        """The RNTuple whose name and versions the product bears."""
        return self._origins[0].index

    @property
    def sources(self) -> list[int]:
        """The sources that something of it lies in."""
        return sorted({origin.source for origin in self._origins})

    @property
    def entries(self) -> int:
        """Number of entries in the product."""
        return int(self._entries().sum())

    def _entries(self) -> Int64:
        entries = []
        for cluster in self._clusters:
            edges = self._origins[cluster.origin].index.tables.edges
            whole = int(edges[cluster.whole + 1] - edges[cluster.whole]) if not cluster.parts else 0
            entries.append(whole + cluster.entries_of_parts)
        return np.array(entries, np.int64)

    @property
    def boundary_bytes(self) -> int:
        """How many bytes of the sources are read to make pages anew.

        Until they are read, how many it may be at most.
        """
        if self._nbytes is not None:
            return self._nbytes
        return sum(self._most(cluster) for cluster in self._clusters if cluster.parts)

    def _most(self, cluster: Cluster) -> int:
        """Bytes of all pages of the clusters that parts are of."""
        origin = self._origins[cluster.origin]
        clusters = [part.cluster for part in cluster.parts]
        return int(origin.index.tables.nbytes[clusters][:, origin.slots].sum())

    @corrupt_steps_if_broken
    def prepare_steps(self, source: int, source_size: int) -> Steps[None]:
        """Make what one source's clusters need made."""
        batch: list[Taking] = []
        held, origin_index = 0, None
        for number, cluster in enumerate(self._clusters):
            origin = self._origins[cluster.origin]
            if not cluster.parts or origin.source != source:
                continue
            most = self._most(cluster)
            if batch and (held + most > BATCH_BYTES or origin.index is not origin_index):
                assert origin_index is not None
                yield from self._take(origin_index, batch, source_size)
                batch, held = [], 0
            taking = Taking(origin.index, origin.fields, cluster.parts, self._made)
            self._taken[number] = taking
            batch.append(taking)
            held, origin_index = held + most, origin.index
        if batch and origin_index is not None:
            yield from self._take(origin_index, batch, source_size)
        self._nbytes = self._nbytes or 0

    def _take(self, index: NTupleIndex, batch: list[Taking], source_size: int) -> Steps[None]:
        read = yield from together(index, batch, source_size)
        self._nbytes = (self._nbytes or 0) + read

    # --- the product's tables ---------------------------------------------------------

    def table(self, source_sizes: Sequence[int]) -> ProductTable:
        """Put everything together, once all is prepared.

        Parameters
        ----------
        source_sizes : sequence of int
            Length of each source in bytes.
        """
        slots, clusters = len(self.schema.slots), len(self._clusters)
        counts, representation, settings = (np.zeros((clusters, slots), np.int64) for _ in "crs")
        rows: list[Int64] = [np.zeros(0, np.int64)]
        origins = np.array([cluster.origin for cluster in self._clusters], np.int64)
        for number, cluster in enumerate(self._clusters):
            origin = self._origins[cluster.origin]
            tables = origin.index.tables
            model = cluster.parts[0].cluster if cluster.parts else cluster.whole
            chosen = tables.representation[model, origin.slots]
            representation[number] = origin.representations[np.arange(slots), chosen]
            settings[number] = tables.settings[model, origin.slots]
            if cluster.parts:
                taken = self._taken[number].rows
                own = [taken[slot] for slot in origin.slots.tolist()]
                counts[number] = [len(r) for r in own]
                rows += own
            else:
                cells = cluster.whole * tables.slots + origin.slots
                counts[number] = tables.first[cells + 1] - tables.first[cells]
                rows.append(stretches(tables.first[cells], counts[number]))
        of_cluster = np.repeat(np.arange(clusters), counts.sum(axis=1))
        cells = np.repeat(np.arange(counts.size), counts.reshape(-1))
        found = np.concatenate(rows)
        origin_of = origins[of_cluster]
        self._settle_zeros(found, origin_of, cells, representation, settings)
        pages = self._pages(found, origin_of)
        sources = np.array([origin.source for origin in self._origins], np.int64)
        source = np.where(found < 0, -1, sources[origin_of])
        return ProductTable(
            entries=self._entries(),
            counts=counts,
            representation=representation,
            settings=settings,
            cluster=of_cluster,
            pages=pages,
            source=source,
            made=self._made.pages,
            source_sizes=list(source_sizes),
            pieces={origin.source: origin.index.pieces for origin in self._origins},
        )

    def _settle_zeros(
        self,
        rows: Int64,
        origin_of: Int64,
        cells: Int64,
        representation: Int64,
        settings: Int64,
    ) -> None:
        """Make pages for zeros that are stored nowhere."""
        for number, origin in enumerate(self._origins):
            pages = origin.index.tables.pages
            mine = np.flatnonzero((origin_of == number) & (rows >= 0))
            for place in mine[pages.seek[rows[mine]] < 0].tolist():
                cell = divmod(int(cells[place]), len(self.schema.slots))
                columns = self.schema.slots[cell[1]].columns
                column = self.schema.columns[columns[int(representation[cell])]]
                count = int(pages.elements[rows[place]])
                rows[place] = -1 - self._made.zeros(count, column, int(settings[cell]))

    def _pages(self, rows: Int64, origin_of: Int64) -> Pages:
        """Look pages up where they are, made ones by their number."""
        made = [(page.elements, len(page.data) - CHECKSUM_BYTES) for page in self._made.pages]
        elements, size = np.array(made, np.int64).reshape(-1, 2).T
        number = np.maximum(-1 - rows, 0)
        out = Pages(
            np.zeros(len(rows), np.int64),
            number.copy(),
            np.zeros(len(rows), np.int64),
            np.ones(len(rows), np.bool_),
        )
        anew = rows < 0
        out.elements[anew], out.size[anew] = elements[number[anew]], size[number[anew]]
        for which, origin in enumerate(self._origins):
            mine = ~anew & (origin_of == which)
            found = origin.index.tables.pages.take(rows[mine])
            out.elements[mine], out.seek[mine] = found.elements, found.seek
            out.size[mine], out.checked[mine] = found.size, found.checked
        return out


@dataclass(frozen=True)
class ProductTable:
    """What a product's RNTuple holds, in the order of clusters, slots and elements.

    Attributes
    ----------
    entries : int64, shape (n_clusters,)
    counts, representation, settings : int64, shape (n_clusters, n_slots)
        Number of pages, which representation is stored, and its compression.
    cluster : int64, shape (n_pages,)
    pages : Pages
        Where they are in their sources; for made pages ``seek`` is their number.
    source : int64, shape (n_pages,)
        -1 for made pages.
    made : list of MadePage
    source_sizes : list of int
    pieces : mapping of source to pages that lie there in several stretches
    """

    entries: Int64
    counts: Int64
    representation: Int64
    settings: Int64
    cluster: Int64
    pages: Pages
    source: Int64
    made: list[MadePage]
    source_sizes: list[int]
    pieces: dict[int, dict[int, list[Range]]]

    def stored(self) -> Stored:
        """List every page once, in the order they shall lie in: that of their source.

        Raises
        ------
        CorruptFileError
            Pages overlap, or have several lengths.
        """
        bases = np.cumsum([0, *self.source_sizes], dtype=np.int64)
        code = self.pages.seek + np.where(self.source < 0, bases[-1], bases[self.source])
        ids, first, which = np.unique(code, return_index=True, return_inverse=True)
        nbytes = self.pages.nbytes
        if (nbytes[first][which] != nbytes).any():
            raise CorruptFileError("pages overlap")
        order = np.lexsort((ids, self.cluster[first]))
        first = first[order]
        for number, size in enumerate(self.source_sizes):
            if int(nbytes[first[self.source[first] == number]].sum()) > size:
                raise CorruptFileError("pages overlap: they add up to more than their file")
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        return Stored(
            self.cluster[first],
            self.source[first],
            self.pages.seek[first],
            nbytes[first],
            place[which],
        )


@dataclass(frozen=True, slots=True)
class Stored:
    """Pages as they lie in a product, each once.

    ``which`` tells of each page of the table, which of these it is.
    """

    cluster: Int64
    source: Int64
    seek: Int64
    nbytes: Int64
    which: Int64
