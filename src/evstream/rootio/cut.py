"""Cut: some entries and some branches of one tree, as a file of its own."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy.typing as npt

from evstream.rootio.assembly import FileAssembly, folders_above
from evstream.rootio.errors import EntryRangeError
from evstream.rootio.gathering import Gathering
from evstream.rootio.index import SourceIndex, inspect
from evstream.rootio.product import Product
from evstream.rootio.selection import chosen_entries, kept_branches, select_branches
from evstream.rootio.source import ByteSource, FileSource, Steps, drive
from evstream.rootio.splice import Baskets, Piece, Splice
from evstream.rootio.spool import spooled

CHUNK_BYTES = 8 << 20


class Cut:
    """Some entries of a tree, as the bytes of a ROOT file.

    Made by `plan_cut` or `plan_select`. First `prepare` reads and encodes anew the
    baskets of which only a part is wanted; then `size` is known and `read` gives any bytes.
    One object serves one thread; several may share a `SourceIndex`.

    Attributes
    ----------
    tree : str
    entry_start, entry_stop : int
        First entry, and the one behind the last; a selection leaves some between them.
    branches : tuple of str
        Full names of all branches in the product.
    left_behind : tuple of str
        What of the tree does not make sense in a cut, in words.
    """

    def __init__(
        self,
        index: SourceIndex,
        baskets: Baskets,
        entry_start: int,
        entry_stop: int,
        identity: bytes,
    ) -> None:
        self._index = index
        self._tree = baskets.index
        self._identity = identity
        self._product: Product | None = None
        self._baskets = baskets
        self.tree = self._tree.path
        self.entry_start = entry_start
        self.entry_stop = entry_stop
        self.branches = tuple(
            self._tree.branches[i].name for i in baskets.kept if i < len(self._tree.branches)
        )
        self.left_behind = self._tree.notes

    @property
    def entries(self) -> int:
        """Number of entries in the product."""
        return self._baskets.entries

    @property
    def boundary_bytes(self) -> int:
        """How many bytes `prepare` reads from the source."""
        return self._baskets.boundary_bytes

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

    def prepare_steps(self) -> Steps[None]:
        """Do what `prepare` does, without I/O of its own."""
        if self._product is not None:
            return
        index = self._index
        yield from self._baskets.prepare_steps(0, index.size)
        assembly = FileAssembly(index, self._identity, self._tree.key.date)
        assembly.begin(folders_above(self._tree.path, index.folders))
        if index.streamers is not None:
            assembly.copy_record(index.streamers, None)
        for record in index.carried:
            assembly.copy_record(record, "")
        assembly.add_tree(self._baskets, self._tree.path)
        self._product = assembly.finish([index.size])

    def read(self, offset: int, size: int, source: ByteSource) -> bytes:
        """Return the product's bytes ``[offset, offset + size)``, fewer at its end."""
        return drive(self.read_steps(offset, size), source)

    def read_steps(self, offset: int, size: int) -> Steps[bytes]:
        """Do what `read` does, without I/O of its own."""
        if offset < 0 or size < 0:
            raise EntryRangeError("a product has no bytes before its beginning", offset=offset)
        view = yield from self._prepared().read_steps(offset, size, 0)
        return bytes(view)


def plan_cut(
    index: SourceIndex,
    *,
    tree: str,
    entry_start: int,
    entry_stop: int,
    branches: Sequence[str] | None = None,
    identity: bytes = b"",
) -> Cut:
    """Plan a cut; nothing is read yet.

    Parameters
    ----------
    tree : str
        Path within the file: "Events", "events/events".
    entry_start, entry_stop : int
        Half-open; equal for an empty product.
    branches : sequence of str, optional
        Full names; counting branches come along. All by default.
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
    kept = kept_branches(found, branches)
    if not identity:
        words = [index.fingerprint, found.path, entry_start, entry_stop, *kept]
        identity = "\0".join(map(str, words)).encode("utf-8", "surrogateescape")
    splice = Splice([Piece(0, found, kept, entry_start, entry_stop)])
    return Cut(index, splice, entry_start, entry_stop, identity)


def plan_select(
    index: SourceIndex,
    *,
    tree: str,
    entries: npt.ArrayLike,
    branches: Sequence[str] | None = None,
    identity: bytes = b"",
) -> Cut:
    """Plan a product of scattered entries; nothing is read yet.

    Parameters
    ----------
    tree : str
    entries : bool, shape (entries of the tree,), or int64
        A mask, or the entries themselves, ascending and each once.
    branches, identity
        As for `plan_cut`.

    Raises
    ------
    NoSuchTreeError, UnknownBranchError, EntryRangeError
    """
    found = index.tree(tree)
    chosen = chosen_entries(entries, found)
    kept = kept_branches(found, branches)
    if not identity:
        digest = hashlib.sha256(chosen.astype("<i8").tobytes()).hexdigest()
        words = [index.fingerprint, found.path, digest, *kept]
        identity = "\0".join(map(str, words)).encode("utf-8", "surrogateescape")
    gathering = Gathering(found, kept, chosen)
    return Cut(index, gathering, int(chosen[0]), int(chosen[-1]) + 1, identity)


def cut(
    in_path: str | os.PathLike[str],
    out_path: str | os.PathLike[str],
    *,
    tree: str,
    entry_start: int = 0,
    entry_stop: int | None = None,
    entries: npt.ArrayLike | None = None,
    branches: Sequence[str] | None = None,
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
    """
    with FileSource(in_path) as source:
        index = inspect(source)
        found = index.tree(tree)
        names = None if branches is None else select_branches(found, branches)
        planned = (
            plan_cut(
                index,
                tree=tree,
                entry_start=entry_start,
                entry_stop=found.entries if entry_stop is None else entry_stop,
                branches=names,
                identity=identity,
            )
            if entries is None
            else plan_select(index, tree=tree, entries=entries, branches=names, identity=identity)
        )
        planned.prepare(source)
        with spooled(Path(out_path)) as out:
            for offset in range(0, planned.size, CHUNK_BYTES):
                out.write(planned.read(offset, CHUNK_BYTES, source))
    return planned.entries
