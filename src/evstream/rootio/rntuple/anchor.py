"""The anchor, an RNTuple's handle in a file, and the blobs that it leads to.

Source: ROOT::RNTuple::Streamer and RMiniFileReader::ReadBuffer of ROOT 6.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from struct import Struct

import xxhash

from evstream.rootio.errors import CorruptFileError, UnsupportedFeatureError
from evstream.rootio.source import Data, Range, Steps, fetch
from evstream.rootio.streamer_info import BYTE_COUNT

CLASS = "ROOT::RNTuple"
# Candidates for the format, of before its first release, have other names and layouts.
OLD_CLASSES = frozenset({"ROOT::Experimental::RNTuple"})
CLASS_VERSION = 2
EPOCH = 1
# ROOT splits what is longer into several keys; see `extents`.
KEY_BYTES_MAX = 1 << 30

_VERSIONED = Struct(">IH")
_FIELDS = Struct(">HHHHQQQQQQQ")
_CHECKSUM = Struct(">Q")
_OFFSET_BYTES = 8
# A blob in more pieces than this is no blob.
_PIECES_MAX = 1 << 20


@dataclass(frozen=True, slots=True)
class Link:
    """Where an envelope is: offset, bytes as stored, bytes once decompressed."""

    offset: int
    size: int
    length: int


@dataclass(frozen=True, slots=True)
class Anchor:
    """The anchor's fields. ``version`` is epoch, major, minor, patch."""

    version: tuple[int, int, int, int]
    header: Link
    footer: Link
    key_bytes_max: int

    @classmethod
    def parse(cls, data: Data) -> Anchor:
        """Decode an anchor's record, decompressed.

        Raises
        ------
        CorruptFileError, UnsupportedFeatureError
        """
        word, class_version = _VERSIONED.unpack_from(data, 0)
        stop = 4 + (word & ~BYTE_COUNT)
        if not word & BYTE_COUNT or stop > len(data) or class_version < CLASS_VERSION:
            raise CorruptFileError("an RNTuple's anchor is damaged")
        # Later versions append fields; the checksum covers them too, and stands behind.
        covered = memoryview(data)[_VERSIONED.size : stop]
        (stated,) = _CHECKSUM.unpack_from(data, stop)
        if xxhash.xxh3_64_intdigest(covered) != stated:
            raise CorruptFileError(
                "an anchor's checksum is wrong", hint="the file is damaged; fetch it again"
            )
        fields = _FIELDS.unpack_from(covered, 0)
        epoch, major, minor, patch, *numbers, key_bytes_max = fields
        if epoch != EPOCH:
            raise UnsupportedFeatureError(
                f"it has epoch {epoch} of the RNTuple format, not {EPOCH}",
                hint="write it again with ROOT 6.34 or newer",
            )
        if max(fields) >= 1 << 62:
            raise CorruptFileError("an anchor holds impossible positions")
        header, footer = (
            Link(seek, nbytes, length) for seek, nbytes, length in (numbers[:3], numbers[3:])
        )
        return cls((epoch, major, minor, patch), header, footer, key_bytes_max)

    def to_bytes(self) -> bytes:
        """Encode the anchor's record."""
        fields = _FIELDS.pack(
            *self.version,
            self.header.offset, self.header.size, self.header.length,
            self.footer.offset, self.footer.size, self.footer.length,
            self.key_bytes_max,
        )  # fmt: skip
        body = _VERSIONED.pack(BYTE_COUNT | (2 + len(fields)), CLASS_VERSION) + fields
        return body + _CHECKSUM.pack(xxhash.xxh3_64_intdigest(fields))


def extents(offset: int, size: int, key_bytes_max: int, source_size: int) -> Steps[list[Range]]:
    """Find the stretches that a blob is stored in: one, unless it is longer than a key may be.

    The first key of a split blob ends with the positions of the others.
    """
    if not key_bytes_max or size <= key_bytes_max:
        return [(offset, size)]
    count = -(-size // key_bytes_max)
    spare = -size % key_bytes_max
    if (count - 1) * _OFFSET_BYTES > spare:
        count += 1
    tail = (count - 1) * _OFFSET_BYTES
    if count > _PIECES_MAX or tail >= key_bytes_max:
        raise CorruptFileError(f"a blob of {size} bytes claims to lie in {count} keys")
    (views,) = yield from fetch([(offset + key_bytes_max - tail, tail)], source_size)
    others: Sequence[int] = Struct(f"<{count - 1}Q").unpack(views)
    pieces = [(offset, key_bytes_max - tail)]
    left = size - pieces[0][1]
    for where in others:
        pieces.append((where, min(left, key_bytes_max)))
        left -= pieces[-1][1]
    if left or any(length <= 0 for _, length in pieces):
        raise CorruptFileError("a blob's pieces do not add up to it")
    return pieces


def read_blobs(
    blobs: Sequence[Range], key_bytes_max: int, source_size: int
) -> Steps[list[memoryview]]:
    """Read blobs, wherever their pieces lie."""
    found = []
    for offset, size in blobs:
        found.append((yield from extents(offset, size, key_bytes_max, source_size)))
    views = yield from fetch([piece for pieces in found for piece in pieces], source_size)
    out, at = [], 0
    for pieces in found:
        mine = views[at : at + len(pieces)]
        at += len(pieces)
        out.append(mine[0] if len(mine) == 1 else memoryview(b"".join(mine)))
    return out
