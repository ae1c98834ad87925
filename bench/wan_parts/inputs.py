"""The files that are read, and what reads them with ROOT: made once."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import subprocess
from pathlib import Path

from bench.wan_parts.link import CannotMeasureError

HERE = Path(__file__).resolve().parent
FOLDER = HERE.parent / "inputs" / "wan"
COMPRESSION = 505
ENTRIES, CLUSTER, SEED = 12_000, 2_000, 1
SKIM = [
    "run",
    "luminosityBlock",
    "event",
    "MET_pt",
    "MET_phi",
    "HLT_path0",
    "nMuon",
    "Muon_pt",
    "Muon_eta",
    "Muon_phi",
    "Muon_mass",
    "Muon_btag",
    "Muon_id0",
    "Muon_id1",
    "nJet",
    "Jet_pt",
    "Jet_eta",
    "Jet_phi",
    "Jet_mass",
    "Jet_btag",
]
"""20 of the 50 branches."""


def _root() -> Path:
    spec = importlib.util.find_spec("ROOT")
    if spec is None or spec.origin is None:
        raise CannotMeasureError("ROOT is not installed: pip install -c constraints.txt root")
    if shutil.which("g++") is None:
        raise CannotMeasureError("ROOT needs a C++ compiler here: apt-get install g++")
    return Path(spec.origin).parent


def _folder(source: Path) -> Path:
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:12]
    folder = FOLDER / f"{source.stem}-{digest}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def files(count: int) -> list[Path]:
    """Return so many files, the same ones each time."""
    source = HERE / "inputs.C"
    folder = _folder(source)
    paths = [folder / f"nano-{number:03d}.root" for number in range(count)]
    if not all(path.exists() for path in paths):
        print(f"making {count} files of {ENTRIES} events (once)", flush=True)
        shutil.copy(source, folder)
        call = f'inputs.C+O("nano-%03d.root",{COMPRESSION},{ENTRIES},{CLUSTER},{SEED},{count})'
        _run([_root() / "bin" / "root.exe", "-b", "-q", "-l", call], folder)
    return paths


def reader() -> Path:
    """Return the program that reads with ROOT."""
    source = HERE / "reader.cpp"
    folder, root = _folder(source), _root()
    program = folder / "reader"
    if not program.exists():
        libraries = [f"-l{name}" for name in ("Core", "RIO", "Tree", "Net")]
        flags = [f"-I{root}/include", f"-L{root}/lib", f"-Wl,-rpath,{root}/lib", "-pthread"]
        _run(["g++", "-std=c++17", "-O2", "-o", program, source, *flags, *libraries], folder)
    return program


def _run(command: list[str | Path], folder: Path) -> None:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=1800, check=False
    )
    if done.returncode:
        raise CannotMeasureError(f"{command[0]} failed: {done.stderr[-2000:]}")
