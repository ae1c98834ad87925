"""The event index against a dict: whatever is added, replaced and merged, look-ups agree."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from evstream.eventindex import NO_LUMI, EventIndex, EventKeys, open_builder
from evstream.eventindex.building import Builder
from evstream.eventindex.index import merged_rows
from evstream.eventindex.manifest import IndexedFile

# Few numbers, so that events meet; the ends of what numbers may be, so that none is special.
RUNS = st.sampled_from([0, 1, 2, 2**32 - 2])
LUMIS = st.sampled_from([0, 1, 7, 2**32 - 2])
EVENTS = st.sampled_from([0, 1, 2, 3, 2**40, 2**63, 2**64 - 2, 2**64 - 1])
Event = tuple[int, int, int]


@st.composite
def contents(draw: st.DrawFn) -> list[Event]:
    """Draw the events of a file, whose numbers may lack lumi blocks."""
    lumis = LUMIS if draw(st.booleans()) else st.just(NO_LUMI)
    return draw(st.lists(st.tuples(RUNS, lumis, EVENTS), max_size=12))


ADDED = st.tuples(st.integers(0, 3), contents(), st.sampled_from(["", "a:x", "b:y"]))
SESSIONS = st.lists(st.tuples(st.lists(ADDED, max_size=5), st.booleans()), min_size=1, max_size=3)


def described(place: int, version: int, events: list[Event], dataset: str) -> IndexedFile:
    return IndexedFile(
        0,
        f"{place}.root",
        f"G{version}",
        (f"/{place}.root",),
        "root",
        1,
        "",
        f"digest {version}",
        "Events",
        len(events),
        ("run", "luminosityBlock", "event"),
        (dataset,) if dataset else (),
    )


def add(builder: Builder, file: IndexedFile, events: list[Event]) -> None:
    columns = np.array(events, np.uint64).reshape(-1, 3)
    builder.add(file, columns[:, 0], columns[:, 1], columns[:, 2])


# Each example waits for the disk some dozens of times.
@settings(max_examples=25)
@given(SESSIONS, st.integers(1, 20))
def test_look_ups_agree_with_a_dict(
    sessions: list[tuple[list[tuple[int, list[Event], str]], bool]], buffered: int
) -> None:
    model: dict[int, tuple[IndexedFile, list[Event]]] = {}
    version = 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for files, compacted in sessions:
            with open_builder(folder, buffered) as builder:
                for place, events, dataset in files:
                    version += 1
                    file = described(place, version, events, dataset)
                    add(builder, file, events)
                    model[place] = file, events
                if compacted:
                    builder.compact()
        if not model:
            return
        index = EventIndex(folder)
        index.check()
        assert sorted(f.lfn for f in index.files.values()) == sorted(
            file.lfn for file, _ in model.values()
        )
        for dataset in {d for file, _ in model.values() for d in ("", *file.datasets)}:
            _compare(index, dataset, [one for one in model.values() if _is_of(one[0], dataset)])
        _check_merging(index)


def _is_of(file: IndexedFile, dataset: str) -> bool:
    return not dataset or dataset in file.datasets


def _compare(index: EventIndex, dataset: str, known: list[tuple[IndexedFile, list[Event]]]) -> None:
    places: dict[tuple[int, int], list[tuple[int, str, int]]] = defaultdict(list)
    for file, events in known:
        for entry, (run, lumi, event) in enumerate(events):
            places[run, event].append((lumi, file.lfn, entry))
    files = index.only(dataset)
    keys: list[tuple[int, int | None, int]] = [
        (run, lumi, event)
        for run in (0, 1, 2, 3, 2**32 - 2)
        for lumi in (None, 0, 1, 2**32 - 2)
        for event in (0, 1, 3, 2**40, 2**63, 2**64 - 2, 2**64 - 1)
    ]
    found = index.lookup(EventKeys.of(keys), files)
    got: dict[int, list[tuple[int, str, int]]] = defaultdict(list)
    for key, (run, lumi, event, file_number, entry) in zip(
        found.keys.tolist(), found.rows.tuples(), strict=True
    ):
        assert (run, event) == (keys[key][0], keys[key][2])
        got[key].append((lumi, index.files[file_number].lfn, entry))
    for at, (run, lumi, event) in enumerate(keys):
        wanted = [p for p in places[run, event] if lumi is None or p[0] in (lumi, NO_LUMI)]
        assert sorted(got[at]) == sorted(wanted), (run, lumi, event)
    assert set(found.missing(len(keys)).tolist()) == {at for at in range(len(keys)) if not got[at]}
    assert set(found.repeated().tolist()) == {at for at in got if len(got[at]) > 1}
    _compare_ranges(index, files, known)


def _compare_ranges(
    index: EventIndex, files: np.ndarray, known: list[tuple[IndexedFile, list[Event]]]
) -> None:
    every = [
        (run, lumi, event, file.lfn, entry)
        for file, events in known
        for entry, (run, lumi, event) in enumerate(events)
    ]

    def named(rows: object) -> list[tuple[int, int, int, str, int]]:
        return sorted(
            (run, lumi, event, index.files[number].lfn, entry)
            for run, lumi, event, number, entry in rows.tuples()  # type: ignore[attr-defined]
        )

    for run, first, last in ((1, 1, 2**63), (2**32 - 2, 0, 2**64 - 1), (2, 4, 5)):
        wanted = [e for e in every if e[0] == run and first <= e[2] <= last]
        assert named(index.in_span(run, first, last, files)) == sorted(wanted)
    blocks = {1: [(0, 2)], 2: [(7, 8), (2**32 - 2, 2**32 - 1)], 9: [(0, 9)]}
    inside = [row for rows in index.in_lumis(blocks, files) for row in named(rows)]
    assert sorted(inside) == sorted(
        e for e in every if any(low <= e[1] < high for low, high in blocks.get(e[0], []))
    )
    groups: dict[Event, list[tuple[str, int]]] = defaultdict(list)
    for run, lumi, event, lfn, entry in every:
        groups[run, lumi, event].append((lfn, entry))
    doubled = [row for rows in index.duplicates(files) for row in named(rows)]
    assert sorted(doubled) == sorted(e for e in every if len(groups[e[0], e[1], e[2]]) > 1)


def _check_merging(index: EventIndex) -> None:
    """Equal events stay in one piece, however small pieces are."""
    seen: set[tuple[int, int]] = set()
    last = (-1, -1)
    for rows in merged_rows(index.segments, pieces_max=2):
        events = list(zip(rows.runs.tolist(), rows.events.tolist(), strict=True))
        assert events == sorted(events)
        assert not events or events[0] > last
        assert not seen & set(events)
        seen |= set(events)
        last = events[-1] if events else last
