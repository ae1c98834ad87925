"""Fill histograms of muons, as a coffea processor does: arrays in, a dict of histograms out.

A callable that is given arrays. What it returns is written as ROOT histograms; merging adds
them, and every event is in one range's alone.
"""

from __future__ import annotations

import awkward as ak
import hist
import numpy as np

from evstream.payload import Unit


def process(events: ak.Array, unit: Unit) -> dict[str, hist.Hist]:
    """Return the histograms of a unit's events."""
    multiplicity = hist.Hist.new.Reg(10, 0, 10, name="n", label="muons").Double()
    momentum = hist.Hist.new.Reg(60, 0, 120, name="pt", label="$p_T$ [GeV]").Weight()
    where = hist.Hist.new.Reg(24, -2.4, 2.4, name="eta").Reg(16, -np.pi, np.pi, name="phi").Double()
    multiplicity.fill(n=ak.num(events.Muon_pt))
    weights = ak.flatten(ak.ones_like(events.Muon_pt) / np.maximum(ak.num(events.Muon_pt), 1))
    momentum.fill(pt=ak.flatten(events.Muon_pt), weight=weights)
    where.fill(eta=ak.flatten(events.Muon_eta), phi=ak.flatten(events.Muon_phi))
    return {"multiplicity": multiplicity, "momentum": momentum, "where": where}
