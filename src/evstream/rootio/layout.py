"""Lay out the container of a file that is being made: header, directories, key lists.

A file made here is: header, directory records, the caller's records, key lists,
free list. The caller says which keys each directory lists and where the records
end; `Layout.finish` returns the bytes before and behind them. Nothing of this
machine or this moment enters.

Source: TFile::WriteHeader, TDirectoryFile::FillBuffer, TFile::WriteFree of ROOT 6.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from struct import Struct

from evstream.rootio.container import BIG_FILE_VERSION
from evstream.rootio.keys import Key, key_size, make_key, write_key
from evstream.rootio.primitives import BIG_FILE_START, I4, write_string

FILE_BEGIN = 100
_UUID_VERSION = b"\x00\x01"
_DIRECTORY_VERSION = 5
_DIRECTORY_BYTES = 2 + 4 + 4 + 4 + 4 + 24 + 18
_UNITS_SMALL, _UNITS_BIG = 4, 8
_DIRECTORY_HEAD = Struct(">hIIii")


@dataclass(slots=True)
class Folder:
    """A directory to be written. ``path`` is "" for the file itself."""

    path: str
    class_name: str
    title: str
    seek: int = 0
    keys: list[Key] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]


@dataclass(slots=True)
class Layout:
    """The container of one file to be written.

    Parameters
    ----------
    name, title : str
        What the file calls itself.
    uuid : bytes, 16
    date : int
        A TDatime for every directory.
    compression : int
        ROOT's number, a hint for those who add to the file later.
    root_version : int
        ROOT's version whose streamers the records follow.
    """

    name: str
    title: str
    uuid: bytes
    date: int
    compression: int
    root_version: int
    folders: dict[str, Folder] = field(default_factory=dict)
    streamers: Key | None = None

    def __post_init__(self) -> None:
        self.folders[""] = Folder("", "TFile", self.title, FILE_BEGIN)

    def add_folder(self, path: str, class_name: str, title: str) -> None:
        """Add a directory; parents come first. One that exists is left alone."""
        if path not in self.folders:
            self.folders[path] = Folder(path, class_name, title)

    def place_folders(self) -> int:
        """Give every directory its position; return where the caller's records begin."""
        at = FILE_BEGIN + self._nbytes_name + _DIRECTORY_BYTES
        for folder in self.folders.values():
            if folder.path:
                folder.seek = at
                at += (
                    key_size(folder.class_name, folder.name, folder.title, big=False)
                    + _DIRECTORY_BYTES
                )
        return at

    def add_key(self, path: str, key: Key) -> None:
        """List a record in a directory."""
        self.folders[path].keys.append(key)

    @property
    def _nbytes_name(self) -> int:
        strings = len(write_string(self.name)) + len(write_string(self.title))
        return key_size("TFile", self.name, self.title, big=False) + strings

    def finish(self, end_of_records: int) -> tuple[bytes, bytes]:
        """Return the bytes before the caller's records, and those behind them.

        Parameters
        ----------
        end_of_records : int
            Position behind the last record.
        """
        at = end_of_records
        tail = []
        lists: dict[str, Key] = {}
        # The file's own list comes last: readers find it near the end.
        for folder in sorted(self.folders.values(), key=lambda f: f.path == ""):
            inner = [
                self._folder_key(f)
                for f in self.folders.values()
                if f.path and f.path.rpartition("/")[0] == folder.path
            ]
            payload = _key_list(inner + folder.keys)
            key = self._own_key(folder, len(payload), at)
            lists[folder.path] = key
            tail += [write_key(key), payload]
            at += key.nbytes
        free_seek = at
        free = self._free_list(free_seek)
        end = free_seek + len(free)
        tail.append(free)
        records = [self._directory_record(f, lists[f.path]) for f in self.folders.values()]
        return b"".join([self._header(end, free_seek, len(free)), *records]), b"".join(tail)

    def _own_key(self, folder: Folder, payload_bytes: int, seek: int) -> Key:
        return make_key(
            folder.class_name,
            folder.name if folder.path else self.name,
            folder.title,
            payload_bytes=payload_bytes,
            object_bytes=payload_bytes,
            seek=seek,
            seek_directory=folder.seek,
            date=self.date,
        )

    def _folder_key(self, folder: Folder) -> Key:
        parent = self.folders[folder.path.rpartition("/")[0]].seek if folder.path else 0
        size = _DIRECTORY_BYTES
        if not folder.path:
            size += len(write_string(self.name)) + len(write_string(self.title))
        return make_key(
            folder.class_name,
            folder.name if folder.path else self.name,
            folder.title,
            payload_bytes=size,
            object_bytes=size,
            seek=folder.seek,
            seek_directory=parent,
            date=self.date,
            big=False,
        )

    def _free_list(self, seek: int) -> bytes:
        # One segment: from the end of the file to the largest position there may be.
        bare = self._own_key(self.folders[""], 0, seek).key_bytes
        if seek + bare + 10 > BIG_FILE_START:
            end = seek + bare + 18
            last = (end // 1_000_000_000 + 1) * 1_000_000_000
            payload = Struct(">hqq").pack(1001, end, last)
        else:
            end = seek + bare + 10
            payload = Struct(">hii").pack(1, end, BIG_FILE_START)
        return write_key(self._own_key(self.folders[""], len(payload), seek)) + payload

    def _header(self, end: int, seek_free: int, nbytes_free: int) -> bytes:
        info_seek, info_bytes = (
            (self.streamers.seek, self.streamers.nbytes) if self.streamers else (0, 0)
        )
        big = end > BIG_FILE_START
        body = Struct(">4siiqqiiiBiqi" if big else ">4siiiiiiiBiii").pack(
            b"root",
            self.root_version + (BIG_FILE_VERSION if big else 0),
            FILE_BEGIN,
            end,
            seek_free,
            nbytes_free,
            1,
            self._nbytes_name,
            _UNITS_BIG if big else _UNITS_SMALL,
            self.compression,
            info_seek,
            info_bytes,
        )
        return (body + _UUID_VERSION + self.uuid).ljust(FILE_BEGIN, b"\0")

    def _directory_record(self, folder: Folder, key_list: Key) -> bytes:
        key = self._folder_key(folder)
        strings = b"" if folder.path else write_string(self.name) + write_string(self.title)
        big = key_list.seek > BIG_FILE_START
        seeks = (folder.seek, key.seek_directory, key_list.seek)
        record = _DIRECTORY_HEAD.pack(
            _DIRECTORY_VERSION + (1000 if big else 0),
            self.date,
            self.date,
            key_list.nbytes,
            key.key_bytes + len(strings),
        )
        record += Struct(">qqq" if big else ">iii").pack(*seeks) + _UUID_VERSION + self.uuid
        return write_key(key) + strings + record.ljust(_DIRECTORY_BYTES, b"\0")


def _key_list(keys: Sequence[Key]) -> bytes:
    return I4.pack(len(keys)) + b"".join(write_key(key) for key in keys)
