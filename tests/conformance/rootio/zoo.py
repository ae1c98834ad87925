"""Files that ROOT makes of every kind of branch and field, and the libraries of their classes.

Making them takes a minute of compiling. They are kept in build/, one folder for each content
of macro, numbers and ROOT, so that all processes of a test run and all later runs share them.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TIMEOUT_S = 600
KEPT = HERE.parents[2] / "build" / "zoo"
# ROOT mostly waits for its own libraries when it starts; more at once would only pile up.
PROCESSES = 2

# name: compression, seed, entries, entries per cluster, offsets left to counters
ZOO = {
    "zlib": (101, 1, 1000, 100, False),
    "zlib_b": (101, 2, 300, 100, False),
    "zstd": (505, 3, 1000, 250, False),
    "lz4": (404, 4, 1000, 1000, False),
    "lzma": (206, 5, 400, 100, False),
    "plain": (0, 6, 1000, -30_000_000, False),
    "mapped": (101, 7, 1000, 100, True),
    "unmapped": (101, 7, 1000, 100, False),
}

# name: compression, seed, entries, entries per cluster, clusters per group, bits as
# make_ntuple_zoo.C explains them
NTUPLE_ZOO = {
    "zlib": (101, 1, 600, 100, 3, 0),
    "zlib_b": (101, 12, 300, 70, 2, 0),
    "zstd": (505, 2, 700, 150, 2, 1),
    "lz4": (404, 3, 500, 100, 3, 2),
    "lzma": (207, 4, 300, 100, 3, 4),
    "plain": (0, 5, 600, 100, 3, 64),
    "turns": (505, 6, 900, 100, 3, 73),
    "late": (505, 7, 900, 100, 2, 80),
    "late_plain": (0, 8, 600, 90, 2, 22),
    "split": (0, 9, 6000, 3000, 1, 32),
    "second": (101, 10, 300, 100, 3, 128),
    "all": (505, 11, 800, 100, 3, 89),
}


@dataclass(frozen=True)
class Zoo:
    """Files of every kind, and the library with their classes."""

    library: Path
    files: dict[str, Path]


def build_zoo(root_bin: Path) -> Zoo:
    """Return trees of every kind, made by ROOT if they are not there yet."""

    def make(where: Path) -> None:
        run_root(root_bin, where, "-e", ".L make_zoo.C+")

        def one(name: str) -> None:
            compression, seed, entries, flush, generate = ZOO[name]
            numbers = f"{compression},{seed},{entries},{flush},{str(generate).lower()}"
            run_root(root_bin, where, f'make_zoo.C+("{where / name}.root",{numbers})')

        # A process each, so that each file has process ids of its own.
        with ThreadPoolExecutor(PROCESSES) as pool:
            list(pool.map(one, ZOO))

    return _kept("make_zoo", root_bin, ZOO, make)


def build_ntuple_zoo(root_bin: Path) -> Zoo:
    """Return RNTuples of every kind, made by ROOT if they are not there yet."""

    def make(where: Path) -> None:
        words = ["-e", ".L make_ntuple_zoo.C+"]
        for name, numbers in NTUPLE_ZOO.items():
            arguments = ",".join([f'"{where / name}.root"', *map(str, numbers)])
            words += ["-e", f"make_ntuple_zoo({arguments})"]
        run_root(root_bin, where, *words)

    return _kept("make_ntuple_zoo", root_bin, NTUPLE_ZOO, make)


def run_root(root_bin: Path, where: Path, *words: str) -> None:
    """Run ROOT in a folder; fail the test with what it said if it was not well."""
    run = subprocess.run(
        [root_bin / "root.exe", "-b", "-q", "-l", *words],
        cwd=where, capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    assert "terminate" not in run.stderr, run.stderr[-2000:]
    assert "rror:" not in run.stderr, run.stderr[-2000:]


def _kept(
    macro: str, root_bin: Path, numbers: dict[str, tuple[int, ...]], make: Callable[[Path], None]
) -> Zoo:
    if shutil.which("g++") is None:
        pytest.skip("no C++ compiler to make ROOT dictionaries")
    source = HERE / f"{macro}.C"
    # Dictionaries hold paths of ROOT's headers, and of the macro, which therefore never moves.
    program = root_bin / "root.exe"
    made_of = (repr(sorted(numbers.items())), str(program), str(program.stat().st_mtime_ns))
    digest = hashlib.sha256(source.read_bytes() + "\n".join(made_of).encode()).hexdigest()
    where = KEPT / f"{macro}-{digest[:16]}"
    complete = where / "complete"
    KEPT.mkdir(parents=True, exist_ok=True)
    with (KEPT / f"{where.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        files = {name: where / f"{name}.root" for name in numbers}
        if not complete.exists():
            shutil.rmtree(where, ignore_errors=True)
            where.mkdir()
            shutil.copy(source, where)
            make(where)
            missing = [name for name, path in files.items() if not path.exists()]
            assert not missing, f"ROOT did not make {missing}"
            complete.touch()
    return Zoo(where / f"{macro}_C.so", files)
