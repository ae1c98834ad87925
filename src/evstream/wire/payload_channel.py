"""Messages of the channel between pilot and long-lived payload: JSON, one a line.

The reference page `payload-channel` describes them; `evstream.payload` speaks the other end.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from evstream.domain.errors import PayloadError

LINE_BYTES_MAX = 1 << 20


class ToPayload(Struct, frozen=True, tag_field="type"):
    """Base of what the pilot says."""


class BesideUnit(Struct, frozen=True):
    """Events of another dataset that come with a unit: files in order, and their tree."""

    files: tuple[str, ...]
    tree: str


class GivenUnit(ToPayload, frozen=True, tag="unit"):
    """A range to process.

    Attributes
    ----------
    file : str
        Ranges with the same are written into the same outputs, one after the other;
        never empty.
    close : bool
        The outputs are to be complete when this range is answered for. Until then, the
        next range of the same file follows each answer at once.
    """

    id: str
    input: str
    outputs: dict[str, str]
    entry_start: int
    entry_stop: int
    range_id: str
    lfn: str
    tree: str
    directory: str
    log: str
    wall_s_max: float
    file: str
    close: bool = True
    secondary: dict[str, BesideUnit] = {}


class Cancel(ToPayload, frozen=True, tag="cancel"):
    """A unit that is no longer wanted, or has used up its limits. It is to be answered."""

    id: str


class End(ToPayload, frozen=True, tag="end"):
    """There are no more units."""


class FromPayload(Struct, frozen=True, tag_field="type"):
    """Base of what the payload says. Fields that are not known are passed over."""


class Ready(FromPayload, frozen=True, tag="ready"):
    """It has initialised, and takes so many units at once."""

    units_max: int = 1


class Running(FromPayload, frozen=True, tag="running"):
    """It has begun a unit.

    Attributes
    ----------
    pid : int
        Process that works on the unit and on no other meanwhile; 0 if there is none.
    cpu_s : float
        CPU seconds which that process and its children had used when it began.
    """

    id: str
    pid: int = 0
    cpu_s: float = 0.0


class Done(FromPayload, frozen=True, tag="done"):
    """A unit's outputs are complete.

    Attributes
    ----------
    outputs : dict of str to str
        By stream, what was written elsewhere than the unit said; for ranges after which
        the file was not to be closed, nothing.
    open : bool
        The file was left open, as it was asked for: a payload that does not know of ranges
        that share a file would write each over the one before.
    """

    id: str
    cpu_s: float = 0.0
    wall_s: float = 0.0
    outputs: dict[str, str] = {}
    open: bool = False


class Error(FromPayload, frozen=True, tag="error"):
    """A unit came to nothing."""

    id: str
    reason: str
    cpu_s: float = 0.0
    wall_s: float = 0.0


Heard = Ready | Running | Done | Error
_DECODER: msgspec.json.Decoder[Heard] = msgspec.json.Decoder(Heard)


def encode_line(message: ToPayload) -> bytes:
    """Return a message as it goes over the channel."""
    return msgspec.json.encode(message) + b"\n"


def decode_line(line: bytes) -> Heard:
    """Read what a payload said.

    Raises
    ------
    PayloadError
        It is no message.
    """
    try:
        return _DECODER.decode(line)
    except msgspec.DecodeError as error:
        said = line[:80].decode(errors="replace")
        raise PayloadError(
            f"the payload said {said!r} on its channel: {error}",
            hint="see the reference page on the payload's channel",
        ) from error
