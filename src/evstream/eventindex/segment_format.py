"""The format of segments, the files that the event index keeps events in.

A segment begins with eight bytes of magic, the length and the CRC-32 of a JSON header (two
``uint32``), and the header; its sections follow, each on a multiple of 64 bytes. All numbers
are little-endian::

    runs         uint32, shape (n_runs,)      runs in the segment, ascending
    run_starts   int64, shape (n_runs + 1,)   where each run's events begin
    lumis        uint32, shape (n_lumis,)     lumi block numbers in the segment, ascending
    files        uint32, shape (n_files,)     numbers of files, as the manifest has them
    events       uint64, shape (n,)           event numbers, ascending within each run
    places       uint64, shape (n,)           where each event is, packed

A place is, from its highest bits down: a position in ``lumis``, one in ``files``, and the entry.
Each takes as many bits as the segment needs, so an event costs 16 bytes.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from evstream.domain.errors import DataError, UnsupportedFormatError
from evstream.eventindex.rows import Array

VERSION = 1
MAGIC = b"EVSINDEX"
PREFIX = struct.Struct("<8sII")
ALIGNMENT = 64
DTYPES = {
    "runs": "<u4",
    "run_starts": "<i8",
    "lumis": "<u4",
    "files": "<u4",
    "events": "<u8",
    "places": "<u8",
}


class Section(msgspec.Struct, frozen=True):
    """Where a section is: bytes from the file's beginning, items, checksum."""

    offset: int
    count: int
    crc32: int


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a segment says of itself; see `Packing` for the bits."""

    version: int
    file_bits: int
    entry_bits: int
    sections: dict[str, Section]


@dataclass(frozen=True, slots=True)
class Packing:
    """How many bits of a place are the file's and the entry's."""

    file_bits: int
    entry_bits: int

    def pack(self, lumis: Array, files: Array, entries: Array) -> Array:
        """Return places of positions in ``lumis`` and ``files``, and of entries."""
        high = lumis.astype(np.uint64) << np.uint64(self.file_bits + self.entry_bits)
        middle = files.astype(np.uint64) << np.uint64(self.entry_bits)
        return high | middle | entries.astype(np.uint64)

    def lumis(self, places: Array) -> Array:
        """Return positions in ``lumis``."""
        return places >> np.uint64(self.file_bits + self.entry_bits)

    def files(self, places: Array) -> Array:
        """Return positions in ``files``."""
        return (places >> np.uint64(self.entry_bits)) & np.uint64((1 << self.file_bits) - 1)

    def entries(self, places: Array) -> Array:
        """Return entries."""
        return places & np.uint64((1 << self.entry_bits) - 1)


def packing_of(lumis: int, files: int, entry_max: int) -> Packing | None:
    """Return how places are packed; None where 64 bits do not hold them."""
    packing = Packing(max(files - 1, 0).bit_length(), entry_max.bit_length())
    bits = max(lumis - 1, 0).bit_length() + packing.file_bits + packing.entry_bits
    # A shift by 64 is undefined; an entry of so many bits does not exist either.
    return packing if bits <= 64 and packing.file_bits + packing.entry_bits < 64 else None


def read_header(head: bytes, path: Path) -> Header:
    """Read a segment's header from its first bytes.

    Raises
    ------
    DataError
        It is damaged.
    UnsupportedFormatError
        It is none, or of a later version.
    """
    if len(head) < PREFIX.size or not head.startswith(MAGIC):
        raise UnsupportedFormatError(
            f"{path} is no segment of an event index", hint="build the index anew"
        )
    _, length, crc = PREFIX.unpack_from(head)
    text = head[PREFIX.size : PREFIX.size + length]
    if len(text) != length or zlib.crc32(text) != crc:
        raise damaged(path, "its header has another checksum than was written")
    try:
        version = msgspec.json.decode(text, type=dict[str, Any])["version"]
        if version != VERSION:
            raise UnsupportedFormatError(
                f"{path} has version {version} of the event index, and {VERSION} is read here",
                hint="use the evstream that wrote it, or build the index anew",
            )
        header = msgspec.json.decode(text, type=Header)
    except (msgspec.DecodeError, KeyError, RecursionError, UnicodeError) as error:
        raise damaged(path, str(error)) from error
    if set(header.sections) != set(DTYPES):
        raise damaged(path, "sections are missing")
    if min(header.file_bits, header.entry_bits) < 0 or header.file_bits + header.entry_bits > 63:
        raise damaged(path, "its places cannot be unpacked")
    return header


def damaged(path: Path, why: str) -> DataError:
    """Return the error for a segment that is not as it was written."""
    return DataError(
        f"{path} is damaged: {why}",
        hint="remove the index's folder and build it anew",
        path=str(path),
    )
