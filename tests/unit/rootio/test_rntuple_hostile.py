"""Damaged RNTuples give our errors, within limits of memory."""

from __future__ import annotations

import random
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import uproot

from evstream import rootio
from evstream.rootio.errors import corrupt_if_broken
from evstream.rootio.rntuple.anchor import Anchor
from tests.unit.rootio.ntuples import envelope_links, make_ntuple, with_changed

ROUNDS = 300
SEED = 20_120_704
MEMORY_BYTES_MAX = 300 << 20
parse_anchor = corrupt_if_broken(Anchor.parse)
OURS = (rootio.CorruptFileError, rootio.UnsupportedFeatureError, rootio.NotARootFileError)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return a file whose envelopes and pages are not compressed."""
    return make_ntuple(tmp_path_factory.mktemp("ntuple") / "plain.root").read_bytes()


def use(data: bytes) -> str:
    """Do everything with a file; return why its RNTuple is refused, "" if it is not."""
    source = rootio.BytesSource(data)
    index = rootio.inspect(source)
    if index.unreadable:
        return next(iter(index.unreadable.values()))
    for ntuple in index.ntuples.values():
        entries = ntuple.entries
        assert rootio.SourceIndex.from_bytes(index.to_bytes()).trees[ntuple.path].branches
        if entries > 1_000_000:
            return ""
        plans = [
            rootio.plan_cut(
                index, tree=ntuple.path, entry_start=entries // 3, entry_stop=entries // 2
            )
        ]
        if entries:
            some = np.arange(0, entries, 3)
            plans.append(rootio.plan_select(index, tree=ntuple.path, entries=some))
        for plan in plans:
            plan.prepare(source)
            plan.read(0, 1 << 20, source)
    return ""


def outcome(data: bytes) -> str:
    """Name what came of it; anything but our errors passes through."""
    try:
        return "refused" if use(data) else "used"
    except OURS as error:
        return type(error).__name__


def test_the_file_itself_is_sound(plain: bytes) -> None:
    assert use(plain) == ""


def test_changed_bytes_are_noticed_or_harmless(plain: bytes) -> None:
    rng = random.Random(SEED)
    print("seed", SEED)
    links = envelope_links(plain)
    for _ in range(ROUNDS):
        data = bytearray(plain)
        link = rng.choice(links)
        data[link.offset + rng.randrange(link.size)] ^= 1 << rng.randrange(8)
        assert outcome(bytes(data)) == "refused"
    for _ in range(ROUNDS):
        data = bytearray(plain)
        for _ in range(rng.choice([1, 1, 8])):
            data[rng.randrange(len(data))] = rng.randrange(256)
        outcome(bytes(data))


@pytest.mark.parametrize("which", [0, 1, 2])
def test_wild_envelopes_with_true_checksums(plain: bytes, which: int) -> None:
    rng = random.Random(SEED + which)
    print("seed", SEED + which)
    links = envelope_links(plain)
    wild = [b"\xff" * 8, b"\x00" * 8, b"\xff" * 7 + b"\x7f", b"\x00" * 7 + b"\x80", b"\xff" * 4]

    def change(contents: bytearray) -> None:
        for _ in range(rng.choice([1, 1, 2, 5])):
            at = rng.randrange(len(contents))
            new = rng.choice(wild) if rng.random() < 0.5 else bytes([rng.randrange(256)])
            contents[at : at + len(new)] = new[: len(contents) - at]

    outcomes = set()
    tracemalloc.start()
    try:
        for _ in range(ROUNDS):
            outcomes.add(outcome(with_changed(plain, links, which, change)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MEMORY_BYTES_MAX
    assert "refused" in outcomes


def test_truncated_files(plain: bytes) -> None:
    for size in range(0, len(plain), 97):
        with pytest.raises(OURS):
            rootio.inspect(rootio.BytesSource(plain[:size]))


def test_a_page_with_a_wrong_checksum_is_not_decoded(plain: bytes) -> None:
    # uproot writes none; the pages that are made for a selection have them.
    source = rootio.BytesSource(plain)
    every = rootio.plan_select(rootio.inspect(source), tree="events", entries=[*range(0, 300, 2)])
    every.prepare(source)
    data = bytearray(every.read(0, every.size, source))
    index = rootio.inspect(rootio.BytesSource(bytes(data)))
    pages = index.ntuples["events"].tables.pages
    checked = np.flatnonzero(pages.checked)
    assert len(checked) == len(pages)
    for row in checked.tolist():
        data[int(pages.seek[row])] ^= 1
    plan = rootio.plan_cut(index, tree="events", entry_start=1, entry_stop=30)
    with pytest.raises(rootio.CorruptFileError, match="checksum"):
        plan.prepare(rootio.BytesSource(bytes(data)))


def test_unknown_features_are_refused_with_the_reason(plain: bytes) -> None:
    links = envelope_links(plain)

    def flag(contents: bytearray) -> None:
        contents[:8] = (4).to_bytes(8, "little")

    for which in (0, 1):
        changed = with_changed(plain, links, which, flag)
        assert "features this version does not know" in use(changed)
        index = rootio.inspect(rootio.BytesSource(changed))
        with pytest.raises(rootio.UnsupportedFeatureError, match="features"):
            index.tree("events")


def test_unknown_columns_are_refused_by_their_field(plain: bytes) -> None:
    links = envelope_links(plain)
    index = rootio.inspect(rootio.BytesSource(plain))
    schema = index.ntuples["events"].schema
    first = schema.columns[0].to_bytes()

    def unknown(contents: bytearray) -> None:
        at = contents.index(first)
        contents[at + 8 : at + 10] = b"\x77\x00"

    changed = with_changed(plain, links, 0, unknown)
    index = rootio.inspect(rootio.BytesSource(changed))
    name = schema.names[schema.columns[0].field]
    with pytest.raises(rootio.UnsupportedFeatureError, match="column type 0x77") as caught:
        rootio.plan_cut(index, tree="events", entry_start=0, entry_stop=1)
    assert caught.value.fields["field"] == name
    rest = [b.name for b in index.trees["events"].branches if b.name != name]
    rootio.plan_cut(index, tree="events", entry_start=0, entry_stop=1, branches=rest)


def test_a_bomb_is_no_page(tmp_path: Path) -> None:
    path = make_ntuple(tmp_path / "zstd.root", compression=uproot.ZSTD(1))
    source = rootio.BytesSource(path.read_bytes())
    index = rootio.inspect(source)
    index.ntuples["events"].tables.pages.elements[0] = 1 << 30
    plan = rootio.plan_cut(index, tree="events", entry_start=1, entry_stop=69)
    with pytest.raises(rootio.CorruptFileError):
        plan.prepare(source)


def test_anchors() -> None:
    whole = bytes.fromhex(
        "4000004200020001000000000000000000000000016c00000000000001b500000000000005ea"
        "0000000000006882000000000000005400000000000000940000000040000000234c596a338f8953"
    )
    anchor = Anchor.parse(whole)
    assert anchor.version == (1, 0, 0, 0)
    assert anchor.to_bytes() == whole
    # The class's version, which may grow, is not under the checksum.
    for at in set(range(len(whole))) - {4, 5}:
        damaged = bytearray(whole)
        damaged[at] ^= 0x10
        with pytest.raises((rootio.CorruptFileError, rootio.UnsupportedFeatureError)):
            parse_anchor(bytes(damaged))
