"""Products beyond two gigabytes, which no test writes to disk."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from evstream.rootio.baskets import (
    Basket,
    decode_basket,
    encode_basket,
    put_position,
    read_basket_key,
)
from evstream.rootio.compression import Setting
from evstream.rootio.errors import CorruptFileError, UnsupportedFeatureError
from evstream.rootio.keys import PDIR_MASK, PIDS_MAX, make_key, read_key, write_key
from evstream.rootio.layout import Layout
from evstream.rootio.product import Product, Segment, in_memory
from evstream.rootio.source import Range, drive

FAR = 3_000_000_000


class Sparse:
    """A huge file of zeros with one basket at its beginning."""

    def __init__(self, record: bytes) -> None:
        self.size = FAR + len(record)
        self._record = record

    def read_ranges(self, ranges: Sequence[Range]) -> Sequence[bytes]:
        return [self._record[o : o + n].ljust(n, b"\0") for o, n in ranges]


def _basket(name: str, title: str, *, big: bool) -> bytes:
    key = make_key(
        "TBasket", name, title, payload_bytes=0, object_bytes=0, seek=0, seek_directory=0, date=1
    )
    data = np.arange(10, dtype=">i4").tobytes()
    own, _ = read_basket_key(write_key(key))
    basket = Basket(own, 100, 4, 4, data, np.array([0, 8, 8, 20, 40]))
    return encode_basket(basket, Setting(1, 0), big=big)


def _far_product(record: bytes) -> tuple[Product, Sparse]:
    heads, nbytes = np.array([0]), np.array([len(record)])
    segments = [
        Segment(0, len(record), FAR, heads=np.zeros(0, np.int64), nbytes=np.zeros(0, np.int64)),
        Segment(0, 0, len(record), heads=heads, nbytes=nbytes, directory=100),
    ]
    source = Sparse(record)
    return Product(segments, [source.size]), source


@pytest.mark.parametrize("big", [True, False])
def test_baskets_beyond_two_gigabytes_know_where_they_are(big: bool) -> None:
    record = _basket("branch", "Events", big=big)
    product, source = _far_product(record)
    found = bytes(drive(product.read_steps(FAR, len(record), 0), source))
    key, _ = read_key(found)
    assert (key.seek, key.seek_directory, key.big) == (FAR, 100, True)
    assert key.key_bytes == read_key(record)[0].key_bytes
    decoded, original = decode_basket(found, len(found)), decode_basket(record, len(record))
    assert bytes(decoded.data) == bytes(original.data)
    assert decoded.offsets is not None
    assert decoded.offsets.tolist() == [0, 8, 8, 20, 40]


@pytest.mark.parametrize("big", [True, False])
def test_heads_cut_by_a_chunks_edge_are_patched_too(big: bool) -> None:
    record = _basket("branch", "Events", big=big)
    product, source = _far_product(record)
    whole = bytes(drive(product.read_steps(FAR, len(record), 0), source))
    for edge in range(1, len(record)):
        left = bytes(drive(product.read_steps(FAR - 3, edge + 3, 0), source))
        right = bytes(drive(product.read_steps(FAR + edge, len(record), 0), source))
        assert left[3:] + right == whole


def test_a_key_without_room_is_refused() -> None:
    product, source = _far_product(_basket("x", "T", big=False))
    with pytest.raises(UnsupportedFeatureError, match="2 GB"):
        drive(product.read_steps(FAR, 100, 0), source)


def _shifted_product(record: bytes, pid_shift: int) -> tuple[Product, Sparse]:
    heads, nbytes = np.array([0]), np.array([len(record)])
    segment = Segment(
        0, 0, len(record), heads=heads, nbytes=nbytes, directory=100, pid_shift=pid_shift
    )
    source = Sparse(record)
    return Product([in_memory(b"front"), segment], [source.size]), source


@pytest.mark.parametrize("big", [True, False])
def test_baskets_say_which_process_ids_they_mean(big: bool) -> None:
    record = _basket("branch", "Events", big=big)
    product, source = _shifted_product(record, 3)
    whole = bytes(product.read_into(0, memoryview(bytearray(product.size)), [source]))
    key, _ = read_key(whole[5:])
    assert (key.seek, key.seek_directory & PDIR_MASK, key.pids) == (5, 100, 3)
    decoded = decode_basket(whole[5:], len(record))
    assert bytes(decoded.data) == bytes(decode_basket(record, len(record)).data)
    for edge in range(1, product.size):
        left = bytes(drive(product.read_steps(0, edge, 0), source))
        right = bytes(drive(product.read_steps(edge, len(whole), 0), source))
        assert left + right == whole


def test_references_are_refused_where_their_process_ids_cannot_be_said() -> None:
    product, source = _shifted_product(_basket("x", "T", big=False), 1)
    with pytest.raises(UnsupportedFeatureError, match="process ids"):
        drive(product.read_steps(0, 100, 0), source)
    product, source = _shifted_product(_basket("x", "T", big=True), PIDS_MAX + 1)
    with pytest.raises(CorruptFileError, match="process ids"):
        drive(product.read_steps(0, 100, 0), source)
    made = bytearray(_basket("branch", "Events", big=False))
    with pytest.raises(UnsupportedFeatureError, match="process ids"):
        put_position(made, 0, 5, 100, pid_shift=1)
    made = bytearray(_basket("branch", "Events", big=True))
    put_position(made, 0, 5, 100, pid_shift=PIDS_MAX)
    assert read_key(made)[0].pids == PIDS_MAX
    with pytest.raises(CorruptFileError, match="process ids"):
        put_position(made, 0, 5, 100, pid_shift=1)


def test_another_basket_in_its_place_is_told() -> None:
    record = _basket("branch", "Events", big=True)
    product, source = _far_product(record)
    source._record = record[:3] + b"\x07" + record[4:]
    with pytest.raises(CorruptFileError):
        drive(product.read_steps(FAR, 100, 0), source)


def test_containers_beyond_two_gigabytes_use_eight_bytes() -> None:
    layout = Layout("f.root", "", bytes(16), 1, 101, 63200)
    layout.add_folder("a", "TDirectory", "")
    layout.place_folders()
    head, tail = layout.finish(FAR)
    assert int.from_bytes(head[4:8], "big") == 1_063_200
    assert int.from_bytes(head[12:20], "big") == FAR + len(tail)
    assert in_memory(tail).size == len(tail)
