"""ROOT itself as the judge: two trees compared branch by branch, entry by entry."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path

import pytest

MACRO = Path(__file__).parents[1] / "conformance/rootio/compare_trees.C"


def root_program() -> Path:
    """Return ROOT's program, found without importing ROOT; skip where it is not."""
    found = importlib.util.find_spec("ROOT")
    if found is None or not found.submodule_search_locations:
        pytest.skip("ROOT is not installed: pip install root==0.1a12")
    return Path(found.submodule_search_locations[0]) / "bin/root.exe"


def assert_equal_by_root(
    source: Path, product: Path, tree: str, entries: int, folder: Path
) -> None:
    """Assert that ROOT reads the same bytes and objects for every branch and entry."""
    program = root_program()
    listing = folder / "compare.txt"
    words = [str(source), tree, "0", str(product), tree, "0", str(entries), "objects"]
    listing.write_text("\t".join(words) + "\n")
    done = subprocess.run(
        [str(program), "-b", "-q", "-l", f'{MACRO}("{listing}", "")'],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    lines = done.stdout.strip().splitlines()
    verdicts = [line for line in lines if line.startswith(("EQUAL", "DIFFERENT"))]
    assert [line.split()[0] for line in verdicts] == ["EQUAL"], done.stdout + done.stderr
    assert int(verdicts[0].split()[-1]) == entries
    assert "DONE" in lines
