"""Many small outputs merged into one file, against reading and writing their bytes.

What is timed is the joining, by `rootio.join`, of files that a pilot has at hand: in levels
with the limit of inputs that tasks have, up to the one file, so that each byte is copied once a
level; and all at once, as where that limit is set higher. The other side opens each
file, reads it, and writes it behind the ones before, once. Neither fetches anything from a
service, and both write files that were not there before.

Also timed is the joining by packed indices that somebody sent along, which saves the parsing and
costs the decoding (ADR 0054).
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
EVENTS_OF_LARGER = 700_000
SMALL_OUTPUTS, LARGE_OUTPUTS = 1_000, 10
ROUNDS_OF_KNOWN = 5
COPY_BYTES = 4 << 20


def measure_merging(bench: Bench) -> None:
    """Merge as a task does; say also what one level takes, and outputs with fewer events."""
    outputs = bench.choose("outputs merged", full=10_000, quick=1_000)
    rounds = bench.choose("rounds of merges", full=3, quick=1)
    bench.input("inputs of one merge", Settings().merge_inputs_max)
    ratios = _measure(bench, "", EVENTS, outputs, rounds)
    for way, ratio in ratios.items():
        bench.ask(f"merge against reading and writing the bytes, {way}", ratio, "<=", 2.0)
    _measure(bench, ", with a tenth of the events", EVENTS_OF_SMALLER, outputs, rounds)
    _measure_known(bench, "small outputs", EVENTS_OF_SMALLER, SMALL_OUTPUTS)
    _measure_known(bench, "large outputs", EVENTS_OF_LARGER, LARGE_OUTPUTS)


def _measure(bench: Bench, told: str, events: int, outputs: int, rounds: int) -> dict[str, float]:
    """Return how many times as long as reading and writing their bytes merges take."""
    ways = {"in levels": Settings().merge_inputs_max, "in one level": outputs}
    with tempfile.TemporaryDirectory(prefix="evstream-bench-") as name:
        folder = Path(name)
        paths = _outputs(folder, outputs, events)
        size = sum(path.stat().st_size for path in paths)
        bench.input(f"bytes of an output, on average{told}", round(size / outputs))
        merges = {
            way: lambda inputs_max=inputs_max: _merge(paths, folder, inputs_max)
            for way, inputs_max in ways.items()
        }
        taken = bench.interleave({"copy": lambda: _copy(paths, folder), **merges}, rounds)
    copy = bench.measure(f"bytes read and written{told}", taken["copy"], "s")
    ratios = {}
    for way in ways:
        merge = bench.measure(f"outputs merged {way}{told}", taken[way], "s")
        bench.measure(f"a merge {way}, for each output{told}", 1e3 * merge / outputs, "ms")
        ratios[way] = merge / copy
        bench.measure(f"times as long as the bytes take, {way}{told}", ratios[way], "1")
    return ratios


def _measure_known(bench: Bench, told: str, events: int, outputs: int) -> None:
    """Join in one level, by parsing the outputs and by loading indices that came with them."""
    with tempfile.TemporaryDirectory(prefix="evstream-bench-") as name:
        folder = Path(name)
        paths = _outputs(folder, outputs, events)
        size = sum(path.stat().st_size for path in paths)
        packed = [_packed(path) for path in paths]

        def parsed() -> None:
            rootio.join(paths, folder / "parsed.root")

        def sent() -> None:
            indices = [rootio.SourceIndex.from_bytes(one) for one in packed]
            rootio.join(paths, folder / "sent.root", indices=indices)

        taken = bench.interleave({"parsed": parsed, "sent": sent}, ROUNDS_OF_KNOWN)
    bench.measure(f"index of an output, of its bytes, {told}", sum(map(len, packed)) / size, "1")
    bench.measure(f"{outputs} {told} joined, parsed", taken["parsed"], "s")
    bench.measure(f"{outputs} {told} joined, by packed indices", taken["sent"], "s")


def _packed(path: Path) -> bytes:
    with rootio.FileSource(path) as source:
        return rootio.inspect(source).to_bytes()


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
