"""Envelopes and frames: how RNTuple stores what it knows of itself.

All numbers are little-endian. An envelope is a type, a length, contents and a checksum;
contents are numbers, strings and frames. A frame states its length, so that readers
may skip what later versions append.

Source: RNTuple Binary Format Specification 1.0, "Frames" and "Envelopes".
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import TypeVar

import xxhash

from evstream.rootio.errors import CorruptFileError, UnsupportedFeatureError
from evstream.rootio.source import Data

HEADER, FOOTER, PAGE_LIST = 1, 2, 3
CHECKSUM_BYTES = 8
_PREAMBLE_BYTES = 8
# Feature flags come in words of 63; this many words nobody needs.
_FLAG_WORDS_MAX = 16

U2 = Struct("<H")
U4 = Struct("<I")
I4 = Struct("<i")
U8 = Struct("<Q")
I8 = Struct("<q")
_LOCATOR = Struct("<iQ")
_LARGE = Struct("<iQQ")
LIST_HEAD = Struct("<qI")
LARGE_LOCATOR = 1
_SIZE_MAX = 0x7FFFFFFF

_T = TypeVar("_T")


def checksum(data: Data) -> bytes:
    """XXH3, 64 bits, as envelopes and pages store it."""
    return xxhash.xxh3_64_intdigest(data).to_bytes(8, "little")


def open_envelope(data: Data, kind: int) -> memoryview:
    """Check an envelope's type, length and checksum; return what it holds."""
    view = memoryview(data)
    if len(view) < _PREAMBLE_BYTES + CHECKSUM_BYTES:
        raise CorruptFileError("an envelope is shorter than its frame")
    (word,) = U8.unpack_from(view, 0)
    if word & 0xFFFF != kind or word >> 16 != len(view):
        raise CorruptFileError(
            "an envelope is not the one its link promises",
            hint="the file was overwritten or damaged",
            kind=word & 0xFFFF,
        )
    body = view[:-CHECKSUM_BYTES]
    if checksum(body) != bytes(view[-CHECKSUM_BYTES:]):
        raise CorruptFileError(
            "an envelope's checksum is wrong", hint="the file is damaged; fetch it again"
        )
    return body[_PREAMBLE_BYTES:]


def make_envelope(kind: int, body: bytes) -> bytes:
    """Wrap contents into an envelope."""
    size = _PREAMBLE_BYTES + len(body) + CHECKSUM_BYTES
    data = U8.pack(size << 16 | kind) + body
    return data + checksum(data)


class Cursor:
    """Reads one value after the other, never beyond its stretch of an envelope."""

    def __init__(self, data: memoryview, at: int = 0, stop: int | None = None) -> None:
        self.data = data
        self.at = at
        self.stop = len(data) if stop is None else stop

    def take(self, size: int) -> memoryview:
        """Return the next bytes."""
        if size < 0 or self.at + size > self.stop:
            raise CorruptFileError("an envelope ends within a value", offset=self.at)
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, kind: Struct) -> int:
        """Return the next number."""
        value: int = kind.unpack(self.take(kind.size))[0]
        return value

    def text(self) -> str:
        """Return the next string."""
        return str(self.take(self.number(U4)), "utf-8", "surrogateescape")

    def rest(self) -> bytes:
        """Return what later versions have appended."""
        return bytes(self.take(self.stop - self.at))

    @property
    def at_end(self) -> bool:
        """Whether all is read."""
        return self.at >= self.stop

    def record(self) -> Cursor:
        """Enter a record frame, and go behind it."""
        start = self.at
        size = self.number(I8)
        return self._frame(start, size)

    def _frame(self, start: int, size: int) -> Cursor:
        if size < self.at - start or start + size > self.stop:
            raise CorruptFileError("a frame has an impossible length", offset=start)
        inner = Cursor(self.data, self.at, start + size)
        self.at = start + size
        return inner

    def list_frame(self) -> tuple[Cursor, int]:
        """Enter a list frame, and go behind it; return it with its number of items."""
        start = self.at
        size, count = LIST_HEAD.unpack(self.take(LIST_HEAD.size))
        inner = self._frame(start, -size)
        # No item is shorter than a byte, so a claim is checked before it costs anything.
        if count > inner.stop - inner.at:
            raise CorruptFileError("a list claims more items than it has bytes", offset=start)
        return inner, count

    def records(self, parse: Callable[[Cursor], _T]) -> list[_T]:
        """Read a list of record frames."""
        inner, count = self.list_frame()
        return [parse(inner.record()) for _ in range(count)]

    def features(self) -> None:
        """Read feature flags, and refuse any: version 1.0 knows none."""
        for _ in range(_FLAG_WORDS_MAX):
            word = self.number(I8)
            if word not in (0, -1 << 63):
                raise UnsupportedFeatureError(
                    f"it uses features this version does not know (flags {word & (2**64 - 1):#x})",
                    hint="use a newer version of evstream",
                )
            if word >= 0:
                return
        raise CorruptFileError("feature flags do not end")

    def locator(self) -> tuple[int, int]:
        """Read a locator; return offset and size."""
        size = self.number(I4)
        if size >= 0:
            return self._checked(self.number(U8), size)
        length, kind = size & 0xFFFF, (size >> 24) & 0x7F
        # As ROOT writes it, the type is a negative byte's absolute value.
        kind = 128 - kind if kind else 0
        if kind != LARGE_LOCATOR or length < _LARGE.size:
            raise UnsupportedFeatureError(
                f"a locator of type {kind} does not point into a file", type=kind
            )
        nbytes, offset = U8.unpack(self.take(8))[0], U8.unpack(self.take(8))[0]
        self.take(length - _LARGE.size)
        return self._checked(offset, nbytes)

    def _checked(self, offset: int, size: int) -> tuple[int, int]:
        if offset + size >= 1 << 62:
            raise CorruptFileError(f"a locator points to byte {offset}", offset=offset)
        return offset, size


def text(value: str) -> bytes:
    """Encode a string."""
    raw = value.encode("utf-8", "surrogateescape")
    return U4.pack(len(raw)) + raw


def record(body: bytes) -> bytes:
    """Wrap contents into a record frame."""
    return I8.pack(len(body) + 8) + body


def list_frame(items: list[bytes]) -> bytes:
    """Wrap finished items into a list frame."""
    body = b"".join(items)
    return LIST_HEAD.pack(-(len(body) + LIST_HEAD.size), len(items)) + body


def locator(offset: int, size: int) -> bytes:
    """Encode a locator into a file."""
    if size <= _SIZE_MAX:
        return _LOCATOR.pack(size, offset)
    head = (1 << 31) | ((128 - LARGE_LOCATOR) << 24) | _LARGE.size
    return U4.pack(head) + U8.pack(size) + U8.pack(offset)
