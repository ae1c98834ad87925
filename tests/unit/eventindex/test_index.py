"""An event index on disk: what it refuses, and what disturbs nobody."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import numpy as np
import pytest

from evstream.domain.errors import (
    ConfigError,
    ConflictError,
    DataError,
    EvstreamError,
    LimitError,
    NotFoundError,
    UnsupportedFormatError,
)
from evstream.eventindex import EventIndex, EventKeys, IndexedFile, open_builder
from evstream.eventindex.manifest import MANIFEST_NAME, SEGMENT_SUFFIX, only_builder
from evstream.eventindex.rows import Rows
from evstream.eventindex.segment import Segment
from evstream.eventindex.segment_writing import write_segment

EVENTS = 100


def file_of(number: int, *, version: int = 0) -> IndexedFile:
    return IndexedFile(
        0,
        f"{number}.root",
        f"guid-{number}",
        (f"/data/{number}.root",),
        "root",
        1000,
        f"uuid-{number}",
        f"digest-{number}-{version}",
        "Events",
        EVENTS,
        ("run", "luminosityBlock", "event"),
    )


def add_files(folder: Path, numbers: range, *, version: int = 0, buffered: int = 1) -> None:
    """Add files of run 1, whose events follow each other."""
    with open_builder(folder, buffered) as builder:
        for number in numbers:
            events = np.arange(number * EVENTS, (number + 1) * EVENTS, dtype=np.uint64)
            builder.add(
                file_of(number, version=version), np.ones(EVENTS), events // 10, events[::-1]
            )


def entries_of(index: EventIndex, events: list[int]) -> list[tuple[str, int]]:
    found = index.lookup(EventKeys.of([(1, None, event) for event in events]), index.only())
    return [(index.files[f].lfn, e) for _, _, _, f, e in found.rows.tuples()]


def test_many_small_builds_are_merged_by_themselves(tmp_path: Path) -> None:
    for number in range(20):
        add_files(tmp_path, range(number, number + 1))
    index = EventIndex(tmp_path)
    assert len(index) == 20 * EVENTS
    assert len(index.segments) < 10
    assert entries_of(index, [0, 1234, 1999]) == [("0.root", 99), ("12.root", 65), ("19.root", 0)]
    # Nothing lies about that the manifest does not name.
    names = {path.name for path in tmp_path.glob(f"*{SEGMENT_SUFFIX}")}
    assert names == {segment.name for segment in index.manifest.segments}


def test_an_event_costs_sixteen_bytes(tmp_path: Path) -> None:
    with open_builder(tmp_path) as builder:
        for number in range(20):
            file = IndexedFile(
                **{f: getattr(file_of(number), f) for f in IndexedFile.__struct_fields__}
                | {"entries": 10_000}
            )
            events = np.arange(10_000) * 7919 + number
            builder.add(file, np.full(10_000, 300_000 + number // 4), events % 997, events)
        builder.compact()
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert 16 <= size / 200_000 < 16.3


def test_builds_and_merges_do_not_disturb_readers(tmp_path: Path) -> None:
    add_files(tmp_path, range(3))
    index = EventIndex(tmp_path)
    add_files(tmp_path, range(3), version=1)
    with open_builder(tmp_path) as builder:
        builder.compact()
    assert not any((tmp_path / s.name).exists() for s in index.manifest.segments)
    assert entries_of(index, [0, 299]) == [("0.root", 99), ("2.root", 0)]
    index.check()
    later = EventIndex(tmp_path)
    assert [f.digest for f in later.files.values()] == [f"digest-{n}-1" for n in range(3)]
    # What was replaced is gone from the disk, not only from answers.
    assert sum(map(len, later.segments)) == 3 * EVENTS


def test_a_file_that_lies_elsewhere_too_is_not_replaced_there(tmp_path: Path) -> None:
    add_files(tmp_path, range(1))
    with open_builder(tmp_path) as builder:
        seen = file_of(0)
        elsewhere = IndexedFile(
            **{f: getattr(seen, f) for f in seen.__struct_fields__}
            | {"pfns": ("/copy/0.root",), "datasets": ("user:x",)}
        )
        builder.note(elsewhere)
    add_files(tmp_path, range(1), version=1)
    files = EventIndex(tmp_path).files.values()
    assert {f.pfns for f in files} == {("/copy/0.root",), ("/data/0.root",)}
    assert [f.datasets for f in files if f.pfns == ("/copy/0.root",)] == [("user:x",)]


def test_one_builder_at_a_time(tmp_path: Path) -> None:
    with only_builder(tmp_path), pytest.raises(ConflictError, match="another process"):
        add_files(tmp_path, range(1))
    add_files(tmp_path, range(1))


def test_a_slow_build_is_written_now_and_then(tmp_path: Path) -> None:
    with open_builder(tmp_path, flushed_every_s=0) as builder:
        for number in range(2):
            builder.add(file_of(number), *np.ones((3, EVENTS)))
            assert len(EventIndex(tmp_path).files) == number + 1


def test_a_folder_without_an_index_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no event index"):
        EventIndex(tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        add_files(tmp_path / "file", range(1))


def test_what_is_not_indexed_is_told(tmp_path: Path) -> None:
    add_files(tmp_path, range(1))
    with pytest.raises(NotFoundError, match="user:none"):
        EventIndex(tmp_path).only("user:none")
    with pytest.raises(NotFoundError, match="GUID x"):
        EventIndex(tmp_path).only(guid="x")


def test_later_versions_are_refused(tmp_path: Path) -> None:
    add_files(tmp_path, range(1))
    manifest = tmp_path / MANIFEST_NAME
    text = manifest.read_text()
    manifest.write_text(json.dumps(json.loads(text) | {"version": 2, "more": True}))
    with pytest.raises(UnsupportedFormatError, match="version 2"):
        EventIndex(tmp_path)
    with pytest.raises(UnsupportedFormatError):
        add_files(tmp_path, range(1))
    too_many = json.dumps(json.loads(text) | {"next_number": 10**12})
    for damaged in ("{", too_many, text.replace('"next_number":1', '"next_number":0')):
        manifest.write_text(damaged)
        with pytest.raises(DataError, match="damaged"):
            EventIndex(tmp_path)


def test_a_lost_segment_is_told(tmp_path: Path) -> None:
    add_files(tmp_path, range(1))
    next(tmp_path.glob(f"*{SEGMENT_SUFFIX}")).unlink()
    with pytest.raises(DataError, match="missing"):
        EventIndex(tmp_path)


def test_no_byte_changes_unnoticed(tmp_path: Path, rng: random.Random) -> None:
    add_files(tmp_path, range(2), buffered=1000)
    (segment,) = tmp_path.glob(f"*{SEGMENT_SUFFIX}")
    whole = segment.read_bytes()
    head = len(whole) - 2 * EVENTS * 16
    padding = 0
    for at in [*range(head), *rng.sample(range(head, len(whole)), 100)]:
        segment.write_bytes(
            whole[:at] + bytes([whole[at] ^ 1 << rng.randrange(8)]) + whole[at + 1 :]
        )
        try:
            EventIndex(tmp_path).check()
        except DataError:
            continue
        assert whole[at] == 0
        padding += 1
    # Sections stand on multiples of 64 bytes; what is between them holds nothing.
    assert padding <= 6 * 64
    for size in (0, 7, 16, 300, len(whole) - 1):
        segment.write_bytes(whole[:size])
        with pytest.raises(DataError):
            EventIndex(tmp_path).check()


def test_what_does_not_fit_into_a_place_is_refused(tmp_path: Path) -> None:
    many = 1 << 12
    rows = Rows(
        np.zeros(many, np.uint32),
        np.arange(many, dtype=np.uint32),
        np.arange(many, dtype=np.uint64),
        np.arange(many, dtype=np.uint32),
        np.full(many, 1 << 40, np.uint64),
    )
    with pytest.raises(LimitError, match="4096 lumi blocks, 4096 files"):
        write_segment(tmp_path / "x", rows)
    fewer = rows.take(np.arange(1 << 10))
    write_segment(tmp_path / "y", fewer)
    assert list(Segment(tmp_path / "y").rows(slice(0, 1 << 10)).tuples()) == list(fewer.tuples())


def test_each_step_of_a_build_may_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk at the first wait for it, the second, …: the index stays one of whole files."""
    real, calls = os.fsync, iter(range(0))
    told = []
    for stop in range(1, 200):
        calls = iter(range(stop))

        def fsync(descriptor: int, calls=calls) -> None:
            if next(calls, None) is None:
                raise OSError(28, "No space left on device")
            real(descriptor)

        folder = tmp_path / str(stop)
        add_files(folder, range(3), buffered=1000)
        monkeypatch.setattr(os, "fsync", fsync)
        try:
            add_files(folder, range(3, 6), buffered=2 * EVENTS)
            with open_builder(folder) as builder:
                builder.compact()
        except EvstreamError as error:
            told.append(error.message)
        finally:
            monkeypatch.setattr(os, "fsync", real)
        index = EventIndex(folder)
        index.check()
        assert 3 <= len(index.files) <= 6
        if next(calls, None) is not None:
            break
        add_files(folder, range(len(index.files), 6))
        assert len(EventIndex(folder)) == 6 * EVENTS
    assert len(told) > 5
    assert all("No space left" in each for each in told)
