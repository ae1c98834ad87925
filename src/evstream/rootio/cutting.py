"""Cut: some entries and some branches of one tree or RNTuple, as a file of its own."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy.typing as npt

from evstream.rootio.assembly import FileAssembly, folders_above
from evstream.rootio.beside import Rules
from evstream.rootio.companions import Companions, companions
from evstream.rootio.errors import EntryRangeError, corrupt_steps_if_broken
from evstream.rootio.gathering import Gathering
from evstream.rootio.index import SourceIndex, inspect
from evstream.rootio.product import Product
from evstream.rootio.rntuple.ntuple_cut import cut_pages, gathered_pages
from evstream.rootio.rntuple.ntuple_index import NTupleIndex
from evstream.rootio.rntuple.ntuple_pages import NTuplePages
from evstream.rootio.rntuple.ntuple_writing import add_entries
from evstream.rootio.rntuple.subset import kept_fields
from evstream.rootio.selection import chosen_entries, kept_branches, select_branches
from evstream.rootio.source import ByteSource, FileSource, Steps, drive, fresh
from evstream.rootio.splice import Baskets, Piece, Splice
from evstream.rootio.spool import spooled
from evstream.rootio.tree_index import TreeIndex

# Large enough that what is done for each costs nothing beside copying it.
CHUNK_BYTES = 4 << 20
DEFAULTS = Rules()


class Cut:
    """Some entries of a tree or an RNTuple, as the bytes of a ROOT file.

    Made by `plan_cut` or `plan_select`. First `prepare` reads and encodes anew the
    baskets, or pages, of which only a part is wanted; then `size` is known and `read` gives
    any bytes.
    One object serves one thread; several may share a `SourceIndex`.

    Attributes
    ----------
    tree : str
    entry_start, entry_stop : int
        First entry, and the one behind the last; a selection leaves some between them.
    branches : tuple of str
        Full names of all branches in the product.
    beside : tuple of str
        Paths of the metadata trees and objects that come along.
    left_behind : tuple of str
        What does not come along, of the tree and of the file, in words.
    """

    def __init__(
        self,
        index: SourceIndex,
        baskets: Baskets | NTuplePages,
        entry_start: int,
        entry_stop: int,
        identity: bytes,
        beside: Companions,
    ) -> None:
        self._index = index
        self._companions = beside
        self._tree = baskets.index
        self._identity = identity
        self._product: Product | None = None
        self._baskets = baskets
        self.tree = self._tree.path
        self.entry_start = entry_start
        self.entry_stop = entry_stop
        self.branches = _branches(baskets)
        self.beside = beside.paths
        self.left_behind = self._tree.notes + beside.left_behind

    @property
    def entries(self) -> int:
        """Number of entries in the product."""
        return self._baskets.entries

    @property
    def boundary_bytes(self) -> int:
        """How many bytes `prepare` reads from the source."""
        return self._baskets.boundary_bytes + self._companions.boundary_bytes

    @property
    def size(self) -> int:
        """Length of the product in bytes; call `prepare` first."""
        return self._prepared().size

    def _prepared(self) -> Product:
        if self._product is None:
            raise RuntimeError("call prepare() before asking for a product's size or bytes")
        return self._product

    def prepare(self, source: ByteSource) -> None:
        """Encode anew the baskets of which a part is wanted, and fix the layout.

        Raises
        ------
        CorruptFileError
            The source is damaged, or not the file that was inspected.
        UnsupportedFeatureError
            A basket that cannot be cut.
        """
        drive(self.prepare_steps(), source)

    @corrupt_steps_if_broken
    def prepare_steps(self) -> Steps[None]:
        """Do what `prepare` does, without I/O of its own."""
        if self._product is not None:
            return
        index = self._index
        beside = self._companions
        yield from self._baskets.prepare_steps(0, index.size)
        records = yield from beside.prepare_steps()
        assembly = FileAssembly(index, self._identity, self._tree.key.date)
        assembly.begin(folders_above([self._tree.folder, *beside.folders], index.folders))
        if index.streamers is not None:
            assembly.copy_record(index.streamers, None)
        for record in index.carried:
            assembly.copy_record(record, "")
        beside.add_to(assembly, records)
        add_entries(assembly, self._baskets, [index.size])
        self._product = assembly.finish([index.size])

    @property
    def product(self) -> Product:
        """What `prepare` has made, for `carried`."""
        return self._prepared()

    def adopt(self, product: Product) -> None:
        """Take what this cut, planned and prepared in another process, became there."""
        self._product = product

    def read(self, offset: int, size: int, source: ByteSource) -> bytes:
        """Return the product's bytes ``[offset, offset + size)``, fewer at its end."""
        return drive(self.read_steps(offset, size), source)

    def read_into(self, offset: int, buffer: memoryview, source: ByteSource) -> memoryview:
        """Fill a buffer with the product's bytes from a position on.

        Of a `DirectSource`, as `FileSource` is one, bytes are copied once.

        Returns
        -------
        memoryview
            The part of the buffer that was filled; less than all at the product's end.
        """
        if offset < 0:
            raise EntryRangeError("a product has no bytes before its beginning", offset=offset)
        return self._prepared().read_into(offset, buffer, [source])

    @corrupt_steps_if_broken
    def read_steps(self, offset: int, size: int) -> Steps[bytes]:
        """Do what `read` does, without I/O of its own."""
        if offset < 0 or size < 0:
            raise EntryRangeError("a product has no bytes before its beginning", offset=offset)
        view = yield from self._prepared().read_steps(offset, size, 0)
        return bytes(view)

    def write(self, source: ByteSource, out_path: str | os.PathLike[str]) -> None:
        """Prepare it and write it to a file, which is not seen before it is whole."""
        self.prepare(source)
        buffer = fresh(min(CHUNK_BYTES, self.size))
        with spooled(Path(out_path), self.size) as out:
            for offset in range(0, self.size, CHUNK_BYTES):
                out.write(self.read_into(offset, buffer, source))


def _branches(held: Baskets | NTuplePages) -> tuple[str, ...]:
    if isinstance(held, NTuplePages):
        names = dict.fromkeys(held.schema.short_names)
        return tuple(b.name for b in held.index.branches if b.name in names)
    known = held.index.branches
    return tuple(known[i].name for i in held.kept if i < len(known))


def plan_cut(
    index: SourceIndex,
    *,
    tree: str,
    entry_start: int,
    entry_stop: int,
    branches: Sequence[str] | None = None,
    beside: Rules = DEFAULTS,
    leads: bool | None = None,
    identity: bytes = b"",
) -> Cut:
    """Plan a cut; nothing is read yet.

    Parameters
    ----------
    tree : str
        Path of a tree or an RNTuple within the file: "Events", "events/events".
    entry_start, entry_stop : int
        Half-open; equal for an empty product.
    branches : sequence of str, optional
        Full names; counting branches come along. Of an RNTuple the names of fields, those
        below others as "muons.pt". All by default.
    beside : Rules
        What comes along of the file's other trees and objects.
    leads : bool, optional
        Whether the product holds what is counted once in the file, such as sums of
        weights. By default the slice with the first entry does.
    identity : bytes
        The product's key: its UUID derives from it. By default it is made of the
        fingerprint and the other arguments.

    Raises
    ------
    NoSuchTreeError, UnknownBranchError, EntryRangeError
    """
    found = index.tree(tree)
    if not 0 <= entry_start <= entry_stop <= found.entries:
        raise EntryRangeError(
            f"entries {entry_start} to {entry_stop} do not lie within"
            f" the {found.entries} of {found.path}",
            hint="ranges are half-open and count from 0",
            entry_start=entry_start,
            entry_stop=entry_stop,
            entries=found.entries,
        )
    kept = _kept(found, branches)
    if leads is None:
        # An empty slice leads nothing, unless there is no other.
        leads = entry_start == 0 and (entry_stop > 0 or found.entries == 0)
    along = companions(index, found.path, beside, leads=leads)
    identity = identity or _identity(index, found, kept, beside, leads, entry_start, entry_stop)
    held: Baskets | NTuplePages
    if isinstance(found, NTupleIndex):
        held = cut_pages(found, kept, entry_start, entry_stop)
    else:
        held = Splice([Piece(0, found, kept, entry_start, entry_stop)])
    return Cut(index, held, entry_start, entry_stop, identity, along)


def _kept(found: TreeIndex | NTupleIndex, branches: Sequence[str] | None) -> tuple[int, ...]:
    if isinstance(found, NTupleIndex):
        return kept_fields(found, branches)
    return kept_branches(found, branches)


def _identity(
    index: SourceIndex,
    tree: TreeIndex | NTupleIndex,
    kept: tuple[int, ...],
    beside: Rules,
    *words: object,
) -> bytes:
    said = [index.fingerprint, tree.path, beside.canonical(), *words, *kept]
    return "\0".join(map(str, said)).encode("utf-8", "surrogateescape")


def plan_select(
    index: SourceIndex,
    *,
    tree: str,
    entries: npt.ArrayLike,
    branches: Sequence[str] | None = None,
    beside: Rules = DEFAULTS,
    leads: bool = True,
    identity: bytes = b"",
) -> Cut:
    """Plan a product of scattered entries; nothing is read yet.

    Parameters
    ----------
    tree : str
    entries : bool, shape (entries of the tree,), or int64
        A mask, or the entries themselves, ascending and each once.
    leads : bool
        Whether the product holds what is counted once in the file. A selection stands
        for its whole file unless you say that another one does.
    branches, beside, identity
        As for `plan_cut`.

    Raises
    ------
    NoSuchTreeError, UnknownBranchError, EntryRangeError
    """
    found = index.tree(tree)
    chosen = chosen_entries(entries, found)
    kept = _kept(found, branches)
    along = companions(index, found.path, beside, leads=leads)
    if not identity:
        digest = hashlib.sha256(chosen.astype("<i8").tobytes()).hexdigest()
        identity = _identity(index, found, kept, beside, leads, digest)
    held: Baskets | NTuplePages
    if isinstance(found, NTupleIndex):
        held = gathered_pages(found, kept, chosen)
    else:
        held = Gathering(found, kept, chosen)
    return Cut(index, held, int(chosen[0]), int(chosen[-1]) + 1, identity, along)


def cut(  # noqa: PLR0913 - what people may say about a cut
    in_path: str | os.PathLike[str],
    out_path: str | os.PathLike[str],
    *,
    tree: str,
    entry_start: int = 0,
    entry_stop: int | None = None,
    entries: npt.ArrayLike | None = None,
    branches: Sequence[str] | None = None,
    beside: Rules = DEFAULTS,
    identity: bytes = b"",
) -> int:
    """Cut a local file into another; return the number of entries.

    Parameters
    ----------
    branches : sequence of str, optional
        Names or patterns as `select_branches` takes them.
    entry_stop : int, optional
        The tree's end by default.
    entries : array, optional
        Scattered entries instead of a range, as `plan_select` takes them.
    beside, identity
        As for `plan_cut`.
    """
    with FileSource(in_path) as source:
        planned = plan(
            inspect(source),
            tree=tree,
            entry_start=entry_start,
            entry_stop=entry_stop,
            entries=entries,
            branches=branches,
            beside=beside,
            identity=identity,
        )
        planned.write(source, out_path)
    return planned.entries


def plan(
    index: SourceIndex,
    *,
    tree: str,
    entry_start: int = 0,
    entry_stop: int | None = None,
    entries: npt.ArrayLike | None = None,
    branches: Sequence[str] | None = None,
    beside: Rules = DEFAULTS,
    identity: bytes = b"",
) -> Cut:
    """Plan a cut or a selection from what people say; parameters as for `cut`."""
    found = index.tree(tree)
    names = None if branches is None else select_branches(found, branches)
    if entries is not None:
        return plan_select(
            index, tree=tree, entries=entries, branches=names, beside=beside, identity=identity
        )
    stop = found.entries if entry_stop is None else entry_stop
    return plan_cut(
        index,
        tree=tree,
        entry_start=entry_start,
        entry_stop=stop,
        branches=names,
        beside=beside,
        identity=identity,
    )
