"""Compressed records: round trips, and refusals of damaged ones."""

from __future__ import annotations

import zlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from evstream.rootio.compression import (
    LZ4,
    LZMA,
    RECORD_BYTES_MAX,
    ZLIB,
    ZSTD,
    Setting,
    algorithm_of,
    compress,
    decompress,
)
from evstream.rootio.errors import CorruptFileError, UnsupportedFeatureError

ALGORITHMS = (ZLIB, LZMA, LZ4, ZSTD)


@given(data=st.binary(max_size=5000), repeat=st.integers(1, 50), number=st.sampled_from(ALGORITHMS))
def test_what_is_compressed_comes_back(data: bytes, repeat: int, number: int) -> None:
    whole = data * repeat
    stored = compress(whole, Setting(number, 4))
    assert len(stored) <= len(whole)
    assert bytes(decompress(stored, len(whole))) == whole


@pytest.mark.parametrize("number", ALGORITHMS)
def test_records_longer_than_a_block_are_chained(number: int) -> None:
    whole = bytes(range(256)) * 70_000
    stored = compress(whole, Setting(number, 1))
    assert algorithm_of(stored) == number
    assert bytes(decompress(stored, len(whole))) == whole


def test_the_oldest_algorithm_is_read() -> None:
    whole = b"last century's data " * 20
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = packer.compress(whole) + packer.flush()
    sizes = len(body).to_bytes(3, "little") + len(whole).to_bytes(3, "little")
    assert bytes(decompress(b"CS\x08" + sizes + body, len(whole))) == whole


@pytest.mark.parametrize("number", ALGORITHMS)
def test_damage_is_told(number: int) -> None:
    whole = bytes(range(250)) * 20
    stored = bytearray(compress(whole, Setting(number, 4)))
    for at in (3, 6, 12, len(stored) - 1):
        damaged = bytearray(stored)
        damaged[at] ^= 0xFF
        with pytest.raises(CorruptFileError):
            decompress(bytes(damaged), len(whole))
    with pytest.raises(CorruptFileError):
        decompress(bytes(stored[: len(stored) // 2]), len(whole))


def test_unknown_algorithms_are_named() -> None:
    with pytest.raises(UnsupportedFeatureError, match="QQ"):
        decompress(b"QQ\x00" + b"\x01\x00\x00" + b"\x05\x00\x00" + b"x", 5)


def test_a_bomb_is_not_unpacked() -> None:
    # Five bytes are promised, sixteen million are inside.
    body = zlib.compress(bytes(1 << 24))
    sizes = len(body).to_bytes(3, "little") + (5).to_bytes(3, "little")
    with pytest.raises(CorruptFileError):
        decompress(b"ZL\x08" + sizes + body, 5)
    with pytest.raises(CorruptFileError):
        decompress(b"ZL\x08" + sizes + body, RECORD_BYTES_MAX + 1)


def test_a_frame_that_claims_more_is_not_unpacked() -> None:
    # The block promises five bytes, the frame inside it states sixteen million.
    body = zstandard.ZstdCompressor().compress(bytes(1 << 24))
    sizes = len(body).to_bytes(3, "little") + (5).to_bytes(3, "little")
    with pytest.raises(CorruptFileError, match="5 bytes"):
        decompress(b"ZS\x01" + sizes + body, 5)


def test_settings_read_as_root_reads_them() -> None:
    assert Setting.from_root(101) == Setting(ZLIB, 1)
    assert Setting.from_root(505) == Setting(ZSTD, 5)
    assert Setting.from_root(4) == Setting(ZLIB, 4)
    assert Setting.from_root(0).level == 0
    assert Setting.from_root(404).to_root() == 404
