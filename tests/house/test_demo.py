"""The demonstration's physics: events by number, the payload, and the plot."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

from demo.generate import RECIPE, dataset_files, generate
from demo.payload import Particle, best_pair, isolation, prongs

DEMO = Path(__file__).resolve().parents[2] / "demo"
ZMM = (Particle(45.6, 0.0, 0.0, 0.1057, 1), Particle(45.6, 0.0, math.pi, 0.1057, -1))


def test_back_to_back_muons_make_a_z() -> None:
    mass, pt = best_pair(list(ZMM))
    assert mass == pytest.approx(91.2, abs=0.01)
    assert pt == pytest.approx(0.0, abs=1e-9)


def test_alike_charges_make_no_pair() -> None:
    assert best_pair([ZMM[0], ZMM[0]]) == (-1.0, -1.0)


def test_the_hardest_pair_of_opposite_charges_is_taken() -> None:
    soft = Particle(5.0, 1.0, 1.0, 0.1057, -1)
    assert best_pair([soft, *ZMM]) == best_pair(list(ZMM))


def test_isolation_leaves_out_the_muon_itself() -> None:
    own, near, far = (Particle(pt, 0.0, phi, 0.14, 1) for pt, phi in ((45, 0), (4.56, 0.2), (9, 1)))
    assert isolation(ZMM[0], [own, near, far]) == pytest.approx(0.1)


def test_two_directions_have_a_small_c2() -> None:
    pencil = [Particle(10.0, 0.01 * i, math.pi * (i % 2), 0.14, 1) for i in range(6)]
    star = [Particle(10.0, 0.0, -3.0 + i, 0.14, 1) for i in range(6)]
    assert prongs(pencil) < prongs(star)
    assert prongs(pencil[:2]) == -1.0


def write_events(path: Path, events: int) -> dict[str, Any]:
    """Write events as the dataset has them: a Z, then one without muons, and so on."""
    odd = np.arange(events) % 2 == 0
    flat = {
        "run": np.full(events, 380_001, np.uint32),
        "luminosityBlock": np.arange(events, dtype=np.uint32),
        "event": np.arange(100, 100 + events, dtype=np.uint64),
        "process": np.zeros(events, np.int32),
    }
    muons = {
        key: ak.values_astype(ak.Array([[a, b] if o else [] for o in odd]), kind)
        for key, a, b, kind in (
            ("pt", 45.6, 45.6, np.float32),
            ("eta", 0.0, 0.0, np.float32),
            ("phi", 0.0, math.pi, np.float32),
            ("mass", 0.1057, 0.1057, np.float32),
            ("charge", 1, -1, np.int32),
        )
    }
    tracks = {key: values for key, values in muons.items() if key != "mass"}
    types = {key: value.dtype for key, value in flat.items()}
    with uproot.recreate(path) as file:
        kind = "{{pt: float32, eta: float32, phi: float32, {}charge: int32}}"
        jagged = {
            "Muon": ak.types.from_datashape(f"var * {kind.format('mass: float32, ')}", highlevel=0),
            "Track": ak.types.from_datashape(f"var * {kind.format('')}", highlevel=0),
        }
        tree = file.mktree("Events", {**types, **jagged})
        if events:
            tree.extend({**flat, "Muon": ak.zip(muons), "Track": ak.zip(tracks)})
    return flat


def run_payload(source: Path, target: Path) -> None:
    """Run the payload as a worker does."""
    words = [sys.executable, str(DEMO / "payload.py"), str(source), str(target)]
    subprocess.run(words, check=True, cwd=source.parent, capture_output=True)


@pytest.mark.parametrize("events", [0, 1, 4])
def test_the_payload_has_an_entry_for_each_event(tmp_path: Path, events: int) -> None:
    flat = write_events(tmp_path / "in.root", events)
    run_payload(tmp_path / "in.root", tmp_path / "out.root")
    with uproot.open(tmp_path / "out.root") as file:
        tree = file["Events"].arrays()
        histogram = file["dimuon_mass"].values()
    for key, values in flat.items():
        assert np.array_equal(tree[key], values)
    pairs = (events + 1) // 2
    assert np.sum(tree["dimuon_mass"] > 0) == pairs
    assert histogram[91] == pairs == histogram.sum()
    assert ak.all(ak.num(tree["Muon_isolation"]) == tree["nMuon"])


def test_the_plot_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib comes with make demo")
    from demo.plot import draw

    write_events(tmp_path / "in.root", 4)
    run_payload(tmp_path / "in.root", tmp_path / "out.root")
    assert draw(tmp_path / "out.root", tmp_path / "a.png") == 2
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".png", ".root", ".root"]


def test_a_dataset_is_taken_whole_or_not_at_all(tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert dataset_files(data) == []
    data.mkdir()
    assert dataset_files(data) == [], "a folder without its manifest is not whole"
    manifest = {"recipe": RECIPE, "files": ["a.root"]}
    (data / "dataset.json").write_text(json.dumps(manifest))
    assert generate(data) == dataset_files(data) == [data / "a.root"]
    manifest["recipe"] = {**RECIPE, "version": 0}
    (data / "dataset.json").write_text(json.dumps(manifest))
    assert dataset_files(data) == [], "another recipe makes other events"


@pytest.mark.slow
def test_an_event_is_the_same_in_any_company() -> None:
    pytest.importorskip("pythia8mc", reason="pythia8mc comes with make demo")
    from demo.collisions import make_events, process_of

    numbers = [1, 2, 5, 11, 11_999]
    assert {process_of(number) for number in numbers} == {0, 1, 2}
    together, alone = make_events(numbers), make_events([5])
    again = make_events(reversed(numbers))[::-1]
    assert_equal(together[2], alone[0])
    for first, second in zip(together, again, strict=True):
        assert_equal(first, second)


def assert_equal(first: dict[str, Any], second: dict[str, Any]) -> None:
    """Compare two events, branch by branch."""
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert np.array_equal(value, second[key]), key
