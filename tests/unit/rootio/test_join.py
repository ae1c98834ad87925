"""Joins of small files."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot
from uproot.writing.identify import to_writable

from evstream import rootio
from evstream.domain.errors import DataError, RequestError
from evstream.rootio.container import Window, read_container
from evstream.rootio.object_graph import ObjectGraph
from evstream.rootio.source import FewOpen, drive
from evstream.rootio.tree_index import STATUS_BITS, BasketTable


def test_slices_join_in_the_order_given(small_file: Path, tmp_path: Path) -> None:
    parts = []
    for number, (start, stop) in enumerate([(300, 500), (0, 0), (0, 300)]):
        parts.append(tmp_path / f"{number}.root")
        rootio.cut(small_file, parts[-1], tree="Events", entry_start=start, entry_stop=stop)
    joined = tmp_path / "joined.root"
    result = rootio.join(parts, joined)
    assert result.entries == {"Events": 500}
    with uproot.open(joined) as file:
        assert file["Events/i"].array().tolist() == [*range(300, 500), *range(300)]
        assert (
            file["Events/jet"].array().tolist()[200:]
            == (uproot.open(small_file)["Events/jet"].array().tolist()[:300])
        )


def test_whole_files_join_with_all_that_is_in_them(small_file: Path, tmp_path: Path) -> None:
    joined = tmp_path / "joined.root"
    result = rootio.join([small_file, rootio.FileSource(small_file)], joined)
    assert result.entries == {"Events": 1000, "deep/er/other": 1000}
    assert result.objects == {"added": ("histogram",)}
    with uproot.open(joined) as file, uproot.open(small_file) as one:
        assert file["deep/er/other/i"].array().tolist() == [*range(500), *range(500)]
        assert np.array_equal(file["histogram"].values(), 2 * one["histogram"].values())
        assert file["histogram"].classname == one["histogram"].classname


def test_other_counts_of_names_or_indices_are_told(small_file: Path, tmp_path: Path) -> None:
    index = rootio.inspect(rootio.FileSource(small_file))
    out, inputs = tmp_path / "joined.root", [small_file, small_file]
    with pytest.raises(RequestError, match="1 names were given for 2 inputs"):
        rootio.join(inputs, out, names=["one"])
    for indices in ([], [index], [index] * 3):
        with pytest.raises(RequestError, match=f"{len(indices)} indices were given for 2 inputs"):
            rootio.join(inputs, out, indices=indices)
    assert rootio.join(inputs, out, indices=[index] * 2).entries["Events"] == 1000


def test_an_empty_directory_need_not_have_a_list_of_keys(tmp_path: Path) -> None:
    path = tmp_path / "in.root"
    with uproot.recreate(path) as file:
        file.mktree("Events", {"i": "i4"})
        file["Events"].extend({"i": np.arange(5, dtype=np.int32)})
        file.mkdir("never_filled")
    content = bytearray(path.read_bytes())
    with rootio.FileSource(path) as source:
        found = drive(read_container(Window(source.size)), source)
    (key,) = (key for key in found.directories[0].keys if key.name == "never_filled")
    at = key.payload[0]
    (version,) = struct.unpack_from(">h", content, at)
    # ROOT leaves length and position 0 where it never wrote the list.
    places = [(10, 4), (34, 8) if version > 1000 else (26, 4)]
    for offset, length in places:
        content[at + offset : at + offset + length] = bytes(length)
    path.write_bytes(content)
    joined, cut = tmp_path / "joined.root", tmp_path / "cut.root"
    assert rootio.join([path, path], joined).entries == {"Events": 10}
    rootio.cut(path, cut, tree="Events", entry_stop=3)
    with uproot.open(joined) as file:
        assert file["never_filled"].keys() == []
        assert file["Events/i"].array().tolist() == [*range(5), *range(5)]
    with uproot.open(cut) as file:
        assert file["Events/i"].array().tolist() == [0, 1, 2]
    # A position without a length is damage, and so is a file without any list.
    content[at + 13] = 1
    with pytest.raises(rootio.CorruptFileError, match="never_filled has no list of keys"):
        rootio.inspect(rootio.BytesSource(bytes(content)))


def test_differences_are_named(small_file: Path, tmp_path: Path) -> None:
    part = tmp_path / "part.root"
    rootio.cut(small_file, part, tree="Events", entry_stop=10, branches=["x", "i"])
    with pytest.raises(rootio.SchemaMismatchError) as caught:
        rootio.join([small_file, part], tmp_path / "joined.root")
    assert caught.value.fields["names"] == ["fixed", "jet", "njet"]
    with uproot.recreate(tmp_path / "other.root") as file:
        file.mktree("Events", {"x": "f4", "i": "i4"})
        file["Events"].extend({"x": np.zeros(3, "f4"), "i": np.zeros(3, "i4")})
    with pytest.raises(rootio.SchemaMismatchError) as caught:
        rootio.join([part, tmp_path / "other.root"], tmp_path / "joined.root")
    assert caught.value.fields["names"] == ["x"]
    assert not (tmp_path / "joined.root").exists()


def weighted(path: Path, weight: float) -> Path:
    """Write a tree to whose entries `TTree::SetWeight` gave a weight."""
    with uproot.recreate(path, compression=None) as file:
        file.mktree("Events", {"x": np.arange(5)})
    with rootio.FileSource(path) as source:
        tree = rootio.inspect(source).trees["Events"]
    assert isinstance(tree, rootio.TreeIndex)
    assert tree.key.nbytes == tree.key.key_bytes + tree.key.object_bytes, "it is compressed"
    content = bytearray(path.read_bytes())
    place = tree.key.seek + tree.key.key_bytes + tree.fields["fWeight"][0]
    assert struct.unpack_from(">d", content, place) == (1.0,)
    struct.pack_into(">d", content, place, weight)
    path.write_bytes(content)
    return path


def weight_of(path: Path) -> float:
    with uproot.open(path) as file:
        return float(file["Events"].member("fWeight"))


def test_weights_of_trees_are_kept_and_where_they_differ_it_is_told(tmp_path: Path) -> None:
    weights = (0.25, 0.25, 3.0)
    files = [weighted(tmp_path / f"{n}.root", weight) for n, weight in enumerate(weights)]
    rootio.cut(files[0], tmp_path / "cut.root", tree="Events", entry_start=1, entry_stop=3)
    assert weight_of(tmp_path / "cut.root") == 0.25
    joined = rootio.join(files[:2], tmp_path / "alike.root")
    assert (weight_of(tmp_path / "alike.root"), joined.notes) == (0.25, ())
    joined = rootio.join(files, tmp_path / "other.root", names=["a", "b", "c"])
    assert weight_of(tmp_path / "other.root") == 0.25
    assert joined.notes == (
        "the weight of Events is 0.25 in a, and another in c (3): all its entries have 0.25 now",
    )


def unread(path: Path, *, unread: bool) -> Path:
    """Write a tree, and into its record whether ROOT leaves its branch x unread."""
    with uproot.recreate(path, compression=None) as file:
        file.mktree("Events", {"x": np.arange(5), "y": np.arange(5)})
    with rootio.FileSource(path) as source:
        tree = rootio.inspect(source).trees["Events"]
    assert isinstance(tree, rootio.TreeIndex)
    (at,) = (
        int(at)
        for kind, at in zip(tree.kinds, tree.table.fields[STATUS_BITS].at, strict=True)
        if kind.name == "x"
    )
    content = bytearray(path.read_bytes())
    place = tree.key.seek + tree.key.key_bytes + at
    (bits,) = struct.unpack_from(">I", content, place)
    struct.pack_into(">I", content, place, bits | (1 << 10 if unread else 0))
    path.write_bytes(content)
    return path


def is_unread(path: Path, branch: str) -> bool:
    with uproot.open(path) as file:
        return bool(file["Events"][branch].member("@fBits") & 1 << 10)


def test_a_branch_that_root_reads_of_one_file_it_reads_of_the_join(tmp_path: Path) -> None:
    hidden, seen = (unread(tmp_path / f"{k}.root", unread=k == 0) for k in range(2))
    out = tmp_path / "joined.root"
    for inputs, expected in (
        ([hidden, seen], False), ([seen, hidden], False), ([hidden, hidden, seen], False),
        ([hidden, hidden], True), ([hidden], True), ([seen, seen], False),
    ):  # fmt: skip
        rootio.join(inputs, out)
        assert (is_unread(out, "x"), is_unread(out, "y")) == (expected, False)
        with uproot.open(out) as file:
            assert file["Events/x"].array().tolist() == [*range(5)] * len(inputs)


def bared(index: rootio.SourceIndex, name: str, first: int, last: int) -> rootio.SourceIndex:
    """Leave a branch only the baskets from a first to before a last one."""
    tree = index.trees["Events"]
    assert isinstance(tree, rootio.TreeIndex)
    number = [b.name for b in tree.branches].index(name)
    held = tree.baskets
    rows = np.arange(len(held.branch))
    place = rows - held.first[held.branch]
    kept = (held.branch != number) | ((place >= first) & (place < last))
    counts = np.bincount(held.branch[kept], minlength=len(held.first) - 1)
    columns = [
        getattr(held, column)[kept] for column in ("branch", "start", "stop", "seek", "nbytes")
    ]
    baskets = BasketTable(np.concatenate([[0], np.cumsum(counts)]), *columns)
    return replace(index, trees={"Events": replace(tree, baskets=baskets)})


@pytest.mark.parametrize("late", [False, True])
def test_branches_without_entries_at_an_end_are_refused(
    small_file: Path, tmp_path: Path, late: bool
) -> None:
    with rootio.FileSource(small_file) as source:
        whole = rootio.inspect(source)
    whole = replace(whole, trees={"Events": whole.trees["Events"]})
    out = tmp_path / "joined.root"
    for first, last in ((0, 0), (1, 5) if late else (0, 4)):
        part = bared(whole, "x", first, last)
        pair = [part, whole] if late else [whole, part]
        with pytest.raises(rootio.SchemaMismatchError, match="some of the files: x") as caught:
            rootio.join([small_file] * 2, out, indices=pair)
        assert caught.value.fields["names"] == ["x"]
        # A file by itself is as it was.
        assert rootio.join([small_file], out, indices=[part]).entries == {"Events": 500}
    # As long as no file has any, a branch is as empty as it was.
    bare = bared(whole, "x", 0, 0)
    rootio.join([small_file] * 2, out, indices=[bare, bare])
    with uproot.open(out) as file:
        assert file["Events/i"].array().tolist() == [*range(500), *range(500)]


def test_histograms_with_other_bins_are_refused(tmp_path: Path) -> None:
    for number, bins in enumerate((10, 12)):
        with uproot.recreate(tmp_path / f"{number}.root") as file:
            file["h"] = np.histogram(np.arange(100), bins=bins)
    with pytest.raises(rootio.SchemaMismatchError, match=r"'h' .* the rule h=first") as caught:
        rootio.join([tmp_path / "0.root", tmp_path / "1.root"], tmp_path / "joined.root")
    assert f"(in {tmp_path / '1.root'})" in str(caught.value)


@pytest.mark.parametrize("name", ["cut.root", "other.parquet"])
def test_an_input_that_cannot_be_read_is_named(small_file: Path, tmp_path: Path, name: str) -> None:
    bad = tmp_path / name
    whole = small_file.read_bytes()
    bad.write_bytes(whole[: len(whole) // 2] if name == "cut.root" else b"PAR1" * 100)
    with pytest.raises(DataError) as caught:
        rootio.join([small_file, bad], tmp_path / "joined.root")
    assert str(caught.value).startswith(f"{bad} cannot be read: ")
    assert not (tmp_path / "joined.root").exists()


def test_a_tree_that_a_file_lacks_is_told(tmp_path: Path) -> None:
    for name, trees in (("a", "tu"), ("b", "t")):
        with uproot.recreate(tmp_path / f"{name}.root") as file:
            for tree in trees:
                file.mktree(tree, {"x": "i4"}).extend({"x": np.arange(20)})
    paths = [tmp_path / "a.root", tmp_path / "b.root"]
    result = rootio.join(paths, tmp_path / "joined.root")
    assert result.entries == {"t": 40, "u": 20}
    assert result.notes == (f"u is not in {paths[1]}: its entries are those of the other files",)
    assert rootio.join(paths[:1] * 2, tmp_path / "joined.root").notes == ()


def test_the_same_inputs_give_the_same_bytes(small_file: Path, tmp_path: Path) -> None:
    made = []
    for number in range(2):
        rootio.join([small_file, small_file], tmp_path / f"{number}.root", identity=b"key")
        made.append((tmp_path / f"{number}.root").read_bytes())
    assert made[0] == made[1]


def test_more_files_are_joined_than_may_be_open_at_once(
    small_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = []
    for number, stop in enumerate([0, 3, 100, 101, 250, 499, 500]):
        parts.append(tmp_path / f"{number}.root")
        start = [0, 0, 3, 100, 101, 250, 499][number]
        rootio.cut(small_file, parts[-1], tree="Events", entry_start=start, entry_stop=stop)
    usual = tmp_path / "usual.root"
    rootio.join(parts, usual)
    monkeypatch.setattr(FewOpen, "files_max", 2)
    descriptors: list[int] = []
    opened = FewOpen.opened

    def counted(files: FewOpen, one: Any) -> rootio.FileSource:
        file = opened(files, one)
        descriptors.append(len(files))
        return file

    monkeypatch.setattr(FewOpen, "opened", counted)
    rootio.join(parts, tmp_path / "few.root")
    assert (tmp_path / "few.root").read_bytes() == usual.read_bytes()
    assert max(descriptors) == 2


def test_a_file_that_is_replaced_while_others_are_open_is_refused(
    small_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / "a.root", tmp_path / "b.root"]
    for path in paths:
        path.write_bytes(small_file.read_bytes())
    monkeypatch.setattr(FewOpen, "files_max", 1)
    with FewOpen() as files:
        first, second = (files.source(path) for path in paths)
        assert first.size == second.size
        other = tmp_path / "other.root"
        other.write_bytes(small_file.read_bytes())
        other.replace(paths[0])
        with pytest.raises(rootio.CorruptFileError, match=r"a\.root became another file"):
            first.read_ranges([(0, 10)])
        assert second.read_ranges([(0, 4)]) == [b"root"]


def test_like_histograms_are_added_without_a_walk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(5)
    paths, total = [], np.zeros(20)
    for number, title in enumerate(["one", "one", "three", "one", "two"]):
        content, edges = np.histogram(rng.normal(size=300), bins=20, range=(-3, 3))
        total += content
        paths.append(tmp_path / f"{number}.root")
        histogram = to_writable((content, edges))
        histogram._bases[0]._bases[0]._members["fTitle"] = title
        with uproot.recreate(paths[-1]) as file:
            file["h"] = histogram
    walked: list[int] = []
    walk = ObjectGraph.walk

    def counted(graph: ObjectGraph, class_name: str) -> None:
        walked.append(len(graph.data))
        walk(graph, class_name)

    monkeypatch.setattr(ObjectGraph, "walk", counted)
    result = rootio.join(paths, tmp_path / "joined.root")
    assert result.objects == {"added": ("h",)}
    # The first, and those with another title, whether it is as long or not.
    assert walked == [walked[0], walked[0] + 2, walked[0]]
    with uproot.open(tmp_path / "joined.root") as file:
        assert file["h"].values().tolist() == total.tolist()
        assert file["h"].title == "one"
