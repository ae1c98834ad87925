"""Datasets and their files, as they were when registered."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from evstream.domain.checksums import joined_checksums
from evstream.domain.intervals import Interval
from evstream.domain.names import DatasetName, Guid, Lfn, Pfn, TaskId


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What makes a file the file that it was when registered.

    Attributes
    ----------
    size : int
        Bytes.
    uuid : str
        The file's own UUID; empty for formats that have none.
    digest : str
        Hex sha256 of the structural metadata (ROOT), the footer (Parquet) or the
        whole file (HDF5, text).
    """

    size: int
    uuid: str
    digest: str

    def canonical(self) -> dict[str, Any]:
        """Return plain values for hashing and for the wire."""
        return {"digest": self.digest, "size": self.size, "uuid": self.uuid}


@dataclass(frozen=True, slots=True)
class Origin:
    """The output of a task that a file of a chained task is.

    Attributes
    ----------
    output : str
        Its name in the output store.
    number : int
        Of the file in its dataset, and of its chunk; none is used again.
    """

    task: TaskId
    output: str
    sha256: str
    number: int


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of a dataset.

    Attributes
    ----------
    trees : dict of str to int
        Entries of every tree in the file, by path within it.
    asked : dict of str to tuple of (int, int)
        Intervals wanted of a tree, if the registration named some (the steps of a
        coffea fileset); a tree that is not named is wanted whole.
    format : str
        Name of its format; products cut from it are in the same one.
    origin : Origin or None
        Where it came from, in the dataset of a chained task.
    checksums : dict of str to str
        Of the whole file, by kind, as far as its owner told them. They do not say which file it is:
        that does the fingerprint.
    """

    lfn: Lfn
    guid: Guid
    pfns: tuple[Pfn, ...]
    fingerprint: Fingerprint
    trees: dict[str, int]
    asked: dict[str, tuple[Interval, ...]] = field(default_factory=dict)
    format: str = "root"
    origin: Origin | None = None
    checksums: dict[str, str] = field(default_factory=dict, compare=False)

    def wanted(self, tree: str) -> tuple[Interval, ...]:
        """Return the intervals of a tree that are wanted; none of an empty one."""
        whole = ((0, self.trees[tree]),) if self.trees[tree] else ()
        return self.asked.get(tree, whole)

    def learns(self, other: SourceFile) -> SourceFile:
        """Return the file with what another registration of it tells of its checksums.

        Raises
        ------
        ConflictError
            The two say different things.
        """
        return replace(self, checksums=joined_checksums(self.checksums, other.checksums))


@dataclass(frozen=True, slots=True)
class Dataset:
    """A named list of files: fixed, in canonical (LFN) order; or a chained task's, which grows.

    Attributes
    ----------
    files : tuple of SourceFile
        Of a chained task: in the order of their numbers.
    retracted : tuple of SourceFile
        That were files of a chained task until their outputs were taken back.
    """

    name: DatasetName
    files: tuple[SourceFile, ...]
    retracted: tuple[SourceFile, ...] = ()
