"""Metadata trees and objects beside the events: every sum is counted once."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import uproot
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evstream import rootio
from evstream.domain.errors import RequestError

ENTRIES = 100


def _write(path: Path, number: int = 0, *, flavour: str = "nano") -> Path:
    """Write a small file as CMS, ATLAS or podio lay it out."""
    rows = np.arange(ENTRIES)
    with uproot.recreate(path) as file:
        if flavour == "nano":
            file.mktree("Events", {"event": "i8"}).extend({"event": rows})
            file.mktree("Runs", {"run": "u4", "genEventSumw": "f8"}).extend(
                {"run": [1, 2], "genEventSumw": [10.5 + number, 20.25]}
            )
            file.mktree("LuminosityBlocks", {"run": "u4", "luminosityBlock": "u4"}).extend(
                {"run": [1, 1, 2], "luminosityBlock": [7, 8, 9]}
            )
            file.mktree("ParameterSets", {"IdToParameterSetsBlobs": "i4"}).extend(
                {"IdToParameterSetsBlobs": [number]}
            )
            file["cutflow"] = (np.array([100.0, 50.0, 3.0]), np.arange(4.0))
            file["tag"] = f"made by {number}"
        elif flavour == "daod":
            file.mktree("CollectionTree", {"index_ref": "u8"}).extend({"index_ref": rows})
            file.mktree("MetaData", {"EventFormat": "i4", "CutBookkeepers": "f8"}).extend(
                {"EventFormat": [1], "CutBookkeepers": [1000.0 + number]}
            )
            for name in ("##Params", "##Links", "##Shapes"):
                file.mktree(name, {"db_string": "i4"}).extend({"db_string": [number]})
            file.mktree("POOLContainer", {"DataHeader": "i4"}).extend({"DataHeader": rows})
        else:
            file.mktree("events", {"x": "f8"}).extend({"x": rows})
            file.mktree("podio_metadata", {"version": "i4"}).extend({"version": [number]})
            file.mktree("another", {"y": "f8"}).extend({"y": rows})
    return path


def _slices(source: Path, tree: str, edges: list[int], folder: Path) -> list[Path]:
    parts = []
    for number, (start, stop) in enumerate(pairwise(edges)):
        parts.append(folder / f"{source.stem}_{number}.root")
        rootio.cut(source, parts[-1], tree=tree, entry_start=start, entry_stop=stop)
    return parts


def _planned(path: Path, tree: str, stop: int, start: int = 0, **more: object) -> rootio.Cut:
    with rootio.FileSource(path) as source:
        return rootio.plan_cut(
            rootio.inspect(source), tree=tree, entry_start=start, entry_stop=stop,
            **more,  # type: ignore[arg-type]
        )  # fmt: skip


@given(edges=st.lists(st.integers(0, ENTRIES), max_size=5).map(lambda e: [0, *sorted(e), ENTRIES]))
@settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_sums_are_counted_once_however_a_file_is_cut(tmp_path: Path, edges: list[int]) -> None:
    source = _write(tmp_path / "nano.root")
    joined = tmp_path / "joined.root"
    result = rootio.join(_slices(source, "Events", edges, tmp_path), joined)
    assert result.entries["Events"] == ENTRIES
    with uproot.open(source) as one, uproot.open(joined) as other:
        assert sorted(one.keys()) == sorted(other.keys())
        for name in ("Events", "Runs", "LuminosityBlocks", "ParameterSets"):
            mine, made = one[name].arrays(library="np"), other[name].arrays(library="np")
            assert {k: v.tolist() for k, v in mine.items()} == {
                k: v.tolist() for k, v in made.items()
            }
        assert one["cutflow"].values().tolist() == other["cutflow"].values().tolist()
        assert str(one["tag"]) == str(other["tag"])


def test_the_slice_with_the_first_entry_holds_what_is_counted_once(tmp_path: Path) -> None:
    source = _write(tmp_path / "nano.root")
    everything = {"Runs", "LuminosityBlocks", "ParameterSets", "cutflow", "tag"}
    assert set(_planned(source, "Events", 10).beside) == everything
    later = _planned(source, "Events", 20, 10)
    assert set(later.beside) == {"ParameterSets", "tag"}
    assert later.left_behind == (
        "counted once, in the slice with the first entry: Runs, LuminosityBlocks, cutflow",
    )
    # An empty slice at the beginning does not count a second time.
    assert set(_planned(source, "Events", 0).beside) == {"ParameterSets", "tag"}
    # Whoever cuts decides where sums go, as for a selection in several products.
    assert set(_planned(source, "Events", 20, 10, leads=True).beside) == everything
    with rootio.FileSource(source) as opened:
        index = rootio.inspect(opened)
    chosen = rootio.plan_select(index, tree="Events", entries=[5, 50])
    assert set(chosen.beside) == everything
    second = rootio.plan_select(index, tree="Events", entries=[6], leads=False)
    assert set(second.beside) == {"ParameterSets", "tag"}


def test_files_of_one_run_keep_what_differs(tmp_path: Path) -> None:
    sources = [_write(tmp_path / f"f{number}.root", number) for number in range(2)]
    parts = [part for s in sources for part in _slices(s, "Events", [0, 40, 100], tmp_path)]
    joined = tmp_path / "joined.root"
    result = rootio.join(parts, joined)
    assert result.entries == {
        "Events": 200, "Runs": 4, "LuminosityBlocks": 6, "ParameterSets": 2,
    }  # fmt: skip
    assert result.objects == {"all": ("ParameterSets", "tag"), "added": ("cutflow",)}
    with uproot.open(joined) as file:
        assert file["Runs"]["genEventSumw"].array().tolist() == [10.5, 20.25, 11.5, 20.25]
        assert file["cutflow"].values().tolist() == [200.0, 100.0, 6.0]
        assert [str(file[f"tag;{cycle}"]) for cycle in (1, 2)] == ["made by 0", "made by 1"]
    # Cycles survive a cut and another join.
    again = tmp_path / "again.root"
    rootio.join(_slices(joined, "Events", [0, 7, 200], tmp_path), again)
    with uproot.open(again) as file:
        assert [str(file[f"tag;{cycle}"]) for cycle in (1, 2)] == ["made by 0", "made by 1"]
        assert str(file["tag"]) == "made by 1"
        assert file["Runs"]["genEventSumw"].array().tolist() == [10.5, 20.25, 11.5, 20.25]


def test_pool_files_are_marked_and_bookkeepers_counted_once(tmp_path: Path) -> None:
    source = _write(tmp_path / "daod.root", flavour="daod")
    first, second = _slices(source, "CollectionTree", [0, 40, 100], tmp_path)
    with uproot.open(first) as file:
        assert file["MetaData"].keys() == ["EventFormat", "CutBookkeepers"]
        assert "evstream_not_for_athena" in file.keys(cycle=False)
        assert "POOLContainer" not in file.keys(cycle=False)
    with uproot.open(second) as file:
        assert file["MetaData"].keys() == ["EventFormat"]
        assert "evstream_not_for_athena" in file.keys(cycle=False)
    assert any(
        "not for Athena" in note for note in _planned(source, "CollectionTree", 9).left_behind
    )
    joined = tmp_path / "joined.root"
    for parts in ([first, second], [second, first]):
        result = rootio.join(parts, joined)
        assert any("not for Athena" in note for note in result.notes)
        assert result.entries["MetaData"] == 1
        with uproot.open(joined) as file:
            assert file["MetaData"]["CutBookkeepers"].array().tolist() == [1000.0]
            assert file.keys(filter_name="evstream*") == ["evstream_not_for_athena;1"]
    # A later slice of another file says little, but its sums are elsewhere: nothing fails.
    third = _write(tmp_path / "third.root", 1, flavour="daod")
    with uproot.update(third) as file:
        del file["MetaData"]
        file.mktree("MetaData", {"EventFormat": "i4", "CutBookkeepers": "f8"}).extend(
            {"EventFormat": [2], "CutBookkeepers": [3.0]}
        )
    later = _slices(third, "CollectionTree", [0, 40, 100], tmp_path)[1]
    result = rootio.join([later, first], joined)
    assert f"MetaData of {later} differs and has fewer branches" in result.notes[0]
    assert result.entries["MetaData"] == 1
    with uproot.open(joined) as file:
        assert file["MetaData"]["CutBookkeepers"].array().tolist() == [1000.0]
    # Joined without a cut their tokens are as wrong.
    other = _write(tmp_path / "other.root", 1, flavour="daod")
    result = rootio.join([source, other], joined)
    assert result.entries["POOLContainer"] == 2 * ENTRIES
    with uproot.open(joined) as file:
        assert file["MetaData"]["CutBookkeepers"].array().tolist() == [1000.0, 1001.0]
        assert "evstream_not_for_athena" in file.keys(cycle=False)


@pytest.mark.parametrize(("flavour", "tree"), [("nano", "Events"), ("podio", "events")])
def test_what_is_summed_adds_up_in_a_join(tmp_path: Path, flavour: str, tree: str) -> None:
    source = _write(tmp_path / "source.root", flavour=flavour)
    parts = _slices(source, tree, [0, 10, 10, 60, ENTRIES], tmp_path)
    result = rootio.join(parts, tmp_path / "joined.root")
    total: Counter[str] = Counter()
    for part in parts:
        total.update(_summed(part))
    joined = _summed(tmp_path / "joined.root")
    assert joined == {path: result.entries[path] for path in joined} == dict(total)
    assert joined[tree] == ENTRIES
    assert not {"ParameterSets", "podio_metadata"} & set(joined)


def _summed(path: Path) -> dict[str, int]:
    with rootio.FileSource(path) as source:
        return rootio.Rules().summed(rootio.inspect(source))


def test_podio_metadata_is_in_every_slice_and_other_trees_are_not(tmp_path: Path) -> None:
    source = _write(tmp_path / "podio.root", flavour="podio")
    later = _planned(source, "events", 20, 10)
    assert later.beside == ("podio_metadata",)
    assert later.left_behind == ("by their rules: another",)
    joined = tmp_path / "joined.root"
    result = rootio.join(_slices(source, "events", [0, 1, 50, 100], tmp_path), joined)
    assert result.entries == {"events": ENTRIES, "podio_metadata": 1}
    # A tree that is merely called so, by a payload perhaps, is counted like any other.
    with uproot.recreate(tmp_path / "own.root") as file:
        file.mktree("metadata", {"n": "i8"}).extend({"n": [5]})
    result = rootio.join([tmp_path / "own.root"] * 3, joined)
    assert result.entries == {"metadata": 3}


def test_rules_that_are_given_go_first(tmp_path: Path) -> None:
    source = _write(tmp_path / "nano.root")
    rules = rootio.Rules.of({"Lumi*": "all", "*": "none"})
    assert _planned(source, "Events", 20, 10, beside=rules).beside == ("LuminosityBlocks",)
    inside = rootio.Rules.of({"Runs/gen*": "none"})
    out = tmp_path / "out.root"
    rootio.cut(source, out, tree="Events", beside=inside)
    with uproot.open(out) as file:
        assert file["Runs"].keys() == ["run"]
    other = _write(tmp_path / "other.root", 1)
    rules = rootio.Rules.of({"Runs": "first", "cutflow": "all", "tag": "none", "Param*": "first"})
    result = rootio.join([source, other], out, beside=rules)
    assert result.entries["Runs"] == 2
    assert result.objects == {
        "first": ("Runs", "ParameterSets"), "once": ("cutflow",), "left": ("tag",),
    }  # fmt: skip
    with pytest.raises(RequestError, match="sum"):
        rootio.Rules.of({"h": "sum"})


def test_rules_are_part_of_the_identity(tmp_path: Path) -> None:
    source = _write(tmp_path / "nano.root")
    uuids = set()
    for rules in (rootio.Rules(), rootio.Rules.of({"tag": "none"}), rootio.Rules.of({"x": "none"})):
        out = tmp_path / "out.root"
        for _ in range(2):
            rootio.cut(source, out, tree="Events", beside=rules)
            with rootio.FileSource(out) as opened:
                uuids.add(rootio.inspect(opened).uuid)
    assert len(uuids) == 3


def test_histograms_that_do_not_fit_are_refused_by_name(tmp_path: Path) -> None:
    shapes = {
        "h": (np.arange(0.0, 11.0), np.arange(0.0, 10.5, 0.75)),
        "uneven": (np.array([0.0, 1.0, 4.0]), np.array([0.0, 2.0, 4.0])),
        "offset": (np.arange(0.0, 5.0), np.arange(0.5, 5.5)),
    }
    for name, both in shapes.items():
        paths = []
        for number, edges in enumerate(both):
            paths.append(tmp_path / f"{name}{number}.root")
            with uproot.recreate(paths[-1]) as file:
                file[name] = (np.ones(len(edges) - 1), edges)
        with pytest.raises(rootio.SchemaMismatchError, match=name) as caught:
            rootio.join(paths, tmp_path / "joined.root")
        assert caught.value.fields["names"] == [name]
        result = rootio.join(
            paths, tmp_path / "joined.root", beside=rootio.Rules.of({name: "first"})
        )
        assert result.objects == {"first": (name,)}


@pytest.mark.parametrize("kind", ["mktree", "mkrntuple"])
def test_a_branch_of_a_metadata_tree_is_left_out_of_a_join(tmp_path: Path, kind: str) -> None:
    paths = []
    for number in range(3):
        paths.append(tmp_path / f"{number}.root")
        with uproot.recreate(paths[-1]) as file:
            for name in ("Events", "ParameterSets"):
                data = {"id": np.array([number // 2 * 7]), "blob": np.array([number])}
                if kind == "mktree":
                    file.mktree(name, dict.fromkeys(data, "i8")).extend(data)
                else:
                    file.mkrntuple(name, data)
    out = tmp_path / "joined.root"
    rules = rootio.Rules.of({"ParameterSets/blob": "none", "Events/blob": "none"})
    result = rootio.join(paths, out, beside=rules)
    assert result.notes == (
        "Events/blob=none counts for nothing: a join keeps all branches of Events",
    )
    with uproot.open(out) as file:
        assert file["ParameterSets"].keys() == ["id"]
        # Without the branch, two of the trees say the same.
        assert file["ParameterSets"]["id"].array().tolist() == [0, 7]
        assert file["Events"]["blob"].array().tolist() == [0, 1, 2]
    assert rootio.join(paths, out).entries == {"Events": 3, "ParameterSets": 3}


def test_an_unreadable_tree_is_left_out_by_rule(tmp_path: Path) -> None:
    path = _write(tmp_path / "nano.root")
    with rootio.FileSource(path) as source:
        whole = rootio.inspect(source)
    odd = replace(whole, unreadable={"chain": "nobody describes it"})
    out = tmp_path / "joined.root"
    with pytest.raises(rootio.UnsupportedFeatureError, match="nobody describes it") as caught:
        rootio.join([path] * 2, out, indices=[whole, odd])
    assert caught.value.hint == "leave it out with the rule chain=none"
    rules = rootio.Rules.of({"cha*": "none"})
    result = rootio.join([path] * 2, out, indices=[whole, odd], beside=rules)
    assert result.objects["left"] == ("chain",)
    assert result.entries["Events"] == 2 * ENTRIES
