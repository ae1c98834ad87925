"""For those who write payloads: be given units, answer for each, initialise once.

A function and workers, the usual way::

    from evstream.payload import Unit, serve

    def shower(unit: Unit) -> None:
        ...  # read unit.input, write unit.output

    if __name__ == "__main__":
        serve(shower, initialise=make_generator)

A loop of one's own::

    from evstream.payload import units

    for unit in units():
        with unit:
            ...

Nothing here needs more than Python itself, and nothing else of evstream is imported.
"""

from evstream.payload.channel import ChannelError
from evstream.payload.growing import GrowingFile
from evstream.payload.units import Secondary, Unit, units
from evstream.payload.workers import serve

__all__ = ["ChannelError", "GrowingFile", "Secondary", "Unit", "serve", "units"]
