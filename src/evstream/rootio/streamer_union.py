"""One list of class descriptions for files that are joined."""

from __future__ import annotations

from collections.abc import Sequence

from evstream.rootio.errors import CorruptFileError, SchemaMismatchError, corrupt_if_broken
from evstream.rootio.object_graph import Items, Op, Tokens
from evstream.rootio.primitives import I4, read_string
from evstream.rootio.source import Data
from evstream.rootio.streamer_info import (
    ClassInfo,
    InfoRecord,
    StreamerInfos,
    byte_count,
    class_tag,
)
from evstream.rootio.tree_template import Skeleton, Template

_TOBJECT_BYTES = 10


@corrupt_if_broken
def unite(all_infos: Sequence[StreamerInfos], key_bytes: int, names: Sequence[str]) -> bytes:
    """Write a list that describes every class and version of any of the files.

    Parameters
    ----------
    all_infos : sequence of StreamerInfos
        The first file's descriptions come first.
    key_bytes : int
        Length of the key that will stand before the list.
    names : sequence of str
        What errors call the files.

    Raises
    ------
    SchemaMismatchError
        A class has two layouts under one version. Entries state the version alone, so
        a reader would take one of the layouts for all.
    """
    union = _Union()
    seen: set[tuple[str, int, int]] = set()
    layouts: dict[tuple[str, int], ClassInfo | None] = {}
    for infos, file in zip(all_infos, names, strict=True):
        union.enter(infos)
        for record in infos.records:
            if record.identity not in seen:
                seen.add(record.identity)
                union.add(record)
                if record.class_name == "TStreamerInfo":
                    name, version, _ = record.identity
                    own = infos.get(name, version)
                    _refuse_other_layout(layouts.setdefault((name, version), own), own, file)
    return union.write(key_bytes)


def _refuse_other_layout(first: ClassInfo | None, other: ClassInfo | None, file: str) -> None:
    if first is None or other is None or _layout(first) == _layout(other):
        return
    names = [element.name for element in first.elements], [e.name for e in other.elements]
    raise SchemaMismatchError(
        f"class {other.name} of version {other.version} has other members in {file}: "
        f"{', '.join(names[1])} instead of {', '.join(names[0])}",
        hint="its entries would be read wrongly; give the class another version, or join apart",
        class_name=other.name,
    )


def _layout(info: ClassInfo) -> list[tuple[object, ...]]:
    """Return what the bytes of a class depend on; the checksum also depends on spellings."""
    return [
        (
            element.name,
            element.type,
            element.array_length,
            element.packed_bytes,
            element.type_name.replace("std::", "").replace(" ", ""),
        )
        for element in info.elements
    ]


class _Union:
    """Collects items of several lists as nodes over their joined bytes."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._base = 0
        self._key_bytes = 0
        self._view: Data = b""
        self._nodes: list[tuple[str, Tokens]] = [("TList", [])]
        self._items = Items(0, "", [], [])
        self._lists = [self._items]

    def enter(self, infos: StreamerInfos) -> None:
        self._base = len(self._data)
        self._data += infos.data
        self._view = infos.data
        self._key_bytes = infos.key_bytes
        if not self._nodes[0][1]:
            _, at = byte_count(self._view, 0)
            _, at = read_string(self._view, at + 2 + _TOBJECT_BYTES)
            self._nodes[0][1].extend((Op.OPEN, 0, 0, Op.RAW, 4, at, Op.ITEMS, 0, 0, Op.CLOSE, 0, 0))

    def add(self, record: InfoRecord) -> None:
        number = len(self._nodes)
        tokens: Tokens = []
        self._nodes.append((record.class_name, tokens))
        _, option_stop = read_string(self._view, record.stop)
        self._items.nodes.append(number)
        assert self._items.options is not None
        self._items.options.append((self._base + record.stop, self._base + option_stop))
        if record.class_name == "TStreamerInfo":
            self._description(record, tokens)
        else:
            self._rules(record, tokens)

    def _raw(self, tokens: Tokens, start: int, stop: int) -> None:
        tokens += (Op.RAW, self._base + start, self._base + stop)

    def _description(self, record: InfoRecord, tokens: Tokens) -> None:
        stop, body = byte_count(self._view, record.start)
        after_name, _ = byte_count(self._view, body + 2)
        pointer = after_name + 8
        tokens += (Op.OPEN, 0, 0)
        self._raw(tokens, body, pointer)
        tokens += (Op.POINTER, len(self._nodes), 0)
        end, tag = byte_count(self._view, pointer)
        name, inner = class_tag(self._view, tag, self._key_bytes)
        members: Tokens = []
        self._nodes.append((name, members))
        if name != "TObjArray" or end != stop:
            raise CorruptFileError(f"the description of {record.identity[0]!r} is damaged")
        _, at = byte_count(self._view, inner)
        _, at = read_string(self._view, at + 2 + _TOBJECT_BYTES)
        self._collection(members, inner, at, at + 8, None)
        tokens += (Op.CLOSE, 0, 0)

    def _rules(self, record: InfoRecord, tokens: Tokens) -> None:
        if record.class_name != "TList":
            self._raw(tokens, record.start, record.stop)
            return
        _, at = byte_count(self._view, record.start)
        _, at = read_string(self._view, at + 2 + _TOBJECT_BYTES)
        self._collection(tokens, record.start, at, at + 4, [])

    def _collection(
        self,
        tokens: Tokens,
        start: int,
        count_at: int,
        first: int,
        options: list[tuple[int, int]] | None,
    ) -> None:
        """Take a collection whose items hold no pointers."""
        (count,) = I4.unpack_from(self._view, count_at)
        items = Items(0, "", [], options)
        tokens += (Op.OPEN, 0, 0)
        self._raw(tokens, start + 4, count_at)
        tokens += (Op.ITEMS, len(self._lists), 0)
        tokens += (Op.CLOSE, 0, 0)
        self._lists.append(items)
        at = first
        for _ in range(count):
            stop, tag = byte_count(self._view, at)
            name, body = class_tag(self._view, tag, self._key_bytes)
            element: Tokens = []
            self._raw(element, body, stop)
            items.nodes.append(len(self._nodes))
            self._nodes.append((name, element))
            at = stop
            if options is not None:
                _, end = read_string(self._view, at)
                options.append((self._base + at, self._base + end))
                at = end

    def write(self, key_bytes: int) -> bytes:
        tokens: Tokens = []
        starts = [0]
        for _, own in self._nodes:
            tokens += own
            starts.append(len(tokens))
        names = [name for name, _ in self._nodes]
        skeleton = Skeleton(bytes(self._data), tokens, starts, names, self._lists, [])
        template = Template(skeleton, lambda _items, _node, _written: True)
        return template.fill(template.blank(), [], key_bytes)
