"""Files and products beyond two gigabytes, where positions take eight bytes."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from evstream import rootio
from tests.conformance.rootio.conftest import Compare, NTuplePair, Pair
from tests.conformance.rootio.uproot_compare import equal_by_uproot
from tests.conformance.rootio.zoo import HERE, TIMEOUT_S, run_root

SOURCE_BYTES = 1_300_000_000
NTUPLE_BYTES = 2_400_000_000
BORDER = 1 << 31
NEEDED_BYTES = 8 * SOURCE_BYTES


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Path]:
    """Return a folder with room for large files, which are gone afterwards."""
    if shutil.disk_usage(tmp_path).free < NEEDED_BYTES:
        pytest.skip(f"needs {NEEDED_BYTES / 1e9:.0f} GB of disk")
    folder = tmp_path / "large"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


@pytest.mark.slow
def test_positions_beyond_two_gigabytes(room: Path, root_bin: Path, equal_by_root: Compare) -> None:
    source, joined = room / "source.root", room / "joined.root"
    subprocess.run(
        [root_bin / "root.exe", "-b", "-q", "-l",
         f'{HERE / "make_large.C"}("{source}", {SOURCE_BYTES})'],
        check=False, capture_output=True, timeout=TIMEOUT_S,
    )  # fmt: skip
    # All keys of the source have four-byte positions; the second half's lie too far on.
    result = rootio.join([source, source], joined)
    assert joined.stat().st_size == result.size > BORDER
    entries = result.entries["Events"] // 2
    equal_by_root(
        [
            Pair(source, "Events", 0, joined, entries, entries),
            Pair(source, "Events", 0, joined, 0, 200),
        ]
    )
    with rootio.FileSource(joined) as opened:
        baskets = rootio.inspect(opened).trees["Events"].baskets
    assert int(baskets.seek.max()) > BORDER
    # A small product from beyond the border has small positions again.
    beyond = room / "beyond.root"
    start = 2 * entries - 333
    rootio.cut(joined, beyond, tree="Events", entry_start=start, entry_stop=start + 123)
    # A product of almost everything is beyond the border itself; both ends are re-encoded.
    most = room / "most.root"
    count = rootio.cut(joined, most, tree="Events", entry_start=1, entry_stop=2 * entries - 1)
    assert most.stat().st_size > BORDER
    chosen = room / "chosen.root"
    rootio.cut(joined, chosen, tree="Events", entries=range(7, 2 * entries, 100))
    listing = room / "chosen.txt"
    listing.write_text("".join(f"{entry}\n" for entry in range(7, 2 * entries, 100)))
    pairs = [
        Pair(joined, "Events", start, beyond, 0, 123),
        Pair(joined, "Events", 1, most, 0, 150),
        Pair(joined, "Events", 1 + count - 150, most, count - 150, 150),
        Pair(joined, "Events", f"@{listing}", chosen, 0, len(range(7, 2 * entries, 100))),
    ]
    equal_by_root(pairs)
    for pair in pairs[:3]:
        first = int(pair.source_first)
        equal_by_uproot(joined, "Events", first, pair.product, pair.product_first, pair.entries)


@pytest.mark.slow
def test_an_ntuple_beyond_two_gigabytes(
    room: Path, root_bin: Path, equal_ntuples_by_root: Compare
) -> None:
    source = room / "ntuple.root"
    run_root(root_bin, room, f'{HERE / "make_large_ntuple.C"}("{source}", {NTUPLE_BYTES})')
    assert source.stat().st_size > BORDER
    with rootio.FileSource(source) as opened:
        index = rootio.inspect(opened)
    ntuple = index.ntuples["Events"]
    assert int(ntuple.tables.pages.seek.max()) > BORDER
    entries = ntuple.entries
    beyond, most = room / "beyond.root", room / "most.root"
    chosen, joined = room / "chosen.root", room / "joined.root"
    start = entries - 77
    assert (
        rootio.cut(source, beyond, tree="Events", entry_start=start, entry_stop=entries - 5) == 72
    )
    # A product of almost everything is beyond the border itself; both ends are encoded anew.
    count = rootio.cut(source, most, tree="Events", entry_start=1, entry_stop=entries - 1)
    assert most.stat().st_size > BORDER
    rootio.cut(source, chosen, tree="Events", entries=range(7, entries, 100))
    listing = room / "chosen.txt"
    listing.write_text("".join(f"{entry}\n" for entry in range(7, entries, 100)))
    size = rootio.join([beyond, most], joined).size
    assert size == joined.stat().st_size > BORDER
    equal_ntuples_by_root(
        [
            NTuplePair(source, "Events", start, beyond, 72),
            NTuplePair(source, "Events", 1, most, 150),
            NTuplePair(source, "Events", count - 150, most, 150, product_first=count - 151),
            NTuplePair(source, "Events", f"@{listing}", chosen, len(range(7, entries, 100))),
            NTuplePair(source, "Events", start, joined, 72),
            NTuplePair(source, "Events", count - 99, joined, 100, product_first=72 + count - 100),
        ]
    )
