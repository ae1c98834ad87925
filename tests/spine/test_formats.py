"""Whole jobs on files that are not ROOT's."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import awkward as ak
import h5py
import pytest

from evstream.assembly import verify_receipt
from tests.contract.test_formats import write_hdf5
from tests.spine.commands import CommandLine, wait_until

pytestmark = pytest.mark.server

COPY = "cp {input} {output}"


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("pylhe-testfile-pythia-6.413-ttbar.lhe", ".lhe"),
        ("inputThreads1.hepmc", ".hepmc"),
        ("ttbarsplit-12evt-1108prim.hepmc3", ".hepmc3"),
    ],
)
def test_text_comes_back_as_it_was(
    command: CommandLine, tmp_path: Path, shared_data: Path, name: str, suffix: str
) -> None:
    words = ["--payload", COPY, "--events-per-range", 7, "--output-suffix", suffix, "--merge"]
    done = command.run("run", shared_data / name, *words, "--output", "out", "--json")
    assert json.loads(done.stdout)["task"]["state"] == "done"
    assert (tmp_path / f"out/merged{suffix}").read_bytes() == (shared_data / name).read_bytes()
    levels = verify_receipt(tmp_path / "out/receipt.json")
    assert [level.holds for level in levels][:2] == [True, True]


def test_payloads_get_gzipped_slices_of_gzipped_files(
    command: CommandLine, tmp_path: Path, shared_data: Path
) -> None:
    source = shared_data / "pylhe-testfile-madgraph-2.2.1-Z-mlm.lhe.gz"
    payload = tmp_path / "count.py"
    payload.write_text(
        "import sys, gzip, pathlib\n"
        "assert sys.argv[1].endswith('input.lhe.gz'), sys.argv\n"
        "text = gzip.decompress(pathlib.Path(sys.argv[1]).read_bytes())\n"
        "assert text.count(b'</event>') == 4000 or text.count(b'</event>') == 2000\n"
        "pathlib.Path(sys.argv[2]).write_bytes(gzip.compress(text))\n"
    )
    words = ["--payload", f"{sys.executable} {payload} {{input}} {{output}}"]
    words += ["--events-per-range", "4000", "--output-suffix", ".lhe.gz", "--merge"]
    command.run("run", source, *words, "--output", "out")
    merged = gzip.decompress((tmp_path / "out/merged.lhe.gz").read_bytes())
    assert merged == gzip.decompress(source.read_bytes())


def test_files_are_cut_inspected_and_joined_without_a_service(
    command: CommandLine, tmp_path: Path, shared_data: Path
) -> None:
    source = shared_data / "pylhe-testfile-powheg-box-v2-Z.lhe"
    about = command.json("inspect", source)
    assert (about["format"], about["trees"][0]["entries"]) == ("lhe", 100)
    assert "events: 100 entries" in command.run("inspect", source).stdout
    command.run("cut", source, "a.lhe", "--entries", ":40")
    command.run("cut", source, "b.lhe", "--entries", "40:")
    command.run("join", "all.lhe", "a.lhe", "b.lhe")
    assert (tmp_path / "all.lhe").read_bytes() == source.read_bytes()
    refused = command.run("cut", source, "c.lhe", "--branches", "pt", status=None)
    assert "no branches to choose from" in refused.stderr


def test_what_is_not_supported_is_refused_by_name(command: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "sim.slcio").write_bytes(b"\0\0\0\x24\xab\xad\xca\xfe" + bytes(100))
    for words in (["inspect"], ["run", "--payload", COPY]):
        done = command.run(*words, tmp_path / "sim.slcio", status=None)
        assert done.returncode == 1
        assert "an LCIO file (slcio), which is not supported" in done.stderr


def test_tables_are_processed_and_merged_in_parquet(
    command: CommandLine, tmp_path: Path, shared_data: Path
) -> None:
    source = shared_data / "nano_dy.parquet"
    words = ["--payload", COPY, "--events-per-range", 15, "--output-suffix", ".parquet", "--merge"]
    words += ["--branches", "run", "event", "Muon_*"]
    done = command.run("run", source, *words, "--output", "out", "--json")
    assert json.loads(done.stdout)["task"]["state"] == "done"
    columns = ["run", "event", "Muon_pt", "Muon_charge"]
    merged = ak.from_parquet(tmp_path / "out/merged.parquet")
    assert set(merged.fields) > set(columns)
    assert "Jet_pt" not in merged.fields
    expected = ak.from_parquet(source, columns=columns)
    assert ak.array_equal(merged[columns], expected[columns], equal_nan=True)
    assert verify_receipt(tmp_path / "out/receipt.json")[1].holds


def test_arrays_are_processed_and_merged_in_hdf5(command: CommandLine, tmp_path: Path) -> None:
    write_hdf5(tmp_path / "in.h5", 50)
    words = ["--payload", COPY, "--events-per-range", 20, "--output-suffix", ".h5", "--merge"]
    done = command.run("run", "in.h5", *words, "--output", "out", "--json")
    assert json.loads(done.stdout)["task"]["state"] == "done"
    with h5py.File(tmp_path / "in.h5") as source, h5py.File(tmp_path / "out/merged.h5") as merged:
        assert sorted(source["events"]) == sorted(merged["events"])
        for name in ("run", "name", "image", "jet_pt", "jet_pt_offsets", "inner/met"):
            assert source["events"][name][()].tolist() == merged["events"][name][()].tolist()


def test_registered_files_are_cut_in_their_format(
    command: CommandLine, tmp_path: Path, shared_data: Path
) -> None:
    command.start("serve", "--data", "service")
    wait_until((tmp_path / "service/address.json").exists, "the service")
    door = ["--data", "service"]
    for name in ("nano_dy.parquet", "inputThreads1.hepmc"):
        command.run("dataset", "add", f"user:{name}", shared_data / name, *door)
    shown = command.json("dataset", "show", "user:nano_dy.parquet", *door)
    assert shown["files"][0]["format"] == "parquet"
    words = ["--entries", "5:9", "--branches", "Muon_pt"]
    command.run("get", "user:nano_dy.parquet", "a.parquet", *words, *door)
    found = ak.from_parquet(tmp_path / "a.parquet")
    assert found.fields == ["Muon_pt"]
    expected = ak.from_parquet(shared_data / "nano_dy.parquet", columns=["Muon_pt"])[5:9]
    assert ak.array_equal(found, expected)
    command.run("get", "user:inputThreads1.hepmc", "a.hepmc", "--entries", "5:9", *door)
    assert (tmp_path / "a.hepmc").read_bytes().count(b"\nE ") == 4
