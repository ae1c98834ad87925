"""StreamerInfo: the file's own description of how its classes are laid out.

A record lists one description per class and version. Descriptions are found in
one cheap pass and decoded when they are asked for, since a tree needs about a
dozen of the hundreds that a file may hold.

Source: TStreamerInfo::Streamer and TStreamerElement::Streamer of ROOT 6.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from struct import Struct

from evstream.rootio.errors import CorruptFileError, corrupt_if_broken
from evstream.rootio.primitives import I2, I4, U4, read_string
from evstream.rootio.source import Data

BYTE_COUNT = 0x40000000
NEW_CLASS = 0xFFFFFFFF
CLASS_MASK = 0x80000000
# TBufferFile counts positions from 2, since 0 and 1 mean "null" and "parent".
MAP_OFFSET = 2

_ELEMENT = Struct(">iiii")
_DOUBLE32, _FLOAT16 = 9, 19
_MANTISSA_MAX = 15


@dataclass(frozen=True, slots=True)
class Element:
    """One member of a class, in streaming order.

    ``type`` is ROOT's code (TVirtualStreamerInfo::EReadWrite): 0 for a base class,
    1-19 basic types, +20 for fixed arrays, +40 for arrays counted by ``count_name``.
    ``packed_bytes`` is what an item of a Float16_t or Double32_t takes that is stored in
    fewer bits than its name says; 0 for all that are numbers as they stand.
    """

    name: str
    type: int
    size: int
    array_length: int
    type_name: str
    count_name: str = ""
    packed_bytes: int = 0


@dataclass(frozen=True, slots=True)
class ClassInfo:
    """The members of one version of a class."""

    name: str
    version: int
    checksum: int
    elements: tuple[Element, ...]


@dataclass(frozen=True, slots=True)
class InfoRecord:
    """Where one item of the list is: a description, or a list of evolution rules.

    ``identity`` is the described class's name, version and checksum.
    """

    class_name: str
    identity: tuple[str, int, int]
    start: int
    stop: int


def class_tag(data: Data, at: int, key_bytes: int) -> tuple[str, int]:
    """Decode a class tag; return the class's name and the position behind the tag.

    A tag is either new, followed by the name, or the position of the new one, so
    names are found without having read what lies between.
    """
    (tag,) = U4.unpack_from(data, at)
    behind = at + 4
    if tag == NEW_CLASS:
        name, behind = _c_string(data, behind)
        return name, behind
    if not tag & CLASS_MASK:
        raise CorruptFileError("an object has no class", offset=at)
    where = (tag & ~CLASS_MASK) - MAP_OFFSET - key_bytes
    if where < 0 or U4.unpack_from(data, where)[0] != NEW_CLASS:
        raise CorruptFileError("an object's class refers to no class", offset=at)
    return _c_string(data, where + 4)[0], behind


def _c_string(data: Data, at: int) -> tuple[str, int]:
    # Class names are short; ROOT itself reads at most 1023 characters here.
    raw = bytes(data[at : at + 1024])
    length = raw.index(b"\0")
    return str(raw[:length], "utf-8", "surrogateescape"), at + length + 1


def byte_count(data: Data, at: int) -> tuple[int, int]:
    """Decode a byte count; return where its object ends and the position behind it."""
    (word,) = U4.unpack_from(data, at)
    if not word & BYTE_COUNT or word == NEW_CLASS:
        raise CorruptFileError("a byte count is missing", offset=at)
    stop = at + 4 + (word & ~BYTE_COUNT)
    if stop > len(data):
        raise CorruptFileError("an object runs past its record", offset=at)
    return stop, at + 4


class StreamerInfos:
    """All class descriptions of one file.

    Parameters
    ----------
    data : bytes-like
        The decompressed record: a TList of TStreamerInfo.
    key_bytes : int
        Length of the record's key, from which positions inside count.
    """

    def __init__(self, data: Data, key_bytes: int) -> None:
        self._data = data
        self._key_bytes = key_bytes
        self._where: dict[str, dict[int, tuple[int, int, int]]] = {}
        self._decoded: dict[tuple[str, int], ClassInfo] = {}
        self.records: list[InfoRecord] = []
        if len(data):
            self._locate()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the described classes, in the file's order."""
        return tuple(self._where)

    @property
    def data(self) -> Data:
        """The record's bytes."""
        return self._data

    @property
    def key_bytes(self) -> int:
        """Length of the record's key."""
        return self._key_bytes

    def versions(self, name: str) -> tuple[int, ...]:
        """Versions described for a class; empty if there is none."""
        return tuple(self._where.get(name, ()))

    def get(self, name: str, version: int) -> ClassInfo | None:
        """Describe a class at a version, or return None."""
        where = self._where.get(name, {}).get(version)
        if where is None:
            return None
        key = (name, version)
        if key not in self._decoded:
            self._decoded[key] = self._decode(name, version, *where)
        return self._decoded[key]

    def by_checksum(self, name: str, checksum: int) -> ClassInfo | None:
        """Describe a class without a version of its own, found by its checksum."""
        for version, (_, found, _) in self._where.get(name, {}).items():
            if found == checksum:
                return self.get(name, version)
        return None

    @corrupt_if_broken
    def _locate(self) -> None:
        data = self._data
        _, at = byte_count(data, 0)
        at += 2 + 10
        _, at = read_string(data, at)
        (count,) = I4.unpack_from(data, at)
        at += 4
        for _ in range(count):
            stop, inner = byte_count(data, at)
            name, body = class_tag(data, inner, self._key_bytes)
            # Beside the descriptions there may be a list of schema evolution rules.
            identity = self._locate_one(body) if name == "TStreamerInfo" else (name, 0, 0)
            self.records.append(InfoRecord(name, identity, body, stop))
            _, at = read_string(data, stop)

    def _locate_one(self, at: int) -> tuple[str, int, int]:
        data = self._data
        stop, at = byte_count(data, at)
        _, named = byte_count(data, at + 2)
        name, _ = read_string(data, named + 2 + 10)
        at, _ = byte_count(data, at + 2)
        (checksum,) = U4.unpack_from(data, at)
        (version,) = I4.unpack_from(data, at + 4)
        self._where.setdefault(name, {})[version] = (at + 8, checksum, stop)
        return name, version, checksum

    @corrupt_if_broken
    def _decode(self, name: str, version: int, at: int, checksum: int, stop: int) -> ClassInfo:
        data = self._data
        _, at = byte_count(data, at)
        class_name, at = class_tag(data, at, self._key_bytes)
        _, at = byte_count(data, at)
        at += 2 + 10
        _, at = read_string(data, at)
        (count,) = I4.unpack_from(data, at)
        at += 8
        if class_name != "TObjArray" or not 0 <= count <= stop - at:
            raise CorruptFileError(f"the description of class {name!r} is damaged", name=name)
        elements = []
        for _ in range(count):
            end, at = byte_count(data, at)
            kind, at = class_tag(data, at, self._key_bytes)
            elements.append(self._element(kind, at))
            at = end
        return ClassInfo(name, version, checksum, tuple(elements))

    def _element(self, kind: str, at: int) -> Element:
        data = self._data
        _, at = byte_count(data, at)
        if kind == "TStreamerSTLstring":
            # It derives from TStreamerSTL, which stands between.
            _, at = byte_count(data, at + 2)
        end, inner = byte_count(data, at + 2)
        (version,) = I2.unpack_from(data, inner)
        after_name, named = byte_count(data, inner + 2)
        name, titled = read_string(data, named + 2 + 10)
        title, _ = read_string(data, titled)
        type_, size, array_length, _ = _ELEMENT.unpack_from(data, after_name)
        behind = after_name + _ELEMENT.size
        # Dimensions: counted in version 1, always five afterwards.
        behind += 4 + 4 * I4.unpack_from(data, behind)[0] if version < 2 else 20
        type_name, _ = read_string(data, behind)
        count_name = ""
        if kind in ("TStreamerBasicPointer", "TStreamerLoop"):
            count_name, _ = read_string(data, end + 4)
        packed = _packed_bytes(type_ % 20, title) if type_ < 60 else 0
        return Element(name, type_, size, array_length, type_name, count_name, packed)


def _packed_bytes(basic: int, title: str) -> int:
    """Return the bytes of a Float16_t or Double32_t, 0 if it is a float as it stands.

    A range ``[min,max,bits]`` in the title makes it an unsigned number of four bytes;
    without one it is an exponent and a mantissa, of 12 bits if none are given.
    Source: TStreamerElement's GetRange, TBufferFile::WriteFloat16 and WriteDouble32.
    """
    if basic not in (_DOUBLE32, _FLOAT16):
        return 0
    # The first brackets may be the dimensions of an array.
    for inner in re.findall(r"\[([^\]]*)\]", title):
        parts = [part.strip() for part in inner.split(",")]
        if len(parts) < 2:
            continue
        if parts[0] == parts[1]:
            bits = int(parts[2]) if len(parts) > 2 and parts[2].isdecimal() else 0
            return 3 if basic == _FLOAT16 or 0 < bits < _MANTISSA_MAX else 0
        return 4
    return 3 if basic == _FLOAT16 else 0
