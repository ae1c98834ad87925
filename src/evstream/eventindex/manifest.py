"""The manifest of an event index: which files are in it, and which segments hold them.

It is replaced as a whole, by a rename: whoever opens the index sees one state or the next.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from msgspec import Struct

from evstream.domain.errors import ConfigError, ConflictError, DataError, UnsupportedFormatError

VERSION = 1
MANIFEST_NAME = "manifest.json"
LOCK_NAME = "builder.lock"
SEGMENT_SUFFIX = ".segment"
_PARTIAL = ".partial"
NUMBERS_MAX = 1 << 32
"""So many files may ever be in an index: segments keep their numbers in 32 bits."""
ENTRIES_MAX = 1 << 62
"""Of all files together."""
_SEGMENT_NAME = re.compile(r"[0-9a-z]+" + re.escape(SEGMENT_SUFFIX))


Indexed = tuple[str, str, tuple[str, ...]]
"""Digest, tree and branches: a file that has these is not read again."""


class PoolFile(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What tokens need to know of a file that POOL wrote; see `evstream.eventindex.tokens`.

    Attributes
    ----------
    container : str
        That holds an event's DataHeader.
    class_id : str
        GUID of the DataHeader's class.
    technology : int
        POOL's number of the kind of container.
    link : int
        Number of the container among the file's links: the first half of object ids.
    """

    container: str
    class_id: str
    technology: int
    link: int


class IndexedFile(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A file that is in the index.

    Attributes
    ----------
    number : int
        In this index; none is used again.
    guid : str
        POOL's where the file has one, else the file's own UUID; empty for formats without.
    size, uuid, digest
        Its fingerprint, as `evstream.domain.dataset.Fingerprint` has it.
    entries : int
        Of the tree.
    numbers : tuple of str
        Branches that number its events: run, lumi block and event; or without lumi block;
        or the event alone, whose run is 0 then.
    datasets : tuple of str
        Registered datasets that it was indexed for.
    """

    number: int
    lfn: str
    guid: str
    pfns: tuple[str, ...]
    format: str
    size: int
    uuid: str
    digest: str
    tree: str
    entries: int
    numbers: tuple[str, ...]
    datasets: tuple[str, ...] = ()
    pool: PoolFile | None = None

    @property
    def content(self) -> tuple[str, str]:
        """What makes it the same file wherever it lies, and the tree that was indexed."""
        return self.digest, self.tree

    @property
    def indexed(self) -> Indexed:
        """Its content, and the branches that number its events."""
        return self.digest, self.tree, self.numbers


class SegmentName(Struct, frozen=True, forbid_unknown_fields=True):
    """A segment's file, and how many events it holds."""

    name: str
    events: int


class Manifest(Struct, frozen=True, forbid_unknown_fields=True):
    """What an index is made of.

    Attributes
    ----------
    next_number : int
        Of the next file.
    """

    version: int = VERSION
    next_number: int = 0
    files: tuple[IndexedFile, ...] = ()
    segments: tuple[SegmentName, ...] = ()


class _Version(Struct):
    version: int


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a folder; an empty one where there is none yet.

    Raises
    ------
    DataError
        It is damaged.
    UnsupportedFormatError
        It was written by a later version.
    ConfigError
        It may not be read.
    """
    path = folder / MANIFEST_NAME
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return Manifest()
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}", hint="check the folder and its mode"
        ) from error
    try:
        version = msgspec.json.decode(text, type=_Version).version
        if version != VERSION:
            raise UnsupportedFormatError(
                f"{path} has version {version}, and {VERSION} is read here",
                hint="use the evstream that wrote it, or build the index anew",
            )
        manifest = msgspec.json.decode(text, type=Manifest)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise _damaged(path, str(error)) from error
    if why := _contradiction(manifest):
        raise _damaged(path, why)
    return manifest


def _damaged(path: Path, why: str) -> DataError:
    return DataError(f"{path} is damaged: {why}", hint="remove the folder and build the index anew")


def _contradiction(manifest: Manifest) -> str:
    """Return what cannot be so in a manifest, if there is something."""
    if not 0 <= manifest.next_number <= NUMBERS_MAX:
        return f"{manifest.next_number} is no number of a file"
    numbers = {file.number for file in manifest.files}
    if len(numbers) < len(manifest.files):
        return "two of its files have one number"
    if numbers and not 0 <= min(numbers) <= max(numbers) < manifest.next_number:
        return "one of its files has a number that was not given yet"
    entries = [file.entries for file in manifest.files]
    if min(entries, default=0) < 0 or sum(entries) > ENTRIES_MAX:
        return "one of its files has a number of entries that cannot be"
    names = {segment.name for segment in manifest.segments}
    if len(names) < len(manifest.segments):
        return "one of its segments is there twice"
    if wrong := [name for name in names if not _SEGMENT_NAME.fullmatch(name)]:
        return f"{wrong[0]!r} is no name of a segment"
    return ""


def replace_manifest(folder: Path, manifest: Manifest) -> None:
    """Put a manifest in place of the last one; it is on disk when this returns."""
    partial = folder / f"{MANIFEST_NAME}{_PARTIAL}"
    with partial.open("wb") as file:
        file.write(msgspec.json.encode(manifest))
        file.flush()
        os.fsync(file.fileno())
    partial.replace(folder / MANIFEST_NAME)
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def new_segment_name() -> str:
    """Return a name that no segment has had."""
    return f"{secrets.token_hex(8)}{SEGMENT_SUFFIX}"


def remove_leftovers(folder: Path, manifest: Manifest) -> None:
    """Remove what a killed builder left, and segments that were merged into others."""
    named = {segment.name for segment in manifest.segments}
    for path in folder.iterdir():
        leftover = path.suffix == SEGMENT_SUFFIX and path.name not in named
        if leftover or path.name.endswith(_PARTIAL):
            path.unlink(missing_ok=True)


@contextmanager
def only_builder(folder: Path) -> Iterator[None]:
    """Keep other builders out of a folder; a kill lets them in again.

    Raises
    ------
    ConflictError
        Another one is at work.
    ConfigError
        The folder cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise ConfigError(
            f"the event index {folder} cannot be written: {error.strerror}",
            hint="choose a folder that you may write to, with --index",
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise ConflictError(
            f"the event index {folder} is being built by another process",
            hint="wait until it has ended; what it adds is kept",
        ) from error
    except OSError as error:
        os.close(descriptor)
        raise ConfigError(
            f"the event index {folder} cannot be locked: {error.strerror}",
            hint="choose a folder on a local disk",
        ) from error
    try:
        yield
    finally:
        os.close(descriptor)
