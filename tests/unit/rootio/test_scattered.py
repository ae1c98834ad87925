"""Taking and putting numbers at any positions, against one at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evstream.rootio.scattered import put, take

PAIR = np.dtype([("a", ">i2"), ("b", "<u4")])
TYPES = [np.dtype(name) for name in (">i1", ">u2", ">i4", "<i8", ">f8")] + [PAIR]


@st.composite
def buffers(draw: st.DrawFn) -> tuple[bytes, np.dtype, list[int]]:
    """Draw a buffer, a type and positions of items that do not overlap."""
    dtype = draw(st.sampled_from(TYPES))
    count = draw(st.integers(0, 20))
    gaps = draw(st.lists(st.integers(0, 9), min_size=count, max_size=count))
    at = [int(n) for n in np.cumsum(np.array(gaps, np.int64) + dtype.itemsize) - dtype.itemsize]
    size = (at[-1] + dtype.itemsize if at else 0) + draw(st.integers(0, 5))
    return draw(st.binary(min_size=size, max_size=size)), dtype, draw(st.permutations(at))


@given(buffers())
def test_items_are_taken_where_they_begin(drawn: tuple[bytes, np.dtype, list[int]]) -> None:
    data, dtype, at = drawn
    taken = take(np.frombuffer(data, np.uint8), np.array(at, np.int64), dtype)
    assert taken.dtype == dtype
    assert taken.tobytes() == b"".join(data[i : i + dtype.itemsize] for i in at)


@given(buffers())
def test_items_are_put_where_they_shall_begin(drawn: tuple[bytes, np.dtype, list[int]]) -> None:
    data, dtype, at = drawn
    items = np.frombuffer(bytes(range(1, 1 + dtype.itemsize)) * len(at), dtype)
    buffer = np.frombuffer(data, np.uint8).copy()
    put(buffer, np.array(at, np.int64), items)
    expected = bytearray(data)
    for i in at:
        expected[i : i + dtype.itemsize] = bytes(range(1, 1 + dtype.itemsize))
    assert buffer.tobytes() == bytes(expected)


@pytest.mark.parametrize(("size", "at"), [(3, 0), (10, 7), (0, 0), (10, 1 << 40)])
def test_items_beyond_the_end_are_refused(size: int, at: int) -> None:
    buffer = np.zeros(size, np.uint8)
    where = np.array([at], np.int64)
    with pytest.raises(IndexError):
        take(buffer, where, np.dtype(">i4"))
    with pytest.raises(IndexError):
        put(buffer, where, np.zeros(1, ">i4"))


def test_buffers_with_gaps_are_refused() -> None:
    with pytest.raises(TypeError, match="without gaps"):
        take(np.zeros(16, np.uint8)[::2], np.zeros(1, np.int64), np.dtype(">i4"))
