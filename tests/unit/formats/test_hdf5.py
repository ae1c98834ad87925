"""HDF5: which datasets have entries, and what a product keeps of them."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from evstream.adapters.formats import KnownFormats
from evstream.adapters.formats.tables import Index
from evstream.domain.errors import DataError
from evstream.rootio import (
    BytesSource,
    FileSource,
    NoSuchTreeError,
    SchemaMismatchError,
    UnsupportedFeatureError,
)
from tests.contract.test_formats import write_hdf5

HDF5 = KnownFormats().named("hdf5")


def inspect(path: Path) -> Index:
    """Inspect a file."""
    with FileSource(path) as source:
        index = HDF5.inspect(source)
    assert isinstance(index, Index)
    return index


def cut(
    path: Path, tree: str, start: int, stop: int, branches: list[str] | None = None
) -> h5py.File:
    """Cut a file in memory."""
    with FileSource(path) as source:
        index = HDF5.inspect(source)
        names = None if branches is None else HDF5.select(index, tree, branches)
        planned = HDF5.plan_cut(
            index, tree=tree, entry_start=start, entry_stop=stop, branches=names
        )
        planned.prepare(source)
        return h5py.File(io.BytesIO(planned.read(0, planned.size, source)))


def test_types_filters_and_attributes_stay(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "in.h5", 50)
    with h5py.File(path) as source, cut(path, "events", 10, 30) as product:
        assert dict(product.attrs) == {"generator": "test"}
        assert list(product["events"].attrs["units"]) == ["GeV", "mm"]
        assert product["events/luminosity"][()] == 139.0
        assert product["events/state"].shape is None
        assert product["events/image"].attrs["scale"] == np.float32(0.5)
        for name, dataset in source["events"].items():
            if not isinstance(dataset, h5py.Dataset) or not dataset.shape:
                continue
            made = product["events"][name]
            assert made.id.get_type() == dataset.id.get_type(), name
            for setting in ("compression", "compression_opts", "shuffle", "fletcher32"):
                assert getattr(made, setting) == getattr(dataset, setting), name
            assert (made.chunks is None) == (dataset.chunks is None), name
        assert product["events/image"].maxshape == (None, 3, 2)


def test_datasets_are_chosen_with_their_offsets(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "in.h5", 50)
    branches = [branch.name for branch in inspect(path).trees["events"].branches]
    assert "jet_pt" in branches
    assert "jet_pt_offsets" not in branches
    with cut(path, "events", 5, 9, ["jet_pt", "inner"]) as product:
        assert sorted(product["events"]) == [
            "inner", "jet_pt", "jet_pt_offsets", "luminosity", "state",
        ]  # fmt: skip
        assert product["events/jet_pt_offsets"][()].tolist() == [0, 2, 2, 3, 5]
        assert product["events/jet_pt_offsets"].dtype == np.uint16


def test_the_bytes_are_the_same_in_any_process(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "in.h5", 50)
    program = """
import hashlib, sys
from evstream.adapters.formats import KnownFormats
from evstream.rootio import FileSource
with FileSource(sys.argv[1]) as source:
    file_format, index = KnownFormats().inspect(source)
    cut = file_format.plan_cut(index, tree="events", entry_start=3, entry_stop=31)
    cut.prepare(source)
    print(hashlib.sha256(cut.read(0, cut.size, source)).hexdigest())
"""
    digests = {
        subprocess.run(
            [sys.executable, "-c", program, str(path)],
            check=True,
            capture_output=True,
            text=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path), "TZ": zone},
        ).stdout
        for seed, zone in [("1", "UTC"), ("2", "Asia/Tokyo"), ("3", "UTC")]
    }
    assert len(digests) == 1


def test_groups_and_lengths_name_trees(tmp_path: Path) -> None:
    path = tmp_path / "in.h5"
    with h5py.File(path, "w") as file:
        file["features"], file["labels"], file["edges"] = range(20), range(20), range(3)
    assert {n: t.entries for n, t in inspect(path).trees.items()} == {
        "edges": 3, "features": 20, "labels": 20,
    }  # fmt: skip
    with cut(path, "features", 4, 6) as product:
        assert {name: d[()].tolist() for name, d in product.items()} == {
            "features": [4, 5], "labels": [4, 5],
        }  # fmt: skip
    with h5py.File(path, "w") as file:
        file["a/x"], file["a/deep/y"], file["b/z"] = range(5), range(5), range(7)
    assert {n: t.entries for n, t in inspect(path).trees.items()} == {"a": 5, "b": 7}
    with h5py.File(path, "w") as file:
        file["x"] = range(5)
    assert list(inspect(path).trees) == ["/"]
    with cut(path, "/", 0, 5) as product:
        assert product["x"][()].tolist() == list(range(5))


def test_what_leads_out_of_the_file_is_left_and_named(tmp_path: Path) -> None:
    path, other = tmp_path / "in.h5", tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["x"] = range(5)
    with h5py.File(path, "w") as file:
        file["x"] = range(5)
        file["soft"] = h5py.SoftLink("/x")
        file["away"] = h5py.ExternalLink("other.h5", "/x")
        file.create_dataset("raw", (5,), "i4", external=[("raw.bin", 0, 20)])
        layout = h5py.VirtualLayout((5,), "i8")
        layout[:] = h5py.VirtualSource("other.h5", "x", (5,))
        file.create_virtual_dataset("virtual", layout)
        pointers = file.create_dataset("pointers", (5,), h5py.ref_dtype)
        pointers[0] = file["x"].ref
        file["x"].attrs["pointer"] = file["x"].ref
        file["loop"] = file["/"]
        file.create_dataset("endless", (2**50,), "f8", chunks=(1024,))
    tree = inspect(path).trees["/"]
    assert [branch.name for branch in tree.branches] == ["x"]
    words = "\n".join(tree.notes)
    for name in ("soft", "away", "raw", "virtual", "pointers", "loop", "endless"):
        assert f"{name} " in words
    with cut(path, "/", 1, 3) as product:
        assert list(product) == ["x"]
        assert not product["x"].attrs


def test_no_entries_no_tree(tmp_path: Path) -> None:
    path = tmp_path / "in.h5"
    with h5py.File(path, "w") as file:
        file["constant"] = 3.0
    index = inspect(path)
    assert not index.trees
    assert [found.path for found in index.objects] == ["constant"]
    with pytest.raises(NoSuchTreeError, match="no tree"):
        cut(path, "/", 0, 1)


def test_an_empty_cut_keeps_the_shapes(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "in.h5", 50)
    with cut(path, "events", 7, 7) as product:
        assert product["events/image"].shape == (0, 3, 2)
        assert product["events/jet_pt_offsets"][()].tolist() == [0]


def test_joins_refuse_what_is_not_entries_for_sure(tmp_path: Path) -> None:
    one, other = tmp_path / "one.h5", tmp_path / "other.h5"
    joined = tmp_path / "joined.h5"
    with h5py.File(one, "w") as file:
        file["x"], file["edges"] = range(5), range(3)
    with pytest.raises(UnsupportedFeatureError, match="have entries is not known"):
        HDF5.join([one, one], joined)
    for content in ({"x": range(5), "c": 1.0}, {"x": range(5), "c": 2.0}):
        with h5py.File(one if content["c"] == 1.0 else other, "w") as file:
            for name, value in content.items():
                file[name] = value
    with pytest.raises(SchemaMismatchError, match="differ in c"):
        HDF5.join([one, other], joined)
    with h5py.File(other, "w") as file:
        file["x"], file["c"] = np.arange(5.0), 1.0
    with pytest.raises(SchemaMismatchError, match="differ in x"):
        HDF5.join([one, other], joined)
    assert not joined.exists()
    result = HDF5.join([one, one], joined)
    assert result.entries == {"/": 10}
    with h5py.File(joined) as file:
        assert file["x"][()].tolist() == [*range(5), *range(5)]
        assert file["c"][()] == 1.0


def _codes(**codes: int) -> np.dtype[Any]:
    return h5py.enum_dtype(codes, basetype="i4")


def _record(member: Any) -> np.dtype[Any]:
    return np.dtype([("a", "i4"), ("v", member)])


LISTS = h5py.vlen_dtype
TEXT = h5py.string_dtype()


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        (LISTS("i4"), LISTS("f8"), r"x \(var \* float64, not var \* int32\)"),
        (LISTS("f4"), LISTS("f8"), "var"),
        (LISTS("f4"), TEXT, "utf-8 string, not var"),
        (LISTS("u1"), TEXT, "utf-8 string, not var"),
        (TEXT, h5py.string_dtype("ascii"), "ascii string, not utf-8 string"),
        (h5py.string_dtype("utf-8", 4), h5py.string_dtype("ascii", 4), r"ascii string\[4\]"),
        (_codes(A=0, B=1), _codes(A=1, B=0), "enum of int32: B=0, A=1"),
        (_codes(A=0, B=1), "i4", "int32, not enum of int32: A=0, B=1"),
        ("i4", _codes(A=0, B=1), "enum"),
        (LISTS(_codes(A=0)), LISTS("i4"), "var"),
        (_record(LISTS("i4")), _record(LISTS("f8")), r"\{a: int32, v: var \* float64\}"),
        (_record(_codes(A=0, B=1)), _record(_codes(A=1, B=0)), "enum"),
        (_codes(A=0, B=1, C=2, D=3, E=4, F=5), _codes(A=0, B=1, C=2, D=3, E=4, F=6), "one name"),
        ("?", "i1", "int8, not bool"),
        ("V4", "V5", "V5"),
    ],
    ids=str,
)  # fmt: skip
def test_other_types_are_not_joined(one: Any, other: Any, words: str, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("one.h5", "other.h5")]
    for path, kind in zip(paths, (one, other), strict=True):
        with h5py.File(path, "w") as file:
            file.create_dataset("x", shape=(3,), dtype=kind)
            file["i"] = range(3)
    with pytest.raises(SchemaMismatchError, match=words):
        HDF5.join(paths, tmp_path / "joined.h5")
    assert HDF5.join([paths[0]] * 2, tmp_path / "joined.h5").entries == {"/": 6}


def test_types_are_the_same_however_they_were_written(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("one.h5", "other.h5")]
    kinds = {
        "list": LISTS("f4"), "text": TEXT, "record": _record(LISTS("i4")), "flag": np.dtype("?"),
    }  # fmt: skip
    for path, codes in zip(paths, (_codes(A=0, B=1), _codes(B=1, A=0)), strict=True):
        with h5py.File(path, "w", libver="latest" if path == paths[1] else "earliest") as file:
            file["named"] = codes
            for name, kind in kinds.items():
                file.create_dataset(name, shape=(2,), dtype=kind)
            file.create_dataset("code", data=[0, 1], dtype=codes)
            file.create_dataset("kept", (2,), file["named"] if path == paths[1] else codes)
    assert HDF5.join(paths, tmp_path / "joined.h5").entries == {"/": 4}
    with h5py.File(tmp_path / "joined.h5") as file:
        assert file["code"][()].tolist() == [0, 1, 0, 1]


def test_values_without_entries_are_compared_by_what_they_are(tmp_path: Path) -> None:
    one, other = tmp_path / "one.h5", tmp_path / "other.h5"
    record = np.dtype([("a", "f8", (2,)), ("v", LISTS("f8")), ("t", TEXT)])

    def write(path: Path, last: float) -> None:
        with h5py.File(path, "w") as file:
            file["x"], file["scale"], file["word"] = range(3), float("nan"), "word"
            file["void"] = h5py.Empty("f4")
            value = np.zeros(1, record)
            value["a"], value["t"] = [np.nan, 1.0], "text"
            value["v"][0] = np.array([np.nan, last])
            file.create_dataset("record", (), record)[()] = value[0]

    write(one, 2.0)
    write(other, 2.0)
    assert HDF5.join([one, other], tmp_path / "joined.h5").entries == {"/": 6}
    write(other, 3.0)
    with pytest.raises(SchemaMismatchError, match=r"record \(other values\)"):
        HDF5.join([one, other], tmp_path / "joined.h5")


def test_offsets_that_would_not_fit_are_refused(tmp_path: Path) -> None:
    one = tmp_path / "one.h5"
    with h5py.File(one, "w") as file:
        file["x"], file["x_offsets"] = np.zeros(200), np.array([0, 200], np.uint8)
    with pytest.raises(UnsupportedFeatureError, match="does not fit uint8"):
        HDF5.join([one, one], tmp_path / "joined.h5")


def test_damage_is_told(tmp_path: Path) -> None:
    content = write_hdf5(tmp_path / "in.h5", 50).read_bytes()
    for broken in (content[:9], content[: len(content) // 2], content[:100] + bytes(4000)):
        with pytest.raises(DataError):
            HDF5.inspect(BytesSource(broken))
