"""Reading the numbers of events out of files of every kind, wherever they are."""

from __future__ import annotations

import multiprocessing
import shutil
from pathlib import Path
from typing import Any

import awkward as ak
import fsspec
import numpy as np
import pytest
import uproot

from evstream.assembly import make_readers
from evstream.domain.errors import EvstreamError, SourceChangedError
from evstream.eventindex import (
    NO_LUMI,
    EventIndex,
    EventKeys,
    WantedFile,
    update_index,
)
from evstream.eventindex.extraction import Extracted, Result, extract, extract_all
from evstream.eventindex.manifest import PoolFile

GUID = "9A440868-8058-DB11-85E3-00304885AB94"
LINK = (
    "[DB=00000000-0000-0000-0000-000000000000][CNT=POOLContainer(DataHeader)]"
    "[CLID=4DDBD295-EFCE-472A-9EC8-15CD35A9EB8D][TECH=00000203]"
    "[OID=000000000000002A-FFFFFFFFFFFFFFFF]"
)


def read(path: Path | str, **wanted: Any) -> Result:
    return extract(make_readers(), WantedFile(str(path), **wanted), frozenset())


def write_events(path: Path, columns: dict[str, Any], tree: str = "Events") -> Path:
    with uproot.recreate(path) as file:
        file.mktree(tree, {name: np.asarray(values) for name, values in columns.items()})
    return path


REAL = {
    "Run2012B_SingleMu_1000.root": ("Events", ("run", "luminosityBlock", "event")),
    "nanoAOD_2015_CMS_Open_Data_ttbar.root": ("Events", ("run", "luminosityBlock", "event")),
    "data_B.4lep.root": ("mini", ("runNumber", "eventNumber")),
    "uproot-Zmumu.root": ("events", ("Run", "Event")),
    "PHYSLITE_example.root": (
        "CollectionTree",
        tuple(f"EventInfoAuxDyn.{name}" for name in ("runNumber", "lumiBlock", "eventNumber")),
    ),
    "exot_15.root": (
        "CollectionTree",
        tuple(
            f"EventInfoAux./EventInfoAux.{name}"
            for name in ("runNumber", "lumiBlock", "eventNumber")
        ),
    ),
}


@pytest.mark.parametrize("name", REAL)
def test_numbers_are_those_that_uproot_reads(name: str, shared_data: Path) -> None:
    found = read(shared_data / name)
    assert isinstance(found, Extracted)
    tree, names = REAL[name]
    assert (found.file.tree, found.file.numbers) == (tree, names)
    with uproot.open(shared_data / name) as file:
        columns = [file[tree][each].array(library="np") for each in names]
        assert found.file.guid == str(file.file.uuid)
    assert (found.runs == columns[0]).all()
    assert (found.events == columns[-1].astype(np.uint64)).all()
    assert (found.lumis == (columns[1] if len(columns) == 3 else NO_LUMI)).all()


def test_other_formats_are_read(shared_data: Path) -> None:
    found = read(shared_data / "nano_dy.parquet")
    same = read(shared_data / "nano_dy.root")
    assert isinstance(found, Extracted)
    assert isinstance(same, Extracted)
    assert (found.events == same.events).all()
    assert (found.lumis == same.lumis).all()
    hepmc = read(shared_data / "inputThreads1.hepmc")
    assert isinstance(hepmc, Extracted)
    assert (hepmc.file.guid, hepmc.file.numbers) == ("", ("event_number",))
    assert set(hepmc.runs.tolist()) == {0}
    told = read(shared_data / "pylhe-testfile-powheg-box-v2-Z.lhe")
    assert "no tree has run and event numbers" in str(told)


def test_ntuples_are_read(tmp_path: Path) -> None:
    with uproot.recreate(tmp_path / "n.root") as file:
        file.mkrntuple("Events", {"run": np.array([5, 5]), "event": np.array([2**63, 7], "u8")})
    found = read(tmp_path / "n.root")
    assert isinstance(found, Extracted)
    assert found.events.tolist() == [2**63, 7]


def test_remote_files_are_read_by_their_numbers_alone(tmp_path: Path) -> None:
    columns = {"run": [1, 1, 2], "event": [9, 8, 7], "big": np.zeros(3)}
    local = write_events(tmp_path / "a.root", columns)
    fsspec.filesystem("memory").pipe("/evindex/a.root", local.read_bytes())
    far, near = read("memory://evindex/a.root"), read(local)
    assert isinstance(far, Extracted)
    assert isinstance(near, Extracted)
    assert far.file.content == near.file.content
    assert far.file.lfn == "a.root"
    assert far.events.tolist() == [9, 8, 7]


def test_branches_and_trees_may_be_named(tmp_path: Path) -> None:
    columns = {"r": [1, 2], "l": [3, 4], "e": [5, 6], "event": [7, 8], "run": [0, 0]}
    path = write_events(tmp_path / "a.root", columns, "folder/t")
    named = read(path, tree="folder/t", numbers=("r", "l", "e"))
    assert isinstance(named, Extracted)
    rows = [named.runs.tolist(), named.lumis.tolist(), named.events.tolist()]
    assert rows == [[1, 2], [3, 4], [5, 6]]
    assert "no tree none; it has folder/t" in str(read(path, tree="none"))
    assert "no tree has x, e" in str(read(path, numbers=("x", "e")))


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"run": [1, -1], "event": [1, 2]}, "entry 1 has run -1"),
        ({"run": [2**32 - 1], "event": [1]}, "entry 0 has run 4294967295"),
        ({"run": [1], "luminosityBlock": [2**40], "event": [1]}, "has lumi block 1099511627776"),
    ],
)
def test_numbers_that_are_none_are_told(
    columns: dict[str, list[int]], told: str, tmp_path: Path
) -> None:
    path = write_events(tmp_path / "a.root", columns)
    assert told in str(read(path))


def write_pool(path: Path, params: list[str], links: list[str]) -> Path:
    with uproot.recreate(path) as file:
        file.mktree("CollectionTree", {"runNumber": np.ones(3, int), "eventNumber": np.arange(3)})
        for name, strings in (("##Params", params), ("##Links", links)):
            tree = file.mktree(name, {"db_string": "string"})
            tree.extend({"db_string": ak.Array(strings)})
    return path


def test_files_of_pool_have_their_guid(tmp_path: Path) -> None:
    merged_away = "[NAME=FID][VALUE=00000000-1111-2222-3333-444444444444]"
    params = [merged_away, "[NAME=PFN][VALUE=a.root]", f"[NAME=FID][VALUE={GUID.lower()}]"]
    other = LINK.replace("DataHeader", "EventInfo").replace("2A-", "2B-")
    elsewhere = LINK.replace(
        "00000000-0000-0000-0000-000000000000", GUID[::-1].replace("-", "0", 0)
    )
    path = write_pool(tmp_path / "a.root", params, [other, elsewhere, LINK])
    found = read(path)
    assert isinstance(found, Extracted)
    assert found.file.guid == GUID
    assert found.file.pool == PoolFile(
        "POOLContainer(DataHeader)", "4DDBD295-EFCE-472A-9EC8-15CD35A9EB8D", 0x203, 0x2A
    )
    fsspec.filesystem("memory").pipe("/evindex/pool.root", path.read_bytes())
    far = read("memory://evindex/pool.root")
    assert isinstance(far, Extracted)
    assert (far.file.guid, far.file.pool) == (GUID, found.file.pool)
    silent = read(write_pool(tmp_path / "b.root", ["nothing"], [other]))
    assert isinstance(silent, Extracted)
    assert silent.file.guid == silent.file.uuid
    assert silent.file.pool is None


def some_files(folder: Path, count: int) -> list[WantedFile]:
    for number in range(count):
        numbers = np.arange(number * 10, number * 10 + 10)
        write_events(folder / f"{number}.root", {"run": numbers // 30, "event": numbers})
    return [WantedFile(str(folder / f"{number}.root")) for number in range(count)]


def test_processes_read_what_one_reads(tmp_path: Path) -> None:
    wanted = some_files(tmp_path, 9)
    (tmp_path / "bad.root").write_bytes(b"root but not really")
    wanted.insert(4, WantedFile(str(tmp_path / "bad.root")))
    one = {
        str(r) if isinstance(r, EvstreamError) else summary(r)
        for r in extract_all(make_readers, wanted, frozenset(), 1)
    }
    several = {
        str(r) if isinstance(r, EvstreamError) else summary(r)
        for r in extract_all(make_readers, wanted, frozenset(), 2)
    }
    assert one == several
    assert len(one) == 10


def test_whoever_leaves_waits_for_no_process_that_reads(tmp_path: Path) -> None:
    before = set(multiprocessing.active_children())
    results = extract_all(make_readers, some_files(tmp_path, 9), frozenset(), 2)
    next(results)
    started = set(multiprocessing.active_children()) - before
    assert started
    assert all(process.daemon for process in started)
    results.close()
    assert not started & set(multiprocessing.active_children())


def summary(result: Result) -> tuple[str, tuple[int, ...]]:
    assert isinstance(result, Extracted)
    return result.file.lfn, tuple(result.events.tolist())


def test_an_index_is_brought_up_to_date(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    wanted = some_files(tmp_path, 3)
    first = update_index(folder, wanted, make_readers, 1)
    assert (first.added, first.known, first.events, first.failed) == (3, 0, 30, [])
    # Another name for the same content, a changed file, a new one, one that is none.
    shutil.copy(tmp_path / "0.root", tmp_path / "copy.root")
    write_events(tmp_path / "1.root", {"run": [77], "event": [78]})
    write_events(tmp_path / "new.root", {"run": [5], "event": [6]})
    (tmp_path / "bad.root").write_bytes(b"nothing")
    names = ("0", "1", "2", "copy", "new", "bad")
    again = [WantedFile(str(tmp_path / f"{name}.root"), dataset="user:x") for name in names]
    second = update_index(folder, again, make_readers, 1)
    assert (second.added, second.known, second.events) == (2, 3, 2)
    assert [str(tmp_path / "bad.root") in str(error) for error in second.failed] == [True]
    index = EventIndex(folder)
    index.check()
    pfns = {tuple(Path(p).name for p in f.pfns): f.datasets for f in index.files.values()}
    assert pfns == {
        ("copy.root", "0.root"): ("user:x",),
        ("1.root",): ("user:x",),
        ("2.root",): ("user:x",),
        ("new.root",): ("user:x",),
    }
    found = index.lookup(EventKeys.of([(0, None, 15), (77, None, 78), (0, None, 3)]), index.only())
    assert found.missing(3).tolist() == [0]


def test_files_that_moved_and_numbers_that_differ_are_read_again(tmp_path: Path) -> None:
    folder, a, b = tmp_path / "index", tmp_path / "a.root", tmp_path / "b.root"
    first = {"run": [1, 1], "event": [2, 3], "other": [7, 8]}
    write_events(a, first)
    update_index(folder, [WantedFile(str(a), dataset="user:x")], make_readers, 1)
    # Its place is taken by another one, and it lies elsewhere, in one go.
    a.rename(b)
    write_events(a, {"run": [5], "event": [6]})
    moved = [WantedFile(str(a)), WantedFile(str(b), dataset="user:y")]
    done = update_index(folder, moved, make_readers, 1)
    assert (done.added, done.known, done.failed) == (2, 0, [])
    files = EventIndex(folder).files.values()
    assert {(f.lfn, f.datasets) for f in files} == {("a.root", ()), ("b.root", ("user:y",))}
    again = [WantedFile(str(b), numbers=("run", "other"))]
    assert update_index(folder, again, make_readers, 1).added == 1
    index = EventIndex(folder)
    index.check()
    found = index.lookup(EventKeys.of([(1, None, 7), (1, None, 2)]), index.only("user:y"))
    assert found.missing(2).tolist() == [1]
    assert update_index(folder, again, make_readers, 1).known == 1


def test_what_is_indexed_for_a_dataset_is_what_was_registered(tmp_path: Path) -> None:
    path = write_events(tmp_path / "a.root", {"run": [1], "event": [2]})
    first = read(path)
    assert isinstance(first, Extracted)
    wanted = {"dataset": "user:x", "digest": first.file.digest}
    assert isinstance(read(path, **wanted), Extracted)
    write_events(path, {"run": [1], "event": [3]})
    refused = read(path, **wanted)
    assert isinstance(refused, SourceChangedError)
    assert "a.root: it is another file than user:x has" in str(refused)


def test_two_trees_of_one_file_are_replaced_together(tmp_path: Path) -> None:
    folder, path = tmp_path / "index", tmp_path / "a.root"
    with uproot.recreate(path) as file:
        for name in ("t", "u"):
            file.mktree(name, {"run": np.array([1]), "event": np.array([2])})
    both = [WantedFile(str(path), tree=tree) for tree in ("t", "u")]
    assert update_index(folder, both, make_readers, 1).added == 2
    write_events(path, {"run": [1], "event": [3]}, "t")
    assert update_index(folder, both[:1], make_readers, 1).added == 1
    assert [(f.tree, f.entries) for f in EventIndex(folder).files.values()] == [("t", 1)]
