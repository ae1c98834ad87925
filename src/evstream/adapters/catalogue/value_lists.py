"""Lists of values in statements: few lengths, so that few statements are prepared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

VALUES_MAX = 512


def value_lists(values: Sequence[T]) -> Iterator[tuple[str, list[T]]]:
    """Yield question marks with commas between, and as many of the values, until all are told.

    A list is as long as a power of two: its last value is repeated, which changes nothing
    behind IN. Each statement with lists of every length would be one to prepare for itself.
    """
    for start in range(0, len(values), VALUES_MAX):
        some = list(values[start : start + VALUES_MAX])
        length = 1 << (len(some) - 1).bit_length()
        some += some[-1:] * (length - len(some))
        yield ", ".join("?" * length), some
