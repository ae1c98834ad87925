"""A kept index that was damaged is refused before anything in it is believed."""

from __future__ import annotations

import random

import pytest

from evstream import rootio
from evstream.rootio.source import BytesSource


def test_damage_to_a_kept_index_is_always_found(plain_bytes: bytes, rng: random.Random) -> None:
    kept = rootio.inspect(BytesSource(plain_bytes)).to_bytes()
    assert rootio.SourceIndex.from_bytes(kept).trees["Events"].entries == 12
    for _ in range(500):
        damaged = bytearray(kept)
        damaged[rng.randrange(len(kept))] ^= 1 << rng.randrange(8)
        with pytest.raises(rootio.CorruptFileError):
            rootio.SourceIndex.from_bytes(bytes(damaged))
    for length in range(0, len(kept), 7):
        with pytest.raises(rootio.CorruptFileError):
            rootio.SourceIndex.from_bytes(kept[:length])
