"""RNTuples: inspection, cuts and selections, without ROOT."""

from __future__ import annotations

import hashlib
import struct
import subprocess
import sys
from dataclasses import replace
from itertools import product as product_of
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from hypothesis import given
from hypothesis import strategies as st

from evstream import rootio
from evstream.rootio.rntuple.elements import (
    PLANEWISE_ELEMENTS_MIN,
    REAL32_QUANT,
    REAL32_TRUNC,
    encode,
    open_page,
)
from evstream.rootio.rntuple.envelope import Cursor, list_frame, locator
from evstream.rootio.rntuple.ntuple_join import joined_pages
from evstream.rootio.rntuple.runs import Runs
from evstream.rootio.rntuple.schema import Column
from tests.unit.rootio.ntuples import ENTRIES, make_ntuple


@pytest.fixture(scope="module", params=["plain", "zstd", "zlib"])
def ntuple(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with an RNTuple in five clusters."""
    codec = {"plain": None, "zstd": uproot.ZSTD(3), "zlib": uproot.ZLIB(1)}[request.param]
    return make_ntuple(tmp_path_factory.mktemp("ntuple") / "small.root", compression=codec)


def product(path: Path, **what: Any) -> bytes:
    """Make a product, in pieces that meet nowhere in particular."""
    with rootio.FileSource(path) as source:
        index = rootio.inspect(source)
        plan = rootio.plan_select if "entries" in what else rootio.plan_cut
        planned = plan(index, tree="events", **what)
        planned.prepare(source)
        parts = [planned.read(at, 1013, source) for at in range(0, planned.size, 1013)]
        assert b"".join(parts) == planned.read(0, planned.size, source)
    return b"".join(parts)


def arrays(path: Path) -> Any:
    with uproot.open(path) as file:
        return file["events"].arrays()


def test_inspection(ntuple: Path) -> None:
    with rootio.FileSource(ntuple) as source:
        index = rootio.inspect(source)
    found = index.ntuples["events"]
    assert list(index.trees) == ["events"]
    assert found.entries == ENTRIES
    assert found.clusters.tolist() == [0, 70, 140, 210, 280, 300]
    # uproot has an order of its own.
    assert {b.name for b in found.branches} == {
        "number", "flag", "text", "nested", "point", "point.x", "point.y",
    }  # fmt: skip
    assert all(b.baskets for b in found.branches if b.name != "point")
    assert not index.objects
    again = rootio.SourceIndex.from_bytes(index.to_bytes())
    assert again.to_bytes() == index.to_bytes()


@pytest.mark.parametrize(
    ("start", "stop"), [(0, ENTRIES), (0, 1), (69, 71), (70, 140), (3, 277), (299, 300), (5, 5)]
)
def test_cuts(ntuple: Path, tmp_path: Path, start: int, stop: int) -> None:
    out = tmp_path / "cut.root"
    out.write_bytes(product(ntuple, entry_start=start, entry_stop=stop))
    if start == stop:
        with rootio.FileSource(out) as source:
            assert rootio.inspect(source).trees["events"].entries == 0
        return
    found = arrays(out)
    assert found.to_list() == arrays(ntuple)[start:stop].to_list()
    with rootio.FileSource(out) as source:
        clusters = rootio.inspect(source).trees["events"].clusters
    inner = [edge - start for edge in (70, 140, 210, 280) if start < edge < stop]
    assert clusters.tolist() == [0, *inner, stop - start]


@given(st.sets(st.integers(0, ENTRIES - 1), min_size=1))
def test_selections(chosen: set[int]) -> None:
    path = _shared()
    out = path.with_name("selected.root")
    out.write_bytes(product(path, entries=sorted(chosen)))
    assert arrays(out).to_list() == arrays(path)[sorted(chosen)].to_list()


_MADE: list[Path] = []


def _shared() -> Path:
    if not _MADE:
        import tempfile

        where = tempfile.mkdtemp()
        _MADE.append(make_ntuple(Path(where) / "small.root", compression=uproot.ZSTD(1)))
    return _MADE[0]


def test_fields(ntuple: Path, tmp_path: Path) -> None:
    out = tmp_path / "some.root"
    names = ["nested", "point.y"]
    out.write_bytes(product(ntuple, entry_start=60, entry_stop=250, branches=names))
    source, found = arrays(ntuple)[60:250], arrays(out)
    assert ak.fields(found) == ["nested", "point"]
    assert ak.fields(found.point) == ["y"]
    assert found.nested.to_list() == source.nested.to_list()
    assert found.point.y.to_list() == source.point.y.to_list()
    # ROOT's own names mean the same.
    same = product(ntuple, entry_start=60, entry_stop=250, branches=["nested._0._0", "point.y"])
    assert len(same) == out.stat().st_size


def test_unknown_fields_are_refused_with_near_ones(ntuple: Path) -> None:
    with pytest.raises(rootio.UnknownBranchError) as caught:
        product(ntuple, entry_start=0, entry_stop=1, branches=["numbr"])
    assert caught.value.fields["nearest"] == ["number"]


def test_a_cut_at_clusters_decodes_nothing(ntuple: Path) -> None:
    with rootio.FileSource(ntuple) as source:
        index = rootio.inspect(source)
    cut = rootio.plan_cut(index, tree="events", entry_start=70, entry_stop=280)
    assert cut.boundary_bytes == 0
    cut.prepare(rootio.BytesSource(b""))
    assert cut.boundary_bytes == 0
    assert cut.size > 0


def test_the_same_bytes_in_any_process(ntuple: Path) -> None:
    program = (
        "import sys, hashlib, pathlib\n"
        "from tests.unit.rootio.test_rntuple import product\n"
        "path = pathlib.Path(sys.argv[1])\n"
        "made = product(path, entry_start=11, entry_stop=222)\n"
        "made += product(path, entries=[*range(3, 290, 3)])\n"
        "print(hashlib.sha256(made).hexdigest())\n"
    )
    made = product(ntuple, entry_start=11, entry_stop=222)
    made += product(ntuple, entries=[*range(3, 290, 3)])
    for seed in ("0", "1"):
        run = subprocess.run(
            [sys.executable, "-c", program, str(ntuple)],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert run.stdout.split()[-1] == hashlib.sha256(made).hexdigest()


def test_joins(ntuple: Path, tmp_path: Path) -> None:
    parts = []
    for start, stop in ((0, 33), (33, 33), (33, 281), (281, ENTRIES)):
        parts.append(tmp_path / f"{start}-{stop}.root")
        rootio.cut(ntuple, parts[-1], tree="events", entry_start=start, entry_stop=stop)
    out = tmp_path / "joined.root"
    assert rootio.join(parts, out).entries == {"events": ENTRIES}
    assert arrays(out).to_list() == arrays(ntuple).to_list()
    rootio.cut(ntuple, parts[0], tree="events", branches=["text"])
    with pytest.raises(rootio.SchemaMismatchError, match="other fields: flag"):
        rootio.join([ntuple, parts[0]], out)


def _packed(index: rootio.NTupleIndex, kind: int, bits: int, low: float) -> rootio.NTupleIndex:
    """Let the members of points be stored in another way."""
    limits = struct.pack("<dd", low, 2.0) if kind == REAL32_QUANT else b""
    columns = tuple(
        replace(one, type=kind, bits=bits, flags=2 if limits else 0, limits=limits)
        if index.schema.names[one.field].startswith("point.")
        else one
        for one in index.schema.columns
    )
    return replace(index, schema=replace(index.schema, columns=columns))


def test_fields_that_are_packed_otherwise_are_refused(ntuple: Path) -> None:
    with rootio.FileSource(ntuple) as source:
        plain = rootio.inspect(source).ntuples["events"]
    ways = [
        plain, _packed(plain, REAL32_TRUNC, 20, 0), _packed(plain, REAL32_QUANT, 12, 0),
        _packed(plain, REAL32_QUANT, 12, 1), _packed(plain, REAL32_QUANT, 13, 0),
    ]  # fmt: skip
    for one, other in product_of(range(len(ways)), repeat=2):
        held = [(0, ways[one]), (1, ways[other])]
        if one == other:
            assert joined_pages(held, ["a", "b"]).entries == 2 * ENTRIES
            continue
        with pytest.raises(rootio.SchemaMismatchError, match="otherwise in b") as caught:
            joined_pages(held, ["a", "b"])
        assert sorted(caught.value.fields["names"]) == ["point.x", "point.y"]
    # Halves and whole numbers, in whatever order of bytes, stand beside each other.
    half = _packed(plain, 0x06, 16, 0)
    assert joined_pages([(0, half), (1, plain)], ["a", "b"]).entries == 2 * ENTRIES


WIDTHS = {
    0x00: 1, 0x01: 8, 0x04: 8, 0x06: 16, 0x08: 32, 0x0A: 64, 0x0F: 64, 0x10: 96, 0x12: 16,
    0x13: 32, 0x15: 64, 0x17: 16, 0x19: 64, 0x1A: 32, 0x1B: 64, 0x1C: 17, 0x1D: 5,
}  # fmt: skip


@given(st.sampled_from(sorted(WIDTHS)), st.binary(min_size=1, max_size=600), st.data())
def test_pages_decode_and_encode(kind: int, raw: bytes, data: st.DataObject) -> None:
    column = Column(kind, WIDTHS[kind], 0, 0, 0)
    count = len(raw) * 8 // column.bits
    stored = raw[: (count * column.bits + 7) // 8]
    if not count:
        return
    elements = open_page(memoryview(stored), column, count, checked=False)
    back = encode(elements, column)
    spare = len(stored) * 8 - count * column.bits
    assert back[:-1] == stored[:-1]
    # Bits behind the last element mean nothing, and are zero in what is written.
    assert back[-1] == stored[-1] & (0xFF >> spare)
    begin = data.draw(st.integers(0, count - 1))
    part = encode(elements[begin:], column)
    again = open_page(memoryview(part), column, count - begin, checked=False)
    assert (again == elements[begin:]).all()


@pytest.mark.parametrize("kind", [0x12, 0x13, 0x15])
@pytest.mark.parametrize("count", [PLANEWISE_ELEMENTS_MIN - 1, PLANEWISE_ELEMENTS_MIN])
def test_split_elements_of_pages_of_any_size(kind: int, count: int) -> None:
    column = Column(kind, WIDTHS[kind], 0, 0, 0)
    width = column.bits // 8
    values = np.arange(count, dtype=f"<u{width}") * (257 if width == 2 else 16_909_321)
    stored = encode(values, column)
    assert stored == b"".join(values.tobytes()[k::width] for k in range(width))
    assert (open_page(memoryview(stored), column, count, checked=False) == values).all()


@given(st.lists(st.tuples(st.sets(st.integers(0, 20)), st.integers(21, 30)), min_size=1))
def test_runs(clusters: list[tuple[set[int], int]]) -> None:
    own = [Runs.of(np.array(sorted(numbers), np.int64)) for numbers, _ in clusters]
    totals = np.array([total for _, total in clusters], np.int64)
    runs = Runs.together(own)
    wanted = []
    for number, (numbers, _) in enumerate(clusters):
        wanted += [int(totals[:number].sum()) + n for n in sorted(numbers)]
    assert runs.count == len(wanted)
    placed = runs.placed(totals, "a")
    found = [k for a, b in zip(placed.start, placed.stop, strict=True) for k in range(a, b)]
    assert found == wanted
    places = np.arange(int(totals.sum()))
    before = [sum(n < place for n in wanted) for place in places.tolist()]
    assert placed.before(places).tolist() == before
    # Twice as many elements each, and never a run across two clusters.
    twice = runs.times(2)
    assert twice.count == 2 * runs.count
    assert len(twice.start) == len(runs.start)


def test_runs_beyond_their_cluster_are_refused() -> None:
    runs = Runs.together([Runs.one(0, 3), Runs.one(2, 5)])
    runs.placed(np.array([3, 5]), "a")
    with pytest.raises(rootio.CorruptFileError, match="'a' has 4 elements, and 5 are counted"):
        runs.placed(np.array([3, 4]), "a")


@pytest.mark.parametrize(("offset", "size"), [(5, 9), (1 << 40, 0x7FFFFFFF), (7, 1 << 33)])
def test_locators(offset: int, size: int) -> None:
    assert Cursor(memoryview(locator(offset, size))).locator() == (offset, size)


def test_a_list_cannot_claim_more_than_it_holds() -> None:
    frame = bytearray(list_frame([b"abc"]))
    frame[8:12] = b"\xff\xff\xff\x7f"
    with pytest.raises(rootio.CorruptFileError, match="more items"):
        Cursor(memoryview(bytes(frame))).list_frame()
