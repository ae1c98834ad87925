"""Event indexes that nobody wrote so: told to be damaged, whatever is wrong in them."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evstream.domain.errors import ConfigError, DataError
from evstream.eventindex import EventIndex, EventKeys, IndexedFile, open_builder
from evstream.eventindex.manifest import MANIFEST_NAME, SEGMENT_SUFFIX
from evstream.eventindex.segment_format import DTYPES, MAGIC, PREFIX

EVENTS = 50


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of a sound index of two files."""
    with open_builder(tmp_path) as builder:
        for number in range(2):
            file = IndexedFile(
                0,
                f"{number}.root",
                f"guid-{number}",
                (f"/{number}.root",),
                "root",
                9,
                f"uuid-{number}",
                f"digest-{number}",
                "Events",
                EVENTS,
                ("run", "luminosityBlock", "event"),
            )
            events = np.arange(EVENTS, dtype=np.uint64)
            builder.add(file, events % 2, events % 4, events)
    return tmp_path


def ask_all(folder: Path) -> None:
    """Use everything of an index."""
    index = EventIndex(folder)
    files = index.only()
    index.lookup(EventKeys.of([(0, None, 2), (1, 1, 1)]), files)
    index.in_span(0, 0, EVENTS, files)
    list(index.in_lumis({0: [(0, 9)], 1: [(0, 9)]}, files))
    list(index.duplicates(files))
    assert len(index) == 2 * EVENTS
    index.check()


# Manifests


def first_file(manifest: dict[str, Any], **changes: Any) -> None:
    manifest["files"][0].update(changes)


MANIFESTS: dict[str, Callable[[dict[str, Any]], object]] = {
    "more numbers than there are": lambda m: m.update(next_number=10**15),
    "a negative next number": lambda m: m.update(next_number=-1),
    "a number that is not used yet": lambda m: first_file(m, number=99),
    "a negative number": lambda m: first_file(m, number=-1),
    "one number twice": lambda m: first_file(m, number=1),
    "negative entries": lambda m: first_file(m, entries=-EVENTS),
    "endless entries": lambda m: first_file(m, entries=1 << 63),
    "a segment elsewhere": lambda m: m["segments"][0].update(name="../x.segment"),
    "a segment that is no name": lambda m: m["segments"][0].update(name="x\0.segment"),
    "a segment that is no segment": lambda m: m["segments"][0].update(name=MANIFEST_NAME),
    "a segment twice": lambda m: m["segments"].append(m["segments"][0]),
}


@pytest.mark.parametrize("what", MANIFESTS)
def test_a_manifest_that_cannot_be_is_damaged(folder: Path, what: str) -> None:
    path = folder / MANIFEST_NAME
    manifest = json.loads(path.read_bytes())
    MANIFESTS[what](manifest)
    path.write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="damaged"):
        EventIndex(folder)
    with pytest.raises(DataError, match="damaged"), open_builder(folder):
        pass


NESTED = b"[" * 200_000 + b"]" * 200_000
NO_TEXTS = [b'{"version": 1, "x": ' + NESTED + b"}", b'{"version": 1, "x": "\xed\xa0\x80"}', NESTED]


@pytest.mark.parametrize("text", NO_TEXTS, ids=["nested deeply", "no UTF-8", "nested, no object"])
def test_a_text_that_cannot_be_is_damaged(folder: Path, text: bytes) -> None:
    (segment,) = folder.glob(f"*{SEGMENT_SUFFIX}")
    whole, manifest = segment.read_bytes(), (folder / MANIFEST_NAME).read_bytes()
    segment.write_bytes(PREFIX.pack(MAGIC, len(text), zlib.crc32(text)) + text + whole)
    with pytest.raises(DataError, match="damaged"):
        EventIndex(folder)
    segment.write_bytes(whole)
    (folder / MANIFEST_NAME).write_bytes(text)
    with pytest.raises(DataError, match="damaged"):
        EventIndex(folder)
    (folder / MANIFEST_NAME).write_bytes(manifest)
    ask_all(folder)


def test_a_segment_that_cannot_be_read_is_told(folder: Path) -> None:
    (segment,) = folder.glob(f"*{SEGMENT_SUFFIX}")
    segment.unlink()
    segment.mkdir()
    with pytest.raises(ConfigError, match="cannot be read"):
        EventIndex(folder)


# Segments


def with_section(folder: Path, name: str, content: bytes, **header: int) -> None:
    """Put something else in a section's place, with checksums that fit; change the header."""
    (path,) = folder.glob(f"*{SEGMENT_SUFFIX}")
    whole = bytearray(path.read_bytes())
    _, length, _ = PREFIX.unpack_from(whole)
    told = json.loads(whole[PREFIX.size : PREFIX.size + length])
    section = told["sections"][name]
    assert len(content) == section["count"] * np.dtype(DTYPES[name]).itemsize
    start = section["offset"]
    whole[start : start + len(content)] = content
    section["crc32"] = zlib.crc32(content)
    text = json.dumps({**told, **header}, separators=(",", ":")).encode()
    assert PREFIX.size + len(text) <= told["sections"]["runs"]["offset"]
    whole[: PREFIX.size + len(text)] = PREFIX.pack(MAGIC, len(text), zlib.crc32(text)) + text
    path.write_bytes(whole)


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        *(("runs", [2, 1]), ("runs", [1, 1]), ("lumis", [3, 2, 1, 0]), ("lumis", [0, 1, 2, 2])),
        *(("run_starts", [0, 0, 100]), ("run_starts", [-(2**63), 0, 100])),
        ("run_starts", [0, 101, 100]),
    ],
)
def test_what_does_not_ascend_is_damaged(folder: Path, name: str, numbers: list[int]) -> None:
    with_section(folder, name, np.array(numbers, DTYPES[name]).tobytes())
    with pytest.raises(DataError, match="do not fit together"):
        EventIndex(folder)


USES: dict[str, Callable[[EventIndex], object]] = {
    "lookup": lambda i: i.lookup(EventKeys.of([(0, None, 2)]), i.only()),
    "span": lambda i: i.in_span(0, 0, EVENTS, i.only()),
    "lumis": lambda i: list(i.in_lumis({0: [(0, 9)]}, i.only())),
    "duplicates": lambda i: list(i.duplicates(i.only())),
    "check": lambda i: i.check(),
}
PLACES = {
    "a lumi block beyond the last": (1 << 62, {}),
    # A position that is negative where it is taken for a signed number.
    "no bits for file and entry": ((1 << 64) - 1, {"file_bits": 0, "entry_bits": 0}),
    "a file beyond the last": (3 << 6, {"file_bits": 9}),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("what", PLACES)
def test_a_place_that_names_nothing_is_damaged(folder: Path, what: str, use: str) -> None:
    place, header = PLACES[what]
    with_section(folder, "places", struct.pack("<Q", place) * 2 * EVENTS, **header)
    index = EventIndex(folder)
    with pytest.raises(DataError, match="names what is not there"):
        USES[use](index)


def test_a_sound_index_answers(folder: Path) -> None:
    ask_all(folder)
