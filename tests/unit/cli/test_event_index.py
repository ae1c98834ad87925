"""``evstream index``: what people type, and what they read."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uproot
from msgspec import structs

from evstream.assembly import make_readers
from evstream.cli.commands import app
from evstream.client.inputs import expand_inputs
from evstream.domain.dataset import SourceFile
from evstream.domain.errors import DataError, NotFoundError, RequestError, SourceChangedError
from evstream.domain.names import Lfn
from evstream.eventindex import open_builder
from evstream.head.datasets import describe
from tests.unit.eventindex.test_extraction import GUID, LINK, write_pool


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EVSTREAM_DATA_DIR", str(tmp_path / "service"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def evstream(*words: object) -> None:
    app([str(word) for word in words], exit_on_error=False, result_action="return_value")


def answer(capsys: pytest.CaptureFixture[str], *words: object) -> Any:
    capsys.readouterr()
    evstream(*words, "--json")
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def real(folder: Path, shared_data: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """An index of real files: two runs of CMS, and Zmumu, whose events repeat."""
    for name in ("Run2012B_SingleMu_1000.root", "uproot-Zmumu.root"):
        evstream("index", "build", shared_data / name)
    capsys.readouterr()
    return shared_data


def test_events_are_found_where_they_are(real: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with uproot.open(real / "Run2012B_SingleMu_1000.root") as file:
        numbers = file["Events"].arrays(["run", "luminosityBlock", "event"], library="np")
    rows = list(zip(*(numbers[name].tolist() for name in numbers), strict=True))
    Path("events.csv").write_text(
        "run,luminosityBlock,event\n" + "".join(f"{r},{b},{e}\n" for r, b, e in rows[::7])
    )
    found = answer(capsys, "index", "lookup", "events.csv", "1:2")
    assert [tuple(p[:3]) for p in found["places"]] == rows[::7]
    assert [p[4] for p in found["places"]] == list(range(0, len(rows), 7))
    assert found["missing"] == [[1, None, 2]]
    assert "repeated" not in found
    assert [f["lfn"] for f in found["files"]] == ["Run2012B_SingleMu_1000.root"]


def test_repeated_events_are_told_not_hidden(
    real: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with uproot.open(real / "uproot-Zmumu.root") as file:
        runs, events = (file["events"][name].array(library="np") for name in ("Run", "Event"))
    _, counts = np.unique(np.stack([runs, events]), axis=1, return_counts=True)
    found = answer(capsys, "index", "duplicates")
    assert len(found) == counts[counts > 1].sum()
    assert len({(d["run"], d["event"]) for d in found}) == (counts > 1).sum()
    key = f"{runs[0]}:{events[0]}"
    evstream("index", "lookup", key, "--selection", "all.json")
    assert f"at several places: {key}" in capsys.readouterr().err
    places = np.flatnonzero((runs == runs[0]) & (events == events[0])).tolist()
    assert selected("all.json") == places
    evstream("index", "lookup", key, "--first-only", "--selection", "one.json")
    assert selected("one.json") == places[:1]


def selected(name: str) -> list[int]:
    (files,) = [one["files"] for one in json.loads(Path(name).read_text()).values()]
    (about,) = files.values()
    return [entry for start, stop in about["steps"] for entry in range(start, stop)]


def test_lumi_blocks_select_their_events(real: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with uproot.open(real / "Run2012B_SingleMu_1000.root") as file:
        tree = file["Events"].arrays(["run", "luminosityBlock"], library="np")
    run, block = tree["run"], tree["luminosityBlock"]
    low, high = sorted({int(block[0]), int(block[-1])})
    Path("good.json").write_text(json.dumps({str(run[0]): [[low, high]], "1": [[1, 9]]}))
    evstream("index", "lookup", "--lumis", "good.json", "--selection", "good.sel.json")
    inside = (run == run[0]) & (block >= low) & (block <= high)
    assert selected("good.sel.json") == np.flatnonzero(inside).tolist()
    assert f"{inside.sum()} entries of 1 file" in capsys.readouterr().err


def test_ranges_and_guids_narrow_a_question(real: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = answer(capsys, "index", "show", "--check")["files"]
    guids = {file["lfn"]: file["guid"] for file in files}
    everything = f"148031:0-{2**64 - 1}"
    zmumu = guids["uproot-Zmumu.root"]
    found = answer(capsys, "index", "lookup", everything, "--guid", zmumu.upper())
    with uproot.open(real / "uproot-Zmumu.root") as file:
        inside = np.flatnonzero(file["events"]["Run"].array(library="np") == 148031)
    assert [f["steps"] for f in found["files"]] == [[[inside[0], inside[-1] + 1]]]
    assert len(found["places"]) == len(inside) == inside[-1] + 1 - inside[0]
    assert [p[2] for p in found["places"]] == sorted(p[2] for p in found["places"])
    other = guids["Run2012B_SingleMu_1000.root"]
    assert answer(capsys, "index", "lookup", everything, "--guid", other) == {}
    reading, writing = os.pipe()
    os.write(writing, b"148031 10507008 -\n")
    os.close(writing)
    with pytest.raises(RequestError, match=r"/dev/fd/\d+, line 1"):
        evstream("index", "lookup", f"/dev/fd/{reading}")
    os.close(reading)


def test_what_cannot_be_indexed_is_told_and_the_rest_is_there(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with uproot.recreate("good.root") as file:
        file.mktree("t", {"run": np.array([1]), "event": np.array([2])})
    with uproot.recreate("without.root") as file:
        file.mktree("t", {"x": np.array([1])})
    Path("bad.root").write_bytes(b"nothing")
    with pytest.raises(DataError, match="2 of 3 files are not indexed"):
        evstream("index", "build", ".", "--index", "here")
    told = capsys.readouterr()
    assert "1 file with 1 event added" in told.out
    assert "without.root: no tree has run and event numbers" in told.err
    assert "bad.root" in told.err
    evstream("index", "compact", "--index", "here")
    evstream("index", "show", "--index", "here")
    assert "good.root" in capsys.readouterr().out
    with pytest.raises(NotFoundError, match="nothing to select"):
        evstream("index", "lookup", "1:3", "--index", "here", "--selection", "x.json")
    assert not Path("x.json").exists()
    with pytest.raises(RequestError, match="no event is asked for"):
        evstream("index", "lookup", "--index", "here")
    with pytest.raises(NotFoundError, match="no event index"):
        evstream("index", "lookup", "1:3")
    with pytest.raises(NotFoundError, match="there is no file"):
        evstream("index", "lookup", "--lumis", "none.json", "--index", "here")


def test_tokens_say_how_events_are_read(real: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_pool(Path("pool.root"), [f"[NAME=FID][VALUE={GUID}]"], [LINK])
    evstream("index", "build", "pool.root", real / "inputThreads1.hepmc")
    told = answer(capsys, "token", "1:2", "1:0-1", "--guid", GUID.lower())
    assert [(t["run"], t["event"], t["entry"]) for t in told] == [(1, 2, 2), (1, 0, 0), (1, 1, 1)]
    assert [t["token"] for t in told] == [
        f"[DB={GUID}][CNT=POOLContainer(DataHeader)][CLID=4DDBD295-EFCE-472A-9EC8-15CD35A9EB8D]"
        f"[TECH=00000203][OID=000000000000002A-{entry:016X}]"
        for entry in (2, 0, 1)
    ]
    with uproot.open(real / "uproot-Zmumu.root") as file:
        runs, events = (file["events"][name].array(library="np") for name in ("Run", "Event"))
        guid = str(file.file.uuid).upper()
    capsys.readouterr()
    evstream("token", f"{runs[9]}:{events[9]}-{events[9]}")
    printed = capsys.readouterr()
    places = np.flatnonzero((runs == runs[9]) & (events == events[9])).tolist()
    assert printed.out.splitlines() == [
        f"{runs[9]} {events[9]} [DB={guid}][TREE=events][ENTRY={entry}]" for entry in places
    ]
    assert f"at several places: {runs[9]}:{events[9]}" in printed.err
    evstream("token", f"{runs[9]}:{events[9]}-{events[9]}", "--first-only")
    assert len(capsys.readouterr().out.splitlines()) == 1
    evstream("token", "0:1")
    assert "[LFN=inputThreads1.hepmc][TREE=events][ENTRY=" in capsys.readouterr().out


def test_files_and_datasets_are_removed(real: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index = Path("service/event-index")
    with open_builder(index) as builder:
        cms, zmumu = builder.files
        builder.note(structs.replace(zmumu, datasets=("user:x", "user:y")))
        builder.note(structs.replace(cms, datasets=("user:x",)))
    for words in ((), ("a.root", "--dataset", "user:x")):
        with pytest.raises(RequestError, match="name files, or a dataset"):
            evstream("index", "remove", *words)
    with pytest.raises(NotFoundError, match="called user:none"):
        evstream("index", "remove", "--dataset", "user:none")
    with pytest.raises(NotFoundError, match=r"called none.root"):
        evstream("index", "remove", cms.lfn, "none.root")
    assert answer(capsys, "index", "remove", "--dataset", "user:x") == {"removed": 1}
    shown = answer(capsys, "index", "show", "--check")
    assert [(f["lfn"], f["datasets"]) for f in shown["files"]] == [(zmumu.lfn, ["user:y"])]
    evstream("index", "compact")
    assert answer(capsys, "index", "show")["bytes"] < shown["bytes"]
    assert answer(capsys, "index", "lookup", "194533:0-999999999999") == {}
    evstream("index", "build", real / cms.lfn)
    assert answer(capsys, "index", "remove", cms.pfns[0], zmumu.guid.upper()) == {"removed": 2}
    with pytest.raises(NotFoundError, match="no event index"):
        evstream("index", "show")


def write_table(path: str, events: list[int]) -> None:
    columns = {"run": pa.array([1] * len(events)), "event": pa.array(events)}
    pq.write_table(pa.table(columns), path)


def registered(selection: str) -> SourceFile:
    """Return the file of a selection as it would be registered."""
    (file,) = expand_inputs([selection])
    readers = make_readers()
    with readers.opener.open(file.pfn) as source:
        form, index = readers.formats.inspect(source, file.pfn)
    return describe(file, Lfn("file"), form.name, index)


def test_a_selection_of_a_file_that_has_changed_is_refused(folder: Path) -> None:
    # It has no UUID, and as many entries as before.
    write_table("a.parquet", list(range(100)))
    evstream("index", "build", "a.parquet")
    evstream("index", "lookup", "1:5", "--selection", "picked.json")
    assert registered("picked.json").asked == {"events": ((5, 6),)}
    write_table("a.parquet", list(range(100))[::-1])
    with pytest.raises(SourceChangedError, match="is another file"):
        registered("picked.json")


def test_two_trees_of_a_file_are_not_one_selection(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with uproot.recreate("two.root") as file:
        for name in ("Events", "Other"):
            file.mktree(name, {"run": np.array([9, 9]), "event": np.array([16, 17])})
    for name in ("Events", "Other"):
        evstream("index", "build", "two.root", "--tree", name)
    with pytest.raises(RequestError, match="two trees") as refused:
        evstream("index", "lookup", "9:17", "--selection", "both.json")
    assert "--tree" in refused.value.hint
    assert not Path("both.json").exists()
    for name in ("Events", "Other"):
        evstream("index", "lookup", "9:17", "--tree", name, "--selection", "one.json")
        (chosen,) = json.loads(Path("one.json").read_text())["selection"]["files"].values()
        assert (chosen["object_path"], chosen["steps"]) == (name, [[1, 2]])
    capsys.readouterr()
    evstream("token", "9:17", "--tree", "Other")
    assert "[TREE=Other]" in capsys.readouterr().out
    with pytest.raises(NotFoundError, match="tree None"):
        evstream("index", "lookup", "9:17", "--tree", "None")


def test_files_that_moved_are_selected_where_they_are(folder: Path) -> None:
    with uproot.recreate("a.root") as file:
        file.mktree("t", {"run": np.array([1]), "event": np.array([2])})
    evstream("index", "build", "a.root")
    Path("elsewhere").mkdir()
    Path("a.root").rename("elsewhere/a.root")
    evstream("index", "build", "elsewhere")
    evstream("index", "lookup", "1:2", "--selection", "picked.json")
    assert registered("picked.json").pfns == (str(folder / "elsewhere/a.root"),)


def test_files_without_lumi_blocks_are_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, run in (("a.root", 3), ("b.root", 4)):
        with uproot.recreate(name) as file:
            file.mktree("t", {"run": np.array([run]), "event": np.array([2])})
    with uproot.recreate("c.root") as file:
        columns = {"run": 3, "luminosityBlock": 7, "event": 4}
        file.mktree("t", {name: np.array([value]) for name, value in columns.items()})
    evstream("index", "build", ".")
    Path("good.json").write_text('{"3": [[1, 9]], "5": [[1, 1]]}')
    found = answer(capsys, "index", "lookup", "--lumis", "good.json")
    assert [file["lfn"] for file in found["files"]] == ["c.root"]
    assert found["without_lumis"] == ["a.root"]
    evstream("index", "lookup", "--lumis", "good.json")
    assert "has no lumi blocks: a.root" in capsys.readouterr().err
    assert "without_lumis" not in answer(capsys, "index", "lookup", "3:2")
    # It would select what is in either, where people mean what is in both.
    with pytest.raises(RequestError, match="one by one"):
        evstream("index", "lookup", "3:2", "--lumis", "good.json")


def test_what_is_neither_event_nor_file_is_told(folder: Path) -> None:
    for text in ("1:17 " * 80, "~nobody-of-this-name", "1:" + "9" * 5000):
        with pytest.raises(RequestError, match="names no event"):
            evstream("index", "lookup", text)


def test_a_name_that_several_files_have_removes_none(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, name in enumerate(("a", "b")):
        Path(name).mkdir()
        with uproot.recreate(f"{name}/same.root") as file:
            file.mktree("t", {"run": np.array([1]), "event": np.array([number])})
    evstream("index", "build", "a", "b")
    with pytest.raises(RequestError, match=r"2 files of the index are called same\.root"):
        evstream("index", "remove", "same.root")
    path = str(folder / "a/same.root")
    assert answer(capsys, "index", "remove", path) == {"removed": 1}
    assert answer(capsys, "index", "remove", "same.root") == {"removed": 1}
