"""evstream inspect, cut and join, as people call them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import uproot

from evstream.cli.commands import main

ENTRIES = 500
LHE = b"<LesHouchesEvents><init>1</init><event>a</event></LesHouchesEvents>"


def _run(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in words])
    printed = capsys.readouterr()
    assert not caught.value.code, printed.err
    return printed.out


def _refused(capsys: pytest.CaptureFixture[str], code: int, *words: object) -> str:
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in words])
    assert caught.value.code == code
    error = capsys.readouterr().err
    assert error.startswith("evstream: error: ")
    assert error.count("\n") == 1
    return error


def _values(path: Path, name: str = "i") -> list[Any]:
    with uproot.open(path) as file:
        return file["Events"][name].array().tolist()  # type: ignore[no-any-return]


def test_inspect_shows_trees_branches_and_objects(
    small_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = _run(capsys, "inspect", small_file)
    for word in ("Events: 500 entries, clusters: 5", "deep/er/other", "njet", "TH1D", "int32"):
        assert word in text
    found = json.loads(_run(capsys, "inspect", small_file, "--json"))
    assert [tree["path"] for tree in found["trees"]] == ["Events", "deep/er/other"]
    assert found["trees"][0]["entries"] == ENTRIES
    assert found["trees"][0]["clusters"][-1] == ENTRIES
    assert {b["name"] for b in found["trees"][0]["branches"]} >= {"x", "jet"}
    assert found["objects"][0]["path"] == "histogram"
    assert found["unreadable"] == {}


def test_cut_takes_a_range_and_branches(
    small_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cut.root"
    text = _run(
        capsys, "cut", small_file, out, "--tree", "Events", "--entries", "10:30", "--branches",
        "i", "je*",
    )  # fmt: skip
    assert "20 entries of Events" in text
    assert _values(out) == list(range(10, 30))
    with uproot.open(out) as file:
        assert set(file["Events"].keys()) == {"i", "njet", "jet"}
    # The only tree need not be named.
    again = tmp_path / "again.root"
    found = json.loads(_run(capsys, "cut", out, again, "--entries", "15:", "--json"))
    assert found["entries"] == 5
    assert found["size"] == again.stat().st_size


def test_text_is_gzipped_as_the_output_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, packed = tmp_path / "in.lhe", tmp_path / "out.lhe.gz"
    plain.write_bytes(LHE)
    _run(capsys, "cut", plain, packed, "--entries", "0:1")
    assert gzip.decompress(packed.read_bytes()) == LHE
    found = json.loads(_run(capsys, "cut", packed, tmp_path / "again.lhe", "--json"))
    assert (tmp_path / "again.lhe").read_bytes() == LHE
    assert found["size"] == len(LHE)


def test_cut_takes_listed_entries(
    small_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listing, out = tmp_path / "entries.txt", tmp_path / "some.root"
    listing.write_text("3\n14\n159\n")
    _run(capsys, "cut", small_file, out, "--tree", "Events", "--entry-list", listing)
    assert _values(out) == [3, 14, 159]


def test_join_puts_cuts_together_again(
    small_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = []
    for entries in (":200", "200:333", "333:"):
        parts.append(tmp_path / f"part{len(parts)}.root")
        _run(capsys, "cut", small_file, parts[-1], "--tree", "Events", "--entries", entries)
    whole = tmp_path / "whole.root"
    assert "500 entries of Events" in _run(capsys, "join", whole, *parts)
    assert _values(whole) == list(range(ENTRIES))
    assert _values(whole, "jet") == _values(small_file, "jet")
    found = json.loads(_run(capsys, "join", tmp_path / "b.root", small_file, small_file, "--json"))
    assert found["entries"] == {"Events": 2 * ENTRIES, "deep/er/other": 2 * ENTRIES}
    assert found["objects"]["added"] == ["histogram"]


def test_what_is_beside_the_entries_is_printed_and_ruled(
    small_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = _run(capsys, "inspect", small_file)
    assert "beside another tree: events" in text
    found = json.loads(_run(capsys, "inspect", small_file, "--json"))
    assert found["objects"][0]["rule"] == "add"
    assert found["notes"] == []
    first, rest = tmp_path / "first.root", tmp_path / "rest.root"
    cut = ("cut", small_file)
    text = _run(capsys, *cut, first, "--tree", "Events", "--entries", ":9")
    assert "beside them: histogram" in text
    assert "left behind: by their rules: deep/er/other" in text
    text = _run(capsys, *cut, rest, "--tree", "Events", "--entries", "9:")
    assert "left behind: counted once, in the slice with the first entry: histogram" in text
    keep = ("--keep", "hist*=all", "deep/*=concatenate")
    found = json.loads(
        _run(capsys, *cut, first, "--tree", "Events", "--entries", ":9", *keep, "--json")
    )
    assert found["beside"] == ["deep/er/other", "histogram"]
    assert found["left_behind"] == []
    whole = tmp_path / "whole.root"
    text = _run(capsys, "join", whole, first, rest, "--keep", "histogram=none")
    assert "left: histogram" in text
    assert "no rule" in _refused(capsys, 2, "join", whole, first, "--keep", "histogram")
    assert "rules are add" in _refused(capsys, 2, "join", whole, first, "--keep", "h=sum")


def test_errors_are_one_line_and_leave_nothing(
    small_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, text = tmp_path / "out.root", tmp_path / "text.txt"
    text.write_text("no numbers")
    cut = ("cut", small_file, out)
    assert "several trees" in _refused(capsys, 2, *cut)
    assert "no tree" in _refused(capsys, 2, *cut, "--tree", "Event")
    assert "lie within" in _refused(capsys, 2, *cut, "--tree", "Events", "--entries", "9:999")
    assert "no range" in _refused(capsys, 2, *cut, "--tree", "Events", "--entries", "9")
    listed = (*cut, "--tree", "Events", "--entry-list")
    assert "no list of entries" in _refused(capsys, 2, *listed, text)
    for numbers in ("1\n1_0", "\uff11", "1.0", "0x1"):
        text.write_text(numbers)
        assert "no list of entries" in _refused(capsys, 2, *listed, text)
    text.write_text("-1")
    assert "no entry has" in _refused(capsys, 2, *listed, text)
    text.write_text("no numbers")
    named = (*cut, "--tree", "Events", "--branches")
    assert "list its branches" in _refused(capsys, 2, *named, "nope")
    assert "did you mean jet, njet" in _refused(capsys, 2, *named, "jetz")
    assert "exclude" in _refused(capsys, 2, *listed, text, "--entries", "1:2")
    assert "No such file" in _refused(capsys, 1, *listed, tmp_path / "none.txt")
    assert "is an input" in _refused(capsys, 2, "cut", small_file, small_file)
    assert "no regular file" in _refused(capsys, 2, "cut", small_file, tmp_path)
    assert "begins with" in _refused(capsys, 1, "inspect", text)
    assert "No such file" in _refused(capsys, 1, "inspect", tmp_path / "none.root")
    assert "nothing to join" in _refused(capsys, 2, "join", out)
    assert "begin with" in _refused(capsys, 1, "join", out, small_file, text)
    assert [p.name for p in tmp_path.iterdir()] == ["text.txt"]
