"""Objects and metadata trees beside the events: hadd judges joins, ROOT compares slices."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import uproot

from evstream import rootio
from tests.conformance.rootio.conftest import Compare, Pair
from tests.conformance.rootio.test_cuts import FILES
from tests.conformance.rootio.zoo import HERE, TIMEOUT_S


def _root(root_bin: Path, call: str) -> str:
    run = subprocess.run(
        [root_bin / "root.exe", "-b", "-q", "-l", call],
        check=False, capture_output=True, text=True, timeout=TIMEOUT_S,
    )  # fmt: skip
    return run.stdout + run.stderr


def _hadd(root_bin: Path, output: Path, inputs: Sequence[Path]) -> None:
    subprocess.run(
        [root_bin / "hadd", "-f", output, *inputs],
        check=True, capture_output=True, timeout=TIMEOUT_S,
    )  # fmt: skip


def _compare_objects(root_bin: Path, expected: Path, found: Path) -> str:
    return _root(root_bin, f'{HERE / "compare_objects.C"}("{expected}", "{found}")')


def _by_label(path: Path, name: str = "cutflow") -> dict[str, float]:
    with uproot.open(path) as file:
        # They come in the order of their bins, which may be fewer than there are.
        labels = file[name].axis().member("fLabels")
        return {str(k): float(v) for k, v in zip(labels, file[name].values(), strict=False)}


@pytest.mark.slow
def test_objects_add_as_hadd_adds_them(root_bin: Path, tmp_path: Path) -> None:
    inputs = []
    for number in range(3):
        inputs.append(tmp_path / f"{number}.root")
        _root(root_bin, f'{HERE / "make_beside.C"}("{inputs[-1]}", {number})')
    joined, expected = tmp_path / "joined.root", tmp_path / "hadd.root"
    result = rootio.join(inputs, joined)
    _hadd(root_bin, expected, inputs)
    said = _compare_objects(root_bin, expected, joined)
    # 9 parameters, 3 graphs, 7 histograms, an efficiency, a list, an array, and of the
    # texts every cycle of every file, as hadd keeps them.
    assert "EQUAL 34" in said, said
    assert len(result.objects["added"]) == 22
    assert result.objects["once"] == ("deep/same",)
    assert set(result.objects["all"]) == {"deep/other", "deep/note"}
    with uproot.open(joined) as file:
        assert [str(file[f"deep/other;{cycle}"]) for cycle in (1, 2, 3)] == [
            f"said by {number}" for number in range(3)
        ]
        assert str(file["deep/other"]) == "said by 2"
        assert [file[f"deep/note;{c}"].member("fTitle") for c in range(1, 7)] == [
            text for k in range(3) for text in (f"of {k}", f"of {k}, later")
        ]
    # Every label of every file is there, and each has its own count.
    parts: dict[str, float] = {}
    for path in inputs:
        for label, count in _by_label(path).items():
            parts[label] = parts.get(label, 0.0) + count
    assert _by_label(joined) == pytest.approx(parts)
    # A join of joins is a join, as for hadd.
    again, both = tmp_path / "again.root", tmp_path / "both.root"
    rootio.join([joined, inputs[0]], again)
    _hadd(root_bin, both, [expected, inputs[0]])
    said = _compare_objects(root_bin, both, again)
    assert "EQUAL" in said, said


@pytest.mark.slow
def test_statistics_add_as_hadd_adds_them_where_one_file_has_none(
    root_bin: Path, tmp_path: Path
) -> None:
    inputs = []
    for number in range(3):
        inputs.append(tmp_path / f"{number}.root")
        _root(root_bin, f'{HERE / "make_statistics.C"}("{inputs[-1]}", {number})')
    for order in ([0, 1, 2], [1, 0], [1, 1]):
        joined, expected = tmp_path / "joined.root", tmp_path / "hadd.root"
        files = [inputs[k] for k in order]
        rootio.join(files, joined)
        _hadd(root_bin, expected, files)
        said = _compare_objects(root_bin, expected, joined)
        assert "EQUAL 10" in said, said


def test_histograms_of_geant4_add_though_they_have_no_byte_counts(
    shared_data: Path, root_bin: Path, tmp_path: Path
) -> None:
    source = shared_data / "uproot-from-geant4.root"
    joined, expected = tmp_path / "joined.root", tmp_path / "hadd.root"
    assert len(rootio.join([source, source], joined).objects["added"]) == 15
    with uproot.open(joined) as file, uproot.open(source) as one:
        for name in ("edep_inner", "p_b_diff"):
            assert np.array_equal(file[name].values(flow=True), 2 * one[name].values(flow=True))
            assert file[name].member("fEntries") == 2 * one[name].member("fEntries")
            assert file[name].member("fTsumw") == 2 * one[name].member("fTsumw")
    _hadd(root_bin, expected, [source, source])
    said = _compare_objects(root_bin, expected, joined)
    assert "EQUAL 15" in said, said


@pytest.mark.slow
def test_what_is_not_added_is_refused_or_kept_by_rule(root_bin: Path, tmp_path: Path) -> None:
    inputs = []
    for number in range(2):
        inputs.append(tmp_path / f"{number}.root")
        call = [
            root_bin / "root.exe", "-b", "-q", "-l", "-e", f".L {HERE / 'make_beside.C'}", "-e",
            f'make_odd("{inputs[-1]}", {number})',
        ]  # fmt: skip
        subprocess.run(call, check=False, capture_output=True, timeout=TIMEOUT_S)
    joined = tmp_path / "joined.root"
    result = rootio.join(inputs, joined)
    # Entry numbers of one file say nothing of the joined one; maps that differ all stay.
    assert result.objects == {
        "left": ("events",), "all": ("map",), "added": ("named", "steps"),
    }  # fmt: skip
    with uproot.open(joined) as file:
        assert file.keys() == ["map;2", "map;1", "named;1", "steps;1"]
        assert file["named"].axis().labels() == ["all", "muon", "mass"]
    # hadd adds "mass" to "muon" here, since they have one number; labels decide with us.
    assert _by_label(joined, "steps") == {"all": 12, "muon": 2, "mass": 3 + 12, "tight": 13}
    # ROOT finds the list of labels that was made for the first file's histogram.
    turned = tmp_path / "turned.root"
    rules = rootio.Rules.of({"map": "none", "steps": "none"})
    rootio.join(inputs[::-1], turned, beside=rules)
    rootio.join(inputs, joined, beside=rules)
    said = _compare_objects(root_bin, turned, joined)
    assert "EQUAL 1" in said, said


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_slices_join_to_a_file_with_the_same_objects(
    name: str, shared_data: Path, root_bin: Path, equal_by_root: Compare, tmp_path: Path
) -> None:
    source = shared_data / name
    with rootio.FileSource(source) as opened:
        index = rootio.inspect(opened)
    tree = max(index.trees.values(), key=lambda tree: tree.entries)
    edges = sorted({0, tree.entries // 3, tree.entries // 2, tree.entries})
    parts = []
    for start, stop in [(0, 0), *pairwise(edges)]:
        parts.append(tmp_path / f"{start}_{stop}.root")
        rootio.cut(source, parts[-1], tree=tree.path, entry_start=start, entry_stop=stop)
    joined = tmp_path / "joined.root"
    result = rootio.join(parts, joined)
    assert "added" not in result.objects
    assert "all" not in result.objects
    said = _compare_objects(root_bin, source, joined)
    assert "EQUAL" in said, said
    beside = [path for path in result.entries if path != tree.path]
    rules = rootio.Rules()
    expected = {t.path for t in index.trees.values() if rules.of_tree(t) != rootio.Rule.EVENTS}
    assert set(beside) == expected - {tree.path}
    pairs = [
        Pair(source, path, 0, joined, 0, index.trees[path].entries) for path in (tree.path, *beside)
    ]
    assert [p.entries for p in pairs] == [result.entries[p.tree] for p in pairs]
    equal_by_root(pairs)


def _references(root_bin: Path, path: Path) -> list[str]:
    said = _root(root_bin, f'{HERE / "read_references.C"}("{path}")')
    return sorted(line for line in said.splitlines() if line.startswith("REFERENCES"))


@pytest.mark.slow
def test_references_lead_to_their_own_files_objects(root_bin: Path, tmp_path: Path) -> None:
    inputs = []
    for who in ("anna", "bob", "carl"):
        inputs.append(tmp_path / f"{who}.root")
        _root(root_bin, f'{HERE / "make_references.C"}("{inputs[-1]}", "{who}")')
        assert _references(root_bin, inputs[-1]) == [f"REFERENCES 1 {who}0 {who}1 {who}2"]
    rules = rootio.Rules.of({"things": "all", "references": "concatenate"})
    joined = tmp_path / "joined.root"
    result = rootio.join(inputs, joined, beside=rules)
    assert result.objects["all"] == ("things", "references", "referenced")
    assert result.objects["once"] == ("text",)
    expected = [
        f"REFERENCES {cycle} {who}0 {who}1 {who}2"
        for cycle, who in enumerate(("anna", "bob", "carl"), 1)
    ]
    assert _references(root_bin, joined) == expected
    # A file that comes twice is the same file.
    again = tmp_path / "again.root"
    result = rootio.join([joined, inputs[1], inputs[0]], again, beside=rules)
    assert result.objects["united"] == ("ProcessID0", "ProcessID1", "ProcessID2")
    assert len(_references(root_bin, again)) == 3
    # What only a later file has is led to its process ids too.
    first = rootio.Rules.of({"things": "concatenate", "references": "first"})
    with uproot.recreate(tmp_path / "bare.root") as file:
        file["text"] = "the same"
    alone = tmp_path / "alone.root"
    only = tmp_path / "only.root"
    rootio.join([inputs[0]], only, beside=rootio.Rules.of({"references": "none"}))
    rootio.join([only, inputs[1]], alone, beside=first)
    assert _references(root_bin, alone) == ["REFERENCES 1 bob0 bob1 bob2"]


def _functions(root_bin: Path, path: Path) -> list[str]:
    said = _root(root_bin, f'{HERE / "read_fitted.C"}("{path}")')
    return sorted(line for line in said.splitlines() if line.startswith("FUNCTION"))


@pytest.mark.slow
def test_what_was_fitted_or_drawn_adds_as_hadd_adds_it(root_bin: Path, tmp_path: Path) -> None:
    inputs = []
    for number in range(2):
        inputs.append(tmp_path / f"{number}.root")
        _root(root_bin, f'{HERE / "make_fitted.C"}("{inputs[-1]}", {number})')
    joined, expected = tmp_path / "joined.root", tmp_path / "hadd.root"
    result = rootio.join(inputs, joined)
    assert set(result.objects["added"]) == {
        "gaus", "own", "drawn", "colours", "labels", "graph",
    }  # fmt: skip
    _hadd(root_bin, expected, inputs)
    said = _compare_objects(root_bin, expected, joined)
    assert "EQUAL 6" in said, said
    # Functions are the first file's, each with its parameters, and lead to their own object.
    functions = _functions(root_bin, inputs[0])
    assert len(functions) >= 7, functions
    assert _functions(root_bin, joined) == functions
    assert any("TPaveStats of its own 1" in line for line in functions), functions
    with uproot.open(joined) as file, uproot.open(inputs[0]) as one:
        assert file["gaus"].values().sum() == 2 * one["gaus"].values().sum()


@pytest.mark.slow
def test_growing_categories_of_hist_add_label_by_label(root_bin: Path, tmp_path: Path) -> None:
    hist = pytest.importorskip("hist", reason="needs hist: pip install 'evstream[examples]'")
    channels = [[], ["ee", "mumu"], ["mumu", "tautau", "x", "x"], ["ee"]]
    inputs = []
    for number, part in enumerate(channels):
        category = hist.axis.StrCategory([], growth=True)
        counts = hist.Hist(category, storage=hist.storage.Weight())
        counts.fill(part, weight=2.0)
        lengths = hist.axis.IntCategory([], growth=True)
        plane = hist.Hist(hist.axis.Regular(2, 0, 1), lengths)
        plane.fill(np.full(len(part), 0.75), np.array([len(name) for name in part], np.int64))
        inputs.append(tmp_path / f"{number}.root")
        with uproot.recreate(inputs[-1]) as file:
            file["counts"], file["plane"] = counts, plane
    joined = tmp_path / "joined.root"
    assert set(rootio.join(inputs, joined).objects["added"]) == {"counts", "plane"}
    with uproot.open(joined) as file:
        found, plane = file["counts"].to_hist(), file["plane"].to_hist()
    assert list(found.axes[0]) == ["ee", "mumu", "tautau", "x"]
    assert found.values().tolist() == [4.0, 4.0, 2.0, 4.0]
    assert found.variances().tolist() == [8.0, 8.0, 4.0, 8.0]
    assert [str(length) for length in plane.axes[1]] == ["2", "4", "6", "1"]
    assert plane.values().tolist() == [[0.0] * 4, [2.0, 2.0, 1.0, 2.0]]
    macro = tmp_path / "read.C"
    macro.write_text("""void read(const char* name) {
      TFile file(name);
      auto counts = file.Get<TH1>("counts"); auto plane = file.Get<TH2>("plane");
      printf("SAID %d", counts->GetNbinsX());
      for (auto label : {"ee", "mumu", "tautau", "x"})
        printf(" %g", counts->GetBinContent(counts->GetXaxis()->FindFixBin(label)));
      for (auto label : {"2", "4", "6", "1"})
        printf(" %g", plane->GetBinContent(2, plane->GetYaxis()->FindFixBin(label)));
      printf("\\n"); }""")
    said = _root(root_bin, f'{macro}("{joined}")')
    assert "SAID 4 4 4 2 4 2 2 1 2" in said, said
