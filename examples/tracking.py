"""Track generated events through thirteen layers of silicon in a 2 T field, with Geant4.

A long-lived payload: Geant4 builds geometry, field and physics once, and workers are forked from
that. Transport and decays only, so that none of Geant4's data sets is needed.
"""

from __future__ import annotations

import os
import tempfile
import zlib
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pyhepmc
import uproot

from evstream.payload import Unit, serve

RADII_MM = (33.25, 50.5, 88.5, 122.5, 299, 371, 443, 514, 600, 700, 800, 900, 1000)
THICKNESS_MM = 0.3
FIELD_T = 2.0
PT_MIN = 0.15
"""GeV; what is softer never leaves the innermost layers."""
NEUTRINOS = {12, 14, 16}
SEEDS = 2_000_000_000
HIT = {
    "layer": np.uint8,
    "track": np.int32,
    "x": np.float32,
    "y": np.float32,
    "z": np.float32,
    "t": np.float32,
    "ekin": np.float32,
}
"""Where charged tracks enter a layer: mm, ns, MeV."""

DATA_SETS = (
    *("LEDATA", "NEUTRONHPDATA", "LEVELGAMMADATA", "RADIOACTIVEDATA", "PARTICLEXSDATA", "PIIDATA"),
    *("REALSURFACEDATA", "SAIDXSDATA", "ABLADATA", "INCLDATA", "ENSDFSTATEDATA", "CHANNELINGDATA"),
)


def without_data_sets() -> None:
    """Give Geant4 an empty table of nuclides where it looks for its data sets."""
    folder = tempfile.mkdtemp(prefix="no-geant4-data-")
    Path(folder, "ENSDFSTATE.dat").touch()
    os.environ["GEANT4_DATA_DIR"] = folder
    os.environ.update({f"G4{name}": folder for name in DATA_SETS})


without_data_sets()  # Before Geant4 is loaded: it looks then.
import geant4_pybind as g4  # noqa: E402


class Layers(g4.G4VSensitiveDetector):  # type: ignore[misc]
    """Notes where charged tracks enter a layer."""

    def __init__(self) -> None:
        super().__init__("layers")
        self.hits: list[tuple[float, ...]] = []

    def ProcessHits(self, step: Any, history: Any) -> bool:
        track, point = step.GetTrack(), step.GetPreStepPoint()
        if track.GetDefinition().GetPDGCharge() == 0:
            return False
        place, layer = point.GetPosition(), point.GetTouchable().GetCopyNumber(0)
        when, energy = point.GetGlobalTime(), point.GetKineticEnergy()
        self.hits.append((layer, track.GetTrackID(), place.x, place.y, place.z, when, energy))
        return True


class Detector(g4.G4VUserDetectorConstruction):  # type: ignore[misc]
    """Cylinders of silicon in a vacuum."""

    def Construct(self) -> Any:
        materials = g4.G4NistManager.Instance()
        vacuum = materials.FindOrBuildMaterial("G4_Galactic")
        silicon = materials.FindOrBuildMaterial("G4_Si")
        # Python must keep what Geant4 only points at.
        self._solids: list[Any] = [g4.G4Box("World", 1200, 1200, 3500)]
        world = g4.G4LogicalVolume(self._solids[0], vacuum, "World")
        self.layers: list[Any] = []
        nowhere = g4.G4ThreeVector()
        self._placed: list[Any] = [g4.G4PVPlacement(None, nowhere, world, "World", None, False, 0)]
        for number, radius in enumerate(RADII_MM):
            name = f"Layer{number}"
            tube = g4.G4Tubs(name, radius, radius + THICKNESS_MM, 3000, 0, 360 * g4.deg)
            layer = g4.G4LogicalVolume(tube, silicon, name)
            placed = g4.G4PVPlacement(None, nowhere, layer, name, world, False, number)
            self._solids.append(tube)
            self._placed.append(placed)
            self.layers.append(layer)
        self._world = world
        return self._placed[0]

    def ConstructSDandField(self) -> None:
        self.sensitive = Layers()
        g4.G4SDManager.GetSDMpointer().AddNewDetector(self.sensitive)
        for layer in self.layers:
            self.SetSensitiveDetector(layer, self.sensitive)
        self._field = g4.G4UniformMagField(g4.G4ThreeVector(0, 0, FIELD_T * g4.tesla))
        manager = g4.G4TransportationManager.GetTransportationManager().GetFieldManager()
        manager.SetDetectorField(self._field)
        manager.CreateChordFinder(self._field)


class Decays(g4.G4VModularPhysicsList):  # type: ignore[misc]
    """Transport and decays."""

    def __init__(self) -> None:
        super().__init__()
        self._decays = g4.G4DecayPhysics()
        self.RegisterPhysics(self._decays)


class Generator(g4.G4VUserPrimaryGeneratorAction):  # type: ignore[misc]
    """Shoots the particles of the event that is set."""

    def __init__(self) -> None:
        super().__init__()
        self._table = g4.G4ParticleTable.GetParticleTable()
        self._gun = g4.G4ParticleGun(1)
        self.particles: list[tuple[int, float, float, float]] = []

    def GeneratePrimaries(self, event: Any) -> None:
        for pdg, px, py, pz in self.particles:
            kind = self._table.FindParticle(pdg)
            if kind is None or abs(pdg) in NEUTRINOS or np.hypot(px, py) < PT_MIN:
                continue
            momentum, mass = float(np.sqrt(px**2 + py**2 + pz**2)), kind.GetPDGMass() / g4.GeV
            energy = float(np.hypot(momentum, mass)) - mass
            self._gun.SetParticleDefinition(kind)
            self._gun.SetParticleEnergy(energy * g4.GeV)
            direction = g4.G4ThreeVector(px / momentum, py / momentum, pz / momentum)
            self._gun.SetParticleMomentumDirection(direction)
            self._gun.GeneratePrimaryVertex(event)


class Actions(g4.G4VUserActionInitialization):  # type: ignore[misc]
    """Has Geant4 use the generator."""

    def Build(self) -> None:
        self.generator = Generator()
        self.SetUserAction(self.generator)


class Tracking:
    """Geant4, initialised once."""

    def initialise(self) -> None:
        """Build geometry, field and physics."""
        self._manager = g4.G4RunManagerFactory.CreateRunManager(g4.G4RunManagerType.Serial)
        self._detector, self._actions = Detector(), Actions()
        for part in (self._detector, Decays(), self._actions):
            self._manager.SetUserInitialization(part)
        self._manager.Initialize()

    def track(self, unit: Unit) -> None:
        """Write the hits of each of the unit's events, numbered as in its source."""
        numbers, counts, hits = [], [], []
        with pyhepmc.open(unit.input) as source:
            for entry, event in enumerate(source, unit.entry_start):
                found = self._hits(event, f"{unit.lfn}:{entry}")
                numbers.append(entry)
                counts.append(len(found))
                hits += found
        values = np.array(hits, np.float64).reshape(-1, len(HIT))
        columns = {name: values[:, i].astype(kind) for i, (name, kind) in enumerate(HIT.items())}
        hit = ak.unflatten(ak.zip(columns), counts)
        with uproot.recreate(unit.output) as target:
            tree = target.mktree("hits", {"event": "int64", "hit": hit.type.content})
            tree.extend({"event": np.array(numbers, np.int64), "hit": hit})

    def _hits(self, event: pyhepmc.GenEvent, name: str) -> list[tuple[float, ...]]:
        self._actions.generator.particles = [
            (p.pid, p.momentum.px, p.momentum.py, p.momentum.pz)
            for p in event.particles
            if p.status == 1
        ]
        self._detector.sensitive.hits = []
        g4.G4Random.setTheSeed(1 + zlib.crc32(name.encode()) % SEEDS)
        self._manager.BeamOn(1)
        return self._detector.sensitive.hits


if __name__ == "__main__":
    tracking = Tracking()
    serve(tracking.track, tracking.initialise)
