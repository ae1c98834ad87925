"""Baskets: decode one, take some of its entries, encode it again. No types involved.

A basket is a key with a few counters behind its title, then the entries' bytes,
then, where entries differ in size, the position of each. Positions count from
the key's first byte.

Source: TBasket::Streamer, TBasket::ReadBasketBuffers and TBasket::WriteBuffer of ROOT 6.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from struct import Struct
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from evstream.rootio.compression import Setting, algorithm_of, compress, decompress
from evstream.rootio.errors import CorruptFileError, UnsupportedFeatureError
from evstream.rootio.keys import (
    BIG_KEY_VERSION,
    KEY_HEAD,
    KEY_VERSION,
    PDIR_MASK,
    PID_SHIFT,
    PIDS_MAX,
    SEEKS_AT,
    SEEKS_BIG,
    SEEKS_SMALL,
    read_key,
)
from evstream.rootio.primitives import I2, skip_string
from evstream.rootio.source import Data

Int64 = npt.NDArray[np.int64]

# version, buffer size, size per entry or length of the offset table
_HEAD = Struct(">hii")
# entries, position behind the last entry's bytes, flag
_TAIL = Struct(">iiB")
_COUNTERS_BYTES = _HEAD.size + _TAIL.size
_BASKET_VERSION = 3
_GENERATED = 80
_KNOWN_IO_BITS = 1
_OFFSET = np.dtype(">i4")
# What TBufferFile writes before the first object of a class behind a pointer. Its map of
# classes is emptied for each entry, so without one of these an entry holds no positions.
NEW_CLASS = re.compile(rb"\xff{4}[A-Za-z_][\x20-\x7e]*\0")
# Displacements of ROOT 3 are flagged within offsets.
_DISPLACEMENT_MASK = 0xFF000000


class BasketKey(NamedTuple):
    """What of a basket's key its successor repeats; a cut decodes hundreds of them.

    Attributes
    ----------
    nbytes, object_bytes, key_bytes, date, cycle : int
        As in `Key`.
    big : bool
        Whether positions take eight bytes.
    pids : int
        The upper bits of a big key's directory position: which process ids the
        basket's references mean.
    strings : bytes
        Class, name and title, as stored.
    """

    nbytes: int
    object_bytes: int
    key_bytes: int
    date: int
    cycle: int
    big: bool
    pids: int
    strings: bytes

    @property
    def name(self) -> str:
        """The branch's name, for messages."""
        at = skip_string(self.strings, 0)
        return str(self.strings[at : skip_string(self.strings, at)][1:], "utf-8", "replace")


def read_basket_key(record: Data) -> tuple[BasketKey, int]:
    """Decode a basket's key and return it with the position behind its title.

    Raises
    ------
    CorruptFileError
        Lengths that no record can have.
    """
    nbytes, version, object_bytes, date, key_bytes, cycle = KEY_HEAD.unpack_from(record, 0)
    big = version > BIG_KEY_VERSION
    seeks = SEEKS_BIG if big else SEEKS_SMALL
    _, directory = seeks.unpack_from(record, SEEKS_AT)
    start = SEEKS_AT + seeks.size
    behind = skip_string(record, skip_string(record, skip_string(record, start)))
    if object_bytes < 0 or not behind <= key_bytes <= len(record) or 0 < nbytes < key_bytes:
        read_key(record)  # says what is wrong with most of them
        raise CorruptFileError("a basket's key has impossible lengths")
    pids = directory & ~PDIR_MASK if big else 0
    strings = bytes(record[start:behind])
    return BasketKey(nbytes, object_bytes, key_bytes, date, cycle, big, pids, strings), behind


@dataclass(slots=True)
class Basket:
    """One basket, decoded.

    Attributes
    ----------
    key : BasketKey
    buffer_bytes : int
        What ROOT allocates for it.
    entry_bytes : int
        Size of one entry, or ROOT's length of the offset table.
    entries : int
    data : bytes-like
        The entries' bytes.
    offsets : int64, shape (entries + 1,), or None
        Where each entry begins in ``data``; None if all have one size.
    displacements : int64, shape (entries,), or None
    generated : bool
        Offsets are not stored but follow from the branch's counter.
    algorithm : int or None
        How the payload was compressed, if it was.
    """

    key: BasketKey
    buffer_bytes: int
    entry_bytes: int
    entries: int
    data: Data
    offsets: Int64 | None
    displacements: Int64 | None = None
    generated: bool = False
    algorithm: int | None = None

    def part(
        self,
        entries: int,
        data: Data,
        offsets: Int64 | None = None,
        displacements: Int64 | None = None,
    ) -> Basket:
        """Return a basket of the same kind with other entries."""
        return Basket(
            self.key, self.buffer_bytes, self.entry_bytes, entries, data, offsets, displacements,
            self.generated, self.algorithm,
        )  # fmt: skip


class _Counters(NamedTuple):
    buffer_bytes: int
    entry_bytes: int
    entries: int
    last: int
    flag: int
    generated: bool
    sizes: bool


def _read_counters(data: Data, at: int) -> tuple[_Counters, int]:
    _, buffer_bytes, entry_bytes = _HEAD.unpack_from(data, at)
    at += _HEAD.size
    io_bits = 0
    if entry_bytes < 0:
        # A negative size announces a byte of IO features.
        entry_bytes = -entry_bytes
        io_bits = data[at]
        if io_bits & ~_KNOWN_IO_BITS:
            raise UnsupportedFeatureError(f"a basket has unknown IO features {io_bits:#x}")
        at += 1
    entries, last, flag = _TAIL.unpack_from(data, at)
    generated = flag >= _GENERATED
    if generated:
        flag -= _GENERATED
    # Where the feature is on but no counter explains the sizes, these are stored instead.
    sizes = bool(io_bits) and not generated
    counters = _Counters(buffer_bytes, entry_bytes, entries, last, flag, generated, sizes)
    return counters, at + _TAIL.size


def decode_basket(record: Data, expected_bytes: int) -> Basket:
    """Decode a basket as stored in a file.

    Parameters
    ----------
    record : bytes-like
        Key and payload.
    expected_bytes : int
        Length that the branch's table gives.
    """
    key, at = read_basket_key(record)
    if key.nbytes != expected_bytes or len(record) != expected_bytes:
        raise CorruptFileError(
            f"a basket of {key.name!r} is not where its branch says",
            hint="the file was overwritten or damaged",
            branch=key.name,
        )
    counters, _ = _read_counters(record, at)
    payload = memoryview(record)[key.key_bytes :]
    data = memoryview(decompress(payload, key.object_bytes))
    compressed = len(payload) != key.object_bytes
    border = counters.last - key.key_bytes
    if not 0 <= border <= len(data) or counters.entries < 0:
        raise CorruptFileError(f"a basket of {key.name!r} has impossible counters")
    offsets: Int64 | None = None
    displacements: Int64 | None = None
    rest = data[border:]
    if len(rest) >= 4 and not counters.generated:
        offsets, behind = _positions(rest, counters.entries, key)
        if counters.sizes:
            offsets = np.cumsum(offsets) + key.key_bytes
        offsets = _closed(offsets, key.key_bytes, border, key)
        if len(rest) - behind >= 4:
            displacements, _ = _positions(rest[behind:], counters.entries, key)
    basket = Basket(
        key, counters.buffer_bytes, counters.entry_bytes, counters.entries, data[:border],
        offsets, displacements, counters.generated, algorithm_of(payload) if compressed else None,
    )  # fmt: skip
    return basket if offsets is not None or counters.generated else _with_entry_bytes(basket)


def decode_embedded(record: Data) -> Basket:
    """Decode a basket as streamed within a tree's record."""
    key, at = read_basket_key(record)
    counters, at = _read_counters(record, at)
    view = memoryview(record)
    offsets: Int64 | None = None
    displacements: Int64 | None = None
    flag = counters.flag
    border = counters.last - key.key_bytes
    if not 0 <= border <= len(record) or counters.entries < 0:
        raise CorruptFileError(f"a basket of {key.name!r} has impossible counters")
    if flag and flag % 10 != 2 and not counters.generated:
        if counters.entries:
            offsets, behind = _positions(view[at:], counters.entries, key)
            at += behind
            if 20 < flag < 40:
                offsets = offsets & ~_DISPLACEMENT_MASK
            if flag > 40:
                displacements, behind = _positions(view[at:], counters.entries, key)
                at += behind
            offsets = _closed(offsets, key.key_bytes, border, key)
        else:
            offsets = np.zeros(1, np.int64)
    data = view[at + key.key_bytes : at + counters.last]
    if not (flag == 1 or flag > 10) or len(data) != border:
        raise CorruptFileError(f"a basket of {key.name!r} within the tree has no data")
    basket = Basket(
        key, counters.buffer_bytes, counters.entry_bytes, counters.entries, data, offsets,
        displacements, counters.generated,
    )  # fmt: skip
    return basket if offsets is not None or counters.generated else _with_entry_bytes(basket)


def _positions(table: memoryview, entries: int, key: BasketKey) -> tuple[Int64, int]:
    """Read a counted table of at least one position an entry; return the bytes it took."""
    count = int.from_bytes(table[:4], "big", signed=True)
    if count < entries or 4 + 4 * count > len(table):
        raise CorruptFileError(f"a basket of {key.name!r} has {count} offsets for {entries}")
    values = np.frombuffer(table, _OFFSET, entries, 4).astype(np.int64)
    return values, 4 + 4 * count


def _closed(positions: Int64, key_bytes: int, border: int, key: BasketKey) -> Int64:
    offsets = np.empty(len(positions) + 1, np.int64)
    np.subtract(positions, key_bytes, out=offsets[:-1])
    offsets[-1] = border
    if offsets[0] < 0 or (offsets[1:] < offsets[:-1]).any():
        raise CorruptFileError(f"offsets of a basket of {key.name!r} are out of order")
    return offsets


def _with_entry_bytes(basket: Basket) -> Basket:
    """Settle the size of entries that all have the same one."""
    entries, size = basket.entries, len(basket.data)
    if entries * basket.entry_bytes == size:
        return basket
    if entries and size % entries == 0:
        return replace(basket, entry_bytes=size // entries)
    raise CorruptFileError(
        f"a basket of {basket.key.name!r} has {entries} entries in {size} bytes, without offsets"
    )


def with_counts(basket: Basket, counts: Int64, item_bytes: int, header_bytes: int) -> Basket:
    """Make the offsets of a basket that leaves them to its branch's counter.

    Parameters
    ----------
    counts : int64, shape (entries,)
        The counter's values for the basket's entries.
    """
    offsets = np.zeros(basket.entries + 1, np.int64)
    if len(counts) != basket.entries or (counts < 0).any():
        raise CorruptFileError(f"the counter of {basket.key.name!r} does not fit its basket")
    np.cumsum(counts * item_bytes + header_bytes, out=offsets[1:])
    if offsets[-1] != len(basket.data):
        raise UnsupportedFeatureError(
            f"the counter of {basket.key.name!r} does not explain its basket's size",
            branch=basket.key.name,
        )
    return replace(basket, offsets=offsets, generated=False)


def slice_basket(basket: Basket, start: int, stop: int, *, pinned: bool) -> Basket:
    """Take the entries ``[start, stop)`` of a basket.

    Parameters
    ----------
    pinned : bool
        The entries' class may have pointers. Each entry with one names a class in
        full, and positions within the basket follow; if any of these entries does,
        all are left at their positions, with zeros before the first one.
    """
    if not 0 <= start <= stop <= basket.entries:
        raise CorruptFileError(
            f"a basket of {basket.key.name!r} has fewer entries than its branch says"
        )
    if basket.offsets is None:
        size = basket.entry_bytes
        return basket.part(stop - start, basket.data[start * size : stop * size])
    begin, end = int(basket.offsets[start]), int(basket.offsets[stop])
    offsets = basket.offsets[start : stop + 1]
    displacements = None if basket.displacements is None else basket.displacements[start:stop]
    if pinned and NEW_CLASS.search(basket.data, begin, end):
        data: Data = bytes(begin) + bytes(basket.data[begin:end])
    else:
        data, offsets = basket.data[begin:end], offsets - begin
        if displacements is not None:
            displacements = displacements - begin
    return basket.part(stop - start, data, offsets, displacements)


def encode_basket(basket: Basket, setting: Setting, *, big: bool) -> bytes:
    """Return a basket as stored in a file, its position still zero.

    Parameters
    ----------
    setting : Setting
        How to compress it.
    big : bool
        Eight-byte positions in the key.
    """
    key = basket.key
    # Only a big key can say which process ids its references mean.
    big = big or key.pids != 0
    seeks = SEEKS_BIG if big else SEEKS_SMALL
    key_bytes = SEEKS_AT + seeks.size + len(key.strings) + _COUNTERS_BYTES
    payload = basket.data
    entry_bytes = basket.entry_bytes
    if basket.offsets is not None:
        parts = [payload, _table(basket.offsets[:-1], key_bytes)]
        entry_bytes = max(entry_bytes, basket.entries + 1)
        if basket.displacements is not None:
            parts.append(_table(basket.displacements, 0))
        payload = b"".join(parts)
    stored = compress(payload, setting)
    last = key_bytes + len(basket.data)
    version = KEY_VERSION + BIG_KEY_VERSION if big else KEY_VERSION
    return b"".join(
        (
            KEY_HEAD.pack(
                key_bytes + len(stored), version, len(payload), key.date, key_bytes, key.cycle
            ),
            seeks.pack(0, key.pids),
            key.strings,
            _HEAD.pack(_BASKET_VERSION, max(basket.buffer_bytes, last), entry_bytes),
            _TAIL.pack(basket.entries, last, 0),
            stored,
        )
    )


def put_position(
    into: bytearray | memoryview, at: int, seek: int, directory: int, pid_shift: int = 0
) -> None:
    """Write a basket's position and its directory's into its key.

    Parameters
    ----------
    into : bytearray or writable memoryview
    at : int
        Where the basket, as `encode_basket` made it, begins there.
    pid_shift : int
        Added to the number of process ids that its references skip.
    """
    (version,) = I2.unpack_from(into, at + 4)
    where = at + SEEKS_AT
    if version > BIG_KEY_VERSION:
        _, own = SEEKS_BIG.unpack_from(into, where)
        pids = (own >> PID_SHIFT) + pid_shift
        if not 0 <= pids <= PIDS_MAX:
            raise CorruptFileError("a basket refers to process ids that there are not")
        SEEKS_BIG.pack_into(into, where, seek, directory | pids << PID_SHIFT)
        return
    if pid_shift:
        name = read_basket_key(memoryview(into)[at:])[0].name
        raise UnsupportedFeatureError(
            f"references of a basket of {name!r} cannot be led to another file's process ids:"
            " its key has a four-byte position",
            hint="name that file first",
        )
    if seek > 0x7FFFFFFF:
        name = read_basket_key(memoryview(into)[at:])[0].name
        raise UnsupportedFeatureError(
            f"a basket of {name!r} with a four-byte position lies beyond 2 GB",
            hint="ask for fewer entries, so that the product stays below 2 GB",
        )
    SEEKS_SMALL.pack_into(into, where, seek, directory)


def _table(values: Int64, base: int) -> bytes:
    # As ROOT does, one more than there are entries.
    table = np.zeros(len(values) + 2, _OFFSET)
    table[0] = len(values) + 1
    np.add(values, base, out=table[1:-1], casting="unsafe")
    return table.tobytes()
