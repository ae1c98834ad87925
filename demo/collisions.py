"""Proton-proton collisions at 13 TeV, made by Pythia 8 and seen by a simple detector.

Every event is made from its number alone: the number chooses the process and seeds both
Pythia and the detector's resolution, so the events are the same however they are shared
among jobs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Columns = dict[str, Any]

# The process of an event goes by its number: of twenty, thirteen, four and three.
PROCESSES = {
    "zmumu": (
        "WeakSingleBoson:ffbar2gmZ = on",
        "23:onMode = off",
        "23:onIfAny = 13",
        "PhaseSpace:mHatMin = 40",
    ),
    "ttbar": ("Top:gg2ttbar = on", "Top:qqbar2ttbar = on"),
    "dijet": ("HardQCD:all = on", "PhaseSpace:pTHatMin = 60"),
}
PROCESS_NUMBERS = {name: number for number, name in enumerate(PROCESSES)}
_SHARES = (0,) * 13 + (1,) * 4 + (2,) * 3

# Pythia's own limit of a seed is 900 000 000; a prime stride keeps neighbours apart.
_SEEDS, _STRIDE = 899_999_963, 104_729
_PDG_MUON, _PDG_ELECTRON = 13, 11
_PDG_NEUTRINOS = (12, 14, 16)

# What the detector accepts: least transverse momentum (GeV) and largest pseudorapidity.
_MUON, _ELECTRON, _TRACK, _PARTICLE = (3.0, 2.4), (5.0, 2.5), (0.5, 2.5), (0.3, 5.0)
# Relative resolution of the transverse momentum.
_RESOLUTION = {"Muon": 0.012, "Electron": 0.02, "Track": 0.01, "Jet": 0.10}
_JET_RADIUS, _JET_PT_MIN, _JET_ETA_MAX = 0.4, 20.0, 4.5


def process_of(number: int) -> int:
    """Return the process number of an event; consecutive events vary."""
    return _SHARES[number * 7 % len(_SHARES)]


def make_events(numbers: Iterable[int]) -> list[Columns]:
    """Make events by their numbers.

    Returns
    -------
    list of dict
        For each event its branches: a number for a flat one, an array for each
        ``Collection_quantity``. Momenta and masses are in GeV.
    """
    return [_make_event(number) for number in numbers]


def _make_event(number: int) -> Columns:
    process = process_of(number)
    generator, jets = _generator(process)
    generator.rndm.init(1 + number * _STRIDE % _SEEDS)
    # A collision that fails inside Pythia is tried again with the next random numbers.
    while not generator.next():
        pass
    rng = np.random.default_rng([_SEEDS, number])
    columns: Columns = {
        "event": number,
        "process": process,
        "genWeight": generator.infoPython().weight(),
    }
    particles = _final_particles(generator.event)
    columns |= _detect(particles, rng)
    columns |= _cluster(generator.event, jets, rng)
    return columns


@cache
def _generator(process: int) -> tuple[Any, Any]:
    """Set Pythia up for a process, once in each job, with its jet finder."""
    import pythia8mc

    generator = pythia8mc.Pythia("", False)
    settings = (
        "Beams:eCM = 13000",
        "Print:quiet = on",
        "Random:setSeed = on",
        "Random:seed = 1",
        *tuple(PROCESSES.values())[process],
    )
    for setting in settings:
        if not generator.readString(setting):
            raise RuntimeError(f"Pythia does not know the setting {setting!r}")
    if not generator.init():
        raise RuntimeError(f"Pythia cannot start with {settings}")
    # Anti-kt over all visible particles with their own masses.
    jets = pythia8mc.SlowJet(-1, _JET_RADIUS, _JET_PT_MIN, _JET_ETA_MAX, 2, 2)
    return generator, jets


def _final_particles(event: Any) -> dict[str, Floats]:
    """Return the visible and invisible particles that leave the collision."""
    rows = [(p.id(), p.pT(), p.eta(), p.phi(), p.m(), p.charge()) for p in event if p.isFinal()]
    table = np.array(rows, dtype=np.float64).T
    return dict(zip(("pdgId", "pt", "eta", "phi", "mass", "charge"), table, strict=True))


def _detect(particles: dict[str, Floats], rng: np.random.Generator) -> Columns:
    """Return what the detector sees of muons, electrons, tracks, and of what is missing."""
    kind = np.abs(particles["pdgId"])
    columns: Columns = {}
    for name, mask, kept in (
        ("Muon", (kind == _PDG_MUON) & _within(particles, _MUON), ("mass", "charge")),
        ("Electron", (kind == _PDG_ELECTRON) & _within(particles, _ELECTRON), ("mass", "charge")),
        ("Track", (particles["charge"] != 0) & _within(particles, _TRACK), ("charge",)),
    ):
        seen = {key: values[mask] for key, values in particles.items()}
        seen["pt"] = _smeared(seen["pt"], _RESOLUTION[name], rng)
        columns |= _collection(name, seen, ("pt", "eta", "phi", *kept))
    near = {key: values[_within(particles, _PARTICLE)] for key, values in particles.items()}
    columns |= _collection("GenPart", near, ("pt", "eta", "phi", "mass", "pdgId"))
    visible = ~np.isin(kind, _PDG_NEUTRINOS) & (np.abs(particles["eta"]) < _PARTICLE[1])
    missing_x, missing_y = (
        rng.normal(-np.sum(particles["pt"][visible] * turn(particles["phi"][visible])), 8.0)
        for turn in (np.cos, np.sin)
    )
    columns["MET_pt"] = math.hypot(missing_x, missing_y)
    columns["MET_phi"] = math.atan2(missing_y, missing_x)
    return columns


def _cluster(event: Any, jets: Any, rng: np.random.Generator) -> Columns:
    jets.analyze(event)
    count = range(jets.sizeJet())
    found = {
        "pt": np.array([jets.pT(i) for i in count], dtype=np.float64),
        "eta": np.array([jets.p(i).eta() for i in count], dtype=np.float64),
        "phi": np.array([jets.phi(i) for i in count], dtype=np.float64),
        "mass": np.array([jets.m(i) for i in count], dtype=np.float64),
    }
    found["pt"] = _smeared(found["pt"], _RESOLUTION["Jet"], rng)
    return _collection("Jet", found, ("pt", "eta", "phi", "mass"))


def _within(particles: dict[str, Floats], acceptance: tuple[float, float]) -> npt.NDArray[np.bool_]:
    pt_min, eta_max = acceptance
    return (particles["pt"] > pt_min) & (np.abs(particles["eta"]) < eta_max)


def _smeared(pt: Floats, resolution: float, rng: np.random.Generator) -> Floats:
    # Far tails of a Gaussian would turn a momentum round.
    return pt * np.clip(rng.normal(1.0, resolution, len(pt)), 0.5, 1.5)


def _collection(name: str, seen: dict[str, Floats], quantities: tuple[str, ...]) -> Columns:
    """Order a collection by falling transverse momentum."""
    order = np.argsort(-seen["pt"], kind="stable")
    return {f"{name}_{quantity}": seen[quantity][order] for quantity in quantities}
