"""A tree's record with gaps: everything about it but the baskets.

A template is made once for a choice of branches. Filling it, for each request,
inserts the basket arrays and the numbers that change, then shifts byte counts
and references past the insertions: a few numpy operations whatever the number
of branches.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from evstream.rootio.class_plan import BASIC_DTYPES
from evstream.rootio.errors import CorruptFileError
from evstream.rootio.object_graph import (
    NULL,
    SELF,
    TOKEN_NUMBERS,
    Array,
    Items,
    ObjectGraph,
    Op,
    Tokens,
)
from evstream.rootio.scattered import put, take
from evstream.rootio.source import Data
from evstream.rootio.streamer_info import BYTE_COUNT, CLASS_MASK, MAP_OFFSET, NEW_CLASS

Int64 = npt.NDArray[np.int64]
# A position in the template, and how many gaps lie before it.
_Place: TypeAlias = tuple[int, int]
_INT64_END = 2.0**63
_GAP = b"\0\0\0\0"
LIST = -1
_RAW, _OPEN, _CLOSE, _POINTER, _ITEMS = map(int, (Op.RAW, Op.OPEN, Op.CLOSE, Op.POINTER, Op.ITEMS))
_NEW = NEW_CLASS.to_bytes(4, "big")


@dataclass(frozen=True, slots=True)
class Skeleton:
    """The shape of one streamed object, detached from the walk that found it.

    Attributes
    ----------
    data : bytes
        The record; only what RAW tokens name is looked at.
    tokens : list of int
        Of all nodes, one after the other: op, a, b, op, a, b ...
    starts : list of int
        Where each node's tokens begin in that list, and its length.
    class_names : list of str, one a node
    """

    data: bytes
    tokens: Tokens
    starts: list[int]
    class_names: list[str]
    lists: list[Items]
    arrays: list[Array]

    @classmethod
    def of(cls, graph: ObjectGraph) -> Skeleton:
        """Detach the shape of a walked object."""
        tokens: Tokens = []
        starts = [0]
        for node in graph.nodes:
            tokens += node.tokens
            starts.append(len(tokens))
        names = [node.class_name for node in graph.nodes]
        return cls(graph.data, tokens, starts, names, graph.lists, graph.arrays)


@dataclass(frozen=True, slots=True)
class Spots:
    """Where numbers of one kind are in a template: position and basic type of each."""

    at: Int64
    type: int

    def get(self, base: npt.NDArray[np.uint8]) -> Int64:
        """Read the value at each spot, as an integer."""
        return as_integers(take(base, self.at, np.dtype(BASIC_DTYPES[self.type])))

    def put(self, into: npt.NDArray[np.uint8], values: npt.ArrayLike) -> None:
        """Write one value at each spot."""
        put(into, self.at, np.asarray(values).astype(np.dtype(BASIC_DTYPES[self.type])))


class Template:
    """A streamed object with gaps for arrays.

    Parameters
    ----------
    skeleton : Skeleton
    keep : callable (Items, node, written) -> bool
        Which items of a list are written; ``written`` says that the node already is.
    dropped : set of nodes
        Pointers to these become null.
    open_lists : set of str
        Members whose lists are gaps too, behind a count of zero and a lower bound.
    spelled : set of nodes
        Those whose class is spelled out though it was before.

    Attributes
    ----------
    arrays : list of int
        Array numbers (of the skeleton) in the order of their gaps; `LIST` for a list's.
    """

    def __init__(
        self,
        skeleton: Skeleton,
        keep: Callable[[Items, int, bool], bool],
        dropped: Container[int] = (),
        open_lists: Container[str] = (),
        spelled: Container[int] = (),
    ) -> None:
        self._skeleton = skeleton
        self._keep = keep
        self._dropped = dropped
        self._open_lists = open_lists
        self._spelled = spelled
        self._pieces: list[bytes] = []
        self._length = 0
        self._class_at: dict[str, _Place] = {}
        self._node_at: dict[int, _Place] = {}
        # Places that depend on the gaps before them are kept with the number of those, in
        # lists of plain numbers: thousands of pairs would keep the collector busy.
        self._counts: list[int] = []  # place, place of the end
        self._references: list[int] = []  # position, place of the target, mask
        self._raws: list[int] = []  # position in the record, here
        self._gap_at: list[int] = []
        self.arrays: list[int] = []
        self._node_at[0] = (0, 0)
        self._node(0)
        self._freeze()

    # --- making ---------------------------------------------------------------

    def _put(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._length += len(piece)

    def _node(self, number: int) -> None:
        skeleton = self._skeleton
        data, tokens = skeleton.data, skeleton.tokens
        opened: list[int] = []
        for at in range(skeleton.starts[number], skeleton.starts[number + 1], TOKEN_NUMBERS):
            op, a = tokens[at], tokens[at + 1]
            if op == _RAW:
                self._raws += (a, self._length)
                self._put(data[a : tokens[at + 2]])
            elif op == _OPEN:
                opened.append(self._open())
            elif op == _CLOSE:
                self._close(opened.pop())
            elif op == _POINTER:
                self._pointer(a)
            elif op == _ITEMS:
                self._items(skeleton.lists[a])
            else:
                self._gap_at.append(self._length)
                self.arrays.append(a)

    def _open(self) -> int:
        count = len(self._counts)
        self._counts += (self._length, len(self._gap_at), 0, 0)
        self._put(_GAP)
        return count

    def _close(self, count: int) -> None:
        self._counts[count + 2] = self._length
        self._counts[count + 3] = len(self._gap_at)

    def _pointer(self, target: int) -> None:
        if target == NULL or target in self._dropped:
            self._put(_GAP)
            return
        if target == 0:
            self._put(SELF.to_bytes(4, "big"))
            return
        known = self._node_at.get(target)
        if known is not None:
            self._reference(known, 0)
            return
        self._node_at[target] = self._length, len(self._gap_at)
        opened = self._open()
        name = self._skeleton.class_names[target]
        tagged = self._class_at.get(name)
        if tagged is not None and target not in self._spelled:
            self._reference(tagged, CLASS_MASK)
        else:
            self._class_at[name] = self._length, len(self._gap_at)
            self._put(_NEW + name.encode("utf-8", "surrogateescape") + b"\0")
        self._node(target)
        self._close(opened)

    def _reference(self, target: _Place, mask: int) -> None:
        self._references += (self._length, *target, mask)
        self._put(_GAP)

    def _items(self, items: Items) -> None:
        if items.name in self._open_lists:
            self._put(_GAP + _GAP)
            self._gap_at.append(self._length)
            self.arrays.append(LIST)
            return
        written = self._node_at
        kept = [i for i, node in enumerate(items.nodes) if self._keep(items, node, node in written)]
        self._put(len(kept).to_bytes(4, "big"))
        if items.options is None:
            self._put(_GAP)  # the lower bound of a TObjArray's indices
        for i in kept:
            self._pointer(items.nodes[i])
            if items.options is not None:
                start, stop = items.options[i]
                self._put(self._skeleton.data[start:stop])

    def _freeze(self) -> None:
        self._base = b"".join(self._pieces)
        self._pieces = []
        counts = np.array(self._counts, np.int64).reshape(-1, 4).T.copy()
        self._from_places, self._to_places = counts[:2], counts[2:]
        references = np.array(self._references, np.int64).reshape(-1, 4).T.copy()
        self._ref_places, self._refs = references[1:3], references[[0, 3]]
        raws = np.array(self._raws, np.int64).reshape(-1, 2)
        self._from, self._to = raws[np.argsort(raws[:, 0], kind="stable")].T.copy()

    @property
    def gaps(self) -> Sequence[int]:
        """Where arrays are inserted, in the order of `arrays`."""
        return self._gap_at

    # --- using ------------------------------------------------------------------

    def spots(self, at: Sequence[int] | Int64, type_: int) -> Spots:
        """Find where numbers of the original record are in this template."""
        positions = np.asarray(at, np.int64)
        run = np.searchsorted(self._from, positions, side="right") - 1
        return Spots(self._to[run] + positions - self._from[run], type_)

    def blank(self) -> npt.NDArray[np.uint8]:
        """Return a copy of the bytes, to put numbers into before `fill`."""
        return np.frombuffer(self._base, np.uint8).copy()

    def fill(self, base: npt.NDArray[np.uint8], arrays: Sequence[Data], key_bytes: int) -> bytes:
        """Insert arrays and settle all counts and references.

        Parameters
        ----------
        base : uint8 array from `blank`
        arrays : one bytes-like a gap
            Flag or count, then items, already big-endian; in the order of ``self.arrays``.
        key_bytes : int
            Length of the record's key.
        """
        sizes = np.array(list(map(len, arrays)), np.int64)
        shift = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])

        def moved(places: Int64) -> Int64:
            at, gaps_before = places
            landed: Int64 = at + shift[gaps_before]
            return landed

        begin, end = moved(self._from_places), moved(self._to_places)
        put(base, self._from_places[0], ((end - begin - 4) | BYTE_COUNT).astype(">u4"))
        at, mask = self._refs
        targets = moved(self._ref_places) + (key_bytes + MAP_OFFSET)
        put(base, at, (targets | mask).astype(">u4"))
        out: list[Data] = []
        done = 0
        view = memoryview(base.tobytes())
        for gap, array in zip(self._gap_at, arrays, strict=True):
            if gap > done:
                out.append(view[done:gap])
                done = gap
            out.append(array)
        out.append(view[done:])
        return b"".join(out)


def as_integers(values: npt.NDArray[Any]) -> Int64:
    """Return counts of any type as integers; refuse what is no number."""
    if values.dtype.kind == "f" and not (np.abs(values) < _INT64_END).all():
        raise CorruptFileError("a count is no number")
    return values.astype(np.int64)
