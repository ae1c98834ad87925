"""Many small outputs merged into one file, against reading and writing their bytes.

What is timed is the joining, by `rootio.join`, of files that a pilot has at hand: in levels
and with the limit of inputs that tasks have, up to the one file. The other side opens each
file, reads it, and writes it behind the ones before, once. Neither fetches anything from a
service, and both write files that were not there before.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import uproot

from bench.harness import Bench
from evstream import rootio
from evstream.settings import Settings

FLOATS = 8
DISTINCT = 100
"""Outputs that are made; the others are copies of them, in turns."""
EVENTS, EVENTS_OF_SMALLER = 7_000, 700
COPY_BYTES = 4 << 20


def measure_merging(bench: Bench) -> None:
    """Merge as a task does; say also what outputs a tenth of the size cost."""
    outputs = bench.choose("outputs merged", full=10_000, quick=500)
    rounds = bench.choose("rounds of merges", full=3, quick=1)
    bench.input("inputs of one merge", Settings().merge_inputs_max)
    ratio = _measure(bench, "", EVENTS, outputs, rounds)
    bench.ask("merge against reading and writing the bytes", ratio, "<=", 2.0)
    _measure(bench, ", each a tenth of that", EVENTS_OF_SMALLER, outputs, rounds)


def _measure(bench: Bench, told: str, events: int, outputs: int, rounds: int) -> float:
    """Return how many times as long as reading and writing their bytes a merge takes."""
    with tempfile.TemporaryDirectory(prefix="evstream-bench-") as name:
        folder = Path(name)
        paths = _outputs(folder, outputs, events)
        size = sum(path.stat().st_size for path in paths)
        bench.input(f"bytes of an output, on average{told}", round(size / outputs))
        taken = bench.interleave(
            {
                "copy": lambda: _copy(paths, folder),
                "merge": lambda: _merge(paths, folder, Settings().merge_inputs_max),
            },
            rounds,
        )
    copy = bench.measure(f"bytes read and written{told}", taken["copy"], "s")
    merge = bench.measure(f"outputs merged into one file{told}", taken["merge"], "s")
    bench.measure(f"a merge, for each output{told}", 1e3 * merge / outputs, "ms")
    return bench.measure(f"times as long as the bytes take{told}", merge / copy, "1")


def _outputs(folder: Path, count: int, events: int) -> list[Path]:
    """Write outputs with as many events as ranges leave: more or less."""
    rng = np.random.default_rng(1)
    paths = [folder / f"output-{number:05d}.root" for number in range(count)]
    for path in paths[:DISTINCT]:
        some = int(rng.integers(events // 2, events * 3 // 2))
        columns: dict[str, np.ndarray[Any, Any]] = {
            f"x{number}": rng.random(some, np.float32) for number in range(FLOATS)
        }
        columns |= {"run": np.ones(some, np.int32), "event": np.arange(some)}
        with uproot.recreate(path) as file:
            tree = file.mktree("Events", {name: column.dtype for name, column in columns.items()})
            tree.extend(columns)
    for number, path in enumerate(paths[DISTINCT:]):
        shutil.copyfile(paths[number % DISTINCT], path)
    os.sync()  # Neither side shall wait for the disk to take these.
    return paths


def _copy(paths: list[Path], folder: Path) -> None:
    with tempfile.NamedTemporaryFile(dir=folder) as out:
        for path in paths:
            with path.open("rb") as file:
                shutil.copyfileobj(file, out, COPY_BYTES)


def _merge(paths: list[Path], folder: Path, inputs_max: int) -> None:
    """Join level by level; what was joined of the last level goes, as in a task."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        level, number = paths, 0
        while len(level) > 1:
            joined = []
            for start in range(0, len(level), inputs_max):
                joined.append(Path(name) / f"level{number}-{start}.root")
                rootio.join(level[start : start + inputs_max], joined[-1])
            for path in level if number else ():
                path.unlink()
            level, number = joined, number + 1
