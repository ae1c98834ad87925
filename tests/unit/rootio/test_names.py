"""Names: what shares one, and what has a slash in its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot

from evstream import rootio

HISTOGRAM = (np.array([1.0, 2.0]), np.arange(3.0))
NONE = rootio.Rules.of({"x": "none"})


def written(path: Path, *contents: tuple[str, Any]) -> Path:
    """Write trees (of a number of entries), directories (None) and objects, one after the other.

    What stands between the names' parts is a slash in the name if it is written as "|".
    """
    with uproot.recreate(path) as file:
        for name, content in contents:
            if isinstance(content, int):
                file.mktree(name.replace("|", "_"), {"a": np.arange(content)})
            elif content is None:
                file.mkdir(name)
            else:
                file[name.replace("|", "_")] = content
    data = path.read_bytes()
    for name, _ in contents:
        if "|" in name:
            own = name.rpartition("/")[2]
            plain, slashed = (own.replace("|", c).encode() for c in "_/")
            told = bytes([len(plain)])
            assert told + plain in data
            data = data.replace(told + plain, told + slashed)
    path.write_bytes(data)
    return path


KINDS = {
    "tree": ("x", 5),
    "histogram": ("x", HISTOGRAM),
    "text": ("x", "a text"),
    "directory": ("x/h", HISTOGRAM),
    "empty": ("x", None),
}


@pytest.mark.parametrize("one", KINDS)
@pytest.mark.parametrize("other", KINDS)
def test_one_name_stands_for_one_kind(tmp_path: Path, one: str, other: str) -> None:
    paths = [
        written(tmp_path / f"{n}.root", ("Events", 3), KINDS[kind])
        for n, kind in enumerate((one, other))
    ]
    joined = tmp_path / "joined.root"
    if one == other or {one, other} == {"directory", "empty"}:
        assert rootio.join(paths, joined).entries["Events"] == 6
        return
    with pytest.raises(rootio.SchemaMismatchError, match=r"^'x' is a T\w+ in .*0\.root") as caught:
        rootio.join(paths, joined)
    assert f" in {paths[1]}" in caught.value.message
    assert caught.value.fields["names"] == ["x"]
    rule = "x=first" if {one, other} == {"histogram", "text"} else "x=none"
    assert f"the rule {rule}" in caught.value.hint
    assert not joined.exists()
    # Left out by the rule that is named, they are in nobody's way.
    assert rootio.join(paths, joined, beside=NONE).entries["Events"] == 6


def test_texts_and_histograms_of_one_name_are_kept_by_a_rule(tmp_path: Path) -> None:
    paths = [
        written(tmp_path / f"{n}.root", ("x", what))
        for n, what in enumerate(("a text", HISTOGRAM, HISTOGRAM))
    ]
    joined = tmp_path / "joined.root"
    with pytest.raises(rootio.SchemaMismatchError, match=r"x=first, or all with =all"):
        rootio.join(paths, joined)
    result = rootio.join(paths, joined, beside=rootio.Rules.of({"x": "all"}))
    assert result.objects == {"all": ("x",)}
    with uproot.open(joined) as file:
        assert sorted(file.classnames()) == ["x;1", "x;2"]
        assert file["x"].values().tolist() == [1.0, 2.0]


@pytest.mark.parametrize("newest", ["tree", "histogram"])
def test_the_newest_of_a_name_in_a_file_counts(tmp_path: Path, newest: str) -> None:
    source = written(tmp_path / "source.root", ("Events", 3), ("x", "older"), KINDS[newest])
    with uproot.open(source) as file:
        assert {name for name in file.keys(recursive=False) if name[0] == "x"} == {"x;1", "x;2"}
    made = tmp_path / "made.root"
    rootio.cut(source, made, tree="Events", entry_stop=1)
    with uproot.open(made) as file:
        assert set(file.keys()) == {"Events;1"} | ({"x;2"} if newest == "histogram" else set())
    result = rootio.join([source, source], made)
    assert result.entries == {"Events": 6} | ({"x": 10} if newest == "tree" else {})
    with uproot.open(made) as file:
        assert set(file.keys()) == {"Events;1", "x;1"}
        if newest == "histogram":
            assert file["x"].values().tolist() == [2.0, 4.0]


def test_of_texts_the_rule_first_keeps_the_newest(tmp_path: Path) -> None:
    source = written(tmp_path / "source.root", ("x", "old"), ("x", "new"))
    other = written(tmp_path / "other.root", ("x", "another"))
    joined = tmp_path / "joined.root"
    rootio.join([source, other], joined, beside=rootio.Rules.of({"x": "first"}))
    with uproot.open(joined) as file:
        assert file.keys() == ["x;1"]
        assert str(file["x"]) == "new"


def test_names_with_slashes_are_carried_over(tmp_path: Path) -> None:
    contents = (
        ("Events", 5), ("pt|eta", HISTOGRAM), ("cfg|x", "a text"), ("d/q|r", HISTOGRAM), ("s|t", 4),
    )  # fmt: skip
    source = written(tmp_path / "source.root", *contents)
    with rootio.FileSource(source) as opened:
        index = rootio.inspect(opened)
    index = rootio.SourceIndex.from_bytes(index.to_bytes())
    assert {one.path: one.folder for one in index.objects} == {
        "pt/eta": "", "cfg/x": "", "d/q/r": "d",
    }  # fmt: skip
    assert {path: tree.folder for path, tree in index.trees.items()} == {"Events": "", "s/t": ""}
    made = tmp_path / "made.root"
    assert rootio.cut(source, made, tree="Events", entry_stop=2) == 2
    assert names_at_the_top(made) == {"Events", "pt/eta", "cfg/x", "d"}
    assert rootio.cut(source, made, tree="s/t", entry_start=1) == 3
    assert names_at_the_top(made) == {"s/t", "cfg/x"}
    result = rootio.join([source, source], made)
    assert result.entries == {"Events": 10, "s/t": 8}
    assert set(result.objects["added"]) == {"pt/eta", "d/q/r"}
    assert names_at_the_top(made) == {"Events", "pt/eta", "cfg/x", "d", "s/t"}
    # As if there were no slash, but for the names.
    plain = tmp_path / "plain.root"
    twin = written(tmp_path / "twin.root", *((name.replace("|", "_"), c) for name, c in contents))
    rootio.join([twin, twin], plain)
    with uproot.open(made) as file, uproot.open(plain) as other:
        slashed = {key.fName: key for key in file._keys}
        assert slashed["pt/eta"].get().values().tolist() == [2.0, 4.0]
        assert slashed["s/t"].get()["a"].array().tolist() == other["s_t"]["a"].array().tolist()
        (inner,) = file["d"]._keys
        assert (inner.fName, inner.get().values().tolist()) == ("q/r", [2.0, 4.0])


def names_at_the_top(path: Path) -> set[str]:
    with uproot.open(path) as file:
        return {key.fName for key in file._keys}


def test_a_slash_is_not_mistaken_for_a_directory(tmp_path: Path) -> None:
    both = written(tmp_path / "both.root", ("Events", 3), ("d|x", "at the top"), ("d/x", "within"))
    made = tmp_path / "made.root"
    rootio.cut(both, made, tree="Events", entry_stop=1)
    with uproot.open(made) as file:
        assert {key.fName: key.get() for key in file._keys if key.fName == "d/x"} == {
            "d/x": "at the top"
        }
        assert [str(key.get()) for key in file["d"]._keys] == ["within"]
    with pytest.raises(rootio.SchemaMismatchError, match=r"'d/x' .*slash in its name.*d/x=none"):
        rootio.join([both, both], made)
    rules = rootio.Rules.of({"d/x": "none"})
    assert rootio.join([both, both], made, beside=rules).entries == {"Events": 6}


def test_trees_that_a_path_cannot_tell_apart_are_refused_alone(tmp_path: Path) -> None:
    both = written(tmp_path / "both.root", ("Events", 3), ("d|x", 4), ("d/x", 5))
    with rootio.FileSource(both) as opened:
        index = rootio.inspect(opened)
    assert list(index.trees) == ["Events"]
    with pytest.raises(rootio.UnsupportedFeatureError, match="another has a slash in its name"):
        index.tree("d/x")
    assert rootio.cut(both, tmp_path / "made.root", tree="Events") == 3


def test_a_directory_with_a_slash_in_its_name_is_refused(tmp_path: Path) -> None:
    source = written(tmp_path / "source.root", ("Events", 3), ("d_e/x", "within"))
    source.write_bytes(source.read_bytes().replace(b"\x03d_e", b"\x03d/e"))
    with pytest.raises(rootio.UnsupportedFeatureError, match=r"directory is called 'd/e'"):
        rootio.cut(source, tmp_path / "made.root", tree="Events")
