"""Walk over a streamed object and keep its shape: what must move when its parts do.

A streamed object is plain bytes except for three things whose values depend on
where they lie: byte counts, class tags and references to earlier objects. The
walk turns a buffer into nodes (objects) whose tokens are runs of plain bytes
with those three between them, so that a writer can leave out objects, insert
items into arrays and put the counts and tags right again.

Source: TBufferFile::ReadObjectAny, TStreamerInfo::ReadBuffer, TObjArray::Streamer
and TList::Streamer of ROOT 6.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from types import MappingProxyType
from typing import Any, TypeAlias

from evstream.rootio.class_plan import (
    BASIC_DTYPES,
    BASIC_SIZES,
    LIST_CLASSES,
    ClassPlan,
    Do,
    Fields,
    Plans,
    Step,
)
from evstream.rootio.errors import CorruptFileError, UnsupportedFeatureError
from evstream.rootio.primitives import I2, I4
from evstream.rootio.source import Data
from evstream.rootio.streamer_info import (
    BYTE_COUNT,
    CLASS_MASK,
    MAP_OFFSET,
    NEW_CLASS,
    class_tag,
)

NULL = -1
_U4: Callable[[bytes, int], tuple[int]] = Struct(">I").unpack_from
_U4_I2: Callable[[bytes, int], tuple[int, int]] = Struct(">Ih").unpack_from
_IS_REFERENCED = 1 << 4
_TOBJECT_BYTES = 10
_DEPTH_MAX = 100
_EMPTY = (BYTE_COUNT | 6).to_bytes(4, "big")
# How a streamed object refers to itself: as the first that was mapped.
SELF = 1
IO_BITS = "fIOFeatures.fIOBits"
_UNCOUNTED = re.compile(r"TH[123][CSIFDL]?|TProfile([23]D)?")


class Op(IntEnum):
    """Kinds of tokens; `a` and `b` are their operands."""

    RAW = 0  # bytes a to b of the buffer
    OPEN = 1  # a byte count whose object ends at the matching CLOSE
    CLOSE = 2
    POINTER = 3  # to node a, or NULL
    ITEMS = 4  # list number a: its count, then its pointers
    ARRAY = 5  # array number a: its flag or count, then its items


# An attribute of an enumeration takes as long to look up as a step of a walk.
_RAW, _OPEN, _CLOSE, _TO, _ITEMS, _ARRAY = (int(op) for op in Op)
_CLOSED = (_CLOSE, 0, 0)
_FIXED, _STRING, _INLINE, _POINTER = Do.FIXED, Do.STRING, Do.INLINE, Do.POINTER
_COUNTED, _OBJECTS = Do.COUNTED, Do.OBJECTS
_IO_FIELDS: Fields = {IO_BITS: (0, 11)}

# Three numbers a token, (op, a, b), in one flat list: a thousand branches have tens of
# thousands of tokens, and as objects of their own they would keep the collector busy.
Tokens: TypeAlias = list[int]
TOKEN_NUMBERS = 3


_Spot: TypeAlias = tuple[int, int]
# Most nodes have few kinds of members, and there are thousands of nodes.
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Node:
    """One object.

    Attributes
    ----------
    runs : list
        Its numbers: the members of a run of bytes, where that begins, and so on. Most
        are never asked for, so their positions are added up when they are.
    strings : members to (start, stop) in the buffer; name and title are found by `named_at`
    named_at : int
        Where its name stands, behind the header of a TNamed; `NULL` for others.
    """

    __slots__ = (
        "arrays", "class_name", "dropped", "items", "named_at", "opaque", "pointers", "runs",
        "strings", "tokens",
    )  # fmt: skip

    def __init__(self, class_name: str, tokens: Tokens | None = None) -> None:
        self.class_name = class_name
        self.tokens: Tokens = [] if tokens is None else tokens
        self.runs: list[Any] = []
        self.strings: Mapping[str, _Spot] = _NOTHING
        self.items: Mapping[str, int] = _NOTHING
        self.pointers: Mapping[str, int] = _NOTHING
        self.arrays: Mapping[str, int] = _NOTHING
        self.dropped: tuple[str, ...] = ()
        self.named_at = NULL
        self.opaque = False

    def runs_of_fields(self) -> Iterator[tuple[Fields, int]]:
        """Give each run's members, and where it begins."""
        halves = iter(self.runs)
        return zip(halves, halves, strict=True)

    def field(self, name: str) -> _Spot | None:
        """Return the position and basic type of a numeric member; of namesakes the last."""
        runs = self.runs
        for i in range(len(runs) - 2, -1, -2):
            place = runs[i].get(name)
            if place is not None:
                return runs[i + 1] + place[0], place[1]
        return None

    @property
    def fields(self) -> dict[str, _Spot]:
        """All numeric members: position and basic type of each."""
        return {
            name: (at + offset, type_)
            for fields, at in self.runs_of_fields()
            for name, (offset, type_) in fields.items()
        }


@dataclass(slots=True)
class Items:
    """A TObjArray or TList: the nodes it points to, and each one's option string."""

    owner: int
    name: str
    nodes: list[int]
    options: list[tuple[int, int]] | None = None


@dataclass(slots=True)
class Array:
    """Items of a basic type. ``counted`` arrays begin with a flag, TArrays with a count."""

    owner: int
    name: str
    start: int
    count: int
    item_bytes: int
    type: int
    counted: bool
    flag: int = 1


class ObjectGraph:
    """The nodes of one buffer; node 0 is the object itself.

    Parameters
    ----------
    data : bytes-like
        A decompressed record.
    key_bytes : int
        Length of its key: references count from the key's first byte.
    plans : Plans
    keep : callable (class name, member) -> bool
        Pointers for which this is false become null, and what is behind them is
        not looked at.
    opaque : set of class names
        Classes taken as plain bytes when met behind a pointer.
    """

    def __init__(
        self,
        data: Data,
        key_bytes: int,
        plans: Plans,
        *,
        keep: Callable[[str, str], bool] = lambda _class, _member: True,
        opaque: frozenset[str] = frozenset(),
    ) -> None:
        # bytes index and unpack faster than memoryviews.
        self.data = bytes(data)
        self.key_bytes = key_bytes
        self.plans = plans
        self.nodes: list[Node] = []
        self.lists: list[Items] = []
        self.arrays: list[Array] = []
        # Nodes whose class is spelled out; ROOT does so once a class, uproot each time.
        self.spelled: set[int] = set()
        self._keep = keep
        self._opaque = opaque
        self._by_position: dict[int, int] = {}
        self._class_names: dict[int, str] = {}
        self._depth = 0
        self._prefix = ""

    def walk(self, class_name: str) -> None:
        """Walk the whole buffer as one object of a class."""
        node = Node(class_name)
        self.nodes.append(node)
        stop = self._pointee(class_name, 0, 0)
        if stop != len(self.data):
            node.tokens += (Op.RAW, stop, len(self.data))

    # --- objects ------------------------------------------------------------

    def _object(self, class_name: str, at: int, number: int) -> int:
        """Walk an object with a header, its own or a base's or a member's, into a node."""
        word, version = _U4_I2(self.data, at)
        if not word & BYTE_COUNT:
            return self._uncounted(class_name, at, number)
        stop = at + 4 + (word & ~BYTE_COUNT)
        if stop > len(self.data) or self._depth > _DEPTH_MAX:
            raise CorruptFileError(f"an object of class {class_name} runs past its record")
        node = self.nodes[number]
        if class_name == "TNamed":
            if node.named_at == NULL:
                node.named_at = at + 6
            _raw(node.tokens, at, stop)
            return stop
        if class_name == "ROOT::TIOFeatures":
            # Its one byte of bits ends it, whichever way its version is written.
            node.runs += (_IO_FIELDS, stop - 1)
            _raw(node.tokens, at, stop)
            return stop
        body = at + 6
        plan = self.plans.get(class_name, version)
        if plan is None:
            plan, body = self._plan_by_checksum(class_name, version, body)
        if plan.whole:
            _raw(node.tokens, at, stop)
            return stop
        node.tokens += (_OPEN, 0, 0, _RAW, at + 4, body)
        self._depth += 1
        behind = self._members(plan, body, stop, number)
        self._depth -= 1
        if behind != stop:
            raise UnsupportedFeatureError(
                f"class {class_name} version {version} is not laid out as the file describes it",
                class_name=class_name,
                version=version,
            )
        node.tokens += _CLOSED
        return stop

    def _uncounted(self, class_name: str, at: int, number: int) -> int:
        """Walk an object that begins with its version, as Geant4 writes histograms."""
        (version,) = I2.unpack_from(self.data, at)
        plan = self.plans.get(class_name, version) if _UNCOUNTED.fullmatch(class_name) else None
        if plan is None or self._depth > _DEPTH_MAX:
            raise UnsupportedFeatureError(
                f"an object of class {class_name} has no byte count, so nothing says where it ends",
                class_name=class_name,
            )
        _raw(self.nodes[number].tokens, at, at + 2)
        self._depth += 1
        behind = self._members(plan, at + 2, len(self.data), number)
        self._depth -= 1
        return behind

    def _plan_by_checksum(self, class_name: str, version: int, body: int) -> tuple[ClassPlan, int]:
        plan = None
        if version <= 0:
            # A class without a version of its own carries its checksum instead.
            (checksum,) = _U4(self.data, body)
            info = self.plans.infos.by_checksum(class_name, checksum)
            if info is not None:
                plan, body = self.plans.get(class_name, info.version), body + 4
        if plan is None:
            raise UnsupportedFeatureError(
                f"the file does not describe class {class_name} version {version}",
                class_name=class_name,
                version=version,
            )
        return plan, body

    def _members(self, plan: ClassPlan, at: int, stop: int, number: int) -> int:
        node = self.nodes[number]
        tokens = node.tokens
        plain = at  # where bytes begin that are in no token yet
        for step in plan.steps:
            do = step.do
            if do is _FIXED:
                if step.fields:
                    node.runs += (self._prefixed(step.fields), at)
                at += step.size
            elif do is _STRING:
                end = self._string_end(at)
                node.strings = {**node.strings, step.name: (at, end)}
                at = end
            else:
                if at > plain:
                    _raw(tokens, plain, at)
                at = plain = self._structured(plan, step, at, number)
            if at > stop:
                raise CorruptFileError(f"an object of class {plan.name} runs past its end")
        if at > plain:
            _raw(tokens, plain, at)
        return at

    def _structured(self, plan: ClassPlan, step: Step, at: int, number: int) -> int:
        """Walk a member that is more than bytes."""
        do = step.do
        if do is _INLINE:
            if step.name == step.class_name:
                return self._object(step.class_name, at, number)
            # Members of a base are the object's own; those of a member carry its name.
            outer = self._prefix
            self._prefix = f"{outer}{step.name}."
            at = self._object(step.class_name, at, number)
            self._prefix = outer
        elif do is _COUNTED:
            return self._counted(step, at, number)
        elif do is _OBJECTS:
            return self._obj_array(step.name, at, number)
        elif do is _POINTER:
            for _ in range(step.size):
                at = self._pointer_member(plan.name, step.name, at, number)
        else:
            at = self._rare(step, at, number)
        return at

    def _prefixed(self, fields: Fields) -> Fields:
        prefix = self._prefix
        return {prefix + name: place for name, place in fields.items()} if prefix else fields

    def _rare(self, step: Step, at: int, number: int) -> int:
        tokens = self.nodes[number].tokens
        if step.do == Do.TOBJECT:
            end = self._tobject_end(at)
        elif step.do == Do.ARRAY:
            return self._tarray(step, at, number)
        elif step.do == Do.LIST:
            return self._list(step.name, at, number)
        elif step.do == Do.OPAQUE or self._is_empty_container(at):
            end = at + 4 + (_U4(self.data, at)[0] & ~BYTE_COUNT)
        else:
            raise UnsupportedFeatureError(
                f"member {step.name} of type {step.class_name} cannot be carried over",
                member=step.name,
            )
        _raw(tokens, at, end)
        return end

    def _is_empty_container(self, at: int) -> bool:
        """Whether a byte count is followed by a version and a count of zero, and no more."""
        return self.data[at : at + 4] == _EMPTY and self.data[at + 6 : at + 10] == bytes(4)

    def _tobject_end(self, at: int) -> int:
        bits = _U4(self.data, at + 6)[0]
        return at + _TOBJECT_BYTES + (2 if bits & _IS_REFERENCED else 0)

    def _string_end(self, at: int) -> int:
        length = self.data[at]
        if length < 255:
            return at + 1 + length
        (length,) = _U4(self.data, at + 1)
        return at + 5 + length

    # --- arrays ---------------------------------------------------------------

    def _counted(self, step: Step, at: int, number: int) -> int:
        node = self.nodes[number]
        spot = node.field(self._prefix + step.count_name)
        if spot is None:
            raise CorruptFileError(f"array {step.name} has no counter")
        (count,) = I4.unpack_from(self.data, spot[0])
        flag = self.data[at]
        item_bytes = BASIC_SIZES[step.type]
        type_ = step.type
        if flag == 2:  # TBranch before version 10 marks eight-byte positions so
            item_bytes, type_ = 8, 16
        end = self._array(step.name, at + 1, count if flag else 0, item_bytes, type_, number, True)
        self.arrays[-1].flag = flag
        return end

    def _tarray(self, step: Step, at: int, number: int) -> int:
        (count,) = I4.unpack_from(self.data, at)
        size = BASIC_SIZES[step.type]
        return self._array(step.name, at + 4, count, size, step.type, number, False)

    def _array(
        self, name: str, at: int, count: int, item_bytes: int, type_: int, number: int,
        counted: bool,
    ) -> int:  # fmt: skip
        end = at + count * item_bytes
        if count < 0 or end > len(self.data):
            raise CorruptFileError(f"array {name} of {count} items does not fit its record")
        node = self.nodes[number]
        node.arrays = {**node.arrays, self._prefix + name: len(self.arrays)}
        node.tokens += (_ARRAY, len(self.arrays), 0)
        self.arrays.append(Array(number, name, at, count, item_bytes, type_, counted))
        return end

    # --- pointers -------------------------------------------------------------

    def _pointer_member(self, class_name: str, member: str, at: int, number: int) -> int:
        node = self.nodes[number]
        if self._keep(class_name, member):
            target, at = self._pointer(at)
        else:
            (word,) = _U4(self.data, at)
            counted = word & BYTE_COUNT and word != NEW_CLASS
            target, at = NULL, at + 4 + (word & ~BYTE_COUNT if counted else 0)
            if word:
                node.dropped += (member,)
        node.pointers = {**node.pointers, self._prefix + member: target}
        node.tokens += (_TO, target, 0)
        return at

    def _pointer(self, at: int) -> tuple[int, int]:
        """Walk what a pointer leads to; return its node and the position behind it."""
        start = at
        (word,) = _U4(self.data, at)
        if word <= SELF:
            return (0 if word else NULL), at + 4
        if not word & CLASS_MASK and not word & BYTE_COUNT:
            target = self._by_position.get(word - MAP_OFFSET - self.key_bytes)
            if target is None:
                raise UnsupportedFeatureError(
                    "a pointer leads to an object that is not carried over", offset=at
                )
            return target, at + 4
        if word & CLASS_MASK:
            raise UnsupportedFeatureError("an object behind a pointer has no byte count", offset=at)
        stop = at + 4 + (word & ~BYTE_COUNT)
        if stop > len(self.data):
            raise CorruptFileError("an object runs past its record", offset=at)
        name, body = self._class(at + 4)
        number = len(self.nodes)
        if body > at + 8:
            self.spelled.add(number)
        node = Node(name)
        self.nodes.append(node)
        self._by_position[start] = number
        outer, self._prefix = self._prefix, ""
        if name in self._opaque:
            self._prefix = outer
            node.opaque = True
            _raw(node.tokens, body, stop)
            return number, stop
        behind = self._pointee(name, body, number)
        self._prefix = outer
        if behind != stop:
            raise CorruptFileError(f"an object of class {name} does not end where it should")
        return number, stop

    def _pointee(self, name: str, body: int, number: int) -> int:
        node = self.nodes[number]
        if name == "TObjArray":
            return self._obj_array("", body, number)
        if name in LIST_CLASSES:
            return self._list("", body, number)
        if name == "TObjString":
            stop = body + 4 + (_U4(self.data, body)[0] & ~BYTE_COUNT)
            _raw(node.tokens, body, stop)
            return stop
        return self._object(name, body, number)

    def _class(self, at: int) -> tuple[str, int]:
        (tag,) = _U4(self.data, at)
        if tag != NEW_CLASS:
            name = self._class_names.get(tag)
            if name is None:
                name, _ = class_tag(self.data, at, self.key_bytes)
                self._class_names[tag] = name
            return name, at + 4
        return class_tag(self.data, at, self.key_bytes)

    # --- collections ------------------------------------------------------------

    def _obj_array(self, member: str, at: int, number: int) -> int:
        node = self.nodes[number]
        tokens = node.tokens
        stop = at + 4 + (_U4(self.data, at)[0] & ~BYTE_COUNT)
        body = self._string_end(self._tobject_end(at + 6))
        (count,) = I4.unpack_from(self.data, body)
        first = body + 8
        if not 0 <= count <= (stop - first) // 4 or stop > len(self.data):
            raise CorruptFileError(f"an array of {count} objects does not fit its record")
        if not count and member != "fBaskets":
            _raw(tokens, at, stop)
            return stop
        tokens += (_OPEN, 0, 0, _RAW, at + 4, body)
        items = self._items(member, number)
        at = first
        if member == "fBaskets" and self.data.count(0, first, stop) == stop - first:
            # Places of baskets that were written long ago, dozens a branch.
            at, count = stop, 0
        self._depth += 1
        for _ in range(count):
            target, at = self._pointer(at)
            items.nodes.append(target)
        self._depth -= 1
        if at != stop:
            raise CorruptFileError("an array of objects does not end where it should")
        tokens += _CLOSED
        return stop

    def _list(self, member: str, at: int, number: int) -> int:
        node = self.nodes[number]
        tokens = node.tokens
        stop = at + 4 + (_U4(self.data, at)[0] & ~BYTE_COUNT)
        body = self._string_end(self._tobject_end(at + 6))
        (count,) = I4.unpack_from(self.data, body)
        if not 0 <= count <= (stop - body) // 5 or stop > len(self.data):
            raise CorruptFileError(f"a list of {count} objects does not fit its record")
        tokens += (_OPEN, 0, 0, _RAW, at + 4, body)
        items = self._items(member, number)
        items.options = []
        at = body + 4
        self._depth += 1
        for _ in range(count):
            target, at = self._pointer(at)
            end = self._string_end(at)
            items.nodes.append(target)
            items.options.append((at, end))
            at = end
        self._depth -= 1
        if at != stop:
            raise CorruptFileError("a list of objects does not end where it should")
        tokens += _CLOSED
        return stop

    def _items(self, member: str, number: int) -> Items:
        node = self.nodes[number]
        items = Items(number, member, [])
        node.items = {**node.items, self._prefix + member: len(self.lists)}
        node.tokens += (_ITEMS, len(self.lists), 0)
        self.lists.append(items)
        return items

    # --- values -----------------------------------------------------------------

    def number(self, node: int, name: str, default: int = 0) -> int:
        """Return a numeric member as an integer; old files keep counts as doubles."""
        spot = self.nodes[node].field(name)
        return default if spot is None else self.value(*spot)

    def value(self, at: int, type_: int) -> int:
        """Return the number of a basic type at a position, as an integer."""
        (value,) = _READERS[type_](self.data, at)
        return int(value)

    def label(self, at: int) -> str:
        """Return the text of a TObjString whose header begins at a position."""
        start = self._tobject_end(at + 6)
        skip = 5 if self.data[start] == 255 else 1
        return str(self.data[start + skip : self._string_end(start)], "utf-8", "surrogateescape")

    def name_at(self, node: Node) -> int:
        """Return the position of a named object's name, right behind its TObject."""
        if node.named_at == NULL:
            raise KeyError("fName")
        return self._tobject_end(node.named_at)

    def text(self, node: int, name: str) -> str:
        """Return a string member, "" if the class has none."""
        one = self.nodes[node]
        if name in ("fName", "fTitle") and one.named_at != NULL:
            start = self.name_at(one)
            end = self._string_end(start)
            if name == "fTitle":
                start, end = end, self._string_end(end)
        elif name in one.strings:
            start, end = one.strings[name]
        else:
            return ""
        skip = 5 if self.data[start] == 255 else 1
        return str(self.data[start + skip : end], "utf-8", "surrogateescape")


_CODES = {
    ">i1": "b", ">u1": "B", ">i2": "h", ">u2": "H", ">i4": "i", ">u4": "I", ">i8": "q",
    ">u8": "Q", ">f4": "f", ">f8": "d",
}  # fmt: skip
_READERS = {type_: Struct(">" + _CODES[dtype]).unpack_from for type_, dtype in BASIC_DTYPES.items()}


def _raw(tokens: Tokens, start: int, stop: int) -> None:
    """Add plain bytes, joining them to those before if they follow without a gap."""
    if tokens and tokens[-1] == start and tokens[-3] == _RAW:
        tokens[-1] = stop
    elif stop > start:
        tokens += (_RAW, start, stop)
