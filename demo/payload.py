"""A physicist's program: muon pairs and track correlations of the events in one file.

Run as ``python payload.py INPUT OUTPUT``. It knows nothing of evstream: it reads every event of
the TTree ``Events`` in INPUT and writes OUTPUT with one entry for each of them. Loops are written
out on purpose, one event after another, as analysis code often is.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from itertools import combinations
from typing import Any, NamedTuple

import awkward as ak
import numpy as np
import uproot

BRANCHES = ("run", "luminosityBlock", "event", "process", "Muon_*", "Track_*")
ISOLATION_CONE = 0.3
HARDEST_TRACKS = 48
MASS_EDGES = np.linspace(0.0, 150.0, 151)
# Logarithmic bins of the distance between two tracks.
DISTANCE_EDGES = np.geomspace(0.01, 5.0, 51)


class Particle(NamedTuple):
    """Transverse momentum and mass in GeV, pseudorapidity, azimuth in radians, charge in e."""

    pt: float
    eta: float
    phi: float
    mass: float
    charge: int


def invariant_mass(first: Particle, second: Particle) -> tuple[float, float]:
    """Return the mass and the transverse momentum of a pair, in GeV."""
    px = first.pt * math.cos(first.phi) + second.pt * math.cos(second.phi)
    py = first.pt * math.sin(first.phi) + second.pt * math.sin(second.phi)
    pz = first.pt * math.sinh(first.eta) + second.pt * math.sinh(second.eta)
    energy = sum(math.hypot(p.pt * math.cosh(p.eta), p.mass) for p in (first, second))
    return math.sqrt(max(energy**2 - px**2 - py**2 - pz**2, 0.0)), math.hypot(px, py)


def distance(first: Particle, second: Particle) -> float:
    """Return the distance of two directions in pseudorapidity and azimuth."""
    turn = abs(first.phi - second.phi)
    return math.hypot(first.eta - second.eta, min(turn, 2 * math.pi - turn))


def best_pair(muons: list[Particle]) -> tuple[float, float]:
    """Return mass and pt of the hardest pair of opposite charges; -1 for both if there is none."""
    pairs = [pair for pair in combinations(muons, 2) if pair[0].charge != pair[1].charge]
    if not pairs:
        return -1.0, -1.0
    return invariant_mass(*max(pairs, key=lambda pair: pair[0].pt + pair[1].pt))


def isolation(muon: Particle, tracks: list[Particle]) -> float:
    """Return the momentum of other tracks around a muon, relative to its own."""
    around = [t for t in tracks if distance(muon, t) < ISOLATION_CONE]
    # The muon's own track is the nearest one; without it the sum would never be small.
    own = min(around, key=lambda track: distance(muon, track), default=None)
    return sum(track.pt for track in around if track is not own) / muon.pt


def add_pairs(tracks: list[Particle], histogram: dict[int, float]) -> None:
    """Add an event's pairs of tracks by their distance, each by its share of momentum squared."""
    scale = sum(track.pt for track in tracks) ** 2
    bins_per_log = (len(DISTANCE_EDGES) - 1) / math.log(DISTANCE_EDGES[-1] / DISTANCE_EDGES[0])
    first_log = math.log(DISTANCE_EDGES[0])
    for one, other in combinations(tracks, 2):
        apart = distance(one, other)
        if apart > 0.0:
            place = math.floor((math.log(apart) - first_log) * bins_per_log)
            histogram[place] = histogram.get(place, 0.0) + one.pt * other.pt / scale


def prongs(tracks: list[Particle]) -> float:
    """Return C2 of the hardest tracks: small where their momentum goes into two directions.

    C2 = e3 e1 / e2^2 of the energy correlation functions with beta = 1 (arXiv:1305.0007);
    -1 where fewer than three tracks leave it undefined.
    """
    hardest = tracks[:HARDEST_TRACKS]
    count = len(hardest)
    pts = [track.pt for track in hardest]
    apart = [[distance(one, other) for other in hardest] for one in hardest]
    single = sum(pts)
    double = triple = 0.0
    for i in range(count):
        for j in range(i + 1, count):
            pair = pts[i] * pts[j] * apart[i][j]
            double += pair
            for k in range(j + 1, count):
                triple += pair * pts[k] * apart[i][k] * apart[j][k]
    return triple * single / double**2 if count >= 3 and double > 0.0 else -1.0


def particles(event: dict[str, Any], name: str, mass: float | None = None) -> list[Particle]:
    """Bring one collection of an event together."""
    masses = event.get(f"{name}_mass") or [mass or 0.0] * len(event[f"{name}_pt"])
    columns = (event[f"{name}_{key}"] for key in ("pt", "eta", "phi"))
    rows = zip(*columns, masses, event[f"{name}_charge"], strict=True)
    return [Particle(*row) for row in rows]


def analyse(events: Iterator[dict[str, Any]]) -> tuple[list[tuple[Any, ...]], dict[int, float]]:
    """Return a row for each event, and the pairs of tracks by distance."""
    histogram: dict[int, float] = {}
    rows = []
    for event in events:
        muons, tracks = particles(event, "Muon"), particles(event, "Track", mass=0.1396)
        mass, pt = best_pair(muons)
        isolations = [isolation(muon, tracks) for muon in muons]
        add_pairs(tracks, histogram)
        rows.append((mass, pt, isolations, prongs(tracks)))
    return rows, histogram


def write(path: str, events: Any, rows: list[tuple[Any, ...]], pairs: dict[int, float]) -> None:
    """Write the tree and the histograms."""
    masses, pts, isolations, c2 = zip(*rows, strict=True) if rows else ((), (), (), ())
    mass = np.array(masses, np.float32)
    counts = [len(values) for values in isolations]
    flat = np.array([value for values in isolations for value in values], np.float32)
    muons = ak.zip(
        {"pt": events["Muon_pt"], "isolation": ak.unflatten(flat, np.array(counts, np.int64))}
    )
    bins = range(len(DISTANCE_EDGES) - 1)
    with uproot.recreate(path, compression=uproot.ZSTD(3)) as file:
        keys = ("run", "luminosityBlock", "event", "process")
        branches = {key: events[key].to_numpy() for key in keys} | {
            "dimuon_mass": mass,
            "dimuon_pt": np.array(pts, np.float32),
            "track_c2": np.array(c2, np.float32),
        }
        types = {key: value.dtype for key, value in branches.items()}
        tree = file.mktree("Events", {**types, "Muon": muons.type.content})
        if rows:
            tree.extend({**branches, "Muon": muons})
        file["dimuon_mass"] = np.histogram(mass, MASS_EDGES)
        file["track_pairs"] = np.array([pairs.get(i, 0.0) for i in bins]), DISTANCE_EDGES


def main() -> int:
    """Analyse the file named first into the file named second."""
    source, target = sys.argv[1:]
    with uproot.open(source) as file:
        events = file["Events"].arrays(filter_name=BRANCHES)
    rows, pairs = analyse(iter(events.to_list()))
    write(target, events, rows, pairs)
    print(f"{len(rows)} events, {sum(row[0] > 0 for row in rows)} with a pair of muons")
    return 0


if __name__ == "__main__":
    sys.exit(main())
