"""Many small outputs merged into one file, against reading and writing their bytes."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import uproot

from bench.harness import Bench
from evstream import rootio
from evstream.settings import Settings

EVENTS = 7_000
FLOATS = 8
COPY_BYTES = 4 << 20


def measure_merging(bench: Bench) -> None:
    """Merge as a task does: in levels, with the limit of inputs that it has."""
    outputs = bench.choose("outputs merged", full=10_000, quick=500)
    rounds = bench.choose("rounds of merges", full=3, quick=1)
    inputs_max = Settings().merge_inputs_max
    bench.input("inputs of one merge", inputs_max)
    with tempfile.TemporaryDirectory(prefix="evstream-bench-") as name:
        folder = Path(name)
        paths = _outputs(folder, outputs)
        bench.input("bytes of an output", paths[0].stat().st_size)
        taken = bench.interleave(
            {
                "copy": lambda: _copy(paths, folder / "copy"),
                "merge": lambda: _merge(paths, folder, inputs_max),
            },
            rounds,
        )
    copy = bench.measure("bytes read and written", taken["copy"], "s")
    merge = bench.measure("outputs merged into one file", taken["merge"], "s")
    bench.measure("a merge, for each output", 1e3 * merge / outputs, "ms")
    bench.ask("merge against reading and writing the bytes", merge / copy, "<=", 2.0)


def _outputs(folder: Path, count: int) -> list[Path]:
    rng = np.random.default_rng(1)
    first = folder / "output-00000.root"
    columns: dict[str, np.ndarray[Any, Any]] = {
        f"x{number}": rng.random(EVENTS, np.float32) for number in range(FLOATS)
    }
    columns |= {"run": np.ones(EVENTS, np.int32), "event": np.arange(EVENTS)}
    with uproot.recreate(first) as file:
        tree = file.mktree("Events", {name: column.dtype for name, column in columns.items()})
        tree.extend(columns)
    paths = [folder / f"output-{number:05d}.root" for number in range(count)]
    for path in paths[1:]:
        shutil.copyfile(first, path)
    return paths


def _copy(paths: list[Path], copy: Path) -> None:
    with copy.open("wb") as out:
        for path in paths:
            with path.open("rb") as file:
                shutil.copyfileobj(file, out, COPY_BYTES)


def _merge(paths: list[Path], folder: Path, inputs_max: int) -> None:
    """Join level by level; what was joined of the last level goes, as in a task."""
    level, number = paths, 0
    while len(level) > 1:
        joined = []
        for start in range(0, len(level), inputs_max):
            joined.append(folder / f"level{number}-{start}.root")
            rootio.join(level[start : start + inputs_max], joined[-1])
        for path in level if number else ():
            path.unlink()
        level, number = joined, number + 1
