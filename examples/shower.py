"""Shower and hadronise LHE events with Pythia 8, and write what is stable as HepMC3.

    python shower.py --sample sample.lhe

A long-lived payload: Pythia initialises once, from a file with one event of the sample, and
workers are forked from that. Every event is seeded by its place in the source file, so that it
comes out the same whoever does it.
"""

from __future__ import annotations

import argparse
import zlib
from pathlib import Path

import pyhepmc
import pythia8mc

from evstream.payload import Unit, serve

SEEDS = 899_999_998
"""Pythia takes seeds up to 900 000 000."""
BEAM, FINAL = 4, 1
"""HepMC's status of the incoming particles, and of those that last."""


class Shower:
    """Pythia 8, initialised for the process of one LHE sample.

    Parameters
    ----------
    sample : Path
        An LHE file of the sample; one event is enough.
    """

    def __init__(self, sample: Path) -> None:
        self._sample = sample

    def initialise(self) -> None:
        """Read the process and set up beams, showers and multiple interactions: seconds."""
        self._pythia = pythia8mc.Pythia("", False)
        for setting in (
            "Print:quiet = on",
            "Beams:frameType = 4",
            f"Beams:LHEF = {self._sample}",
            "Random:setSeed = on",
            "Random:seed = 1",
        ):
            self._pythia.readString(setting)
        if not self._pythia.init():
            raise RuntimeError(f"Pythia does not initialise with {self._sample}")
        # From now on, init() opens another file of the same process and does nothing else.
        self._pythia.readString("Beams:newLHEFsameInit = on")

    def shower(self, unit: Unit) -> None:
        """Write an event for each of the unit's, numbered by its entry in the source."""
        self._pythia.readString(f"Beams:LHEF = {unit.input}")
        if not self._pythia.init():
            raise RuntimeError(f"Pythia does not read {unit.input}")
        with pyhepmc.open(unit.output, "w") as output:
            for entry in range(unit.entry_start, unit.entry_stop):
                self._pythia.rndm.init(1 + zlib.crc32(f"{unit.lfn}:{entry}".encode()) % SEEDS)
                if not self._pythia.next():
                    raise RuntimeError(f"Pythia cannot shower event {entry} of {unit.lfn}")
                output.write(stable_particles(self._pythia.event, entry))


def stable_particles(record: pythia8mc.Event, number: int) -> pyhepmc.GenEvent:
    """Return a HepMC event: both beams, one vertex, all particles that last."""
    event = pyhepmc.GenEvent(pyhepmc.Units.GEV, pyhepmc.Units.MM)
    event.event_number = number
    vertex = pyhepmc.GenVertex()
    for beam in (1, 2):
        vertex.add_particle_in(_particle(record[beam], BEAM))
    for place in range(3, record.size()):
        if record[place].isFinal():
            vertex.add_particle_out(_particle(record[place], FINAL))
    event.add_vertex(vertex)
    return event


def _particle(particle: pythia8mc.Particle, status: int) -> pyhepmc.GenParticle:
    momentum = (particle.px(), particle.py(), particle.pz(), particle.e())
    return pyhepmc.GenParticle(momentum, particle.id(), status)


def main() -> None:
    """Serve units."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", type=Path, required=True, help="LHE file to initialise with")
    shower = Shower(parser.parse_args().sample)
    serve(shower.shower, shower.initialise)


if __name__ == "__main__":
    main()
