"""Skim NanoAOD to the events with two muons of opposite charge, and keep their mass.

A callable: ``skim`` is given a unit, reads its input with uproot and writes its output.
"""

from __future__ import annotations

from typing import Any

import awkward as ak
import numpy as np
import uproot

from evstream.payload import Unit

PT_MIN = 5.0
"""Of both muons, in GeV."""
KEPT = {
    "run": np.dtype("uint32"),
    "luminosityBlock": np.dtype("uint32"),
    "event": np.dtype("uint64"),
    "mass": np.dtype("float32"),
    "pt": np.dtype("float32"),
}


def skim(unit: Unit) -> None:
    """Write one row for each event that is kept, in the order of the input."""
    with uproot.open(unit.input) as source:
        events = source[unit.tree].arrays(
            ["run", "luminosityBlock", "event", "Muon_pt", "Muon_eta", "Muon_phi", "Muon_charge"]
        )
    kept, mass, pt = dimuons(events)
    rows = {name: ak.to_numpy(kept[name]) for name in ("run", "luminosityBlock", "event")}
    rows |= {"mass": ak.to_numpy(mass), "pt": ak.to_numpy(pt)}
    with uproot.recreate(unit.output) as target:
        # Also where nothing is kept: all outputs need the same tree to be merged.
        tree = target.mktree("Events", KEPT)
        tree.extend({name: rows[name].astype(kind) for name, kind in KEPT.items()})


def dimuons(events: ak.Array) -> tuple[ak.Array, ak.Array, ak.Array]:
    """Return the events with a pair, and the pair's mass and transverse momentum in GeV.

    Of several pairs in an event, that of the hardest muons counts. Muons are taken as
    massless.
    """
    muons: Any = ak.zip({name: events[f"Muon_{name}"] for name in ("pt", "eta", "phi", "charge")})
    pairs = ak.combinations(muons[muons.pt > PT_MIN], 2, fields=["a", "b"])
    pairs = pairs[pairs.a.charge * pairs.b.charge < 0]
    has_pair = ak.num(pairs) > 0
    pairs = pairs[has_pair][:, 0]
    a, b = pairs.a, pairs.b
    mass = np.sqrt(2 * a.pt * b.pt * (np.cosh(a.eta - b.eta) - np.cos(a.phi - b.phi)))
    pt = np.hypot(
        a.pt * np.cos(a.phi) + b.pt * np.cos(b.phi), a.pt * np.sin(a.phi) + b.pt * np.sin(b.phi)
    )
    return events[has_pair], mass, pt
