"""Whether a file is the product that it should be, by its header alone."""

from __future__ import annotations

import struct

from evstream.rootio.container import parse_header
from evstream.rootio.errors import CorruptFileError, NotARootFileError
from evstream.rootio.primitives import uuid_from
from evstream.rootio.source import Data

HEAD_BYTES = 100
"""So many first bytes of a file hold its header."""


def is_whole_file_of(identity: bytes, head: Data, size: int) -> bool:
    """Say whether a file is all of what was laid out for an identity, by its header.

    Parameters
    ----------
    head : bytes
        Its first `HEAD_BYTES`, or all where it has fewer.
    size : int
        Bytes that it has.
    """
    try:
        header = parse_header(head)
    except (CorruptFileError, NotARootFileError, struct.error):
        return False
    return header.uuid == uuid_from(identity) and header.end == size
