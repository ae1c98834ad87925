"""Makes the demonstration's dataset once: 12 000 collisions in six ROOT files.

Run as ``python -m demo.generate [--jobs N]``. The dataset appears in ``demo/data`` whole or not
at all; a call that finds it complete does nothing.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot

from demo.collisions import PROCESSES, make_events

DATA = Path(__file__).resolve().parent / "data"
FILES, EVENTS_PER_FILE, EVENTS_PER_CLUSTER = 6, 2000, 250
_LUMINOSITY_BLOCK_EVENTS, _FILES_PER_RUN, _FIRST_RUN = 200, 2, 380_001
# A dataset made by another recipe than this is made again.
RECIPE = {
    "version": 1,
    "files": FILES,
    "events_per_file": EVENTS_PER_FILE,
    "events_per_cluster": EVENTS_PER_CLUSTER,
    "processes": {name: list(settings) for name, settings in PROCESSES.items()},
}
_MANIFEST = "dataset.json"
_INTEGERS = {
    "run": np.uint32,
    "luminosityBlock": np.uint32,
    "event": np.uint64,
    "process": np.int32,
    "charge": np.int32,
    "pdgId": np.int32,
}


def dataset_files(data: Path = DATA) -> list[Path]:
    """List the dataset's files; empty if it is not there or of another recipe."""
    try:
        manifest = json.loads((data / _MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    if manifest.get("recipe") != RECIPE:
        return []
    return [data / name for name in manifest["files"]]


def generate(data: Path = DATA, jobs: int | None = None) -> list[Path]:
    """Make the dataset unless it is there; return its files."""
    if files := dataset_files(data):
        return files
    # Folders that killed calls left behind, and a dataset of another recipe.
    for old in (*data.parent.glob(f"{data.name}.partial-*"), data):
        shutil.rmtree(old, ignore_errors=True)
    partial = data.with_name(f"{data.name}.partial-{os.getpid()}")
    partial.mkdir(parents=True)
    started = time.monotonic()
    names = [
        _write_file(partial, number, events) for number, events in _events_by_file(jobs, started)
    ]
    manifest = {"recipe": RECIPE, "files": names}
    (partial / _MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    partial.rename(data)
    return dataset_files(data)


def _events_by_file(jobs: int | None, started: float) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Yield each file's number and events, as soon as they are made."""
    jobs = jobs or len(os.sched_getaffinity(0))
    chunks = [
        range(first, first + EVENTS_PER_CLUSTER)
        for first in range(1, 1 + FILES * EVENTS_PER_FILE, EVENTS_PER_CLUSTER)
    ]
    events: list[dict[str, Any]] = []
    number = done = 0
    context = multiprocessing.get_context("spawn")
    with context.Pool(jobs, initializer=_be_quiet) as pool:
        for chunk in pool.imap(make_events, chunks):
            events += chunk
            done += len(chunk)
            _show(done, time.monotonic() - started)
            if len(events) == EVENTS_PER_FILE:
                yield number, events
                number, events = number + 1, []


def _be_quiet() -> None:
    """Keep Pythia's and FastJet's banners, which C++ prints, off the screen."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())


def _show(done: int, wall_s: float) -> None:
    total = FILES * EVENTS_PER_FILE
    line = f"Pythia 8: {done:6d} of {total} collisions, {done / wall_s:.0f} a second"
    if sys.stdout.isatty():
        print(f"\r{line}", end="\n" if done == total else "", flush=True)
    elif done % EVENTS_PER_FILE == 0:
        print(line, flush=True)


def _write_file(folder: Path, number: int, events: list[dict[str, Any]]) -> str:
    """Write one file's events, in an order that is not that of their numbers; return its name."""
    order = np.random.default_rng(number).permutation(len(events))
    columns = _columns([events[i] for i in order])
    run = _FIRST_RUN + number // _FILES_PER_RUN
    columns["run"] = np.full(len(events), run, np.uint32)
    columns["luminosityBlock"] = (1 + columns["event"] // _LUMINOSITY_BLOCK_EVENTS).astype(
        np.uint32
    )
    branches = _branches(columns)
    name = f"collisions_{run}_{number:02d}.root"
    compression = uproot.ZSTD(3) if number % 2 else uproot.ZLIB(1)
    with uproot.recreate(folder / name, compression=compression) as file:
        tree = file.mktree("Events", {key: _kind(value) for key, value in branches.items()})
        for start in range(0, len(events), EVENTS_PER_CLUSTER):
            window = slice(start, start + EVENTS_PER_CLUSTER)
            tree.extend({key: value[window] for key, value in branches.items()})
    return name


def _columns(events: list[dict[str, Any]]) -> dict[str, Any]:
    """Turn events into columns: NumPy for one value an event, Awkward for several."""
    columns: dict[str, Any] = {}
    for key, first in events[0].items():
        kind = _INTEGERS.get(key.rpartition("_")[2], np.float32)
        values = [event[key] for event in events]
        if isinstance(first, np.ndarray):
            counts = [len(value) for value in values]
            columns[key] = ak.unflatten(np.concatenate(values).astype(kind), counts)
        else:
            columns[key] = np.array(values, dtype=kind)
    return columns


def _branches(columns: dict[str, Any]) -> dict[str, Any]:
    """Bring the columns of a collection together, so that they share one counter branch."""
    branches: dict[str, Any] = {
        key: columns[key]
        for key in ("run", "luminosityBlock", "event", "process", "genWeight", "MET_pt", "MET_phi")
    }
    for name in ("Muon", "Electron", "Jet", "Track", "GenPart"):
        parts = {
            key.removeprefix(f"{name}_"): value
            for key, value in columns.items()
            if key.startswith(f"{name}_")
        }
        branches[name] = ak.zip(parts)
    return branches


def _kind(values: Any) -> Any:
    return values.type.content if isinstance(values, ak.Array) else values.dtype


def main() -> int:
    """Make the dataset from the command line."""
    parser = argparse.ArgumentParser(prog="python -m demo.generate", description=__doc__)
    parser.add_argument("--jobs", type=int, help="processes; one for each core unless told")
    files = generate(jobs=parser.parse_args().jobs)
    size = sum(path.stat().st_size for path in files)
    print(
        f"{len(files)} files, {FILES * EVENTS_PER_FILE} events, {size / 1e6:.1f} MB in {DATA.name}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
