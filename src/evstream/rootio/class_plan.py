"""Turn class descriptions into short programs that walk over objects.

Runs of members with fixed sizes become one step, and a class without pointers is
marked *flat*: its byte count says all there is to know, so it is stepped over
whole. What remains is little enough to walk a thousand branches in Python.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from evstream.rootio.streamer_info import ClassInfo, Element, StreamerInfos

# Bytes of ROOT's basic types as streamed; long is always eight. Those that are packed are not
# here: their members say how (`Element.packed_bytes`).
BASIC_SIZES = {
    1: 1, 2: 2, 3: 4, 4: 8, 5: 4, 6: 4, 8: 8, 9: 4, 11: 1, 12: 2, 13: 4, 14: 8,
    15: 4, 16: 8, 17: 8, 18: 1,
}  # fmt: skip
# numpy's names for those that are numbers as they stand.
BASIC_DTYPES = {
    1: ">i1", 2: ">i2", 3: ">i4", 4: ">i8", 5: ">f4", 6: ">i4", 8: ">f8", 9: ">f4",
    11: ">u1", 12: ">u2", 13: ">u4", 14: ">u8", 15: ">u4", 16: ">i8", 17: ">u8", 18: ">u1",
}  # fmt: skip
# Basic type of a TArray's items.
ARRAY_TYPES = {
    "TArrayC": 1, "TArrayS": 2, "TArrayI": 3, "TArrayL": 16, "TArrayL64": 16, "TArrayF": 5,
    "TArrayD": 8,
}  # fmt: skip
LIST_CLASSES = frozenset({"TList", "THashList", "TSortedList"})
# Leaves are flat up to their counter, but their maximum must be found; parameters have a value
# to be added, and axes without labels (ROOT 4 and older, Geant4) have limits.
_SOUGHT = ("TLeaf", "TParameter<", "TAxis")
_BITS = 15
_FIXED_ARRAY, _COUNTED_ARRAY = 20, 40
_BASE, _OBJECT, _ANY, _OBJECT_INLINE, _OBJECT_POINTER = 0, 61, 62, 63, 64
_STRING, _TOBJECT, _TNAMED, _ANY_INLINE, _ANY_POINTER = 65, 66, 67, 68, 69
_STL, _STL_STRING, _STREAMER, _LOOP = 300, 365, 500, 501


class Do(IntEnum):
    """What a step of a plan does."""

    FIXED = 0  # skip `size` bytes, noting the fields among them
    STRING = 1  # a TString
    TOBJECT = 2  # a TObject without byte count
    INLINE = 3  # an object with header, of class `name`
    POINTER = 4  # an object behind a pointer, once per `size`
    COUNTED = 5  # a flag, then as many items as the counter says
    ARRAY = 6  # a TArray: a count, then items of `type`
    OBJECTS = 7  # a TObjArray by value
    LIST = 8  # a TList by value
    OPAQUE = 9  # skipped by its byte count
    REFUSE = 10  # cannot be walked, unless it is an empty container


# Numeric members within a run of bytes: the offset and basic type of each.
Fields: TypeAlias = Mapping[str, tuple[int, int]]
_NO_FIELDS: Fields = MappingProxyType({})


class Step(NamedTuple):
    """One step; which members matter depends on `do`."""

    do: Do
    name: str = ""
    size: int = 0
    type: int = 0
    count_name: str = ""
    class_name: str = ""
    fields: Fields = _NO_FIELDS


@dataclass(frozen=True, slots=True)
class ClassPlan:
    """How to walk one version of a class.

    ``flat`` says that it holds no pointers, ``whole`` that nothing in it is looked for
    either, so that its byte count is all that a walk needs.
    """

    name: str
    steps: tuple[Step, ...]
    flat: bool
    whole: bool


class Plans:
    """Plans of one file's classes, made when first needed."""

    def __init__(self, infos: StreamerInfos) -> None:
        self.infos = infos
        self._plans: dict[tuple[str, int], ClassPlan | None] = {}
        self._flat: dict[str, bool] = {"TNamed": True, "TObject": True}

    def get(self, name: str, version: int) -> ClassPlan | None:
        """Return the plan of a class at a version; None if it is not described."""
        key = (name, version)
        try:
            return self._plans[key]
        except KeyError:
            info = self.infos.get(name, version)
            plan = self._plans[key] = None if info is None else self._compile(info)
            return plan

    def bases(self, name: str) -> set[str]:
        """Name a class and all that it derives from, over all versions described."""
        found: set[str] = set()
        pending = [name]
        while pending:
            one = pending.pop()
            if one in found:
                continue
            found.add(one)
            for version in self.infos.versions(one):
                info = self.infos.get(one, version)
                if info is not None:
                    pending += [e.name for e in info.elements if e.type_name == "BASE"]
        return found

    def flat(self, name: str) -> bool:
        """Whether no object of this class can hold a pointer or a pointer's tag."""
        if name not in self._flat:
            self._flat[name] = False  # so that a class that holds itself comes to an end
            versions = self.infos.versions(name)
            plans = [self.get(name, version) for version in versions]
            self._flat[name] = bool(plans) and all(p is not None and p.flat for p in plans)
        return self._flat[name]

    def _compile(self, info: ClassInfo) -> ClassPlan:
        steps: list[Step] = []
        run = 0
        fields: dict[str, tuple[int, int]] = {}
        for element in info.elements:
            size = _fixed_size(element)
            if size is not None:
                if element.type in BASIC_DTYPES and not element.packed_bytes:
                    fields[element.name] = run, element.type
                run += size
                continue
            if run:
                steps.append(Step(Do.FIXED, size=run, fields=fields))
                run, fields = 0, {}
            steps += self._variable(element)
        if run:
            steps.append(Step(Do.FIXED, size=run, fields=fields))
        flat = all(self._step_is_flat(s) for s in steps)
        return ClassPlan(info.name, tuple(steps), flat, flat and not info.name.startswith(_SOUGHT))

    def _step_is_flat(self, step: Step) -> bool:
        if step.do in (Do.POINTER, Do.OBJECTS, Do.LIST, Do.REFUSE):
            return False
        return step.do != Do.INLINE or self.flat(step.class_name)

    def _variable(self, element: Element) -> list[Step]:
        type_ = element.type
        repeat = 1
        if _FIXED_ARRAY + _OBJECT <= type_ <= _FIXED_ARRAY + _ANY_POINTER:
            type_ -= _FIXED_ARRAY
            repeat = max(1, element.array_length)
        name = element.name
        if type_ in (_OBJECT_POINTER, _ANY_POINTER):
            return [Step(Do.POINTER, name, size=repeat)]
        counted = _COUNTED_ARRAY < type_ < _COUNTED_ARRAY + 20
        if counted and type_ - 40 in BASIC_SIZES and not element.packed_bytes:
            return [Step(Do.COUNTED, name, type=type_ - 40, count_name=element.count_name)]
        return [self._one(element, type_)] * repeat

    def _one(self, element: Element, type_: int) -> Step:
        name = element.name
        class_name = name if element.type_name == "BASE" else element.type_name.rstrip("*")
        if type_ == _STRING:
            return Step(Do.STRING, name)
        if type_ == _TOBJECT or class_name == "TObject":
            return Step(Do.TOBJECT, name)
        if type_ in (_BASE, _OBJECT, _ANY, _OBJECT_INLINE, _ANY_INLINE, _TNAMED):
            if class_name in ARRAY_TYPES:
                return Step(Do.ARRAY, name, type=ARRAY_TYPES[class_name])
            if class_name == "TObjArray":
                return Step(Do.OBJECTS, name, class_name=class_name)
            if class_name in LIST_CLASSES:
                return Step(Do.LIST, name, class_name=class_name)
            return Step(Do.INLINE, name, class_name=class_name)
        if type_ == _STL_STRING or (type_ in (_STL, _STREAMER) and holds_plain_values(class_name)):
            return Step(Do.OPAQUE, name)
        return Step(Do.REFUSE, name, class_name=element.type_name)


def _fixed_size(element: Element) -> int | None:
    if element.packed_bytes and element.type < _COUNTED_ARRAY:
        return element.packed_bytes * max(1, element.array_length)
    if element.type in BASIC_SIZES:
        return BASIC_SIZES[element.type]
    basic = element.type - _FIXED_ARRAY
    if basic in BASIC_SIZES and element.array_length > 0:
        return BASIC_SIZES[basic] * element.array_length
    return None


_PLAIN = frozenset({
    "bool", "char", "short", "int", "long", "float", "double", "string", "signed", "unsigned",
    "std", "Bool_t", "Char_t", "Short_t", "Int_t", "Long_t", "Long64_t", "Float_t", "Double_t",
    "UChar_t", "UShort_t", "UInt_t", "ULong_t", "ULong64_t", "TString",
    # What a map is ordered by holds nothing.
    "TFormulaParamOrder",
})  # fmt: skip
_CONTAINERS = frozenset({
    "vector", "list", "deque", "set", "multiset", "map", "multimap", "pair", "bitset",
})  # fmt: skip


@lru_cache(1024)
def holds_plain_values(type_name: str) -> bool:
    """Say whether a C++ type consists of numbers, strings and containers of those only."""
    if "*" in type_name:
        return False
    words = "".join(c if c.isalnum() or c == "_" else " " for c in type_name).split()
    return all(w in _PLAIN or w in _CONTAINERS or w.isdigit() for w in words)
