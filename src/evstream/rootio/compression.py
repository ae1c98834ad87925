"""ROOT's compressed records: chains of blocks, each under a nine-byte header.

A block's header is two letters for the algorithm, one byte for its method, and
the compressed and uncompressed sizes as three little-endian bytes each. A record
whose compressed bytes would be no fewer is stored as it is, without headers.

Source: R__zipMultipleAlgorithm and R__unzip in ROOT's core/zip.
"""

from __future__ import annotations

import lzma
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version

import cramjam
import deflate
import xxhash
import zstandard

from evstream.rootio.errors import CorruptFileError, UnsupportedFeatureError
from evstream.rootio.source import Data

BLOCK_HEADER_BYTES = 9
BLOCK_BYTES_MAX = 0xFFFFFF
# ROOT's own buffers stop here; a larger claim is damage (TBuffer::kMaxBufferSize).
RECORD_BYTES_MAX = 0x3FFFFFFE

# Algorithm numbers as in TFile::fCompress = 100 * algorithm + level.
ZLIB, LZMA, OLD, LZ4, ZSTD = 1, 2, 3, 4, 5
_NUMBER_BY_TAG = {b"ZL": ZLIB, b"XZ": LZMA, b"CS": OLD, b"L4": LZ4, b"ZS": ZSTD}


@dataclass(frozen=True, slots=True)
class Setting:
    """An algorithm's number and level. Level 0 stores as is."""

    algorithm: int
    level: int

    @classmethod
    def from_root(cls, number: int) -> Setting:
        """Read TFile's or TBranch's fCompress; a bare level means zlib."""
        return _setting(number)

    @classmethod
    def like(cls, algorithm: int, level: int) -> Setting:
        """Follow blocks that were found, whatever the file's number says of them."""
        usual = {LZ4: 4, ZSTD: 5}.get(algorithm, 1)
        return cls(ZLIB if algorithm == OLD else algorithm, level or usual)

    def quick(self) -> Setting:
        """Give the lowest level of the algorithm, for tables that each product makes anew."""
        return Setting(self.algorithm, min(self.level, 1))

    def to_root(self) -> int:
        """Give the number that ROOT stores in fCompress."""
        return 100 * self.algorithm + self.level if self.level else 0


@cache
def _setting(number: int) -> Setting:
    if number < 0:
        return Setting(ZLIB, 1)
    algorithm, level = divmod(number, 100)
    if algorithm not in (ZLIB, LZMA, LZ4, ZSTD):
        algorithm = ZLIB
    return Setting(algorithm, min(level, 9))


def algorithm_of(payload: Data) -> int | None:
    """Name the algorithm of a compressed record's first block, or None if unknown."""
    return _NUMBER_BY_TAG.get(bytes(payload[:2]))


def decompress(payload: Data, size: int) -> Data:
    """Return the ``size`` bytes that a record's payload stands for.

    Sizes are checked along the whole chain before anything is allocated.

    Raises
    ------
    CorruptFileError
        Block sizes contradict each other, or a block does not decode.
    UnsupportedFeatureError
        An algorithm without a decoder.
    """
    if len(payload) == size:
        return payload
    if size <= BLOCK_BYTES_MAX:
        # Nearly all records are one block.
        head = bytes(payload[:BLOCK_HEADER_BYTES])
        if head[6:] == size.to_bytes(3, "little") and size:
            packed = BLOCK_HEADER_BYTES + int.from_bytes(head[3:6], "little")
            if packed <= len(payload):
                return _decode(head[:2], memoryview(payload)[BLOCK_HEADER_BYTES:packed], size)
    blocks = _walk(memoryview(payload), size)
    if len(blocks) == 1:
        return _decode(*blocks[0])
    return b"".join([_decode(*block) for block in blocks])


def _walk(payload: memoryview, size: int) -> list[tuple[bytes, memoryview, int]]:
    if not 0 <= size <= RECORD_BYTES_MAX:
        raise CorruptFileError(f"a record claims {size} bytes", size=size)
    blocks = []
    at, promised = 0, 0
    while promised < size:
        head = bytes(payload[at : at + BLOCK_HEADER_BYTES])
        if len(head) < BLOCK_HEADER_BYTES:
            raise CorruptFileError("a compressed record ends before its last block", offset=at)
        packed = int.from_bytes(head[3:6], "little")
        unpacked = int.from_bytes(head[6:9], "little")
        at += BLOCK_HEADER_BYTES
        body = payload[at : at + packed]
        at += packed
        promised += unpacked
        if len(body) < packed or unpacked == 0 or promised > size:
            raise CorruptFileError("a compressed block's sizes contradict its record's", offset=at)
        blocks.append((head[:2], body, unpacked))
    if at > len(payload):
        raise CorruptFileError("compressed blocks run past their record", offset=at)
    return blocks


def _decode(tag: bytes, body: memoryview, size: int) -> Data:
    decoder = _DECODERS.get(tag)
    if decoder is None:
        raise UnsupportedFeatureError(
            f"compression algorithm {tag!r} is unknown", algorithm=repr(tag)
        )
    try:
        data = decoder(body, size)
    except _DECODER_ERRORS as problem:
        raise CorruptFileError(
            f"a {tag.decode('ascii')} block does not decode: {problem}",
            hint="compare the file's checksum with the catalogue's",
        ) from problem
    if len(data) != size:
        raise CorruptFileError(f"a block gave {len(data)} bytes instead of {size}")
    return data


# None of the decoders writes more than it was promised: a bomb stops there.


def _decode_zlib(body: memoryview, size: int) -> Data:
    return memoryview(deflate.zlib_decompress(body, size))


def _decode_old(body: memoryview, size: int) -> Data:
    # "CS", of ROOT before 2000, is deflate without zlib's header and checksum.
    return memoryview(deflate.deflate_decompress(body, size))


def _decode_lzma(body: memoryview, size: int) -> Data:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(body, size + 1)


def _decode_lz4(body: memoryview, size: int) -> Data:
    if len(body) < 8:
        raise CorruptFileError("an LZ4 block is shorter than its checksum")
    if xxhash.xxh64_digest(body[8:]) != bytes(body[:8]):
        raise CorruptFileError(
            "an LZ4 block's checksum is wrong",
            hint="compare the file's checksum with the catalogue's",
        )
    return memoryview(cramjam.lz4.decompress_block(body[8:], output_len=size))


# Above, who chose the level wants what small records can gain: up to a tenth.
_ZSTD_STREAM_LEVEL_MAX = 12


# Contexts are dear to make and serve one caller at a time. Threads come and go with each
# product, so they are kept apart from them; lists are changed by one thread at a time.
_IDLE_DECODERS: list[zstandard.ZstdDecompressor] = []
_IDLE_ENCODERS: dict[int, list[zstandard.ZstdCompressor]] = defaultdict(list)


def _zstd_encoder(level: int) -> zstandard.ZstdCompressor:
    if level > _ZSTD_STREAM_LEVEL_MAX:
        return zstandard.ZstdCompressor(level=level)
    # For records as small as baskets zstd would try twice to five times as many matches
    # as this level does on a stream, and gain a hundredth (docs/adr/0105).
    parameters = zstandard.ZstdCompressionParameters.from_level(level)
    return zstandard.ZstdCompressor(compression_params=parameters)


def _decode_zstd(body: memoryview, size: int) -> Data:
    # A frame that states its size has that much allocated for it, whatever we allow.
    if zstandard.frame_content_size(body) not in (size, -1):
        raise CorruptFileError(f"a ZSTD block does not have the {size} bytes it should")
    try:
        decoder = _IDLE_DECODERS.pop()
    except IndexError:
        decoder = zstandard.ZstdDecompressor()
    data = decoder.decompress(body, max_output_size=size)
    _IDLE_DECODERS.append(decoder)
    return data


_DECODERS: dict[bytes, Callable[[memoryview, int], Data]] = {
    b"ZL": _decode_zlib,
    b"CS": _decode_old,
    b"XZ": _decode_lzma,
    b"L4": _decode_lz4,
    b"ZS": _decode_zstd,
}


_DECODER_ERRORS = (
    deflate.DeflateError,
    lzma.LZMAError,
    cramjam.DecompressionError,
    zstandard.ZstdError,
    ValueError,
)


def compress(data: Data, setting: Setting) -> Data:
    """Return the payload of a record: blocks, or the data itself where they save nothing."""
    size = len(data)
    if setting.level <= 0 or size <= BLOCK_HEADER_BYTES:
        return data
    encoder = _ENCODERS[setting.algorithm]
    view = memoryview(data)
    parts = []
    total = 0
    for start in range(0, size, BLOCK_BYTES_MAX):
        block = view[start : start + BLOCK_BYTES_MAX]
        head, body = encoder(block, setting.level)
        if len(body) > BLOCK_BYTES_MAX:
            return data
        sizes = len(body).to_bytes(3, "little") + len(block).to_bytes(3, "little")
        parts += [head, sizes, body]
        total += BLOCK_HEADER_BYTES + len(body)
        if total >= size:
            return data
    return b"".join(parts)


def _encode_zlib(block: memoryview, level: int) -> tuple[bytes, Data]:
    # libdeflate gives the same bytes whatever the processor can do; ISA-L and zlib-ng do not.
    return b"ZL\x08", memoryview(deflate.zlib_compress(block, level))


def _encode_lzma(block: memoryview, level: int) -> tuple[bytes, Data]:
    # A dictionary larger than the block only costs the time to clear it.
    dictionary = max(4096, min(len(block), 1 << 26))
    filters = [{"id": lzma.FILTER_LZMA2, "preset": level, "dict_size": dictionary}]
    return b"XZ\x00", lzma.compress(
        block, format=lzma.FORMAT_XZ, check=lzma.CHECK_CRC32, filters=filters
    )


def _encode_lz4(block: memoryview, level: int) -> tuple[bytes, Data]:
    # As ROOT does: the fast encoder below level 4, the thorough one from there on.
    if level < 4:
        body = cramjam.lz4.compress_block(block, mode="fast", acceleration=1, store_size=False)
    else:
        body = cramjam.lz4.compress_block(
            block, mode="high_compression", compression=level, store_size=False
        )
    raw = bytes(body)
    return b"L4\x01", xxhash.xxh64_digest(raw) + raw


def _encode_zstd(block: memoryview, level: int) -> tuple[bytes, Data]:
    # ROOT doubles its level for zstd, whose scale goes to 22.
    idle = _IDLE_ENCODERS[level]
    try:
        encoder = idle.pop()
    except IndexError:
        encoder = _zstd_encoder(2 * level)
    body = encoder.compress(block)
    idle.append(encoder)
    return b"ZS\x01", body


_ENCODERS: dict[int, Callable[[memoryview, int], tuple[bytes, Data]]] = {
    ZLIB: _encode_zlib,
    LZMA: _encode_lzma,
    LZ4: _encode_lz4,
    ZSTD: _encode_zstd,
}


def codec_versions() -> str:
    """Name what decides the bytes of a compressed block, for encoder ids."""
    # liblzma's version cannot be asked for; its encoder has been stable since 5.2, and
    # Python's own version stands for the library it was built with.
    names = ("cramjam", "deflate", "xxhash", "zstandard")
    return ",".join(f"{name}-{version(name)}" for name in names)
