"""Building an event index: files come in, segments are written and merged."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from msgspec import structs

from evstream.domain.errors import ConfigError
from evstream.eventindex.index import merged_rows
from evstream.eventindex.manifest import (
    Indexed,
    IndexedFile,
    Manifest,
    SegmentName,
    new_segment_name,
    only_builder,
    read_manifest,
    remove_leftovers,
    replace_manifest,
    sync_folder,
)
from evstream.eventindex.rows import Array, Rows
from evstream.eventindex.segment import Segment
from evstream.eventindex.segment_writing import SegmentWriter, fits_in_one, write_segment

BUFFERED_EVENTS = 1 << 21
"""So many events are kept in memory, then written as a segment: 0.3 GB with what sorting takes."""
FLUSHED_EVERY_S = 30.0
"""So long a build of small or slow files may last before a kill loses what it has read."""
MERGED_TOGETHER = 8
"""So many segments of like size are merged into one."""


@contextmanager
def open_builder(
    folder: Path, buffered_events: int = BUFFERED_EVENTS, flushed_every_s: float = FLUSHED_EVERY_S
) -> Iterator[Builder]:
    """Open a folder's index for building, or begin one.

    What was added is in the index when the context ends well, and what a flush wrote before
    whatever happens then.

    Raises
    ------
    ConflictError
        Another builder is at work.
    ConfigError
        The folder cannot be written.
    """
    with only_builder(folder):
        builder = Builder(folder, buffered_events, flushed_every_s)
        try:
            yield builder
            builder.flush()
        except OSError as error:
            raise ConfigError(
                f"the event index {folder} cannot be written: {error.strerror}",
                hint="make room, then build again: what was written is kept",
            ) from error


class Builder:
    """Adds files to an index; `open_builder` makes one.

    Nothing of a file is in the index before all of it is: a kill at any time leaves an index
    of the files that were flushed.
    """

    def __init__(self, folder: Path, buffered_events: int, flushed_every_s: float) -> None:
        self.folder = folder
        self.manifest = read_manifest(folder)
        self._buffered_events = buffered_events
        self._flushed_every_s = flushed_every_s
        self._flushed_at = time.monotonic()
        # What the manifest will be: a kill before it is written costs no more than these.
        self._next_number = self.manifest.next_number
        self._files = {file.content: file for file in self.manifest.files}
        self._at: dict[str, set[tuple[str, str]]] = {}
        for file in self.manifest.files:
            for pfn in file.pfns:
                self._at.setdefault(pfn, set()).add(file.content)
        self._pieces: list[Rows] = []
        remove_leftovers(folder, self.manifest)

    @property
    def files(self) -> tuple[IndexedFile, ...]:
        """What is in the index, or was added."""
        return tuple(self._files.values())

    @property
    def known(self) -> frozenset[Indexed]:
        """What need not be read again."""
        return frozenset(file.indexed for file in self._files.values())

    def has(self, file: IndexedFile) -> bool:
        """Whether a file is in the index, or was added, with the same numbers."""
        known = self._files.get(file.content)
        return known is not None and known.indexed == file.indexed

    def add(self, file: IndexedFile, runs: Array, lumis: Array, events: Array) -> None:
        """Add a file, whatever number it says it has.

        Another file that lay where this one lies is replaced by it, and so is the same one
        if other branches numbered its events.

        Parameters
        ----------
        runs, lumis : uint32, shape (entries,)
        events : uint64, shape (entries,)
        """
        file = structs.replace(file, number=self._next_number)
        self._next_number += 1
        if (before := self._files.get(file.content)) is not None:
            file = _in_both(file, before)
        rows = Rows(
            runs.astype(np.uint32),
            lumis.astype(np.uint32),
            events.astype(np.uint64),
            np.full(file.entries, file.number, np.uint32),
            np.arange(file.entries, dtype=np.uint64),
        )
        assert len(rows.runs) == len(rows.lumis) == len(rows.events) == file.entries
        self._pieces.append(rows)
        self._put(file)
        waited_s = time.monotonic() - self._flushed_at
        if (
            sum(map(len, self._pieces)) >= self._buffered_events
            or waited_s >= self._flushed_every_s
        ):
            self.flush()

    def remove(self, files: Iterable[IndexedFile], dataset: str = "") -> int:
        """Take files of the index out of it; return how many. `compact` gives their room back.

        Parameters
        ----------
        dataset : str
            Take them out of this dataset; those that are in others too stay.
        """
        removed = 0
        for file in files:
            left = tuple(name for name in file.datasets if name != dataset)
            if dataset and left:
                self._files[file.content] = structs.replace(file, datasets=left)
                continue
            removed += 1
            del self._files[file.content]
            for pfn in file.pfns:
                self._at[pfn].discard(file.content)
        return removed

    def note(self, seen: IndexedFile) -> None:
        """Note where a file of the index lies too, and what other datasets it is in.

        Where it was seen comes first: it may have gone from where it was.
        """
        known = self._files[seen.content]
        places = tuple(dict.fromkeys((*seen.pfns, *known.pfns)))
        self._put(structs.replace(_in_both(known, seen), pfns=places))

    def _put(self, file: IndexedFile) -> None:
        for pfn in file.pfns:
            here = self._at.setdefault(pfn, set())
            for content in [content for content in here if content[0] != file.digest]:
                here.remove(content)
                before = self._files.pop(content)
                if left := tuple(each for each in before.pfns if each != pfn):
                    self._files[content] = structs.replace(before, pfns=left)
            here.add(file.content)
        self._files[file.content] = file

    def flush(self) -> None:
        """Write what was added; it is in the index and on disk when this returns."""
        segments = list(self.manifest.segments)
        if sum(map(len, self._pieces)):
            segments += self._write(self._pieces)
        self._pieces = []
        self._commit(segments)
        while group := _like(self.manifest.segments):
            if not self._merge(group):
                break
        self._flushed_at = time.monotonic()

    def compact(self) -> None:
        """Merge all segments into as few as can be, and drop what replaced files left."""
        self.flush()
        groups = [self.manifest.segments]
        while groups:
            group = groups.pop()
            if not self._merge(group) and len(group) > 2:
                groups += [group[: len(group) // 2], group[len(group) // 2 :]]

    def _write(self, pieces: Sequence[Rows]) -> list[SegmentName]:
        """Write rows as one segment, or as several where one cannot hold them."""
        rows = Rows.concatenate(pieces)
        fits = fits_in_one(
            len(np.unique(rows.lumis)), len(pieces), max(len(piece) for piece in pieces)
        )
        if not fits and len(pieces) > 1:
            middle = len(pieces) // 2
            return self._write(pieces[:middle]) + self._write(pieces[middle:])
        name = new_segment_name()
        write_segment(self.folder / name, rows)
        return [SegmentName(name, len(rows))]

    def _merge(self, names: Sequence[SegmentName]) -> bool:
        """Merge segments into one; return whether they were."""
        segments = [Segment(self.folder / each.name) for each in names]
        alive = np.zeros(self.manifest.next_number, bool)
        alive[[file.number for file in self.manifest.files]] = True
        files = np.unique(np.concatenate([[], *(s.files for s in segments)])).astype(np.uint32)
        kept = files[alive[files]]
        if len(segments) < 2 and len(kept) == len(files):
            return False
        lumis = np.unique(np.concatenate([[], *(s.lumis for s in segments)])).astype(np.uint32)
        entry_max = (1 << max((s.entry_bits for s in segments), default=0)) - 1
        if not fits_in_one(len(lumis), len(kept), entry_max):
            return False
        for segment in segments:
            segment.check()
        merged = self._write_merged(segments, alive, lumis, kept, entry_max)
        gone = {each.name for each in names}
        rest = [each for each in self.manifest.segments if each.name not in gone]
        self._commit([*rest, *merged])
        # Whoever has them open keeps them: only their names go.
        remove_leftovers(self.folder, self.manifest)
        return True

    def _write_merged(
        self,
        segments: Sequence[Segment],
        alive: Array,
        lumis: Array,
        files: Array,
        entry_max: int,
    ) -> list[SegmentName]:
        counts: Counter[int] = Counter()
        for segment in segments:
            whole = bool(alive[segment.files].all())
            bounds = zip(
                segment.run_starts[:-1].tolist(), segment.run_starts[1:].tolist(), strict=True
            )
            for run, (start, stop) in zip(segment.runs.tolist(), bounds, strict=True):
                counts[run] += (
                    stop - start
                    if whole
                    else sum(int(alive[rows.files].sum()) for rows in segment.pieces(start, stop))
                )
        runs = sorted(run for run, count in counts.items() if count)
        if not runs:
            return []
        name = new_segment_name()
        with SegmentWriter(
            self.folder / name,
            runs=np.array(runs, np.uint32),
            counts=np.array([counts[run] for run in runs], np.int64),
            lumis=lumis,
            files=files,
            entry_max=entry_max,
        ) as writer:
            for rows in merged_rows(segments):
                writer.add(rows.take(alive[rows.files]))
        return [SegmentName(name, counts.total())]

    def _commit(self, segments: Sequence[SegmentName]) -> None:
        """Make files and segments what the index is; the segments are on disk already."""
        files, name = self.files, tuple(segments)
        manifest = Manifest(next_number=self._next_number, files=files, segments=name)
        if manifest != self.manifest:
            sync_folder(self.folder)
            replace_manifest(self.folder, manifest)
            self.manifest = manifest


def _in_both(file: IndexedFile, other: IndexedFile) -> IndexedFile:
    """Return a file with its places and datasets, and with another's behind."""
    return structs.replace(
        file,
        pfns=tuple(dict.fromkeys((*file.pfns, *other.pfns))),
        datasets=tuple(dict.fromkeys((*file.datasets, *other.datasets))),
    )


def _like(segments: Sequence[SegmentName]) -> list[SegmentName]:
    """Return segments of like size that are enough to be merged; none where there are few."""
    classes: dict[int, list[SegmentName]] = {}
    for each in segments:
        size = (each.events.bit_length() - 1) // (MERGED_TOGETHER.bit_length() - 1)
        classes.setdefault(size, []).append(each)
    return next((group for group in classes.values() if len(group) >= MERGED_TOGETHER), [])
