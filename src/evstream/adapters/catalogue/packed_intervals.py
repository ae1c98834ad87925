"""Runs of intervals as bytes: the gaps between their ends, in as few bytes as they need, deflated.

Scattered single events take one to three bytes each, a regular pattern next to nothing.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from evstream.domain.intervals import Interval

RUN_MAX = 4096
"""Intervals in one run: reading one event's notes unpacks so many at most."""


def pack(intervals: Sequence[Interval]) -> bytes:
    """Return disjoint intervals in order as bytes."""
    ends = np.asarray(intervals, np.int64).ravel()
    gaps = np.diff(ends, prepend=ends[0])
    width = next(kind for kind in ("u1", "u2", "u4", "u8") if gaps.max() <= np.iinfo(kind).max)
    head = width[1].encode() + int(ends[0]).to_bytes(8, "little")
    # Starts beside starts and lengths beside lengths deflate better than one after the other.
    plain = gaps.reshape(-1, 2).T.astype(f"<{width}").tobytes()
    return head + zlib.compress(plain, 6)


def unpack(packed: bytes) -> list[Interval]:
    """Return what `pack` was given."""
    width, first = packed[:1].decode(), int.from_bytes(packed[1:9], "little")
    gaps = np.frombuffer(zlib.decompress(packed[9:]), f"<u{width}").astype(np.int64)
    ends = first + np.cumsum(gaps.reshape(2, -1).T.ravel())
    return [(int(start), int(stop)) for start, stop in ends.reshape(-1, 2)]
