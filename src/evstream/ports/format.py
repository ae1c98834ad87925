"""File formats of event data: recognise, inspect, cut and join.

What a format calls its parts differs; here a *tree* is whatever has entries (a TTree,
the table of a Parquet file, a group of an HDF5 file, the events of a text file) and a
*branch* whatever of it can be had alone (a branch, a column, a dataset).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from evstream.ports.source import ByteSource

if TYPE_CHECKING:
    # Not when it runs: every command loads this, and few need arrays.
    import numpy as np
    import numpy.typing as npt


class BranchInfo(Protocol):
    """One branch, for people.

    Attributes
    ----------
    compressed_bytes : int
        As stored.
    baskets : int
        Pieces that it is stored in: baskets, column chunks, HDF5 chunks.
    """

    @property
    def name(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def compressed_bytes(self) -> int: ...
    @property
    def baskets(self) -> int: ...


class TreeInfo(Protocol):
    """Something with entries.

    Attributes
    ----------
    clusters : int64, shape (n_clusters + 1,)
        Entries between which a cut makes nothing anew; the last item is their number.
    branches : sequence of BranchInfo
        Empty where entries can only be had whole.
    notes : sequence of str
        What a cut leaves behind, in words.
    """

    @property
    def path(self) -> str: ...
    @property
    def entries(self) -> int: ...
    @property
    def clusters(self) -> npt.NDArray[np.int64]: ...
    @property
    def branches(self) -> Sequence[BranchInfo]: ...
    @property
    def notes(self) -> Sequence[str]: ...


class ObjectInfo(Protocol):
    """Something in a file that is no tree."""

    @property
    def path(self) -> str: ...
    @property
    def class_name(self) -> str: ...
    @property
    def nbytes(self) -> int: ...


class FileIndex(Protocol):
    """What is read once of a file.

    Attributes
    ----------
    size : int
        Bytes.
    uuid : str
        The file's own; empty for formats that have none.
    fingerprint : str
        Hex sha256: of the structural metadata (ROOT), the footer (Parquet), or the whole
        file (HDF5, text).
    unreadable : mapping of tree to reason
        Trees that cannot be cut.
    """

    @property
    def size(self) -> int: ...
    @property
    def uuid(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def trees(self) -> Mapping[str, TreeInfo]: ...
    @property
    def unreadable(self) -> Mapping[str, str]: ...
    @property
    def objects(self) -> Sequence[ObjectInfo]: ...

    def to_bytes(self) -> bytes:
        """Encode it for `Format.load`; safe to lose."""
        ...


class Cut(Protocol):
    """Some entries of a tree, as the bytes of a file. Blocking; `read` from any thread.

    Attributes
    ----------
    beside : sequence of str
        Paths of what comes along beside the entries.
    left_behind : sequence of str
        What of the file does not come along, in words.
    """

    @property
    def beside(self) -> Sequence[str]: ...
    @property
    def left_behind(self) -> Sequence[str]: ...

    @property
    def entries(self) -> int:
        """Number of entries in the product."""
        ...

    @property
    def size(self) -> int:
        """Length of the product in bytes, once it is prepared."""
        ...

    @property
    def boundary_bytes(self) -> int:
        """Bytes that are made anew and kept, about; the others are read as they are asked for."""
        ...

    def prepare(self, source: ByteSource) -> None:
        """Make what must be made anew; then the size is known.

        Raises
        ------
        DataError
            The source is damaged, or holds something that cannot be cut.
        """
        ...

    def read(self, offset: int, size: int, source: ByteSource) -> bytes:
        """Return the product's bytes ``[offset, offset + size)``, fewer at its end."""
        ...


class Joined(Protocol):
    """What came out of a join.

    Attributes
    ----------
    objects : mapping of outcome to paths
    notes : sequence of str
        What the file is no good for, in words.
    """

    @property
    def entries(self) -> Mapping[str, int]: ...
    @property
    def objects(self) -> Mapping[str, tuple[str, ...]]: ...
    @property
    def size(self) -> int: ...
    @property
    def notes(self) -> Sequence[str]: ...


class Format(Protocol):
    """One file format. Blocking: call it through `Offload`.

    An index is given back only to the format that made it.
    """

    @property
    def name(self) -> str:
        """What descriptors call it; after a dot, the suffix of files made in it."""
        ...

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Ends of names by which its files are usually known, the longest first."""
        ...

    @property
    def whole(self) -> bool:
        """Whether entries can only be had whole, since they have no branches."""
        ...

    @property
    def encoder_id(self) -> str:
        """What, beside a descriptor, decides a product's bytes: writer, libraries, levels."""
        ...

    def recognises(self, head: bytes) -> bool:
        """Say whether a file that begins so is one of its files.

        Parameters
        ----------
        head : bytes
            The first `HEAD_BYTES` of the file, all of it where it is shorter.
        """
        ...

    def inspect(self, source: ByteSource) -> FileIndex:
        """Read what cutting needs to know of a file.

        Raises
        ------
        DataError
            It is damaged, or something in it is not supported.
        ConfigError
            The library for this format is not installed; the error says how to.
        """
        ...

    def load(self, data: bytes) -> FileIndex:
        """Return an index from what its `FileIndex.to_bytes` gave: enough for `select`.

        Raises
        ------
        DataError
            Damaged, or written by another version: inspect the file again.
        """
        ...

    def summed(self, index: FileIndex) -> dict[str, int]:
        """Return the entries, by tree, that files have together when they are joined.

        Without metadata that is alike in all of them, and that a join keeps once.
        """
        ...

    def for_output(self, name: str) -> Format:
        """Return what makes a file of a name: this, or the same with or without gzip.

        It takes indexes of this one.
        """
        ...

    def select(self, index: FileIndex, tree: str, globs: Sequence[str]) -> list[str]:
        """List the branches of a tree that match any of some patterns.

        Raises
        ------
        RequestError
            There is no such tree, or a pattern matches nothing.
        """
        ...

    def plan_cut(
        self,
        index: FileIndex,
        *,
        tree: str,
        entry_start: int,
        entry_stop: int,
        branches: Sequence[str] | None = None,
        identity: bytes = b"",
    ) -> Cut:
        """Plan a cut of entries ``[entry_start, entry_stop)``; nothing is read yet.

        Parameters
        ----------
        branches : sequence of str, optional
            Names as `select` gives them; all by default.
        identity : bytes
            The product's key, for formats whose files have an identity of their own.

        Raises
        ------
        RequestError
            No such tree or branch, or entries that it does not have.
        """
        ...

    def plan_select(
        self,
        index: FileIndex,
        *,
        tree: str,
        entries: npt.ArrayLike,
        branches: Sequence[str] | None = None,
        identity: bytes = b"",
    ) -> Cut:
        """Plan a product of scattered entries: a mask, or numbers that ascend."""
        ...

    def read_numbers(
        self, path: Path, tree: str, branches: Sequence[str]
    ) -> npt.NDArray[np.int64] | None:
        """Return whole numbers of a file's entries, such as those that number events.

        HepMC events have one that is called ``event_number`` here.

        Returns
        -------
        int64, shape (entries, branches), or None
            None unless each branch is there and holds one whole number for each entry.
            Unsigned ones of 64 bits keep their bits.

        Raises
        ------
        DataError
            The file cannot be read.
        ConfigError
            The library for this format is not installed.
        """
        ...

    def join(
        self,
        inputs: Sequence[Path],
        output: Path,
        *,
        identity: bytes = b"",
        names: Sequence[str] | None = None,
    ) -> Joined:
        """Join files into one, their entries in the order given; whole or not at all.

        Parameters
        ----------
        names : sequence of str, optional
            What errors and notes call the inputs; by default their paths.

        Raises
        ------
        DataError
            Their shapes differ, or something in them cannot be joined.
        """
        ...


HEAD_BYTES = 4096
"""How much of a file's beginning `Format.recognises` looks at."""


class Formats(Protocol):
    """The formats that are at hand."""

    def recognise(self, source: ByteSource, name: str = "") -> Format:
        """Return the format of a file, by its content.

        Parameters
        ----------
        name : str
            The file's name, for the error.

        Raises
        ------
        UnsupportedFormatError
            It is of no format that we know; the error says what was found instead.
        """
        ...

    def inspect(self, source: ByteSource, name: str = "") -> tuple[Format, FileIndex]:
        """Recognise and inspect, reading the file's ends once."""
        ...

    def named(self, name: str) -> Format:
        """Return a format by the name that descriptors use.

        Raises
        ------
        RequestError
            There is none of the name.
        """
        ...

    def of_file_name(self, name: str) -> Format | None:
        """Return the format whose suffix a file's name has, if any."""
        ...
