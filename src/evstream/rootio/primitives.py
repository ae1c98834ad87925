"""ROOT's smallest on-disk values: strings, dates, UUIDs. All numbers are big-endian.

Source: TString::ReadBuffer, TDatime::Set and TUUID::ReadBuffer of ROOT 6.
"""

from __future__ import annotations

import hashlib
from struct import Struct

from evstream.rootio.errors import CorruptFileError
from evstream.rootio.source import Data

I4 = Struct(">i")
U4 = Struct(">I")
I8 = Struct(">q")
I2 = Struct(">h")

# File positions beyond this need eight bytes (TFile::kStartBigFile).
BIG_FILE_START = 2_000_000_000


def read_string(data: Data, at: int) -> tuple[str, int]:
    """Return a TString and the position behind it.

    Bytes that are no UTF-8 survive a round trip through `write_string`.
    """
    length = data[at]
    at += 1
    if length == 255:
        (length,) = I4.unpack_from(data, at)
        at += 4
    stop = at + length
    if length < 0 or stop > len(data):
        raise CorruptFileError(f"a string of {length} bytes does not fit its record", offset=at)
    return str(data[at:stop], "utf-8", "surrogateescape"), stop


def skip_string(data: Data, at: int) -> int:
    """Return the position behind a TString; whether it fits is the caller's to check."""
    length: int = data[at]
    if length < 255:
        return at + 1 + length
    (length,) = I4.unpack_from(data, at + 1)
    return at + 5 + max(0, length)


def write_string(text: str) -> bytes:
    """Encode a TString."""
    raw = text.encode("utf-8", "surrogateescape")
    if len(raw) < 255:
        return bytes([len(raw)]) + raw
    return b"\xff" + I4.pack(len(raw)) + raw


def uuid_from(identity: bytes) -> bytes:
    """Derive the 16 bytes of a UUID from an identity, marked as name-based (version 8)."""
    raw = bytearray(hashlib.sha256(identity).digest()[:16])
    raw[6] = (raw[6] & 0x0F) | 0x80
    raw[8] = (raw[8] & 0x3F) | 0x80
    return bytes(raw)


def uuid_text(raw: Data) -> str:
    """Spell a UUID the way catalogues do: 8-4-4-4-12 lower-case hexadecimal digits."""
    digits = bytes(raw).hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
