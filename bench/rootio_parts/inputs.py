"""The files that are cut, selected from and joined: made once, with ROOT."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
FOLDER = HERE.parent / "inputs" / "rootio"
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
    """

    name: str
    compression: int
    entries: int
    cluster_entries: int
    seed: int = 1

    @property
    def tree(self) -> str:
        """Name of its tree."""
        return TREES[self.name]

    @property
    def label(self) -> str:
        """What tells it from other kinds in a table."""
        return f"{self.name} in clusters of {self.cluster_entries}"

    def file_name(self, count: int) -> str:
        """Tell what it is made of; of several files, with a place for the number."""
        words = [self.name, self.compression, self.entries, self.cluster_entries, self.seed]
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
        digest = hashlib.sha256(b"".join(s.read_bytes() for s in sources)).hexdigest()
        inputs_digest = hashlib.sha256(sources[0].read_bytes()).hexdigest()
        self._files = folder / f"files-{inputs_digest[:12]}"
        self.build = folder / f"build-{digest[:12]}"
        self.root = root_bin() / "root.exe"
        for one in (self._files, self.build):
            one.mkdir(parents=True, exist_ok=True)
        for source in sources:
            if not (self.build / source.name).exists():
                shutil.copy(source, self.build)

    def one(self, kind: Kind) -> Path:
        """Return a file of a kind, made if it is not there yet."""
        return self.several(kind, 1)[0]

    def several(self, kind: Kind, count: int) -> list[Path]:
        """Return so many files of a kind with seeds that follow each other."""
        pattern = str(self._files / kind.file_name(count))
        paths = [Path(pattern % n if count > 1 else pattern) for n in range(count)]
        if not all(path.exists() for path in paths):
            print(f"making {count} x {paths[0].name} (once)", flush=True)
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

    def _run(self, macro: str) -> None:
        done = subprocess.run(
            [self.root, "-b", "-q", "-l", macro],
            cwd=self.build, capture_output=True, text=True, timeout=MAKE_S_MAX, check=False,
        )  # fmt: skip
        if done.returncode:
            raise CannotMeasureError(f"{macro} failed: {done.stderr[-2000:]}")


def _warm(path: Path) -> None:
    with path.open("rb") as file:
        while file.read(8 << 20):
            pass
