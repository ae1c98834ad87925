"""The container: file header, directories and their keys, as read from a file.

Source: TFile::Init, TDirectoryFile::Streamer and TDirectoryFile::ReadKeys of ROOT 6.
Writing is in `layout`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from struct import Struct

from evstream.rootio.errors import (
    CorruptFileError,
    NotARootFileError,
    UnsupportedFeatureError,
    corrupt_steps_if_broken,
)
from evstream.rootio.keys import Key, read_key
from evstream.rootio.primitives import I4
from evstream.rootio.source import Data, Range, Steps, fetch

BIG_FILE_VERSION = 1_000_000
DIRECTORY_CLASSES = frozenset({"TDirectory", "TDirectoryFile"})
DIRECTORIES_MAX = 100_000
# What a first read takes from both ends: nearly always all that the container needs.
HEAD_BYTES = 4096
TAIL_BYTES = 65_536

_START = Struct(">4sii")
# fEND, fSeekFree, fNbytesFree, nfree, fNbytesName, fUnits, fCompress, fSeekInfo, fNbytesInfo
_SMALL = Struct(">iiiiiBiii")
_BIG = Struct(">qqiiiBiqi")
# version, created, modified, fNbytesKeys, fNbytesName
_DIRECTORY = Struct(">hIIii")
_DIRECTORY_BIG_SINCE = 1000


@dataclass(frozen=True, slots=True)
class FileHeader:
    """The first bytes of the file. ``root_version`` is ROOT's own, such as 62208."""

    root_version: int
    begin: int
    end: int
    seek_free: int
    nbytes_free: int
    nbytes_name: int
    compression: int
    seek_info: int
    nbytes_info: int
    uuid: bytes
    raw: bytes


@dataclass(frozen=True, slots=True)
class Directory:
    """One directory. ``path`` is "" for the file itself, else "a/b".

    ``keys`` are in the order of the file's list, all cycles included.
    """

    path: str
    class_name: str
    name: str
    title: str
    seek: int
    created: int
    modified: int
    nbytes_keys: int
    seek_keys: int
    keys: tuple[Key, ...] = ()


@dataclass(frozen=True, slots=True)
class Container:
    """Header and directories; the file itself is ``directories[0]``.

    ``raw`` holds the bytes they were read from, for fingerprints.
    """

    header: FileHeader
    directories: tuple[Directory, ...]
    raw: tuple[bytes, ...]


@dataclass(slots=True)
class Window:
    """Remembers what was read, so that parsers may ask again at no cost."""

    size: int
    _known: list[tuple[int, memoryview]] = field(default_factory=list)

    def fetch(self, ranges: Sequence[Range]) -> Steps[list[memoryview]]:
        """Return the bytes of each range, asking only for those not yet known."""
        found = [self._find(offset, length) for offset, length in ranges]
        if None in found:
            missing = [r for r, view in zip(ranges, found, strict=True) if view is None]
            fresh = yield from fetch(missing, self.size)
            answers = iter(fresh)
            found = [next(answers) if view is None else view for view in found]
            self._known += [(r[0], v) for r, v in zip(missing, fresh, strict=True)]
        return [view for view in found if view is not None]

    def _find(self, offset: int, length: int) -> memoryview | None:
        for start, data in self._known:
            if start <= offset and offset + length <= start + len(data):
                return data[offset - start : offset - start + length]
        return None


@corrupt_steps_if_broken
def read_container(window: Window) -> Steps[Container]:
    """Read header, directories and key lists of a file.

    Raises
    ------
    NotARootFileError
        Something else.
    CorruptFileError
        Truncated or damaged; also a file that its writer never closed.
    """
    size = window.size
    if size <= HEAD_BYTES + TAIL_BYTES:
        ends = [(0, size)]
    else:
        ends = [(0, HEAD_BYTES), (size - TAIL_BYTES, TAIL_BYTES)]
    views = yield from window.fetch(ends)
    header = parse_header(views[0])
    if header.end > size:
        raise CorruptFileError(
            f"the file has {size} bytes, its header promises {header.end}",
            hint="it is truncated; fetch it again",
            size=size,
            expected=header.end,
        )
    (first,) = yield from window.fetch([_clipped(header.begin, header.nbytes_name + 64, size)])
    key, _ = read_key(first)
    root = parse_directory(
        first[header.nbytes_name :], path="", class_name="TFile", name=key.name, title=key.title
    )
    raw = [header.raw]
    directories: list[Directory] = []
    pending = [root]
    seen: set[int] = set()
    while pending:
        pending, level = [], pending
        _refuse_loops(level, seen)
        lists = yield from window.fetch([_key_list_range(folder) for folder in level])
        for folder, data in zip(level, lists, strict=True):
            raw.append(bytes(data))
            full = _with_keys(folder, data) if folder.seek_keys else folder
            directories.append(full)
            inner = [k for k in newest(full.keys) if k.class_name in DIRECTORY_CLASSES]
            records = yield from window.fetch([k.payload for k in inner])
            for k, record in zip(inner, records, strict=True):
                if not k.name or "/" in k.name:
                    raise UnsupportedFeatureError(
                        f"a directory is called {k.name!r}, which no path can say",
                        hint="write it under another name",
                        directory=k.name,
                    )
                path = f"{full.path}/{k.name}" if full.path else k.name
                pending.append(
                    parse_directory(
                        record, path=path, class_name=k.class_name, name=k.name, title=k.title
                    )
                )
    return Container(header, tuple(directories), tuple(raw))


def parse_header(head: Data) -> FileHeader:
    """Decode the file header from the first bytes of a file."""
    if bytes(head[:4]) != b"root":
        raise NotARootFileError(
            "the file does not begin with 'root'", hint="give a ROOT file", head=bytes(head[:8])
        )
    _, version, begin = _START.unpack_from(head, 0)
    big = version >= BIG_FILE_VERSION
    body = _BIG if big else _SMALL
    end, seek_free, nbytes_free, _, nbytes_name, _, compression, seek_info, nbytes_info = (
        body.unpack_from(head, _START.size)
    )
    uuid_at = _START.size + body.size + 2
    if begin < uuid_at or nbytes_name <= 0 or end <= begin:
        raise CorruptFileError("the file header holds impossible positions", begin=begin, end=end)
    uuid = bytes(head[uuid_at : uuid_at + 16]) if begin >= uuid_at + 16 else bytes(16)
    return FileHeader(
        version % BIG_FILE_VERSION, begin, end, seek_free, nbytes_free, nbytes_name,
        compression, seek_info, nbytes_info, uuid, bytes(head[: uuid_at + 16]),
    )  # fmt: skip


def parse_directory(
    record: Data, *, path: str, class_name: str, name: str, title: str
) -> Directory:
    """Decode a directory's record, without its keys.

    Below the top, one that was empty to the end may never have got a list of them: its
    position and length are 0.
    """
    version, created, modified, nbytes_keys, _ = _DIRECTORY.unpack_from(record, 0)
    seeks = Struct(">qqq") if version > _DIRECTORY_BIG_SINCE else Struct(">iii")
    seek, _, seek_keys = seeks.unpack_from(record, _DIRECTORY.size)
    never_filled = path and seek_keys == nbytes_keys == 0
    if not never_filled and (seek_keys <= 0 or nbytes_keys <= 0):
        raise CorruptFileError(
            f"directory {path or 'at the top'} has no list of keys",
            hint="its writer did not close the file; open it once with ROOT to recover it",
            path=path,
        )
    return Directory(
        path, class_name, name, title, seek, created, modified, nbytes_keys, seek_keys
    )  # fmt: skip


def _refuse_loops(folders: Sequence[Directory], seen: set[int]) -> None:
    """Refuse lists of keys that were met before, and remember these."""
    for folder in folders:
        if folder.seek_keys in seen or len(seen) > DIRECTORIES_MAX:
            raise CorruptFileError(f"directory {folder.path!r} contains itself")
        if folder.seek_keys:
            seen.add(folder.seek_keys)


def _key_list_range(folder: Directory) -> Range:
    return folder.seek_keys, folder.nbytes_keys


def _with_keys(folder: Directory, data: memoryview) -> Directory:
    own, _ = read_key(data)
    at = own.key_bytes
    (count,) = I4.unpack_from(data, at)
    at += 4
    # The shortest possible key has 29 bytes.
    if not 0 <= count <= len(data) // 29:
        raise CorruptFileError(f"directory {folder.path!r} claims {count} keys")
    keys = []
    for _ in range(count):
        key, at = read_key(data, at)
        keys.append(key)
    return Directory(
        folder.path, folder.class_name, folder.name, folder.title, folder.seek,
        folder.created, folder.modified, folder.nbytes_keys, folder.seek_keys, tuple(keys),
    )  # fmt: skip


def newest(keys: Sequence[Key]) -> list[Key]:
    """Keep, of each name, the key with the highest cycle; order of first appearance."""
    best: dict[str, Key] = {}
    for key in keys:
        held = best.get(key.name)
        if held is None or key.cycle > held.cycle:
            best[key.name] = key
    return list(best.values())


def read_record(window: Window, keys: Sequence[Key]) -> Steps[list[tuple[Key, memoryview]]]:
    """Read whole records and check that each is the one its list promised.

    Returns
    -------
    list of (key as stored with the record, payload as stored)
    """
    for key in keys:
        if key.nbytes <= key.key_bytes:
            raise CorruptFileError(f"record {key.name!r} is empty", name=key.name)
    views = yield from window.fetch([(key.seek, key.nbytes) for key in keys])
    out = []
    for listed, view in zip(keys, views, strict=True):
        stored, _ = read_key(view)
        if (stored.nbytes, stored.object_bytes, stored.key_bytes) != (
            listed.nbytes,
            listed.object_bytes,
            listed.key_bytes,
        ):
            raise CorruptFileError(
                f"record {listed.name!r} is not where its directory says",
                hint="the file was overwritten or damaged",
                name=listed.name,
            )
        out.append((stored, view[stored.key_bytes :]))
    return out


def _clipped(offset: int, length: int, size: int) -> Range:
    return offset, max(0, min(length, size - offset))
