"""Byte ranges of one file: whether they lie in it, and which to fetch together."""

from __future__ import annotations

from collections.abc import Sequence

from evstream.domain.errors import DataError

ByteRange = tuple[int, int]
"""``(offset, size)`` in bytes."""


def check_ranges(name: str, size: int, ranges: Sequence[ByteRange]) -> None:
    """Refuse ranges that reach beyond the end of a file.

    Raises
    ------
    DataError
        The file is shorter than what it says of itself.
    """
    for offset, length in ranges:
        if offset < 0 or length < 0 or offset + length > size:
            raise truncated(name, offset, length, size)


def truncated(name: str, offset: int, wanted: int, size: int) -> DataError:
    """Return the error that says that bytes are missing."""
    return DataError(
        f"{name} is truncated: {wanted} bytes at offset {offset} of {size}",
        hint="fetch the file again from where it came",
        name=name,
        offset=offset,
        wanted=wanted,
        size=size,
    )


def coalesce(
    ranges: Sequence[ByteRange], gap_bytes_max: int, span_bytes_max: int
) -> list[tuple[int, int, list[int]]]:
    """Group ranges that lie close together.

    Parameters
    ----------
    gap_bytes_max : int
        Unwanted bytes between two ranges that are cheaper read than asked around.
    span_bytes_max : int
        A group that reached this size takes no more, so that groups run in parallel.

    Returns
    -------
    list of (start, stop, indices)
        Half-open bytes to fetch, and which of the ranges they hold; empty ranges are in
        none.
    """
    groups: list[tuple[int, int, list[int]]] = []
    for index in sorted(range(len(ranges)), key=lambda index: ranges[index]):
        offset, size = ranges[index]
        if size == 0:
            continue
        if groups:
            start, stop, indices = groups[-1]
            end = max(stop, offset + size)
            small = end == stop or end - start <= span_bytes_max
            if offset - stop <= gap_bytes_max and small:
                groups[-1] = (start, end, [*indices, index])
                continue
        groups.append((offset, offset + size, [index]))
    return groups
