"""Products are used as people use files: chains, RDataFrame, Draw, CloneTree, hadd."""

from __future__ import annotations

import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from evstream import rootio
from tests.conformance.rootio.conftest import Compare, Pair
from tests.conformance.rootio.zoo import HERE, TIMEOUT_S

# file, tree, a branch with one number, one with an array. hadd streams objects of the last
# one's age anew, so that its bytes are no measure.
SUBJECTS = [
    ("Run2012B_SingleMu_1000.root", "Events", "MET_pt", "Muon_pt"),
    ("nano_dy.root", "Events", "MET_pt", "GenPart_pt"),
    ("uproot-HZZ-zlib.root", "events", "MET_px", "Jet_Px"),
    ("uproot-issue64.root", "events/events", "eventid", "pmthits"),
]


def _slices(source: Path, tree: str, folder: Path) -> list[Path]:
    with rootio.FileSource(source) as opened:
        entries = rootio.inspect(opened).trees[tree].entries
    edges = [0, entries // 5, entries // 3, entries // 3 + 1, entries]
    parts = []
    for start, stop in pairwise(edges):
        parts.append(folder / f"slice_{start}.root")
        rootio.cut(source, parts[-1], tree=tree, entry_start=start, entry_stop=stop)
    return parts


@pytest.mark.slow
@pytest.mark.parametrize(("name", "tree", "number", "array"), SUBJECTS)
@pytest.mark.parametrize("kind", ["slices", "joined"])
def test_root_uses_products_in_every_way(
    name: str, tree: str, number: str, array: str, kind: str,
    shared_data: Path, root_bin: Path, tmp_path: Path,
) -> None:  # fmt: skip
    source = shared_data / name
    parts = _slices(source, tree, tmp_path)
    if kind == "joined":
        rootio.join(parts, tmp_path / "joined.root")
        parts = [tmp_path / "joined.root"]
    listing = tmp_path / "list.txt"
    listing.write_text("".join(f"{part}\n" for part in parts))
    words = (source, tree, number, array, listing, tmp_path / "clone.root")
    call = ",".join(f'"{word}"' for word in words)
    run = subprocess.run(
        [root_bin / "root.exe", "-b", "-q", "-l", f"{HERE / 'read_products.C'}({call})"],
        check=False, capture_output=True, text=True, timeout=TIMEOUT_S,
    )  # fmt: skip
    assert "EQUAL 14" in run.stdout, run.stdout[-2000:] + run.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "tree"), [subject[:2] for subject in SUBJECTS[:3]])
def test_hadd_joins_products_as_we_do(
    name: str, tree: str, shared_data: Path, root_bin: Path, equal_by_root: Compare, tmp_path: Path
) -> None:
    source = shared_data / name
    parts = _slices(source, tree, tmp_path)
    whole, ours = tmp_path / "hadd.root", tmp_path / "ours.root"
    subprocess.run(
        [root_bin / "hadd", "-f", whole, *parts],
        check=True, capture_output=True, timeout=TIMEOUT_S,
    )  # fmt: skip
    result = rootio.join(parts, ours)
    entries = result.entries[tree]
    pairs = [Pair(source, tree, 0, whole, 0, entries), Pair(whole, tree, 0, ours, 0, entries)]
    for path, count in result.entries.items():
        if path != tree:
            pairs.append(Pair(source, path, 0, whole, 0, count))
    equal_by_root(pairs)
