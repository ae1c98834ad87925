"""HepMC ASCII files: HepMC3's Asciiv3 and HepMC2's IO_GenEvent.

An event begins with an ``E`` line. What comes before the first one (version, names of
weights, tools, attributes of the run) and the listing's last line come along with each
cut. Sources: HepMC3 ``ReaderAscii.cc`` and ``ReaderAsciiHepMC2.cc``.
"""

from __future__ import annotations

import re

from evstream.adapters.formats.text import TextFormat
from evstream.adapters.formats.text_stream import Search
from evstream.rootio import CorruptFileError, UnsupportedFeatureError

_FIRST_LINE = re.compile(rb"\s*HepMC::(Version|Asciiv3-START|IO_GenEvent-START)")
_LISTING = re.compile(rb"HepMC::[A-Za-z0-9_]{1,32}-(?:START|END)_EVENT_LISTING")
# A number of 18 digits fits into 64 bits.
_NUMBER = re.compile(rb"E +(-?\d{1,18})\s")
_ASCII3 = b"HepMC::Asciiv3-"
_GENEVENT = b"HepMC::IO_GenEvent-"
# Names of weights and tools belong to the run in Asciiv3; in IO_GenEvent, N is the event's.
_MARKS = {
    _ASCII3: re.compile(rb"\n(?:E |HepMC::[^\n]{0,80}(?:\n|\Z)|[NT] )"),
    _GENEVENT: re.compile(rb"\n(?:E |HepMC::[^\n]{0,80}(?:\n|\Z))"),
}


class HepmcGrammar:
    """Where HepMC events begin and end."""

    name = "hepmc"
    suffixes: tuple[str, ...] = (".hepmc", ".hepmc3", ".hepmc2")

    def recognises(self, head: bytes) -> bool:
        """Look at the first line."""
        return _FIRST_LINE.match(head) is not None

    def event_starts(self, search: Search) -> list[int]:
        """Walk from event line to event line, to the end of the listing."""
        _, _, opening = search.find(_LISTING)
        kind = next((known for known in _MARKS if opening.startswith(known)), b"")
        if not kind or b"-START" not in opening:
            raise UnsupportedFeatureError(
                f"its listing is {opening.decode() or 'missing'}",
                hint="Asciiv3 and IO_GenEvent are supported; convert it with HepMC3",
            )
        marks = _MARKS[kind]
        starts: list[int] = []
        while True:
            start, _, mark = search.find(marks, greedy=True)
            if not mark:
                raise CorruptFileError(
                    "its END_EVENT_LISTING line is missing",
                    hint="the file is cut short; if its last event is whole, add the line",
                )
            if mark == b"\nE ":
                starts.append(start + 1)
            elif mark.startswith(b"\nHepMC::"):
                starts.append(start + 1)
                break
            elif starts:
                raise UnsupportedFeatureError(
                    f"what it says of the run changes after event {len(starts) - 1}",
                    hint="split it there",
                )
        if mark.strip() != kind + b"END_EVENT_LISTING" or search.find(_LISTING)[2]:
            raise UnsupportedFeatureError(
                "several listings follow each other in it", hint="split it into files"
            )
        return starts

    def number(self, beginning: bytes) -> int | None:
        """Read the first number of the event line, which is the event's in both listings."""
        found = _NUMBER.match(beginning)
        if found is None:
            raise CorruptFileError(
                f"an event begins with {beginning[:20]!r}, without a number",
                hint="the file is damaged",
            )
        return int(found[1])

    def difference(self, first: bytes, other: bytes) -> str:
        """Compare all that is said of the run; versions of HepMC may differ."""
        ours, theirs = _run_lines(first), _run_lines(other)
        if ours[:1] != theirs[:1]:
            return "one is Asciiv3, the other IO_GenEvent"
        return "" if ours == theirs else "what they say of the run differs (weights, tools)"


def _run_lines(header: bytes) -> list[bytes]:
    lines = [line.rstrip() for line in header.splitlines()]
    return [line for line in lines if line and not line.startswith(b"HepMC::Version")]


def hepmc_formats() -> tuple[TextFormat, ...]:
    """Return HepMC, plain and gzipped."""
    return TextFormat(HepmcGrammar(), gzipped=False), TextFormat(HepmcGrammar(), gzipped=True)
