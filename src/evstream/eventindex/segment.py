"""Segments: sorted, immutable files of the event index, read as memory maps.

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

import mmap
import os
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import msgspec
import numpy as np
import numpy.typing as npt

from evstream.domain.errors import DataError, LimitError, UnsupportedFormatError

Array = npt.NDArray[Any]
Intervals = Sequence[tuple[int, int]]

VERSION = 1
_MAGIC = b"EVSINDEX"
_PREFIX = struct.Struct("<8sII")
_ALIGNMENT = 64
_HEADER_BYTES_MAX = 1 << 20
_DTYPES = {
    "runs": "<u4",
    "run_starts": "<i8",
    "lumis": "<u4",
    "files": "<u4",
    "events": "<u8",
    "places": "<u8",
}
PIECE_EVENTS = 1 << 21
"""Events that are worked on at once: memory stays bounded, however large a segment is."""
NO_LUMI = 0xFFFF_FFFF
"""The lumi block of an event whose file has none, and of a key that names none."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Events of files and where they are; arrays of one length, in any order.

    Attributes
    ----------
    runs, lumis, files : uint32
        A lumi block of `NO_LUMI` stands for none; files are numbered by the manifest.
    events, entries : uint64
    """

    runs: Array
    lumis: Array
    events: Array
    files: Array
    entries: Array

    def __len__(self) -> int:
        return len(self.events)

    @classmethod
    def concatenate(cls, pieces: Sequence[Rows]) -> Self:
        """Return rows of several pieces behind each other."""
        return cls(
            np.concatenate([np.empty(0, np.uint32), *(p.runs for p in pieces)]),
            np.concatenate([np.empty(0, np.uint32), *(p.lumis for p in pieces)]),
            np.concatenate([np.empty(0, np.uint64), *(p.events for p in pieces)]),
            np.concatenate([np.empty(0, np.uint32), *(p.files for p in pieces)]),
            np.concatenate([np.empty(0, np.uint64), *(p.entries for p in pieces)]),
        )

    def tuples(self) -> Iterator[tuple[int, int, int, int, int]]:
        """Yield run, lumi block, event, file and entry of each row."""
        columns = (self.runs, self.lumis, self.events, self.files, self.entries)
        yield from zip(*(column.tolist() for column in columns), strict=True)

    def take(self, chosen: Array) -> Rows:
        """Return some rows, by a mask or by positions."""
        return Rows(
            self.runs[chosen],
            self.lumis[chosen],
            self.events[chosen],
            self.files[chosen],
            self.entries[chosen],
        )


class _Section(msgspec.Struct, frozen=True):
    offset: int
    count: int
    crc32: int


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    file_bits: int
    entry_bits: int
    sections: dict[str, _Section]


@dataclass(frozen=True, slots=True)
class _Packing:
    """How many bits of a place are the file's and the entry's."""

    file_bits: int
    entry_bits: int

    def pack(self, lumis: Array, files: Array, entries: Array) -> Array:
        high = lumis.astype(np.uint64) << np.uint64(self.file_bits + self.entry_bits)
        middle = files.astype(np.uint64) << np.uint64(self.entry_bits)
        return high | middle | entries.astype(np.uint64)

    def lumis(self, places: Array) -> Array:
        return places >> np.uint64(self.file_bits + self.entry_bits)

    def files(self, places: Array) -> Array:
        return (places >> np.uint64(self.entry_bits)) & np.uint64((1 << self.file_bits) - 1)

    def entries(self, places: Array) -> Array:
        return places & np.uint64((1 << self.entry_bits) - 1)


def _packing(lumis: int, files: int, entry_max: int) -> _Packing | None:
    """Return how places are packed; None where 64 bits do not hold them."""
    packing = _Packing(max(files - 1, 0).bit_length(), entry_max.bit_length())
    bits = max(lumis - 1, 0).bit_length() + packing.file_bits + packing.entry_bits
    # A shift by 64 is undefined; an entry of so many bits does not exist either.
    return packing if bits <= 64 and packing.file_bits + packing.entry_bits < 64 else None


class Segment:
    """An open segment. Threads may share it.

    Raises
    ------
    DataError
        The file is damaged. Its larger sections are looked at by `check` alone.
    UnsupportedFormatError
        It is no segment, or was written by a later version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            self._header = _read_header(file.read(_HEADER_BYTES_MAX), path)
            for name, section in self._header.sections.items():
                stop = section.offset + section.count * np.dtype(_DTYPES[name]).itemsize
                if section.offset < 0 or section.count < 0 or stop > size:
                    raise _damaged(path, f"{name} reaches beyond the file's end")
            # The map outlives the file's descriptor, and its name.
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.runs = self._small("runs")
        self.run_starts = self._small("run_starts")
        self.lumis = self._small("lumis")
        self.files = self._small("files")
        self.events = self._view("events")
        self.places = self._view("places")
        self._packing = _Packing(self._header.file_bits, self._header.entry_bits)
        self._check_shape()

    def __len__(self) -> int:
        return len(self.events)

    @cached_property
    def nbytes(self) -> int:
        """Size of the file."""
        return len(self._map)

    @property
    def entry_bits(self) -> int:
        """Bits of the largest entry."""
        return self._header.entry_bits

    def check(self) -> None:
        """Compare every byte of the sections with its checksum, and see that events ascend.

        Raises
        ------
        DataError
        """
        for name in _DTYPES:
            if zlib.crc32(self._view(name).data) != self._header.sections[name].crc32:
                raise _damaged(self.path, f"{name} has another checksum than was written")
        for start, stop in zip(self.run_starts[:-1], self.run_starts[1:], strict=True):
            for first in range(int(start), int(stop), PIECE_EVENTS):
                piece = self.events[first : min(first + PIECE_EVENTS + 1, int(stop))]
                if (piece[1:] < piece[:-1]).any():
                    raise _damaged(self.path, "its events do not ascend")

    def find(self, runs: Array, events: Array) -> tuple[Array, Array]:
        """Find events, every one wherever it is.

        Parameters
        ----------
        runs : uint32, shape (n,)
        events : uint64, shape (n,)

        Returns
        -------
        keys : int64, shape (m,)
            Positions in the arguments; as often as the event is there.
        positions : int64, shape (m,)
            Positions in the segment.
        """
        at = np.searchsorted(self.runs, runs)
        known = np.flatnonzero(at < len(self.runs))
        known = known[self.runs[at[known]] == runs[known]]
        wanted = events[known]
        start, stop = self.run_starts[at[known]], self.run_starts[at[known] + 1]
        first = self._bisect(start.copy(), stop, wanted)
        here = first < stop
        here[here] = self.events[first[here]] == wanted[here]
        keys, first, stop, wanted = known[here], first[here], stop[here], wanted[here]
        counts = np.ones(len(keys), np.int64)
        again = first + 1 < stop
        again[again] = self.events[first[again] + 1] == wanted[again]
        if again.any():
            # Of events that are there several times, the end is looked for too. The largest
            # number has none above it: its run ends with it.
            top = again & (wanted == np.uint64(0xFFFF_FFFF_FFFF_FFFF))
            rest = again & ~top
            counts[top] = (stop - first)[top]
            last = self._bisect(first[rest], stop[rest], wanted[rest] + np.uint64(1))
            counts[rest] = last - first[rest]
        return np.repeat(keys, counts), _runs_from(first, counts)

    def rows(self, positions: Array | slice) -> Rows:
        """Return what is at some positions."""
        places = self.places[positions]
        if isinstance(positions, slice):
            positions = np.arange(positions.start, positions.stop)
        at_run = np.searchsorted(self.run_starts, positions, side="right") - 1
        try:
            return Rows(
                self.runs[at_run],
                self.lumis[self._packing.lumis(places).astype(np.intp)],
                np.asarray(self.events[positions]),
                self.files[self._packing.files(places).astype(np.intp)],
                self._packing.entries(places),
            )
        except IndexError as error:
            raise _damaged(self.path, "a place names what is not there") from error

    def in_lumis(self, wanted: Mapping[int, Intervals]) -> Iterator[Rows]:
        """Yield the events of some lumi blocks, piece by piece.

        Parameters
        ----------
        wanted : mapping of run to intervals
            Half-open intervals of lumi block numbers.
        """
        for number, (start, stop) in enumerate(
            zip(self.run_starts[:-1].tolist(), self.run_starts[1:].tolist(), strict=True)
        ):
            intervals = wanted.get(int(self.runs[number]), ())
            chosen = np.zeros(len(self.lumis), bool)
            for low, high in intervals:
                chosen[slice(*np.searchsorted(self.lumis, np.array([low, high], np.uint64)))] = True
            chosen &= self.lumis != NO_LUMI
            if not chosen.any():
                continue
            for first in range(start, stop, PIECE_EVENTS):
                places = self.places[first : min(first + PIECE_EVENTS, stop)]
                inside = chosen[self._packing.lumis(places).astype(np.intp)]
                if inside.any():
                    yield self.rows(first + np.flatnonzero(inside))

    def pieces(self, start: int, stop: int) -> Iterator[Rows]:
        """Yield the rows of an interval of positions, some at a time."""
        for first in range(start, stop, PIECE_EVENTS):
            yield self.rows(slice(first, min(first + PIECE_EVENTS, stop)))

    def span(self, run: int, first: int, last: int) -> tuple[int, int]:
        """Return the positions of a run's events from one number to another, both included."""
        start, stop = self.interval_of(run)
        events = self.events[start:stop]
        low = np.searchsorted(events, np.uint64(first), side="left")
        high = np.searchsorted(events, np.uint64(last), side="right")
        return start + int(low), start + int(high)

    def interval_of(self, run: int) -> tuple[int, int]:
        """Return the positions of a run; an empty interval if it is not there."""
        at = int(np.searchsorted(self.runs, run))
        if at == len(self.runs) or self.runs[at] != run:
            return 0, 0
        return int(self.run_starts[at]), int(self.run_starts[at + 1])

    def _bisect(self, low: Array, high: Array, wanted: Array) -> Array:
        """Return the first position in each ``[low, high)`` whose event is not below its key."""
        high = high.copy()
        while (open_ := np.flatnonzero(low < high)).size:
            middle = (low[open_] + high[open_]) >> 1
            below = self.events[middle] < wanted[open_]
            low[open_[below]] = middle[below] + 1
            high[open_[~below]] = middle[~below]
        return low

    def _small(self, name: str) -> Array:
        found = self._view(name)
        if zlib.crc32(found.data) != self._header.sections[name].crc32:
            raise _damaged(self.path, f"{name} has another checksum than was written")
        return found

    def _view(self, name: str) -> Array:
        section = self._header.sections[name]
        return np.frombuffer(
            self._map, np.dtype(_DTYPES[name]), count=section.count, offset=section.offset
        )

    def _check_shape(self) -> None:
        fits = (
            len(self.run_starts) == len(self.runs) + 1
            and len(self.places) == len(self.events)
            and self.run_starts[0] == 0
            and self.run_starts[-1] == len(self.events)
            and bool((np.diff(self.run_starts) > 0).all())
        )
        if not fits:
            raise _damaged(self.path, "its sections do not fit together")


def write_segment(path: Path, rows: Rows) -> None:
    """Write a segment of rows in any order; it is on disk when this returns.

    Raises
    ------
    LimitError
        Lumi blocks, files and entries do not fit into 64 bits: write fewer files at once.
    OSError
    """
    # Quicker than a lexsort: many files are of one run.
    order = np.argsort(rows.events)
    order = order[np.argsort(rows.runs[order], kind="stable")]
    sorted_rows = rows.take(order)
    runs, counts = np.unique(sorted_rows.runs, return_counts=True)
    entry_max = int(rows.entries.max()) if len(rows) else 0
    with SegmentWriter(
        path,
        runs=runs,
        counts=counts,
        lumis=np.unique(rows.lumis),
        files=np.unique(rows.files),
        entry_max=entry_max,
    ) as writer:
        writer.add(sorted_rows)


def fits_in_one(lumis: int, files: int, entry_max: int) -> bool:
    """Whether places of so many lumi blocks and files have room in one segment."""
    return _packing(lumis, files, entry_max) is not None


class SegmentWriter:
    """Writes a segment of rows that come in order; a context, whole at its end.

    Parameters
    ----------
    runs : uint32, ascending
    counts : int64
        Events of each run.
    lumis, files : uint32, ascending
        All that are in the rows.
    """

    def __init__(
        self, path: Path, *, runs: Array, counts: Array, lumis: Array, files: Array, entry_max: int
    ) -> None:
        packing = _packing(len(lumis), len(files), entry_max)
        if packing is None:
            raise LimitError(
                f"{len(lumis)} lumi blocks, {len(files)} files and entries to {entry_max} "
                "do not fit into one segment",
                hint="index fewer files at once",
            )
        self._packing = packing
        self._lumis, self._files = lumis.astype(np.uint32), files.astype(np.uint32)
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self._small: dict[str, Array] = {
            "runs": runs.astype(np.uint32),
            "run_starts": starts,
            "lumis": self._lumis,
            "files": self._files,
        }
        self._events = int(starts[-1])
        self._written = 0
        self._crcs = {"events": 0, "places": 0}
        self._offsets = self._lay_out()
        self._file = path.open("xb")

    def __enter__(self) -> Self:
        return self

    def add(self, rows: Rows) -> None:
        """Write the next rows, ordered by run and event."""
        lumis = np.searchsorted(self._lumis, rows.lumis)
        files = np.searchsorted(self._files, rows.files)
        places = self._packing.pack(lumis, files, rows.entries)
        for name, values in (("events", rows.events), ("places", places)):
            data = np.ascontiguousarray(values, _DTYPES[name])
            self._crcs[name] = zlib.crc32(data.data, self._crcs[name])
            self._file.seek(self._offsets[name] + 8 * self._written)
            self._file.write(data.data)
        self._written += len(rows)

    def __exit__(self, kind: object, *_: object) -> None:
        with self._file:
            if kind is not None:
                return
            assert self._written == self._events, "rows are missing"
            for name, values in self._small.items():
                data = np.ascontiguousarray(values, _DTYPES[name])
                self._crcs[name] = zlib.crc32(data.data)
                self._file.seek(self._offsets[name])
                self._file.write(data.data)
            # An empty last section ends where the file does.
            self._file.truncate(self._offsets["places"] + 8 * self._events)
            self._file.seek(0)
            self._file.write(self._head(self._crcs))
            self._file.flush()
            os.fsync(self._file.fileno())

    def _count(self, name: str) -> int:
        return self._events if name in ("events", "places") else len(self._small[name])

    def _lay_out(self) -> dict[str, int]:
        # With the largest numbers that may stand there, the header has its full length.
        self._offsets = dict.fromkeys(_DTYPES, 1 << 62)
        offset, offsets = len(self._head(dict.fromkeys(_DTYPES, 0xFFFF_FFFF))), {}
        for name, dtype in _DTYPES.items():
            offset = -(-offset // _ALIGNMENT) * _ALIGNMENT
            offsets[name] = offset
            offset += self._count(name) * np.dtype(dtype).itemsize
        return offsets

    def _head(self, crcs: Mapping[str, int]) -> bytes:
        sections = {
            name: _Section(self._offsets[name], self._count(name), crcs[name]) for name in _DTYPES
        }
        packing = self._packing
        header = _Header(VERSION, packing.file_bits, packing.entry_bits, sections)
        text = msgspec.json.encode(header)
        return _PREFIX.pack(_MAGIC, len(text), zlib.crc32(text)) + text


def _read_header(head: bytes, path: Path) -> _Header:
    if len(head) < _PREFIX.size or not head.startswith(_MAGIC):
        raise UnsupportedFormatError(
            f"{path} is no segment of an event index", hint="build the index anew"
        )
    _, length, crc = _PREFIX.unpack_from(head)
    text = head[_PREFIX.size : _PREFIX.size + length]
    if len(text) != length or zlib.crc32(text) != crc:
        raise _damaged(path, "its header has another checksum than was written")
    try:
        version = msgspec.json.decode(text, type=dict[str, Any])["version"]
        if version != VERSION:
            raise UnsupportedFormatError(
                f"{path} has version {version} of the event index, and {VERSION} is read here",
                hint="use the evstream that wrote it, or build the index anew",
            )
        header = msgspec.json.decode(text, type=_Header)
    except (msgspec.DecodeError, KeyError) as error:
        raise _damaged(path, str(error)) from error
    if set(header.sections) != set(_DTYPES):
        raise _damaged(path, "sections are missing")
    return header


def _damaged(path: Path, why: str) -> DataError:
    return DataError(
        f"{path} is damaged: {why}",
        hint="remove the index's folder and build it anew",
        path=str(path),
    )


def _runs_from(first: Array, counts: Array) -> Array:
    """Return ``first[i], first[i] + 1, …``, `counts[i]` of them, for each i."""
    total = int(counts.sum())
    shifts: Array = first - (np.cumsum(counts) - counts)
    found: Array = np.arange(total) + np.repeat(shifts, counts)
    return found
