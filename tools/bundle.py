"""The client bundle: a folder with evstream and its libraries, to be put on CVMFS.

Nothing is compiled and nothing in it knows where it is; see docs/how-to/put-on-cvmfs.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.metadata import distributions
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
FILES = Path(__file__).resolve().parent / "bundle_files"
PYTHONS = ("3.11", "3.12", "3.13")
EXTRAS = "s3,xrootd"
"""What a pilot may need where it runs; databases and other formats are for services."""
GLIBC_MINOR = 28
"""Of the oldest nodes that it runs on: those of Enterprise Linux 8."""
LEGACY = ("manylinux1", "manylinux2010", "manylinux2014")
WHEN = 315_532_800
"""1980-01-01, the time of all files: nothing of when it was built is in a bundle."""


def main(words: Sequence[str] | None = None) -> int:
    """Build a bundle, as the command line says."""
    parser = argparse.ArgumentParser(prog="make bundle", description=__doc__)
    parser.add_argument("folder", type=Path, help="new folder to make")
    parser.add_argument("--python", action="append", help=f"minor version; default {PYTHONS}")
    parser.add_argument("--machine", default=platform.machine(), help="as uname -m says")
    given = parser.parse_args(words)
    folder: Path = given.folder.absolute()
    if folder.exists():
        print(f"bundle: {folder} is there already; remove it first", file=sys.stderr)
        return 2
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Beside it, so that what has the name is whole.
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        made = Path(scratch) / "bundle"
        build(made, given.python or PYTHONS, given.machine)
        made.rename(folder)
    size = sum(path.stat().st_size for path in _files(folder))
    print(f"{folder}: {size / 1e6:.0f} MB for {', '.join(given.python or PYTHONS)}")
    return 0


def build(root: Path, pythons: Sequence[str], machine: str) -> None:
    """Make a bundle.

    Raises
    ------
    CalledProcessError
        A library has no wheel for one of the Pythons; pip has said which.
    """
    with tempfile.TemporaryDirectory() as scratch:
        wheel = _wheel_of_ours(Path(scratch))
        for version in pythons:
            _install(wheel, root / "lib" / f"python{version}", version, machine)
    (root / "bin").mkdir()
    shutil.copyfile(FILES / "evstream.sh", root / "bin" / "evstream")
    shutil.copyfile(FILES / "setup.sh", root / "setup.sh")
    for version in pythons:
        _compile(root, root / "lib" / f"python{version}", version)
    manifest = {
        "machine": machine,
        "glibc": f"2.{GLIBC_MINOR}",
        "pythons": {version: _versions(root / "lib" / f"python{version}") for version in pythons},
        "sha256": {str(path.relative_to(root)): _sha256(path) for path in _files(root)},
    }
    (root / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    for path in [*root.rglob("*"), root]:
        runs = path.is_dir() or path == root / "bin" / "evstream"
        path.chmod(0o755 if runs else 0o644)
        os.utime(path, (WHEN, WHEN))


def _wheel_of_ours(folder: Path) -> Path:
    # The backend is the one that this environment was set up with, not the newest there is.
    _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(REPOSITORY))
    (wheel,) = folder.glob("*.whl")
    return wheel


def _install(wheel: Path, target: Path, version: str, machine: str) -> None:
    abi = f"cp{version.replace('.', '')}"
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in range(GLIBC_MINOR, 4, -1)]
    platforms += [f"{name}_{machine}" for name in LEGACY]
    tags = [word for name in platforms for word in ("--platform", name)]
    tags += [word for name in (abi, "abi3", "none") for word in ("--abi", name)]
    tags += ["--implementation", "cp", "--python-version", version, "--only-binary", ":all:"]
    constraints = ["--constraint", str(REPOSITORY / "constraints.txt")]
    _pip(
        "install",
        "--no-compile",
        "--target",
        str(target),
        *tags,
        *constraints,
        f"{wheel}[{EXTRAS}]",
    )
    # Scripts name the interpreter of whoever built them; one file names where ours was built.
    shutil.rmtree(target / "bin", ignore_errors=True)
    for path in target.glob("*.dist-info/direct_url.json"):
        path.unlink()


def _pip(*words: str) -> None:
    quiet = ("--quiet", "--quiet", "--disable-pip-version-check", "--no-input")
    subprocess.run([sys.executable, "-m", "pip", words[0], *quiet, *words[1:]], check=True)


def _compile(root: Path, libraries: Path, version: str) -> None:
    """Leave compiled files that are never written again, if that Python is here."""
    python = f"python{version}"
    if not _runs(python):
        print(f"bundle: no {python} here: its files are compiled at each start", file=sys.stderr)
        return
    words = ["-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
    # Some libraries carry files for other Pythons, which do not compile.
    subprocess.run(
        [python, *words, "-s", str(root), str(libraries)],
        check=False,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTHONHASHSEED": "0"},
    )


def _runs(python: str) -> bool:
    """Whether there is such a Python: its name may be a launcher without one behind it."""
    if shutil.which(python) is None:
        return False
    return subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0


def _versions(libraries: Path) -> dict[str, str]:
    found = distributions(path=[str(libraries)])
    return {one.metadata["Name"]: one.version for one in found}


def _files(root: Path) -> Iterator[Path]:
    return (path for path in sorted(root.rglob("*")) if path.is_file())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    sys.exit(main())
