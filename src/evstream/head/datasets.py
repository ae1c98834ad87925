"""Registration of datasets: every file is read once and remembered as it was."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

from evstream.domain.checksums import checksums_of
from evstream.domain.dataset import Dataset, Fingerprint, SourceFile
from evstream.domain.errors import (
    ConflictError,
    DataError,
    EvstreamError,
    RequestError,
    SourceChangedError,
)
from evstream.domain.intervals import Interval, IntervalSet, overlaps
from evstream.domain.names import DatasetName, Guid, Lfn, Pfn, without_secrets
from evstream.domain.task import TASK_SCOPE
from evstream.ports import Catalogue, FileIndex, Format, Formats, Offload, SourceOpener
from evstream.wire.messages import NewDataset, NewFile

INSPECTED_AT_ONCE = 8
DEFAULT_SCOPE = "user"


class Datasets:
    """Registers files and looks them up."""

    def __init__(
        self, catalogue: Catalogue, opener: SourceOpener, offload: Offload, formats: Formats
    ) -> None:
        self._catalogue = catalogue
        self._opener = opener
        self._offload = offload
        self._formats = formats

    async def add(self, new: NewDataset) -> Dataset:
        """Inspect every file and register them under a name.

        Raises
        ------
        RequestError
            A file is not there, of no format that we know, or not what its owner says.
        ConflictError
            Two of the files are the same, or the name is taken by other files.
        """
        busy = asyncio.Semaphore(INSPECTED_AT_ONCE)

        async def inspect(file: NewFile) -> tuple[Format, FileIndex]:
            async with busy:
                return await self._offload(lambda: self._inspect(file.pfn))

        for file in new.files:
            check_names(file)
        lfns = unique_lfns(new.files)
        inspections = [asyncio.ensure_future(inspect(file)) for file in new.files]
        try:
            inspected = await asyncio.gather(*inspections)
        except EvstreamError:
            # One bad file refuses them all; the others need not be read.
            for inspection in inspections:
                inspection.cancel()
            raise
        described = [
            describe(file, lfn, known.name, index)
            for file, lfn, (known, index) in zip(new.files, lfns, inspected, strict=True)
        ]
        refuse_copies(described)
        files = tuple(sorted(described, key=lambda file: file.lfn))
        dataset = Dataset(dataset_name(new.name, files), files)
        await self._catalogue.add_dataset(
            dataset, {index.fingerprint: index.to_bytes() for _, index in inspected}
        )
        return dataset

    async def describe(self, pfn: Pfn, lfn: Lfn) -> tuple[SourceFile, FileIndex]:
        """Inspect a file that is an output of ours; it is registered nowhere.

        Raises
        ------
        DataError, RequestError
            It is of no format that we know, or damaged.
        """
        known, index = await self._offload(lambda: self._inspect(pfn))
        return describe(NewFile(pfn), lfn, known.name, index), index

    def check_branches(
        self, file: SourceFile, index: FileIndex, tree: str, names: Sequence[str]
    ) -> None:
        """Refuse a file that lacks branches, with a `RequestError`."""
        self._formats.named(file.format).select(index, tree, names)

    def _inspect(self, pfn: str) -> tuple[Format, FileIndex]:
        try:
            with self._opener.open(pfn) as source:
                return self._formats.inspect(source)
        except DataError as error:
            hint = error.hint or "compare its size and checksum with the original's"
            name = without_secrets(pfn)
            raise type(error)(f"{name}: {error.message}", hint=hint, **error.fields) from error


def check_names(file: NewFile) -> None:
    """Refuse an LFN that leads elsewhere and odd checksums, with a `RequestError`."""
    checksums_of(file.checksums)
    parts = PurePosixPath(file.lfn).parts
    if file.lfn and (".." in parts or file.lfn.startswith("/") or not file.lfn.isprintable()):
        raise RequestError(
            f"{file.lfn!r} cannot name a file of a dataset",
            hint="use a name such as 2012/B/events.root",
        )


def describe(file: NewFile, lfn: Lfn, file_format: str, index: FileIndex) -> SourceFile:
    """Return a file as it is, after checking what its owner says of it."""
    pfn = without_secrets(file.pfn)
    if file.uuid and file.uuid.lower() != index.uuid:
        raise SourceChangedError(
            f"{pfn} has UUID {index.uuid}, not {file.uuid}",
            hint="make the fileset anew from today's files",
        )
    # Not every format has UUIDs.
    is_other = file.size is not None and file.size != index.size
    if is_other or (file.digest and file.digest != index.fingerprint):
        raise SourceChangedError(
            f"{pfn} is another file than it was",
            hint="make the fileset anew from today's files",
        )
    trees = {name: tree.entries for name, tree in index.trees.items()}
    for tree in {*file.entries, *file.asked}:
        if tree not in trees:
            raise RequestError(
                f"{pfn} has no tree {tree}", hint=f"it has {', '.join(trees) or 'none'}"
            )
    for tree, entries in file.entries.items():
        if trees[tree] != entries:
            raise SourceChangedError(
                f"{pfn} has {trees[tree]} entries in {tree}, not {entries}",
                hint="make the fileset anew from today's files",
            )
    asked = {}
    for tree, intervals in file.asked.items():
        _check_steps(pfn, intervals)
        wanted = IntervalSet.of(intervals)
        if wanted and wanted.intervals[-1][1] > trees[tree]:
            raise RequestError(
                f"{pfn}: steps reach to {wanted.intervals[-1][1]}, "
                f"but {tree} has {trees[tree]} entries",
                hint="make the fileset anew from today's files",
            )
        asked[tree] = wanted.intervals
    return SourceFile(
        lfn=lfn,
        guid=Guid(index.uuid),
        pfns=(Pfn(file.pfn),),
        fingerprint=Fingerprint(size=index.size, uuid=index.uuid, digest=index.fingerprint),
        trees=trees,
        asked=asked,
        format=file_format,
        checksums=checksums_of(file.checksums),
    )


def _check_steps(pfn: str, intervals: list[Interval]) -> None:
    """Refuse steps that would be dropped, or whose events would count twice."""
    for start, stop in intervals:
        if start > stop:
            raise RequestError(
                f"{pfn}: step [{start}, {stop}] ends before it begins",
                hint="give [start, stop] with start below stop",
            )
    if twice := overlaps(intervals):
        raise RequestError(
            f"{pfn}: entries [{twice[0][0]}, {twice[0][1]}] are asked for by two steps",
            hint="ask for every entry once",
        )


def unique_lfns(files: list[NewFile]) -> list[Lfn]:
    """Name files by the last part of their PFN, or by all of it where that is shared.

    Raises
    ------
    ConflictError
        A file is given twice.
    """
    paths = [_path_of(file.pfn) for file in files]
    names = [file.lfn or PurePosixPath(path).name for file, path in zip(files, paths, strict=True)]
    shared = Counter(names)
    lfns = [
        Lfn(name if shared[name] == 1 or file.lfn else path.lstrip("/"))
        for name, path, file in zip(names, paths, files, strict=True)
    ]
    twice = [lfn for lfn, count in Counter(lfns).items() if count > 1]
    if twice:
        raise ConflictError(f"{twice[0]} is given twice", hint="give every file once")
    return lfns


def _path_of(pfn: str) -> str:
    """Return the path within a PFN; of a chain of links, within the first that has one."""
    if "://" not in pfn:
        return pfn
    link = next(link for link in without_secrets(pfn).split("::") if "://" in link)
    scheme, _, rest = link.partition("://")
    # The host of a file within an archive is a part of its path.
    return rest if scheme in ("zip", "tar") else rest.partition("/")[2] or rest


def refuse_copies(files: list[SourceFile]) -> None:
    """Refuse two files with the same content: their events would count twice."""
    seen: dict[str, SourceFile] = {}
    for file in files:
        other = seen.setdefault(file.fingerprint.digest, file)
        if other is not file:
            raise ConflictError(
                f"{without_secrets(file.pfns[0])} and {without_secrets(other.pfns[0])} "
                "are copies of one file",
                hint="give every file once",
            )


def dataset_name(name: str, files: tuple[SourceFile, ...]) -> DatasetName:
    """Return ``scope:name``; a name that is missing derives from files and content."""
    if not name:
        # All that the catalogue compares: other content never meets the same name.
        lines = (f"{file.lfn} {file.fingerprint} {file.asked} {file.pfns}" for file in files)
        name = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]
    if not all(character.isprintable() and character not in " ?#%" for character in name):
        raise RequestError(
            f"{name!r} cannot name a dataset",
            hint="use scope:name without spaces, ?, # and %",
        )
    if name.startswith(f"{TASK_SCOPE}:"):
        raise RequestError(
            f"{name} cannot name a dataset: the scope {TASK_SCOPE} is for what chained tasks take",
            hint="choose another scope",
        )
    return DatasetName(name if ":" in name else f"{DEFAULT_SCOPE}:{name}")
