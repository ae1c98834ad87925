"""Pages as elements and back: every column type of the format.

Elements are kept as stored, so far as taking some of them allows: numbers in split
encoding get their bytes back together, differences are summed, bits are unpacked.

Source: RNTuple Binary Format Specification 1.0, "Column Description".
"""

from __future__ import annotations

from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from evstream.rootio.compression import decompress
from evstream.rootio.errors import CorruptFileError
from evstream.rootio.rntuple.envelope import CHECKSUM_BYTES, checksum
from evstream.rootio.rntuple.schema import Column
from evstream.rootio.source import Data

Elements = npt.NDArray[Any]

BIT, BYTE, CHAR = 0x00, 0x01, 0x02
INDEX32, INDEX64, SWITCH = 0x0E, 0x0F, 0x10
SPLIT_INDEX32, SPLIT_INDEX64 = 0x1A, 0x1B
REAL32_TRUNC, REAL32_QUANT = 0x1C, 0x1D

_BITS = {
    BIT: 1, BYTE: 8, CHAR: 8, 0x03: 8, 0x04: 8, 0x05: 16, 0x06: 16, 0x07: 32, 0x08: 32,
    0x09: 64, 0x0A: 64, 0x0B: 16, 0x0C: 32, 0x0D: 64, INDEX32: 32, INDEX64: 64, SWITCH: 96,
    0x11: 16, 0x12: 16, 0x13: 32, 0x14: 32, 0x15: 64, 0x16: 64, 0x17: 16, 0x18: 32, 0x19: 64,
    SPLIT_INDEX32: 32, SPLIT_INDEX64: 64,
}  # fmt: skip
_BITS_BETWEEN = {REAL32_TRUNC: (10, 31), REAL32_QUANT: (1, 32)}
_SPLIT = frozenset(range(0x11, 0x1C))
INDICES = frozenset({INDEX32, INDEX64, SPLIT_INDEX32, SPLIT_INDEX64})
_DELTA = frozenset({SPLIT_INDEX32, SPLIT_INDEX64})
SWITCH_ITEM = np.dtype([("index", "<u8"), ("tag", "<u4")])
PLANEWISE_ELEMENTS_MIN = 1000
# What ROOT can hold of one page.
ELEMENTS_MAX = 0x7FFFFFFF


class Kind(Enum):
    """What a cut must do with a column's elements."""

    DATA, INDEX, SWITCH = range(3)


def kind_of(column: Column) -> Kind:
    """Tell whether elements count others, and how."""
    if column.type in INDICES:
        return Kind.INDEX
    return Kind.SWITCH if column.type == SWITCH else Kind.DATA


def unsplit(column_type: int) -> int:
    """Return the type whose elements have the same bytes once those are back together."""
    return column_type - (SPLIT_INDEX32 - INDEX32) if column_type in _SPLIT else column_type


def why_unknown(column: Column) -> str:
    """Say why a column's pages cannot be read; empty if they can."""
    if column.type in _BITS:
        fits = column.bits == _BITS[column.type]
    elif column.type in _BITS_BETWEEN:
        lowest, highest = _BITS_BETWEEN[column.type]
        fits = lowest <= column.bits <= highest
    else:
        return f"column type {column.type:#x} is unknown"
    return "" if fits else f"column type {column.type:#x} cannot have {column.bits} bits"


def page_bytes(column: Column, count: int) -> int:
    """Length of a page of so many elements, decompressed."""
    return (count * column.bits + 7) // 8


def opened_bytes(column: Column, count: int) -> int:
    """Memory that so many elements take: bits of odd widths are unpacked into bytes."""
    bits = column.bits
    return count * (bits if bits % 8 or column.type in _BITS_BETWEEN else bits // 8)


def open_page(stored: memoryview, column: Column, count: int, *, checked: bool) -> Elements:
    """Decode a page.

    Parameters
    ----------
    stored : memoryview
        The page as stored, with its checksum if it has one.

    Returns
    -------
    array, shape (count, ...)

    Raises
    ------
    CorruptFileError
    """
    if checked:
        stored, stated = stored[:-CHECKSUM_BYTES], bytes(stored[-CHECKSUM_BYTES:])
        if checksum(stored) != stated:
            raise CorruptFileError(
                "a page's checksum is wrong",
                hint="the source is damaged, or changed after it was inspected",
            )
    size = page_bytes(column, count)
    if len(stored) > size:
        raise CorruptFileError("a page is longer compressed than not")
    data = decompress(stored, size)
    return _decode(data, column, count)


def _decode(data: Data, column: Column, count: int) -> Elements:
    bits = column.bits
    if bits % 8 or column.type in _BITS_BETWEEN:
        raw = np.frombuffer(data, np.uint8)
        return np.unpackbits(raw, count=count * bits, bitorder="little").reshape(count, bits)
    if column.type == SWITCH:
        return np.frombuffer(data, SWITCH_ITEM, count)
    width = bits // 8
    if column.type not in _SPLIT:
        return np.frombuffer(data, f"<u{width}", count)
    planes = np.frombuffer(data, np.uint8).reshape(width, count)
    values: Elements = _joined(planes).view(f"<u{width}").reshape(count)
    if column.type in _DELTA:
        values = np.cumsum(values, dtype=values.dtype)
    return values


def _joined(planes: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Put the bytes of each element together, of which each plane has one."""
    width, count = planes.shape
    if count < PLANEWISE_ELEMENTS_MIN:
        return np.ascontiguousarray(planes.T)
    # numpy transposes one element after the other; one plane after the other is up to five
    # times faster.
    out = np.empty((count, width), np.uint8)
    for number in range(width):
        out[:, number] = planes[number]
    return out


def encode(elements: Elements, column: Column) -> bytes:
    """Encode a page, not compressed yet."""
    bits = column.bits
    if bits % 8 or column.type in _BITS_BETWEEN:
        return np.packbits(elements.reshape(-1), bitorder="little").tobytes()
    if column.type not in _SPLIT:
        return np.ascontiguousarray(elements).tobytes()
    if column.type in _DELTA:
        elements = np.diff(elements, prepend=elements.dtype.type(0))
    width = bits // 8
    planes = np.ascontiguousarray(elements).view(np.uint8).reshape(-1, width)
    return np.ascontiguousarray(planes.T).tobytes()


def empty(column: Column, count: int) -> Elements:
    """Return elements that are all zero."""
    return _decode(bytes(page_bytes(column, count)), column, count)


def zero_is_zero(column: Column) -> bool:
    """Tell whether an element of zero bits reads as zero, as a deferred column's must."""
    if column.type != REAL32_QUANT or len(column.limits) != 16:
        return True
    return float(np.frombuffer(column.limits, "<f8")[0]) == 0.0
