"""Baskets taken apart together give what each gives alone, or are left to be taken alone."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from evstream import rootio
from evstream.domain.errors import EvstreamError
from evstream.rootio.basket_columns import Scratch, fetch_together, read_heads, take_columns
from evstream.rootio.baskets import Basket, decode_basket
from evstream.rootio.errors import CorruptFileError
from evstream.rootio.source import BytesSource, drive
from evstream.rootio.take import take_entries
from evstream.rootio.tree_index import BasketTable

SEED = 20_260_302
ROUNDS = 60
FLIPS = 4000


def _table(data: bytes) -> BasketTable:
    return rootio.inspect(BytesSource(data)).tree("Events").baskets


def _alone(record: bytes | memoryview, local: Any) -> Basket:
    return take_entries(decode_basket(record, len(record)), local, pinned=False)[0]


def _same(one: Basket, other: Basket) -> bool:
    return (
        (one.key, one.buffer_bytes, one.entry_bytes, one.entries, one.algorithm, one.generated)
        == (
            other.key, other.buffer_bytes, other.entry_bytes, other.entries, other.algorithm,
            other.generated,
        )
        and bytes(one.data) == bytes(other.data)
        and np.array_equal(np.array(one.offsets), np.array(other.offsets))
        and one.displacements is other.displacements is None
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["small_bytes", "plain_bytes"])
def test_baskets_together_give_what_each_gives_alone(
    kind: str, request: pytest.FixtureRequest
) -> None:
    data = request.getfixturevalue(kind)
    table, rng = _table(data), np.random.default_rng(SEED)
    for _ in range(ROUNDS):
        some = rng.permutation(len(table.seek))[: rng.integers(1, len(table.seek) + 1)]
        seeks, sizes = table.seek[some], table.nbytes[some]
        buffer, at = drive(fetch_together(seeks, sizes, len(data), Scratch()), BytesSource(data))
        heads = read_heads(buffer, at, sizes)
        assert heads.plain.all()
        held = (table.stop - table.start)[some]
        chosen = [np.flatnonzero(rng.random(n) < rng.choice([0.1, 0.5, 1.0])) for n in held]
        chosen = [c if len(c) else np.array([n - 1]) for c, n in zip(chosen, held, strict=True)]
        counts = np.array([len(c) for c in chosen])
        found = take_columns(heads, np.arange(len(some)), np.concatenate(chosen), counts, Scratch())
        assert found is not None
        for k, (part, local) in enumerate(zip(found, chosen, strict=True)):
            record = data[int(seeks[k]) :][: int(sizes[k])]
            assert bytes(heads.record(k)) == record
            assert _same(part, _alone(record, local)), f"seed {SEED}, basket {some[k]}"


@pytest.mark.parametrize("kind", ["small_bytes", "plain_bytes"])
def test_damaged_baskets_give_the_same_or_our_errors(
    kind: str, request: pytest.FixtureRequest
) -> None:
    data = request.getfixturevalue(kind)
    table, rng = _table(data), random.Random(SEED)
    used = refused = left = 0
    for _ in range(FLIPS):
        number = rng.randrange(len(table.seek))
        begin, size = int(table.seek[number]), int(table.nbytes[number])
        record = bytearray(data[begin : begin + size])
        for _ in range(rng.randrange(1, 3)):
            # Mostly the head and the offsets, where numbers are.
            at = rng.choice([rng.randrange(min(size, 90)), size - 1 - rng.randrange(min(size, 40))])
            record[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
        held = int(table.stop[number] - table.start[number])
        local = np.array(sorted(rng.sample(range(held), rng.randint(1, held))))
        heads = read_heads(np.frombuffer(record, np.uint8), np.zeros(1, np.int64), np.array([size]))
        if not heads.plain[0] or heads.entries[0] < held:
            left += 1
            continue
        try:
            found = take_columns(
                heads, np.zeros(1, np.int64), local, np.array([len(local)]), Scratch()
            )
        except EvstreamError as problem:
            refused += 1
            with pytest.raises(type(problem)):
                _alone(memoryview(record), local)
            continue
        if found is None:
            left += 1
            continue
        try:
            expected = _alone(memoryview(record), local)
        except CorruptFileError as problem:
            # Alone, offsets of entries that are not chosen are looked at, too.
            if "out of order" not in str(problem):
                raise
            continue
        used += 1
        assert _same(found[0], expected), f"seed {SEED}"
    assert min(used, left) > 0, f"seed {SEED}"
    assert refused > 0 or kind == "plain_bytes", f"seed {SEED}"


def test_baskets_shorter_than_any_head_are_not_plain() -> None:
    heads = read_heads(np.zeros(9, np.uint8), np.array([0, 4]), np.array([4, 5]))
    assert not heads.plain.any()


def test_ranges_outside_the_file_are_refused() -> None:
    for seek, size in ((90, 20), (200, 1), (2**63 - 1, 5)):
        with pytest.raises(CorruptFileError, match="outside"):
            drive(
                fetch_together(np.array([0, seek]), np.array([4, size]), 100, Scratch()),
                BytesSource(bytes(100)),
            )
