"""Assemble files: records, spliced trees and a container around them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from evstream.rootio.compression import Setting, algorithm_of, compress
from evstream.rootio.index import Folder, Record, SourceIndex
from evstream.rootio.keys import Key, key_size, make_key, moved, needs_big, write_key
from evstream.rootio.layout import Layout
from evstream.rootio.primitives import uuid_from
from evstream.rootio.product import Product, Segment, in_memory
from evstream.rootio.source import Data
from evstream.rootio.splice import Baskets
from evstream.rootio.streamer_info import StreamerInfos
from evstream.rootio.streamer_union import unite

# A product's own name: neither a path nor a host enters its bytes.
FILE_NAME = "evstream.root"


class FileAssembly:
    """Gathers what a file shall hold and lays it out from front to back.

    Parameters
    ----------
    like : SourceIndex
        Whose ROOT version, compression and directories the file follows.
    identity : bytes
        What the file's UUID derives from.
    date : int
        A TDatime for the file's own records.
    """

    def __init__(self, like: SourceIndex, identity: bytes, date: int) -> None:
        self.date = date
        self._layout = Layout(
            name=FILE_NAME,
            title="",
            uuid=uuid_from(identity),
            date=date,
            compression=like.compression,
            root_version=like.root_version,
        )
        self._setting = Setting.from_root(like.compression)
        self._segments: list[Segment] = []
        self._at = 0

    @property
    def setting(self) -> Setting:
        """How the file's own records are compressed."""
        return self._setting

    def begin(self, folders: Sequence[Folder]) -> None:
        """Make room for the header and the directories, parents before children."""
        for folder in folders:
            self._layout.add_folder(folder.path, folder.class_name, folder.title)
        self._at = self._layout.place_folders()

    def _append(self, segment: Segment) -> None:
        self._segments.append(segment)
        self._at += segment.size

    def copy_record(self, record: Record, path: str | None, cycle: int = 1) -> None:
        """Copy a record as stored; ``path`` is its directory, None for class descriptions.

        Objects may hold positions that count from their key's first byte, so the
        key keeps its length, and references their process ids. Call this before any tree
        is added.
        """
        folder = self._layout.folders[path or ""]
        old = record.key
        key = replace(moved(old, self._at, folder.seek), cycle=cycle)
        self._append(in_memory(write_key(key) + record.payload))
        if path is None:
            self._layout.streamers = key
        else:
            self._layout.add_key(path, key)

    def add_object(
        self,
        path: str,
        class_name: str,
        name: str,
        title: str,
        payload: Data,
        object_bytes: int,
        date: int,
    ) -> Key:
        """Write an object under a key of its own; return the key."""
        key = make_key(
            class_name,
            name,
            title,
            payload_bytes=len(payload),
            object_bytes=object_bytes,
            seek=self._at,
            seek_directory=self._layout.folders[path].seek,
            date=date,
        )
        self._append(in_memory(write_key(key) + bytes(payload)))
        self._layout.add_key(path, key)
        return key

    def add_computed(self, path: str, like: Record, data: Data) -> None:
        """Write new contents under a record's key, whose length they count on."""
        setting = setting_like(like.payload, self._setting)
        stored = (
            bytes(compress(data, setting))
            if len(like.payload) != like.key.object_bytes
            else (bytes(data))
        )
        key = replace(like.key, nbytes=like.key.key_bytes + len(stored), object_bytes=len(data))
        self.copy_record(Record(key, stored), path)

    def unite_streamers(
        self, like: Record, infos: Sequence[StreamerInfos], names: Sequence[str]
    ) -> None:
        """Write the descriptions of the classes of several files, which errors name."""
        data = unite(infos, like.key.key_bytes, names)
        stored = bytes(compress(data, setting_like(like.payload, self._setting)))
        key = replace(like.key, nbytes=like.key.key_bytes + len(stored), object_bytes=len(data))
        self.copy_record(Record(key, stored), None)

    def add_blob(self, path: str, segments: Sequence[Segment], object_bytes: int, date: int) -> int:
        """Write a record that no directory lists; return where its contents begin."""
        size = sum(segment.size for segment in segments)
        key = make_key(
            "RBlob",
            "",
            "",
            payload_bytes=size,
            # What it would be without compression is a hint, in a field of four bytes.
            object_bytes=object_bytes if object_bytes < 1 << 31 else size,
            seek=self._at,
            seek_directory=self._layout.folders[path].seek,
            date=date,
        )
        self._append(in_memory(write_key(key)))
        begin = self._at
        for segment in segments:
            self._append(segment)
        return begin

    def add_tree(self, baskets: Baskets) -> None:
        """Lay out a tree's baskets and its record behind them."""
        folder_path, name = baskets.index.folder, baskets.index.key.name
        folder = self._layout.folders[folder_path]
        segments, numbers = baskets.place(self._at, folder.seek)
        for segment in segments:
            self._append(segment)
        old = baskets.index.key
        big = needs_big(self._at)
        key_bytes = key_size(old.class_name, name, old.title, big=big)
        data = baskets.index.template(baskets.kept).record(numbers, key_bytes)
        stored = compress(data, self._setting.quick())
        key = make_key(
            old.class_name,
            name,
            old.title,
            payload_bytes=len(stored),
            object_bytes=len(data),
            seek=self._at,
            seek_directory=folder.seek,
            date=old.date,
            big=big,
        )
        self._append(in_memory(write_key(key) + bytes(stored)))
        self._layout.add_key(folder_path, key)

    def finish(self, source_sizes: Sequence[int]) -> Product:
        """Close the container."""
        head, tail = self._layout.finish(self._at)
        return Product([in_memory(head), *self._segments, in_memory(tail)], source_sizes)


def folders_above(inner: Iterable[str], folders: Sequence[Folder]) -> list[Folder]:
    """List some directories and those on the way to them, outer ones first."""
    above = {""}
    pending = list(inner)
    while pending:
        folder = pending.pop()
        if folder not in above:
            above.add(folder)
            pending.append(folder.rpartition("/")[0])
    return [f for f in folders if f.path in above]


def setting_like(payload: Data, fallback: Setting) -> Setting:
    """Follow the compression of a record that is to be written anew."""
    algorithm = algorithm_of(payload)
    return fallback if algorithm is None else Setting.like(algorithm, fallback.level)
