"""Writing segments: whole, or piece by piece where they are merged."""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import msgspec
import numpy as np

from evstream.domain.errors import LimitError
from evstream.eventindex.rows import Array, Rows
from evstream.eventindex.segment_format import (
    ALIGNMENT,
    DTYPES,
    MAGIC,
    PREFIX,
    VERSION,
    Header,
    Section,
    packing_of,
)


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
    return packing_of(lumis, files, entry_max) is not None


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
        packing = packing_of(len(lumis), len(files), entry_max)
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
            data = np.ascontiguousarray(values, DTYPES[name])
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
                data = np.ascontiguousarray(values, DTYPES[name])
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
        self._offsets = dict.fromkeys(DTYPES, 1 << 62)
        offset, offsets = len(self._head(dict.fromkeys(DTYPES, 0xFFFF_FFFF))), {}
        for name, dtype in DTYPES.items():
            offset = -(-offset // ALIGNMENT) * ALIGNMENT
            offsets[name] = offset
            offset += self._count(name) * np.dtype(dtype).itemsize
        return offsets

    def _head(self, crcs: Mapping[str, int]) -> bytes:
        sections = {
            name: Section(self._offsets[name], self._count(name), crcs[name]) for name in DTYPES
        }
        packing = self._packing
        header = Header(VERSION, packing.file_bits, packing.entry_bits, sections)
        text = msgspec.json.encode(header)
        return PREFIX.pack(MAGIC, len(text), zlib.crc32(text)) + text
