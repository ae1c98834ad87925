"""The event index: look-ups of random events among tens of millions, and bytes an event."""

from __future__ import annotations

import shutil
import tempfile
from functools import partial
from pathlib import Path

import numpy as np

from bench.harness import Bench
from evstream.eventindex import NO_LUMI, EventIndex, EventKeys, IndexedFile, open_builder

EVENTS_FULL, EVENTS_QUICK = 50_000_000, 2_000_000
EVENTS_PER_FILE = 50_000
FILES_PER_RUN = 20
BLOCKS_PER_RUN = 1500
LOOKED_UP = 10_000
ROUNDS = 7
LOOK_UP_S_MAX = 0.060
BYTES_PER_EVENT_MAX = 20
SEED = 20_170_527


def measure_events(bench: Bench) -> None:
    """Build an index as files come, look up random events of it, then once more when compact."""
    events = bench.choose("events in the index", full=EVENTS_FULL, quick=EVENTS_QUICK)
    bench.input("events looked up at once", LOOKED_UP)
    bench.input("seed of the event numbers", SEED)
    folder = Path(tempfile.mkdtemp(prefix="evstream-bench-"))
    try:
        keys = _build(folder, events // EVENTS_PER_FILE)
        as_built = EventIndex(folder)
        with open_builder(folder) as builder:
            builder.compact()
        compact = EventIndex(folder)
        subjects = {
            "as built": partial(_look_up, as_built, keys),
            "compact": partial(_look_up, compact, keys),
        }
        for look_up in subjects.values():
            look_up()  # What is measured is warm.
        walls = bench.interleave(subjects, ROUNDS)
        size = sum(path.stat().st_size for path in folder.iterdir())
    finally:
        shutil.rmtree(folder)
    bench.measure("segments as built", len(as_built.segments), "1")
    bench.measure(f"{LOOKED_UP} random events found, as built", walls["as built"], "s")
    found = bench.measure(f"{LOOKED_UP} random events found, compact", walls["compact"], "s")
    per_event = bench.measure("event index", size / events, "bytes an event")
    bench.ask(f"{LOOKED_UP} random events, warm", found, "<=", LOOK_UP_S_MAX)
    bench.ask("bytes an event", per_event, "<=", BYTES_PER_EVENT_MAX)


def _build(folder: Path, files: int) -> EventKeys:
    """Index files whose event numbers are random within their run; return some of the events."""
    rng = np.random.default_rng(SEED)
    runs, numbers = [], []
    with open_builder(folder) as builder:
        for number in range(files):
            run = 300_000 + number // FILES_PER_RUN
            events = rng.integers(0, 1 << 40, EVENTS_PER_FILE, dtype=np.uint64)
            blocks = np.sort(rng.integers(1, BLOCKS_PER_RUN + 1, EVENTS_PER_FILE))
            builder.add(_file(number), np.full(EVENTS_PER_FILE, run), blocks, events)
            chosen = rng.integers(0, EVENTS_PER_FILE, -(-LOOKED_UP // files))
            runs.append(np.full(len(chosen), run, np.uint32))
            numbers.append(events[chosen])
    picked = rng.permutation(sum(map(len, runs)))[:LOOKED_UP]
    return EventKeys(
        np.concatenate(runs)[picked],
        np.full(len(picked), NO_LUMI, np.uint32),
        np.concatenate(numbers)[picked],
    )


def _file(number: int) -> IndexedFile:
    return IndexedFile(
        number=0,
        lfn=f"events.{number:05}.root",
        guid=f"{number:08X}-0000-4000-8000-000000000000",
        pfns=(f"/data/events.{number:05}.root",),
        format="root",
        size=1 << 30,
        uuid=f"{number:08x}-0000-4000-8000-000000000000",
        digest=f"{number:064x}",
        tree="Events",
        entries=EVENTS_PER_FILE,
        numbers=("run", "luminosityBlock", "event"),
    )


def _look_up(index: EventIndex, keys: EventKeys) -> None:
    found = index.lookup(keys, index.only())
    assert not len(found.missing(len(keys)))
