"""What a process and its library children say to each other: frames of bytes.

Down go requests and the bytes that were asked for; up come ``r`` with ranges that are
wanted, ``d`` with an answer, ``e`` with an error.
"""

from __future__ import annotations

import struct

import msgspec

from evstream.domain.intervals import Interval

LENGTH = struct.Struct("<Q")
MESSAGE_BYTES_MAX = 1 << 30


class Request(msgspec.Struct, array_like=True, frozen=True):
    """A call of a backend's function of the name ``do``.

    Attributes
    ----------
    size : int
        Bytes of the source, which is then asked for by ranges.
    paths : list of str
        Where to write, then local files to read.
    names : list of str
        What errors call the files that are read.
    """

    do: str
    size: int = 0
    paths: list[str] = []
    tree: str = ""
    runs: list[Interval] = []
    branches: list[str] | None = None
    names: list[str] = []
