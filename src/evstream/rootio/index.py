"""The source index: what is read once of a file, and kept."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TypeAlias

from evstream.rootio.class_plan import Plans
from evstream.rootio.compression import decompress
from evstream.rootio.container import (
    DIRECTORY_CLASSES,
    Container,
    Window,
    newest,
    read_container,
    read_record,
)
from evstream.rootio.errors import (
    CorruptFileError,
    NoSuchTreeError,
    UnsupportedFeatureError,
    corrupt_steps_if_broken,
)
from evstream.rootio.keys import Key, folder_of, read_key
from evstream.rootio.primitives import uuid_text
from evstream.rootio.rntuple.anchor import CLASS as NTUPLE_CLASS
from evstream.rootio.rntuple.anchor import OLD_CLASSES
from evstream.rootio.rntuple.envelope import Cursor
from evstream.rootio.rntuple.ntuple_index import NTupleIndex, read_ntuple
from evstream.rootio.rntuple.schema import Schema
from evstream.rootio.source import ByteSource, Data, Steps, drive
from evstream.rootio.streamer_info import StreamerInfos
from evstream.rootio.tree_index import TreeIndex
from evstream.rootio.tree_reader import read_tree
from evstream.rootio.tree_shape import TreeShape

# Objects that baskets may refer to, so that products carry them.
CARRIED_CLASSES = frozenset({"TProcessID"})
# Texts that say how a file came to be.
DESCRIPTIONS = frozenset({"TNamed", "TObjString", "TMacro"})
# Hostile or motley files must not fill the memory with shapes.
SHAPES_MAX = 64
_TREE_CLASSES = frozenset({"TTree", "TNtuple", "TNtupleD"})


AnyTree: TypeAlias = TreeIndex | NTupleIndex


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object that holds no entries: of each name the newest cycle, texts in all."""

    path: str
    class_name: str
    cycle: int
    nbytes: int
    key: Key

    @property
    def folder(self) -> str:
        """Path of the directory that lists it, "" at the top."""
        return folder_of(self.path, self.key)


@dataclass(frozen=True, slots=True)
class Record:
    """A record as stored, kept to be copied."""

    key: Key
    payload: bytes


@dataclass(frozen=True, slots=True)
class Folder:
    """A directory's path, class and title."""

    path: str
    class_name: str
    title: str


@dataclass(frozen=True, slots=True)
class SourceIndex:
    """All that is known of one ROOT file.

    Attributes
    ----------
    size : int
        Length in bytes.
    uuid : str
        Of the file's header.
    fingerprint : str
        SHA-256, hexadecimal, of header, key lists, class descriptions, trees' records
        and RNTuples' envelopes as stored: a file that changed has another.
    trees : mapping of path to TreeIndex or NTupleIndex
        Trees, then RNTuples; the newest cycle of each name.
    unreadable : mapping of path to reason
        Those that this version cannot cut, and why.
    objects : tuple of ObjectInfo
        Everything else that the directories list.
    """

    size: int
    uuid: str
    fingerprint: str
    root_version: int
    compression: int
    trees: Mapping[str, AnyTree]
    unreadable: Mapping[str, str]
    objects: tuple[ObjectInfo, ...]
    folders: tuple[Folder, ...]
    streamers: Record | None
    carried: tuple[Record, ...]

    @property
    def ttrees(self) -> Mapping[str, TreeIndex]:
        """The trees that are no RNTuples."""
        found = {p: t for p, t in self.trees.items() if isinstance(t, TreeIndex)}
        return MappingProxyType(found)

    @property
    def ntuples(self) -> Mapping[str, NTupleIndex]:
        """The RNTuples."""
        found = {p: t for p, t in self.trees.items() if isinstance(t, NTupleIndex)}
        return MappingProxyType(found)

    def tree(self, path: str) -> AnyTree:
        """Return the index of a tree or an RNTuple.

        Raises
        ------
        NoSuchTreeError
            None of that name; the error lists those that are there.
        UnsupportedFeatureError
            It is there, but this version cannot cut it.
        """
        # Names may begin and end with a slash of their own.
        name = path if path in self.trees else path.strip("/")
        if name in self.trees:
            return self.trees[name]
        # Not found as it stands: the end may be a cycle.
        name = re.sub(r";\d+$", "", name)
        if name in self.trees:
            return self.trees[name]
        if name in self.unreadable:
            raise UnsupportedFeatureError(
                f"{name!r} cannot be cut: {self.unreadable[name]}", tree=name
            )
        known = sorted(self.trees)
        raise NoSuchTreeError(
            f"the file has no tree {path!r}",
            hint=f"it has {', '.join(known)}" if known else "it has no tree at all",
            trees=known,
        )

    def to_bytes(self) -> bytes:
        """Encode the index compactly; `from_bytes` reads it back in milliseconds."""
        from evstream.rootio.index_codec import encode_index

        return encode_index(self)

    @staticmethod
    def from_bytes(data: bytes) -> SourceIndex:
        """Decode what `to_bytes` made.

        Raises
        ------
        CorruptFileError
            Damaged, or written by another version: inspect the file again.
        """
        from evstream.rootio.index_codec import decode_index

        return decode_index(data)


class KnownShapes:
    """What files inspected before looked like, so that their like are read faster.

    The files of a dataset differ in numbers and baskets alone. What is remembered
    changes how long `inspect` takes, never what it returns. Not for several threads.
    """

    def __init__(self) -> None:
        self._plans: dict[tuple[bytes, int], tuple[bytes, Plans]] = {}
        self._shapes: dict[tuple[Plans, str, str], TreeShape] = {}
        self._schemas: dict[tuple[bytes, ...], Schema] = {}

    def described(self, streamers: Record | None) -> tuple[Record | None, Plans]:
        """Return plans of the classes that a file describes, and the record as one of many."""
        known = (b"", 0) if streamers is None else (streamers.payload, streamers.key.key_bytes)
        if known not in self._plans:
            if len(self._plans) >= SHAPES_MAX:
                self._plans.clear()
                self._shapes.clear()
            self._plans[known] = known[0], _plans(streamers)
        payload, plans = self._plans[known]
        # Thousands of files would each keep the same bytes.
        return None if streamers is None else Record(streamers.key, payload), plans

    def tree(self, path: str, key: Key, data: Data, plans: Plans) -> TreeIndex:
        """Read a tree, by its shape if that is known."""
        place = (plans, path, key.class_name)
        shape = self._shapes.get(place)
        index = None if shape is None else shape.read(path, key, data)
        if index is not None:
            return index
        index, graph = read_tree(path, key, data, plans)
        if len(self._shapes) >= SHAPES_MAX:
            self._shapes.clear()
        shape = TreeShape(graph, index)
        if shape.usable:
            self._shapes[place] = shape
        return index

    def schema(self, *parts: Cursor) -> Schema:
        """Read an RNTuple's schema, as `Schema.parse` does."""
        told = tuple(bytes(part.data[part.at : part.stop]) for part in parts)
        if told not in self._schemas:
            if len(self._schemas) >= SHAPES_MAX:
                self._schemas.clear()
            self._schemas[told] = Schema.parse(*parts)
        return self._schemas[told]


def _plans(streamers: Record | None) -> Plans:
    if streamers is None:
        return Plans(StreamerInfos(b"", 0))
    data = decompress(streamers.payload, streamers.key.object_bytes)
    return Plans(StreamerInfos(data, streamers.key.key_bytes))


def _described(streamers: Record | None, known: KnownShapes | None) -> tuple[Record | None, Plans]:
    return (streamers, _plans(streamers)) if known is None else known.described(streamers)


def inspect(source: ByteSource, known: KnownShapes | None = None) -> SourceIndex:
    """Read what cutting needs to know of a file: a few reads at its ends.

    Parameters
    ----------
    known : KnownShapes, optional
        Shared by the inspections of several files that may be alike.

    Raises
    ------
    NotARootFileError, CorruptFileError
    """
    return drive(inspect_steps(source.size, known), source)


@corrupt_steps_if_broken
def inspect_steps(size: int, known: KnownShapes | None = None) -> Steps[SourceIndex]:
    """Do what `inspect` does, without I/O of its own.

    Parameters
    ----------
    size : int
        Length of the file in bytes.
    known : KnownShapes, optional
    """
    window = Window(size)
    container = yield from read_container(window)
    digest = hashlib.sha256()
    for raw in container.raw:
        digest.update(raw)
    streamers = yield from _read_streamers(window, container)
    if streamers is not None:
        digest.update(streamers.payload)
    streamers, plans = _described(streamers, known)
    tree_keys, ntuple_keys, objects, carried_keys = _sorted_out(container, plans)
    unreadable = _indistinct(tree_keys, ntuple_keys)
    records = yield from read_record(window, [key for _, key in tree_keys] + carried_keys)
    trees: dict[str, AnyTree] = {}
    for (path, listed), (stored, payload) in zip(tree_keys, records, strict=False):
        digest.update(payload)
        key = _called(stored, listed.name)
        try:
            data = decompress(payload, key.object_bytes)
            trees[path] = (
                read_tree(path, key, data, plans)[0]
                if known is None
                else known.tree(path, key, data, plans)
            )
        except (UnsupportedFeatureError, CorruptFileError) as problem:
            # The other trees may be sound; this one is refused when it is asked for.
            unreadable[path] = str(problem)
    carried = []
    for key, payload in records[len(tree_keys) :]:
        digest.update(payload)
        carried.append(Record(key, bytes(payload)))
    for path, key in ntuple_keys:
        try:
            trees[path], envelopes = yield from _read_ntuple(window, path, key, known)
        except (UnsupportedFeatureError, CorruptFileError) as problem:
            unreadable[path] = str(problem)
        else:
            for part in envelopes:
                digest.update(part)
    return SourceIndex(
        size=size,
        uuid=uuid_text(container.header.uuid),
        fingerprint=digest.hexdigest(),
        root_version=container.header.root_version,
        compression=container.header.compression,
        trees=MappingProxyType(trees),
        unreadable=MappingProxyType(unreadable),
        objects=tuple(objects),
        folders=tuple(Folder(d.path, d.class_name, d.title) for d in container.directories[1:]),
        streamers=streamers,
        carried=tuple(carried),
    )


def _read_ntuple(
    window: Window, path: str, key: Key, known: KnownShapes | None
) -> Steps[tuple[NTupleIndex, list[bytes]]]:
    if key.class_name in OLD_CLASSES:
        raise UnsupportedFeatureError("it is of a time before RNTuple's format was fixed")
    name = key.name
    ((key, payload),) = yield from read_record(window, [key])
    key = _called(key, name)
    record = decompress(payload, key.object_bytes)
    parse = Schema.parse if known is None else known.schema
    index, raw = yield from read_ntuple(path, key, record, window.size, parse)
    return index, [bytes(payload), *raw]


def _called(key: Key, name: str) -> Key:
    """Return a stored key by the name that its directory lists."""
    return key if key.name == name else replace(key, name=name)


def _read_streamers(window: Window, container: Container) -> Steps[Record | None]:
    header = container.header
    if header.seek_info <= 0 or header.nbytes_info <= 0:
        return None
    (data,) = yield from window.fetch([(header.seek_info, header.nbytes_info)])
    key, _ = read_key(data)
    if key.nbytes != header.nbytes_info:
        raise CorruptFileError("the class descriptions are not where the header says")
    return Record(key, bytes(data[key.key_bytes :]))


def _sorted_out(
    container: Container, plans: Plans
) -> tuple[list[tuple[str, Key]], list[tuple[str, Key]], list[ObjectInfo], list[Key]]:
    """Separate trees, RNTuples, other objects, and those that baskets refer to."""
    trees: list[tuple[str, Key]] = []
    ntuples: list[tuple[str, Key]] = []
    objects: list[ObjectInfo] = []
    carried: list[Key] = []
    is_tree: dict[str, bool] = dict.fromkeys(_TREE_CLASSES, True)
    for directory in container.directories:
        latest = {key.name: key for key in newest(directory.keys)}
        for key in directory.keys:
            # Joins keep texts that differ as cycles of one name.
            told = {key.class_name, latest[key.name].class_name} <= DESCRIPTIONS
            if key.class_name in DIRECTORY_CLASSES or not (told or key is latest[key.name]):
                continue
            path = f"{directory.path}/{key.name}" if directory.path else key.name
            if key.class_name == NTUPLE_CLASS or key.class_name in OLD_CLASSES:
                ntuples.append((path, key))
                continue
            if key.class_name not in is_tree:
                is_tree[key.class_name] = "TTree" in plans.bases(key.class_name)
            if is_tree[key.class_name]:
                trees.append((path, key))
                continue
            objects.append(ObjectInfo(path, key.class_name, key.cycle, key.nbytes, key))
            if key.class_name in CARRIED_CLASSES and not directory.path:
                carried.append(key)
    return trees, ntuples, objects, carried


def _indistinct(*lists: list[tuple[str, Key]]) -> dict[str, str]:
    """Take out of some lists what several trees are called, and say why."""
    count = Counter(path for keys in lists for path, _ in keys)
    for keys in lists:
        keys[:] = [(path, key) for path, key in keys if count[path] == 1]
    why = "one tree is in the directory of that name, another has a slash in its name"
    return {path: why for path, times in count.items() if times > 1}
