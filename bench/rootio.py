"""Cut, select and join ROOT files, against ROOT, uproot and a plain copy.

All work on the same files in the page cache, with the file's codec and level, in turn,
each in a process of its own whose start and loading of libraries are not counted: what it
does on first use is. The full run also has each do it once more, and notes what that took.
Limits are held by the clock; ratios of CPU seconds are noted beside.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from bench.harness import Bench
from bench.machine import REPOSITORY
from bench.rootio_parts.ground import Ground, Medians, Turn, in_turn
from bench.rootio_parts.inputs import CannotMeasureError, Kind, Workshop
from bench.rootio_parts.peers import Peers
from evstream import rootio

EXIT_CANNOT_MEASURE = 2
COUNTS = (100, 10_000, 100_000)
SELECT_ENTRIES = 100_000
SHARES = {"1 %": 0.01, "20 %": 0.20}
MASK_SEED = 3
# What a quick look does without, since the others take long for it; each question is asked
# of other files.
NOT_QUICK = {("objects", 10_000), ("objects", "20 %"), ("nano as RNTuple", 100_000)}
STREAM_BYTES_MAX = 200_000_000
# Written by tests/conftest.py.
COUNTED = REPOSITORY / "build" / "conformance-rootio.json"


def hold(
    bench: Bench, what: str, found: tuple[Medians, Medians | None], ours: str, peer: str,
    least: float,
) -> None:  # fmt: skip
    """Hold how many times faster than a peer we are to a limit; note what is not held."""
    first, again = found
    wall, cpu = first.ratios(peer, ours)
    bench.measure(f"{what}: {ours}, times faster than {peer}, by CPU", cpu, "")
    if again is not None:
        wall_again, cpu_again = again.ratios(peer, ours)
        bench.measure(f"{what}, repeated: {ours}, times faster than {peer}", wall_again, "")
        bench.measure(f"{what}, repeated: {ours}, times faster than {peer}, by CPU", cpu_again, "")
    bench.ask(f"{what}: {ours}, times faster than {peer}", wall, ">=", least)


def first_entry(kind: Kind) -> int:
    """Choose where a range begins: well inside the file, where no basket does."""
    return kind.entries // 4 + 321


def measure_exact_cuts(ground: Ground) -> None:
    """Cut at entries where no basket begins."""
    bench, kind = ground.bench, ground.kind
    begin = first_entry(kind)
    loop = "LoadEntry and Fill" if kind.ntuple else "CloneTree"
    for count in COUNTS:
        span = begin, begin + count
        if span[1] > kind.entries or (bench.quick and (kind.title, count) in NOT_QUICK):
            continue
        subjects: dict[str, Callable[[], Turn]] = {
            "evstream": partial(ground.cut, "evstream", "cut", *span),
            "evstream with its index": partial(ground.cut, "evstream", "cut_indexed", *span),
            loop: partial(ground.cut, "root", "clone", *span),
            "Snapshot": partial(ground.cut, "root", "snapshot", *span),
        }
        least = {loop: 4.0, "Snapshot": 4.0}
        if kind.name == "nano":
            # uproot writes no objects, and vectors as counted arrays.
            subjects["uproot"] = partial(ground.cut, "uproot", "uproot", *span)
            least["uproot"] = 5.0
        if bench.quick and count == 100_000:
            least = {loop: least[loop]}
            subjects = {
                who: do for who, do in subjects.items() if "evstream" in who or who in least
            }
        what = f"{kind.label}, exact cut of {count}"
        found = in_turn(bench, what, subjects, 1 if bench.quick else 5 if count == 100 else 3)
        for peer, limit in least.items():
            hold(bench, what, found, "evstream", peer, 15.0 if count == 100_000 else limit)
            if count == 10_000 and peer != "uproot":
                hold(bench, what, found, "evstream with its index", peer, 8.0)


def measure_aligned_cuts(ground: Ground) -> None:
    """Cut at clusters, against a plain copy of as many bytes."""
    bench, kind = ground.bench, ground.kind
    with rootio.FileSource(ground.path) as source:
        index = rootio.inspect(source)
        clusters = index.tree(kind.tree).clusters
        for entries in COUNTS[1:]:
            begin = int(clusters[1])
            if begin + entries > kind.entries:
                continue
            stop = int(clusters[np.searchsorted(clusters, begin + entries)])
            cut = rootio.plan_cut(index, tree=kind.tree, entry_start=begin, entry_stop=stop)
            cut.prepare(source)
            subjects: dict[str, Callable[[], Turn]] = {
                "evstream with its index": partial(ground.cut_here, index, begin, stop),
                "first bytes": partial(ground.first_bytes, index, begin, stop),
                "copy": partial(ground.copy, cut.size),
            }
            what = f"{kind.label}, aligned cut of {stop - begin}"
            medians, _ = in_turn(bench, what, subjects, 3 if bench.quick else 15)
            bench.measure(f"{what}: size", cut.size, "B")
            wall, cpu = medians.ratios("evstream with its index", "copy")
            bench.measure(f"{what}: times what copying takes, by CPU", cpu, "")
            bench.ask(f"{what}: times what copying as many bytes takes", wall, "<=", 1.3)
            first = medians.wall["first bytes"].median
            bench.ask(f"{what}: seconds to its first bytes", first, "<=", 0.010)


def measure_small_clusters(ground: Ground) -> None:
    """Cut as many entries as a small cluster has, across two of them."""
    bench, kind = ground.bench, ground.kind
    with rootio.FileSource(ground.path) as source:
        index = rootio.inspect(source)
    begin = first_entry(kind)
    stop = begin + kind.cluster_entries
    what = f"zstd level {kind.compression % 100}, clusters of 1000, exact cut of 1000"
    subjects = {"evstream with its index": partial(ground.cut_here, index, begin, stop)}
    medians, _ = in_turn(bench, what, subjects, 9 if bench.quick else 21)
    used = medians.cpu["evstream with its index"].median
    bench.ask(f"{what}, with its index: CPU seconds", used, "<=", 0.015)


def measure_selections(ground: Ground) -> None:
    """Select scattered entries."""
    bench, kind = ground.bench, ground.kind
    rng = np.random.default_rng(MASK_SEED)
    entries = min(SELECT_ENTRIES, kind.entries)
    for share, probability in SHARES.items():
        if bench.quick and (kind.title, share) in NOT_QUICK:
            continue
        mask = rng.random(entries) < probability
        subjects: dict[str, Callable[[], Turn]] = {
            "evstream": partial(ground.select, "evstream", mask),
            "Snapshot": partial(ground.select, "root", mask),
        }
        what = f"{kind.title}, {share} of {entries}"
        found = in_turn(bench, what, subjects, 1 if bench.quick else 3)
        hold(bench, what, found, "evstream", "Snapshot", 3.0)


def measure_joins(ground: Ground, parts: list[Path]) -> None:
    """Join files, against what `hadd` does once it has started."""
    bench, kind = ground.bench, ground.kind
    subjects: dict[str, Callable[[], Turn]] = {
        "evstream": partial(ground.join, "evstream", "join", parts),
        "evstream with its indices": partial(ground.join, "evstream", "join_indexed", parts),
        "hadd": partial(ground.join, "root", "merge", parts),
    }
    what = f"{kind.title}, join of {len(parts)} files"
    first, again = in_turn(bench, what, subjects, 1 if bench.quick else 3)
    for ours, most in (("evstream with its indices", 1.0), ("evstream", 1.3)):
        wall, cpu = first.ratios(ours, "hadd")
        bench.measure(f"{what}: {ours}, times what hadd takes, by CPU", cpu, "")
        if again is not None:
            wall_again, cpu_again = again.ratios(ours, "hadd")
            bench.measure(f"{what}, repeated: {ours}, times what hadd takes", wall_again, "")
            bench.measure(f"{what}, repeated: {ours}, times what hadd takes, by CPU", cpu_again, "")
        bench.ask(f"{what}: {ours}, times what hadd takes", wall, "<=", most)


def measure_memory(bench: Bench, source: Path) -> None:
    """Stream a product that is larger than memory should have to be."""
    wanted = bench.choose("streamed product, bytes", full=10_000_000_000, quick=1_000_000_000)
    command = [sys.executable, "-m", "bench.rootio_parts.memory", str(wanted), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    said = json.loads(done.stdout)
    bench.measure("streamed product", said["bytes"], "B")
    peak = bench.measure("streamed product: peak of resident memory", said["peak"], "B")
    bench.ask("streamed product: peak of resident memory, bytes", peak, "<=", STREAM_BYTES_MAX)


def report_comparisons(bench: Bench, counted: Path = COUNTED) -> None:
    """Show what the tests compared with ROOT; say so where they have not counted it."""
    what = "compared with ROOT by the tests"
    found = json.loads(counted.read_text(encoding="utf-8")) if counted.exists() else {}
    if "commit" not in found:
        bench.report(what, "not counted here yet: `make test` does it")
        return
    bench.report(f"{what}, at commit", found["commit"])
    for kind, tests in found["tests"].items():
        bench.report(f"{what}: tests that {kind}", tests)
    for key, figure in found["equal"].items():
        bench.report(f"{what}, all equal: {key}", figure)
    for key, names in found["cannot be read"].items():
        bench.report(key, names)


def choose_kinds(bench: Bench) -> tuple[list[Kind], list[Kind]]:
    """Return the large files, and those with small clusters."""
    entries = bench.choose("entries of nano", full=1_250_000, quick=140_000)
    nano = Kind("nano", 101, entries, 10_000)
    fine = Kind("nano", 101, entries, 1000)
    objects = Kind(
        "objects", 505, bench.choose("entries of objects", full=140_000, quick=30_000), 3000
    )
    large = [nano, objects, replace(nano, ntuple=True)]
    small = [Kind("nano", compression, 20_000, 1000, 2) for compression in (501, 505)]
    return (large if bench.quick else [*large, fine]), small


def choose_parts(bench: Bench) -> list[tuple[Kind, int]]:
    """Return the kinds of files that are joined, and how many of each."""
    counts = bench.choose("files joined", full=[20, 200], quick=[20])
    whole = [Kind("nano", 101, 240_000, 10_000, 10), Kind("objects", 505, 40_000, 10_000, 10)]
    whole.append(replace(whole[0], ntuple=True))
    return [(replace(k, entries=k.entries // n), n) for k in whole for n in counts]


def measure_all(bench: Bench, workshop: Workshop, peers: Peers, folder: Path) -> None:
    """Make the inputs, then measure on each."""
    large, small = choose_kinds(bench)
    files = {kind: workshop.one(kind) for kind in (*large, *small)}
    joined = [(kind, workshop.several(kind, count)) for kind, count in choose_parts(bench)]
    for kind, path in files.items():
        bench.input(path.name, {"bytes": path.stat().st_size, "compression": kind.compression})
    for kind, paths in joined:
        size = sum(path.stat().st_size for path in paths)
        bench.input(f"{len(paths)} files of {kind.title}", {"bytes": size})
    bench.ready()
    for kind in large:
        ground = Ground(bench, peers, kind, files[kind], folder)
        measure_exact_cuts(ground)
        if kind.cluster_entries > 1000:
            measure_aligned_cuts(ground)
            measure_selections(ground)
    for kind in small:
        measure_small_clusters(Ground(bench, peers, kind, files[kind], folder))
    for kind, paths in joined:
        measure_joins(Ground(bench, peers, kind, paths[0], folder), paths)
    measure_memory(bench, files[large[0]])


def main() -> int:
    """Measure, print, write, and return the exit status."""
    bench = Bench.from_command_line("rootio", __doc__)
    report_comparisons(bench)
    try:
        workshop = Workshop()
        scratch = tempfile.TemporaryDirectory(dir=workshop.build, prefix="products-")
        with scratch as folder, Peers(workshop, forks=bench.quick) as peers:
            measure_all(bench, workshop, peers, Path(folder))
    except CannotMeasureError as problem:
        print(f"cannot measure: {problem}", file=sys.stderr)
        return EXIT_CANNOT_MEASURE
    return bench.finish()


if __name__ == "__main__":
    sys.exit(main())
