"""The files that are cut, selected from and joined: made once, with ROOT."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

HERE = Path(__file__).resolve().parent
FOLDER = HERE.parent / "inputs" / "rootio"
NTUPLES = HERE / "ntuples.C"
# Of an entry of nano as an RNTuple, by zlib at level 1: clusters are asked for in bytes.
NTUPLE_ENTRY_BYTES = 595
TREES = {"nano": "Events", "objects": "analysis"}
MAKE_S_MAX = 1800.0


class CannotMeasureError(Exception):
    """Something that the benchmark needs is not on this machine."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of file.

    Attributes
    ----------
    name : str
        "nano" or "objects", as inputs.C knows them.
    compression : int
        ROOT's number: 100 * algorithm + level.
    entries, cluster_entries : int
    seed : int
    ntuple : bool
        Whether its entries are in an RNTuple; clusters have about so many entries then.
    """

    name: str
    compression: int
    entries: int
    cluster_entries: int
    seed: int = 1
    ntuple: bool = False

    @property
    def tree(self) -> str:
        """Name of its tree."""
        return TREES[self.name]

    @property
    def label(self) -> str:
        """What tells it from other kinds in a table."""
        return f"{self.title} in clusters of {self.cluster_entries}"

    @property
    def title(self) -> str:
        """What it is, whatever its clusters."""
        return f"{self.name} as RNTuple" if self.ntuple else self.name

    def file_name(self, count: int) -> str:
        """Tell what it is made of; of several files, with a place for the number."""
        name = f"{self.name}_ntuple" if self.ntuple else self.name
        words = [name, self.compression, self.entries, self.cluster_entries, self.seed]
        return "-".join(map(str, words)) + ("-%03d.root" if count > 1 else ".root")


def root_bin() -> Path:
    """Return the directory of ROOT's programs."""
    spec = importlib.util.find_spec("ROOT")
    if spec is None or spec.origin is None:
        raise CannotMeasureError("ROOT is not installed: pip install -c constraints.txt root")
    if shutil.which("c++") is None:
        raise CannotMeasureError("ROOT needs a C++ compiler here: apt-get install g++")
    return Path(spec.origin).parent / "bin"


class Workshop:
    """Where inputs and the compiled macros are kept from run to run."""

    def __init__(self, folder: Path = FOLDER) -> None:
        sources = [HERE / "inputs.C", HERE / "peers.C"]
        self._files = folder / f"files-{_digest(sources[:1])}"
        self._ntuples = folder / f"ntuples-{_digest([sources[0], NTUPLES])}"
        self.build = folder / f"build-{_digest(sources)}"
        self.root = root_bin() / "root.exe"
        for one in (self._files, self._ntuples, self.build):
            one.mkdir(parents=True, exist_ok=True)
        for source in sources:
            if not (self.build / source.name).exists():
                shutil.copy(source, self.build)

    def one(self, kind: Kind) -> Path:
        """Return a file of a kind, made if it is not there yet."""
        return self.several(kind, 1)[0]

    def several(self, kind: Kind, count: int) -> list[Path]:
        """Return so many files of a kind with seeds that follow each other."""
        folder = self._ntuples if kind.ntuple else self._files
        pattern = str(folder / kind.file_name(count))
        paths = [Path(pattern % n if count > 1 else pattern) for n in range(count)]
        if not all(path.exists() for path in paths):
            print(f"making {count} x {paths[0].name} (once)", flush=True)
            if kind.ntuple:
                self._make_ntuples(kind, paths)
            else:
                arguments = (
                    f'"{kind.name}","{pattern}",{kind.compression},{kind.entries},'
                    f"{kind.cluster_entries},{kind.seed},{count}"
                )
                self._run(f"inputs.C+O({arguments})")
        if not all(path.exists() for path in paths):
            raise CannotMeasureError(f"ROOT did not make {paths[-1].name}")
        for path in paths:
            _warm(path)
        return paths

    def _make_ntuples(self, kind: Kind, paths: Sequence[Path]) -> None:
        trees = self.several(replace(kind, ntuple=False), len(paths))
        size = kind.cluster_entries * NTUPLE_ENTRY_BYTES
        calls = [
            f'ntuples("{tree}","{kind.tree}","{path}",{kind.compression},{size})'
            for tree, path in zip(trees, paths, strict=True)
        ]
        self._run(*(word for call in (f".L {NTUPLES}", *calls) for word in ("-e", call)))

    def _run(self, *words: str) -> None:
        done = subprocess.run(
            [self.root, "-b", "-q", "-l", *words],
            cwd=self.build, capture_output=True, text=True, timeout=MAKE_S_MAX, check=False,
        )  # fmt: skip
        if done.returncode:
            raise CannotMeasureError(f"{words[-1]} failed: {done.stderr[-2000:]}")


def _digest(sources: Sequence[Path]) -> str:
    return hashlib.sha256(b"".join(s.read_bytes() for s in sources)).hexdigest()[:12]


def _warm(path: Path) -> None:
    with path.open("rb") as file:
        while file.read(8 << 20):
            pass
