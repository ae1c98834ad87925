"""Verification of receipts on their three levels, with true files and with false ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot

from evstream import rootio
from evstream.assembly import make_formats, verify_receipt
from evstream.client.verification import Level
from evstream.domain.errors import RequestError
from evstream.wire.receipt_signature import ReceiptSigner

SIGNER = ReceiptSigner(b"k" * 32)
ENTRIES = 40
RANGES = [(0, 10), (10, 25), (25, 40)]


def write(path: Path, events: Any, **more: Any) -> Path:
    """Write a TTree ``Events`` whose events have these numbers."""
    columns = {"run": np.full(len(events), 1, np.int32), "event": np.asarray(events, np.int64)}
    with uproot.recreate(path) as file:
        file.mktree("Events", columns | more)
    return path


def output(path: Path, merged_into: int | None = None) -> dict[str, Any]:
    """Return the row of an output that was committed as it is."""
    content = path.read_bytes()
    entries = {}
    if path.suffix == ".root":
        with rootio.FileSource(path) as source:
            entries = {name: tree.entries for name, tree in rootio.inspect(source).trees.items()}
    return {
        "stream": "output",
        "file": path.name,
        "name": f"tasks/1/output/{path.name}",
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "adler32": "0" * 8,
        "entries": entries,
        "merged_into": merged_into,
    }


@pytest.fixture
def receipt(tmp_path: Path) -> dict[str, Any]:
    """The receipt of a copying task over one file in three ranges."""
    source = write(tmp_path / "source.root", range(ENTRIES))
    with rootio.FileSource(source) as opened:
        index = rootio.inspect(opened)
    fingerprint = {"size": index.size, "uuid": index.uuid, "digest": index.fingerprint}
    (tmp_path / "out").mkdir()
    outputs = [
        output(write(tmp_path / f"out/{start}.root", range(start, stop))) for start, stop in RANGES
    ]
    file = {"lfn": "source.root", "guid": "", "pfns": [str(source)], "fingerprint": fingerprint}
    return {
        "evstream_receipt": 1,
        "task": {"state": "done", "tree": "Events", "events_per_range": 15, "merge": False},
        "files": [{**file, "entries": ENTRIES, "asked": [[0, ENTRIES]]}],
        "commits": [
            ["source.root", start, stop, 1, [number]] for number, (start, stop) in enumerate(RANGES)
        ],
        "set_aside": [],
        "cancelled": [],
        "outputs": outputs,
        "counts": {
            "events": ENTRIES,
            "committed": ENTRIES,
            "set_aside": 0,
            "cancelled": 0,
            "ranges": 3,
            "ranges_committed": 3,
            "attempts": 3,
            "failed_attempts": 0,
            "cpu_s": 1.5,
            "lost_cpu_s": 0.0,
            "bytes_delivered": 3000,
            "bytes_of_source": index.size,
        },
    }


def verify(folder: Path, receipt: dict[str, Any], **options: Any) -> list[Level]:
    """Sign a receipt, whatever it says, and verify it."""
    path = folder / "out/receipt.json"
    path.write_text(json.dumps(SIGNER.sign(receipt)))
    return verify_receipt(path, **options)


def holds(levels: list[Level]) -> list[bool | None]:
    return [level.holds for level in levels]


def test_a_true_receipt_holds(tmp_path: Path, receipt: dict[str, Any]) -> None:
    levels = verify(tmp_path, receipt)
    assert holds(levels) == [True, True, True, True]
    assert f"each of {ENTRIES} (run, event) is in the outputs once" in levels[2].finding


def test_what_was_not_committed_is_told(tmp_path: Path, receipt: dict[str, Any]) -> None:
    row = receipt["commits"].pop()
    receipt["set_aside"] = [[*row[:3], "exit 1"]]
    receipt["outputs"].pop()
    receipt["task"]["state"] = "finished"
    receipt["counts"] |= {"committed": 25, "set_aside": 15, "ranges_committed": 2, "attempts": 2}
    levels = verify(tmp_path, receipt)
    assert holds(levels) == [True, True, True, False]
    assert levels[3].finding == f"25 of {ENTRIES} events asked for were committed"


def test_a_renamed_output_is_looked_into(tmp_path: Path, receipt: dict[str, Any]) -> None:
    path = write(tmp_path / "out/0.root", [*range(9), 8])
    receipt["outputs"][0] = output(path)
    path.rename(tmp_path / "out/foo.bin")
    levels = verify(tmp_path, receipt)
    assert holds(levels)[:3] == [True, True, False]
    assert "event) = (1, 8) is in foo.bin 2 times" in levels[2].finding


def test_an_output_without_numbers_hides_no_other(tmp_path: Path, receipt: dict[str, Any]) -> None:
    with uproot.recreate(tmp_path / "out/0.root") as file:
        file.mktree("Events", {"x": np.zeros(10)})
    receipt["outputs"][0] = output(tmp_path / "out/0.root")
    levels = verify(tmp_path, receipt)
    assert holds(levels) == [True, True, True, True]
    assert "1 of 3 outputs have no numbers" in levels[2].finding
    receipt["outputs"][1] = output(write(tmp_path / "out/10.root", [10, 10]))
    assert holds(verify(tmp_path, receipt))[:3] == [True, True, False]


NO_NUMBERS = [
    {"event": np.array([0.5, np.nan])},
    {"event": np.zeros((2, 3), np.int64)},
]


@pytest.mark.parametrize("columns", NO_NUMBERS)
def test_only_one_whole_number_an_event_counts(
    tmp_path: Path, receipt: dict[str, Any], columns: dict[str, Any]
) -> None:
    for number, (start, _) in enumerate(RANGES):
        path = write(tmp_path / f"out/{start}.root", range(2), **columns)
        receipt["outputs"][number] = output(path)
    levels = verify(tmp_path, receipt)
    assert holds(levels) == [True, True, None, True]
    assert "no run and event numbers" in levels[2].finding


def test_outputs_of_ranges_hold_the_events_of_their_own(
    tmp_path: Path, receipt: dict[str, Any]
) -> None:
    receipt["commits"][0][4], receipt["commits"][1][4] = [1], [0]
    levels = verify(tmp_path, receipt)
    assert holds(levels)[:3] == [True, True, False]
    assert "not in the source's entries that it was made from" in levels[2].finding


def test_a_merge_holds_the_events_of_its_parts(tmp_path: Path, receipt: dict[str, Any]) -> None:
    merged = output(write(tmp_path / "out/merged.root", range(ENTRIES)))
    parts = [{**part, "merged_into": 0} for part in receipt["outputs"]]
    receipt["outputs"] = [merged, *parts]
    receipt["task"]["merge"] = True
    for number, row in enumerate(receipt["commits"]):
        row[4] = [number + 1]
    assert holds(verify(tmp_path, receipt)) == [True, True, True, True]
    foreign = output(write(tmp_path / "out/merged.root", [*range(39), 99]))
    receipt["outputs"][0] = foreign
    assert holds(verify(tmp_path, receipt))[:3] == [True, True, False]


def test_declared_entries_are_those_of_the_file(tmp_path: Path, receipt: dict[str, Any]) -> None:
    receipt["outputs"][1]["entries"] = {"Events": 999}
    levels = verify(tmp_path, receipt)
    assert holds(levels)[:3] == [True, False, None]
    assert "10.root has 15 entries in Events, the receipt says 999" in levels[1].finding


def test_an_output_that_is_no_root_file_fails(tmp_path: Path, receipt: dict[str, Any]) -> None:
    (tmp_path / "out/0.root").write_bytes(b"no ROOT file")
    changed = {**output(write(tmp_path / "out/x.root", [])), "entries": {}}
    content = (tmp_path / "out/0.root").read_bytes()
    changed |= {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    receipt["outputs"][0] = changed | {"file": "0.root"}
    assert holds(verify(tmp_path, receipt))[:3] == [True, False, None]


def test_sources_that_moved_are_given(tmp_path: Path, receipt: dict[str, Any]) -> None:
    away = tmp_path / "away"
    away.mkdir()
    (tmp_path / "source.root").rename(away / "other-name.root")
    assert "sources not at hand" in verify(tmp_path, receipt)[2].finding
    receipt["files"][0]["pfns"] = ["https://host/source.root"]
    levels = verify(tmp_path, receipt, sources=away)
    assert f"each of {ENTRIES}" in levels[2].finding


def test_a_changed_source_is_not_the_source(tmp_path: Path, receipt: dict[str, Any]) -> None:
    size = (tmp_path / "source.root").stat().st_size
    write(tmp_path / "source.root", range(100, 100 + ENTRIES))
    assert (tmp_path / "source.root").stat().st_size == size
    assert "sources not at hand" in verify(tmp_path, receipt)[2].finding


def test_without_sources_what_is_doubled_proves_nothing(
    tmp_path: Path, receipt: dict[str, Any]
) -> None:
    receipt["files"][0]["pfns"] = []
    assert holds(verify(tmp_path, receipt)) == [True, True, True, True]
    receipt["outputs"][1] = output(write(tmp_path / "out/10.root", [9, *range(11, 25)]))
    levels = verify(tmp_path, receipt)
    # Many simulated files number their events alike: without them, nobody can tell.
    assert holds(levels)[:3] == [True, True, None]
    assert "1 (run, event) occur more than once, which proves nothing" in levels[2].finding
    assert "sources not at hand" in levels[2].finding


def test_sources_without_numbers_are_told_from_sources_away(
    tmp_path: Path, receipt: dict[str, Any]
) -> None:
    with uproot.recreate(tmp_path / "source.root") as file:
        file.mktree("Events", {"x": np.zeros(ENTRIES)})
    with rootio.FileSource(tmp_path / "source.root") as opened:
        index = rootio.inspect(opened)
    fingerprint = {"size": index.size, "uuid": index.uuid, "digest": index.fingerprint}
    receipt["files"][0]["fingerprint"] = fingerprint
    receipt["counts"]["bytes_of_source"] = index.size
    assert "source.root has no run, event" in verify(tmp_path, receipt)[2].finding


DAMAGE: list[tuple[str, Any]] = [
    ("task", None),
    ("task", []),
    ("task", {"tree": 5}),
    ("files", {}),
    ("commits", [["source.root", 0.0, 250.0, 1, [0]]]),
    ("commits", [["source.root", 0, 40, 1, [True]]]),
    ("outputs", [{"file": 5}]),
    ("counts", {}),
]


@pytest.mark.parametrize(("name", "value"), DAMAGE)
def test_a_damaged_receipt_is_one_line(
    tmp_path: Path, receipt: dict[str, Any], name: str, value: Any
) -> None:
    levels = verify(tmp_path, {**receipt, name: value})
    assert holds(levels) == [False, None, None, None]
    assert "the receipt is damaged" in levels[0].finding


@pytest.mark.parametrize("content", [b"", b"[" * 100_000, b"\xff", b"{}", b"[1]", b"1" * 5000])
def test_what_is_no_receipt_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "receipt.json").write_bytes(content)
    assert holds(verify_receipt(tmp_path / "receipt.json")) == [False, None, None, None]


def test_the_key_is_read_as_people_write_it(tmp_path: Path, receipt: dict[str, Any]) -> None:
    levels = verify(tmp_path, receipt, trusted_key=SIGNER.public_key.upper())
    assert "the key that you trust" in levels[0].finding
    other = ReceiptSigner(b"o" * 32).public_key
    assert holds(verify(tmp_path, receipt, trusted_key=other))[0] is False
    with pytest.raises(RequestError, match="is no public key"):
        verify(tmp_path, receipt, trusted_key="xyz")


def write_ntuple(path: Path, events: Any) -> Path:
    """Write an RNTuple ``Events`` whose events have these numbers."""
    columns = {"run": np.full(len(events), 1, np.int32), "event": np.asarray(events, np.uint64)}
    with uproot.recreate(path) as file:
        file.mkrntuple("Events", columns)
    return path


def write_hepmc(path: Path, events: Iterable[int]) -> Path:
    """Write HepMC events of these numbers."""
    listing = "".join(f"E {event} 0 0\nU GEV MM\n" for event in events)
    begin, end = (f"HepMC::Asciiv3-{word}_EVENT_LISTING\n" for word in ("START", "END"))
    path.write_text(f"HepMC::Version 3.02\n{begin}{listing}{end}")
    return path


def set_source(receipt: dict[str, Any], path: Path) -> None:
    """Have a receipt's task read another source."""
    with rootio.FileSource(path) as opened:
        _, index = make_formats().inspect(opened)
    fingerprint = {"size": index.size, "uuid": index.uuid, "digest": index.fingerprint}
    receipt["files"][0] |= {"lfn": path.name, "pfns": [str(path)], "fingerprint": fingerprint}
    receipt["counts"]["bytes_of_source"] = index.size
    for row in receipt["commits"]:
        row[0] = path.name


def test_rntuples_are_looked_into(tmp_path: Path, receipt: dict[str, Any]) -> None:
    set_source(receipt, write_ntuple(tmp_path / "ntuple.root", range(ENTRIES)))
    for number, (start, stop) in enumerate(RANGES):
        path = write_ntuple(tmp_path / f"out/{start}.root", range(start, stop))
        receipt["outputs"][number] = output(path)
    levels = verify(tmp_path, receipt)
    assert holds(levels) == [True, True, True, True]
    assert f"each of {ENTRIES} (run, event) is in the outputs once" in levels[2].finding
    receipt["outputs"][2] = output(write_ntuple(tmp_path / "out/25.root", [*range(25, 39), 9]))
    levels = verify(tmp_path, receipt)
    assert holds(levels)[:3] == [True, True, False]
    assert "(1, 9) is in 25.root, and not in the source's entries" in levels[2].finding


def split_first(folder: Path, receipt: dict[str, Any], *parts: Any) -> None:
    """Have the first range leave several files."""
    receipt["outputs"] = receipt["outputs"][1:]
    for row, number in zip(receipt["commits"][1:], (0, 1), strict=True):
        row[4] = [number]
    receipt["commits"][0][4] = [2 + number for number in range(len(parts))]
    for number, events in enumerate(parts):
        receipt["outputs"].append(output(write(folder / f"out/0_{number}.root", events)))


def test_files_that_one_unit_left_are_taken_together(
    tmp_path: Path, receipt: dict[str, Any]
) -> None:
    split_first(tmp_path, receipt, range(4), range(4, 8), range(8, 10))
    levels = verify(tmp_path, receipt)
    assert holds(levels) == [True, True, True, True]
    assert f"each of {ENTRIES} (run, event) is in the outputs once" in levels[2].finding


def test_an_event_in_two_files_of_one_unit_is_doubled(
    tmp_path: Path, receipt: dict[str, Any]
) -> None:
    split_first(tmp_path, receipt, range(5), range(4, 9))
    levels = verify(tmp_path, receipt)
    assert holds(levels)[:3] == [True, True, False]
    assert "(1, 4) is in 0_0.root and 0_1.root 2 times" in levels[2].finding


def test_what_is_told_is_told_of_each_stream(tmp_path: Path, receipt: dict[str, Any]) -> None:
    receipt["task"]["streams"] = [
        {"name": name, "optional": False, "merge": None} for name in ("output", "few", "cuts")
    ]
    for number, (start, _) in enumerate(RANGES):
        few = write(tmp_path / f"out/{start}.few.root", [start, start + 1])
        cuts = tmp_path / f"out/{start}.txt"
        cuts.write_text("pt > 5")
        for path, stream in ((few, "few"), (cuts, "cuts")):
            receipt["commits"][number][4].append(len(receipt["outputs"]))
            receipt["outputs"].append({**output(path), "stream": stream})
    levels = verify(tmp_path, receipt)
    assert holds(levels) == [True, True, True, True]
    assert levels[2].finding.split("; ") == [
        "cuts: 3 of 3 outputs have no numbers that can be read (0.txt is of no known format)",
        f"few: 6 of {ENTRIES} (run, event) were kept by the payload",
        "none doubled, none foreign",
        f"output: each of {ENTRIES} (run, event) is in the outputs once, as in the source",
    ]


def test_hepmc_events_are_compared_by_number_but_counting_anew_proves_nothing(
    tmp_path: Path, receipt: dict[str, Any]
) -> None:
    receipt["task"]["tree"] = "events"
    set_source(receipt, write_hepmc(tmp_path / "source.hepmc", range(ENTRIES)))
    for number, (start, stop) in enumerate(RANGES):
        path = write_hepmc(tmp_path / f"out/{start}.hepmc", range(start, stop))
        receipt["outputs"][number] = output(path)
    levels = verify(tmp_path, receipt)
    assert f"each of {ENTRIES} (event_number) is in the outputs once" in levels[2].finding
    receipt["outputs"][1] = output(write_hepmc(tmp_path / "out/10.hepmc", range(15)))
    levels = verify(tmp_path, receipt)
    assert holds(levels) == [True, True, True, True]
    assert "1 of 3 outputs count their events by event_number alone" in levels[2].finding
    told = verify(tmp_path, receipt, names=("event_number",))[2]
    assert (told.holds, "not in the source's entries" in told.finding) == (False, True)
    (tmp_path / "source.hepmc").unlink()
    levels = verify(tmp_path, receipt)
    assert holds(levels) == [True, True, None, True]
    assert "sources not at hand" in levels[2].finding


def test_branches_that_number_events_can_be_named(tmp_path: Path, receipt: dict[str, Any]) -> None:
    levels = verify(tmp_path, receipt, names=("event",))
    assert f"each of {ENTRIES} (event) is in the outputs once" in levels[2].finding
    levels = verify(tmp_path, receipt, names=("period", "event"))
    assert holds(levels)[2] is None
    assert "0.root has no period, event" in levels[2].finding


def test_receipts_of_parents_that_there_are_not_are_named(
    tmp_path: Path, receipt: dict[str, Any]
) -> None:
    levels = verify(tmp_path, receipt, parents=[tmp_path / "none.json"])
    assert holds(levels) == [True, True, True, None, True]
    assert levels[3].name == "parents"
    assert "it took no outputs of tasks" in levels[3].finding


def test_what_parents_did_not_do_is_not_complete(tmp_path: Path, receipt: dict[str, Any]) -> None:
    above = {"task": 1, "stream": "output", "name": "p", "public_key": "anne"}
    receipt["parents"] = [{**above, "state": "done", "receipt": "0" * 64}]
    receipt["files"][0]["output"] = {"task": 1, "name": "source.root", "sha256": "0" * 64}
    *_, parents, complete = verify(tmp_path, receipt)
    assert (parents.holds, complete.holds) == (None, None)
    assert "the receipt of task 1 is not given" in complete.finding
    receipt["parents"][0]["state"] = "finished"
    *_, complete = verify(tmp_path, receipt)
    assert (complete.holds, complete.finding) == (False, "task 1 is finished")
