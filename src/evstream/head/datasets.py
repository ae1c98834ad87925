"""Registration of datasets: every file is read once and remembered as it was."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from evstream.domain.dataset import Dataset, Fingerprint, SourceFile
from evstream.domain.errors import (
    ConflictError,
    DataError,
    EvstreamError,
    RequestError,
    SourceChangedError,
)
from evstream.domain.intervals import IntervalSet
from evstream.domain.names import DatasetName, Guid, Lfn, Pfn
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

    def _inspect(self, pfn: str) -> tuple[Format, FileIndex]:
        try:
            with self._opener.open(pfn) as source:
                return self._formats.inspect(source)
        except DataError as error:
            raise type(error)(f"{pfn}: {error.message}", hint=error.hint, **error.fields) from error


def describe(file: NewFile, lfn: Lfn, file_format: str, index: FileIndex) -> SourceFile:
    """Return a file as it is, after checking what its owner says of it."""
    if file.uuid and file.uuid.lower() != index.uuid:
        raise SourceChangedError(
            f"{file.pfn} has UUID {index.uuid}, not {file.uuid}",
            hint="make the fileset anew from today's files",
        )
    trees = {name: tree.entries for name, tree in index.trees.items()}
    for tree, entries in file.entries.items():
        if trees.get(tree) != entries:
            raise SourceChangedError(
                f"{file.pfn} has {trees.get(tree, 'no')} entries in {tree}, not {entries}",
                hint="make the fileset anew from today's files",
            )
    asked = {}
    for tree, intervals in file.asked.items():
        wanted = IntervalSet.of(intervals)
        if wanted and wanted.intervals[-1][1] > trees.get(tree, 0):
            raise RequestError(
                f"{file.pfn}: steps reach to {wanted.intervals[-1][1]}, "
                f"but {tree} has {trees.get(tree, 0)} entries",
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
    )


def unique_lfns(files: list[NewFile]) -> list[Lfn]:
    """Name files by the last part of their PFN, or by all of it where that is shared.

    Raises
    ------
    ConflictError
        A file is given twice.
    """
    paths = [urlsplit(file.pfn).path if "://" in file.pfn else file.pfn for file in files]
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


def refuse_copies(files: list[SourceFile]) -> None:
    """Refuse two files with the same content: their events would count twice."""
    seen: dict[str, SourceFile] = {}
    for file in files:
        other = seen.setdefault(file.fingerprint.digest, file)
        if other is not file:
            raise ConflictError(
                f"{file.pfns[0]} and {other.pfns[0]} are copies of one file",
                hint="give every file once",
            )


def dataset_name(name: str, files: tuple[SourceFile, ...]) -> DatasetName:
    """Return ``scope:name``; a name that is missing derives from the content."""
    if not name:
        digests = "\n".join(f"{file.lfn} {file.fingerprint.digest} {file.asked}" for file in files)
        name = hashlib.sha256(digests.encode()).hexdigest()[:12]
    if not all(character.isprintable() and character not in " ?#%" for character in name):
        raise RequestError(
            f"{name!r} cannot name a dataset",
            hint="use scope:name without spaces, ?, # and %",
        )
    return DatasetName(name if ":" in name else f"{DEFAULT_SCOPE}:{name}")
